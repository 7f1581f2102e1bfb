"""The banked activation buffer: pools, arbitration, rotator."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from ..arch.config import AcceleratorConfig
from ..emit import block
from ..interfaces import BufferRead, BufferWrite
from .ram import Ram

#: clients in order of priority
READERS = ("mat_in", "mat_res", "layernorm", "softmax", "shifter", "loader", "result")
WRITERS = ("mat", "layernorm", "shifter", "image")


class Pool(wiring.Component):
    """``cores`` banks of one word each, one row read and one row written a cycle.

    Members
    -------
    read_enable, read_addr, read_addr_upper, read_upper : bank b is read at ``read_addr_upper`` where its ``upper`` bit
        is set, else at ``read_addr``
    read_data : the row, bank 0 in the low bits, two cycles later
    write_enable (one bit per bank), write_addr, write_data

    Latency: 2 cycles.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        address = range(c.pool_rows)
        super().__init__(
            {
                "read_enable": In(1),
                "read_addr": In(address),
                "read_addr_upper": In(address),
                "read_upper": In(c.cores),
                "read_data": wiring.Out(c.row_bytes * 8),
                "write_enable": In(c.cores),
                "write_addr": In(address),
                "write_data": In(c.row_bytes * 8),
            }
        )

    def elaborate(self, platform):
        c = self._config
        m = Module()
        words = []
        for b in range(c.cores):
            bank = block(Ram(c.word * 8, c.pool_rows), f"vf_ram_{c.word * 8}x{c.pool_rows}")
            m.submodules[f"bank{b}"] = bank
            m.d.comb += [
                bank.read_enable.eq(self.read_enable),
                bank.read_addr.eq(Mux(self.read_upper[b], self.read_addr_upper, self.read_addr)),
                bank.write_enable.eq(self.write_enable[b]),
                bank.write_addr.eq(self.write_addr),
                bank.write_data.eq(self.write_data.word_select(b, c.word * 8)),
            ]
            words.append(bank.read_data)
        m.d.comb += self.read_data.eq(Cat(*words))
        return m


class ActivationBuffer(wiring.Component):
    """All pools and the arbitration of their clients.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    read_<client> : In(BufferRead), ``mat_in`` with the rotator's second address
    write_<client> : In(BufferWrite)

    Latency/throughput: read data 2 cycles after acceptance; per pool one read and one write a cycle, fixed priority
    in the order of READERS and WRITERS; clients of different pools do not disturb each other.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        members = {f"read_{n}": In(BufferRead(config, rotate=n == "mat_in")) for n in READERS}
        members |= {f"write_{n}": In(BufferWrite(config)) for n in WRITERS}
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        low = ceil_log2(c.pool_rows)
        readers = [(n, getattr(self, f"read_{n}")) for n in READERS]
        writers = [(n, getattr(self, f"write_{n}")) for n in WRITERS]

        def pool_of(addr):
            return (addr >> low)[: max(1, ceil_log2(c.pools))]

        pool_data, read_ready, write_ready = [], {n: [] for n in READERS}, {n: [] for n in WRITERS}
        for p in range(c.pools):
            pool = block(Pool(c), f"vf_pool_{c.cores}x{c.word}x{c.pool_rows}")
            m.submodules[f"pool{p}"] = pool
            pool_data.append(pool.read_data)

            taken = Const(0, 1)
            addr = Const(0, low)
            for _, r in reversed(readers):
                addr = Mux(r.valid & (pool_of(r.addr) == p), r.addr[:low], addr)
            for n, r in readers:
                want = Signal(name=f"read_{n}_pool{p}")
                m.d.comb += want.eq(r.valid & (pool_of(r.addr) == p))
                read_ready[n].append(want & ~taken)
                taken = taken | want
            mat = self.read_mat_in
            m.d.comb += [
                pool.read_enable.eq(taken),
                pool.read_addr.eq(addr),
                pool.read_addr_upper.eq(mat.addr_upper[:low]),
                pool.read_upper.eq(Mux(mat.valid & (pool_of(mat.addr) == p), mat.upper, 0)),
            ]

            taken = Const(0, 1)
            addr, payload, mask = Const(0, low), Const(0, c.row_bytes * 8), Const(0, c.cores)
            for _, w in reversed(writers):
                mine = w.valid & (pool_of(w.addr) == p)
                addr, payload, mask = Mux(mine, w.addr[:low], addr), Mux(mine, w.data, payload), Mux(mine, w.mask, mask)
            for n, w in writers:
                want = Signal(name=f"write_{n}_pool{p}")
                m.d.comb += want.eq(w.valid & (pool_of(w.addr) == p))
                write_ready[n].append(want & ~taken)
                taken = taken | want
            m.d.comb += [pool.write_enable.eq(mask), pool.write_addr.eq(addr), pool.write_data.eq(payload)]

        for n, w in writers:
            m.d.comb += w.ready.eq(Cat(*write_ready[n]).any())
        for n, r in readers:
            m.d.comb += r.ready.eq(Cat(*read_ready[n]).any())
            # two stages behind the request: which pool answered, and the rotation
            source = [Signal(max(1, ceil_log2(c.pools)), name=f"{n}_source{i}", reset_less=True) for i in range(2)]
            arrived = [Signal(name=f"{n}_arrived{i}") for i in range(2)]
            m.d.sync += [
                arrived[0].eq(r.valid & r.ready),
                arrived[1].eq(arrived[0]),
                source[0].eq(pool_of(r.addr)),
                source[1].eq(source[0]),
            ]
            row = pool_data[0]
            for p in range(1, c.pools):
                row = Mux(source[1] == p, pool_data[p], row)
            if n == "mat_in":
                turn = [Signal(range(c.cores), name=f"{n}_turn{i}", reset_less=True) for i in range(2)]
                m.d.sync += [turn[0].eq(r.offset), turn[1].eq(turn[0])]
                row = rotate(m, row, turn[1], c)
            m.d.comb += [r.data_valid.eq(arrived[1]), r.data.eq(row)]
        return m


def rotate(m: Module, row, offset, config: AcceleratorConfig):
    """Rotator: output lane i = bank (i + offset) mod cores; log2(cores) multiplexer levels."""
    bits = config.word * 8
    for level in range(ceil_log2(config.cores)):
        turned = Signal(config.row_bytes * 8, name=f"rotate{level}")
        step = bits << level
        m.d.comb += turned.eq(Mux(offset[level], Cat(row[step:], row[:step]), row))
        row = turned
    return row
