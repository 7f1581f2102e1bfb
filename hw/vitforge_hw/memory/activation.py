"""The banked activation buffer: pools, arbitration, rotator."""

from amaranth import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arch.config import AcceleratorConfig
from ..emit import block
from ..interfaces import READ_LATENCY, BufferRead, BufferWrite
from ..units.copies import copies
from .ram import ram

ROTATED = "mat_in"  #: the reader with the rotator, where there is one
PAIRED = "rmac_in"  #: the reader of two rows a cycle, with pool_words 2


def readers(config: AcceleratorConfig) -> tuple[str, ...]:
    """Reading clients in order of priority: the engines' inputs come first."""
    found = [f"{e}_in" for e in config.engine_names] + [f"{e}_res" for e in config.engine_names] + ["layernorm"]
    if config.attention:
        found += ["softmax", "shifter", "loader"]
    return (*found, "result")


def writers(config: AcceleratorConfig) -> tuple[str, ...]:
    """Writing clients in order of priority."""
    return (*config.engine_names, "layernorm", *(["shifter"] if config.attention else []), "image")


class Pool(wiring.Component):
    """``cores`` banks of one word each, one row read and one row written a cycle; with pool_words 2 each bank is two,
    of even and of odd rows, and an even row can be read together with the one behind it.

    Members
    -------
    read_enable, read_addr : all banks are read at ``read_addr``
    read_addr_upper, read_upper : (with attention, for the rotator) banks with their ``upper`` bit set are read there
    read_data : the row, bank 0 in the low bits, two cycles later
    read_pair, read_second : (pool_words 2) an even row and the one behind it are read, which comes here
    write_enable (one bit per bank), write_addr, write_data

    Latency: 2 cycles.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        address = range(c.pool_rows)
        members = {
            "read_enable": In(1),
            "read_addr": In(address),
            "read_data": Out(c.row_bytes * 8),
            "write_enable": In(c.cores),
            "write_addr": In(address),
            "write_data": In(c.row_bytes * 8),
        }
        if c.attention:
            members |= {"read_addr_upper": In(address), "read_upper": In(c.cores)}
        if c.pool_words == 2:
            members |= {"read_pair": In(1), "read_second": Out(c.row_bytes * 8)}
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        found = [self._bank(m, b) for b in range(c.cores)]
        m.d.comb += self.read_data.eq(Cat(word for word, _ in found))
        if c.pool_words == 2:
            m.d.comb += self.read_second.eq(Cat(second for _, second in found))
        return m

    def _bank(self, m, b):
        """Bank ``b``: (its word of the row, its word of an odd row)."""
        c = self._config
        addr = Mux(self.read_upper[b], self.read_addr_upper, self.read_addr) if c.attention else self.read_addr
        words = []
        for parity in range(c.pool_words):
            bank = ram(c.word * 8, c.pool_rows // c.pool_words, "ultra" * c.ultraram)
            m.submodules[f"bank{b}_{parity}" if c.pool_words == 2 else f"bank{b}"] = bank
            reads, writes, skipped = self.read_enable, self.write_enable[b], 0
            if c.pool_words == 2:
                reads, writes, skipped = (
                    reads & (self.read_pair | (addr[0] == parity)), writes & (self.write_addr[0] == parity), 1,
                )  # fmt: skip
            m.d.comb += [
                bank.read_enable.eq(reads),
                bank.read_addr.eq(addr[skipped:]),
                bank.write_enable.eq(writes),
                bank.write_addr.eq(self.write_addr[skipped:]),
                bank.write_data.eq(self.write_data.word_select(b, c.word * 8)),
            ]
            words.append(bank.read_data)
        if c.pool_words == 1:
            return words[0], None
        odd = [Signal(name=f"odd{b}_{i}", reset_less=True) for i in range(READ_LATENCY)]
        m.d.sync += [now.eq(before) for now, before in zip(odd, (addr[0], *odd), strict=False)]
        return Mux(odd[-1], words[1], words[0]), words[1]


class ActivationBuffer(wiring.Component):
    """All pools and the arbitration of their clients.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    read_<client> : In(BufferRead); engines' inputs have the rotator's members, which with attention ``mat_in`` uses and
        which otherwise mean nothing; ``rmac_in`` reads pairs of rows with pool_words 2
    write_<client> : In(BufferWrite)

    Latency/throughput: read data 2 cycles after acceptance, a row at its pool's port 1 cycle after its acceptance; per
    pool one read (of a pair of rows, with pool_words 2) and one write a cycle, fixed priority in the order of readers()
    and writers(); clients of different pools do not disturb each other.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        members = {
            f"read_{n}": In(BufferRead(config, rotate=n.endswith("_in"), pair=n == PAIRED)) for n in readers(config)
        }
        members |= {f"write_{n}": In(BufferWrite(config)) for n in writers(config)}
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        low = ceil_log2(c.pool_rows)
        reading = [(n, getattr(self, f"read_{n}")) for n in readers(c)]
        writing = [(n, getattr(self, f"write_{n}")) for n in writers(c)]

        def pool_of(addr):
            return (addr >> low)[: max(1, ceil_log2(c.pools))]

        # what is written follows its acceptance a cycle later: the selects of rows have registers of their own
        late = []
        for n, w in writing:
            members = (w.addr[:low], w.data, w.mask)
            late.append([Signal(len(v), name=f"{n}_late{i}", reset_less=True) for i, v in enumerate(members)])
            m.d.sync += [r.eq(v) for r, v in zip(late[-1], members, strict=True)]

        pools, read_ready, write_ready = [], {n: [] for n, _ in reading}, {n: [] for n, _ in writing}
        for p in range(c.pools):
            pool = block(Pool(c), f"vf_pool_{c.cores}x{c.word}x{c.pool_rows}" + "_pairs" * (c.pool_words == 2))
            m.submodules[f"pool{p}"] = pool
            pools.append(pool)

            taken = Const(0, 1)
            addr = Const(0, low)
            for _, r in reversed(reading):
                addr = Mux(r.valid & (pool_of(r.addr) == p), r.addr[:low], addr)
            for n, r in reading:
                want = Signal(name=f"read_{n}_pool{p}")
                m.d.comb += want.eq(r.valid & (pool_of(r.addr) == p))
                read_ready[n].append(want & ~taken)
                taken = taken | want
            m.d.comb += [pool.read_enable.eq(taken), pool.read_addr.eq(addr)]
            if c.attention:
                mat = getattr(self, f"read_{ROTATED}")
                m.d.comb += [
                    pool.read_addr_upper.eq(mat.addr_upper[:low]),
                    pool.read_upper.eq(Mux(mat.valid & (pool_of(mat.addr) == p), mat.upper, 0)),
                ]

            if c.pool_words == 2:
                m.d.comb += pool.read_pair.eq(getattr(self, f"read_{PAIRED}").pair)
            self._write(m, p, pool, pool_of, writing, late, write_ready)

        for n, w in writing:
            m.d.comb += w.ready.eq(Cat(*write_ready[n]).any())
        for n, r in reading:
            m.d.comb += r.ready.eq(Cat(*read_ready[n]).any())
            # two stages behind the request: which pool answered, and the rotation
            source = [Signal(max(1, ceil_log2(c.pools)), name=f"{n}_source", reset_less=True)]
            arrived = [Signal(name=f"{n}_arrived{i}") for i in range(2)]
            m.d.sync += [
                arrived[0].eq(r.valid & r.ready),
                arrived[1].eq(arrived[0]),
                source[0].eq(pool_of(r.addr)),
            ]
            numbers = copies(m, 2, f"{n}_pool", source[0])
            row = _from(numbers, [pool.read_data for pool in pools])
            if c.pool_words == 2 and n == PAIRED:
                m.d.comb += r.second.eq(_from(numbers, [pool.read_second for pool in pools]))
            if c.attention and n == ROTATED:
                turn = Signal(range(c.cores), name=f"{n}_turn", reset_less=True)
                m.d.sync += turn.eq(r.offset)
                row = rotate(m, row, [t for (t,) in copies(m, 2, f"{n}_turn", turn)], c)
            m.d.comb += [r.data_valid.eq(arrived[1]), r.data.eq(row)]
        return m

    def _write(self, m, p, pool, pool_of, writing, late, write_ready):
        """Pool ``p``'s row: the first writer that wants it, with what it has given a cycle before."""
        c = self._config
        taken = Const(0, 1)
        wants = []
        for n, w in writing:
            want = Signal(name=f"write_{n}_pool{p}")
            m.d.comb += want.eq(w.valid & (pool_of(w.addr) == p))
            write_ready[n].append(want & ~taken)
            wants.append(want & ~taken)
            taken = taken | want
        granted = Signal(len(writing), name=f"granted{p}")
        number = Signal(range(len(writing)), name=f"writer{p}")
        m.d.sync += granted.eq(Cat(wants))
        for i, want in enumerate(wants):
            with m.If(want):
                m.d.comb += number.eq(i)
        halves = copies(m, 2, f"pool{p}_writer", number)
        bits = c.row_bytes * 8 // 2
        addrs, rows, masks = zip(*late, strict=True)
        m.d.comb += [
            pool.write_enable.eq(Mux(granted.any(), Array(masks)[halves[0][0]], 0)),
            pool.write_addr.eq(Array(addrs)[halves[1][0]]),
            pool.write_data.eq(Cat(
                Array(row.word_select(half, bits) for row in rows)[number] for half, (number,) in enumerate(halves)
            )),
        ]  # fmt: skip


def _from(numbers: list, rows: list):
    """One of the pools' ``rows``, each part of it by a copy of the pool's number."""
    bits, found = len(rows[0]) // len(numbers), []
    for part, (number,) in enumerate(numbers):
        pieces = [row.word_select(part, bits) for row in rows]
        chosen = pieces[0]
        for p, piece in enumerate(pieces[1:], 1):
            chosen = Mux(number == p, piece, chosen)
        found.append(chosen)
    return Cat(found)


def rotate(m: Module, row, offsets: list, config: AcceleratorConfig):
    """Rotator: output lane i = bank (i + offset) mod cores; log2(cores) multiplexer levels (any number of cores).

    offsets : copies of the offset, each for a part of the row"""
    bits, part = config.word * 8, config.row_bytes * 8 // len(offsets)
    for level in range(ceil_log2(config.cores)):
        turned = Signal(config.row_bytes * 8, name=f"rotate{level}")
        step = bits << level
        other = Cat(row[step:], row[:step])
        for n, offset in enumerate(offsets):
            m.d.comb += turned.word_select(n, part).eq(
                Mux(offset[level], other.word_select(n, part), row.word_select(n, part))
            )
        row = turned
    return row
