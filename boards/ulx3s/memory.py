"""Block RAM in place of DRAM: an AXI4 slave with the memory image in it, and a port for the board's controller."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from vitforge_hw.host.axi import AXI4, DATA_BITS
from vitforge_hw.units.copies import Copy

BYTES = DATA_BITS // 8
COLUMNS = 8  #: that have a register of their own for each address
_BLOCK_BITS = 1 << 14  #: of a block RAM, whatever its shape, without parity


def column_bits(rows: int) -> int:
    """Width of columns that have ``rows`` rows in one block RAM each: no multiplexer behind, no decoder before it."""
    return min(max(_BLOCK_BITS >> ceil_log2(rows), 1), 16)


class OnChipMemory(wiring.Component):
    """Rows of 16 bytes.

    Parameters
    ----------
    contents : bytes at address 0 after configuration
    rows : depth

    Members
    -------
    axi : In(AXI4()): aligned INCR bursts of whole beats, as the accelerator makes them; each is answered OKAY.
        Addresses wrap at the depth rounded up to a power of two
    write, write_row, write_data : In: a row is written in every cycle with ``write``; AXI waits
    read, read_row, read_data : In, In, Out: the row of a cycle with ``read``, from the third cycle behind it on; only
        while no read burst is under way

    Throughput: a beat a cycle, one more cycle a burst; read latency 3 cycles. Addresses come from registers for COLUMNS
    block RAMs each, which lie all over the part; rows come from and go to registers.
    """

    def __init__(self, contents: bytes, rows: int):
        if len(contents) > rows * BYTES:
            raise ValueError(f"contents must have at most {rows * BYTES} bytes, not {len(contents)}")
        padded = contents + bytes(-len(contents) % BYTES)
        self._init = [int.from_bytes(padded[i : i + BYTES], "little") for i in range(0, len(padded), BYTES)]
        self._rows, self._bits = rows, column_bits(rows)
        super().__init__(
            {"axi": In(AXI4()), "write": In(1), "write_row": In(range(rows)), "write_data": In(DATA_BITS)}
            | {"read": In(1), "read_row": In(range(rows)), "read_data": Out(DATA_BITS)}
        )

    def elaborate(self, platform):
        m = Module()
        columns = [self._column(m, i) for i in range(DATA_BITS // self._bits)]
        axi, row_bits = self.axi, len(self.write_row)
        row = lambda address: address[4 : 4 + row_bits]  # noqa: E731

        # ---- reads
        at, left, id_ = Signal(row_bits), Signal(9), Signal(4)
        at_next = Signal(row_bits)
        take = Signal()  # a beat leaves, or there is none yet
        found = Signal(6)  # of the row that leaves the block RAMs: valid, last, id
        m.d.comb += [take.eq(~axi.rvalid | axi.rready), axi.arready.eq(left == 0), self.read_data.eq(axi.rdata)]
        m.d.comb += at_next.eq(at)
        m.d.sync += at.eq(at_next)
        for (rd, _), address in zip(columns, self._copies(m, "at", at_next), strict=True):
            m.d.comb += [rd.addr.eq(address), rd.en.eq(take)]
        with m.If(take):
            m.d.sync += [
                found.eq(Cat(left != 0, left == 1, id_)),
                Cat(axi.rvalid, axi.rlast, axi.rid).eq(found),
                axi.rdata.eq(Cat(rd.data for rd, _ in columns)),
            ]
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
                m.d.comb += at_next.eq(at + 1)
        with m.If(self.read):
            m.d.comb += at_next.eq(self.read_row)
        with m.If(axi.arvalid & axi.arready):
            m.d.comb += at_next.eq(row(axi.araddr))
            m.d.sync += [left.eq(axi.arlen + 1), id_.eq(axi.arid)]

        # ---- writes, a cycle later: before anybody who saw their answer can read
        to, enable = Signal(row_bits), Signal()
        data = Signal(DATA_BITS, reset_less=True)
        m.d.sync += data.eq(Mux(self.write, self.write_data, axi.wdata))
        places = self._copies(m, "to", Cat(enable, Mux(self.write, self.write_row, to)))
        for i, ((_, wr), place) in enumerate(zip(columns, places, strict=True)):
            m.d.comb += [Cat(wr.en, wr.addr).eq(place), wr.data.eq(data.word_select(i, self._bits))]
        with m.FSM():
            with m.State("ADDRESS"):
                m.d.comb += axi.awready.eq(1)
                with m.If(axi.awvalid):
                    m.d.sync += [to.eq(row(axi.awaddr)), axi.bid.eq(axi.awid)]
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += axi.wready.eq(~self.write)
                with m.If(axi.wvalid & axi.wready):
                    m.d.comb += enable.eq(axi.wstrb[0])
                    m.d.sync += to.eq(to + 1)
                    with m.If(axi.wlast):
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += axi.bvalid.eq(1)
                with m.If(axi.bready):
                    m.next = "ADDRESS"
        with m.If(self.write):
            m.d.comb += enable.eq(1)
        return m

    def _copies(self, m, name: str, value) -> list:
        """``value`` a cycle later for each column, from a register for every ``COLUMNS`` of them."""
        found = []
        for i in range(0, DATA_BITS // self._bits, COLUMNS):
            m.submodules[f"{name}{i}"] = copy = Copy(len(value))
            m.d.comb += copy.d.eq(value)
            found += [copy.q] * COLUMNS
        return found

    def _column(self, m, i: int):
        """Read and write port of the rows' bits i x column_bits and following."""
        mask = (1 << self._bits) - 1
        init = [row >> i * self._bits & mask for row in self._init]
        m.submodules[f"column{i}"] = column = Memory(shape=self._bits, depth=self._rows, init=init)
        return column.read_port(), column.write_port()
