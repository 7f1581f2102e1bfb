"""Weight buffer, parameter memories, Ksum memory: written by DMA, key loader and R-MAC, read privately."""

from types import SimpleNamespace

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2, exact_log2

from ..arch.config import AcceleratorConfig
from ..emit import block
from ..interfaces import KsumWrite, MemoryRead, WeightWrite
from ..units.copies import copies
from .ram import Ram, ram
from .shared_ram import shared_ram


class WeightBuffer(wiring.Component):
    """``weight_rows`` rows of lanes x width bytes in beat-wide columns.

    One engine: a memory that is read and written in every cycle. Two engines (``shared``): one memory of two banks,
    even and odd rows, whose second port R-MAC has before the writers; what they write waits while R-MAC reads its bank,
    every second cycle of a tile. With a key loader, whose writes cannot wait, or UltraRAM: a copy for each engine.

    Members
    -------
    loader : (with attention) In(WeightWrite), mask per slice of ``cores`` lanes; always accepted, written a cycle later
    z : (with trio) In(WeightWrite), mask per beat, 0 unless ``valid``; accepted unless the loader writes or,
        ``shared``, R-MAC reads there
    dma : In(WeightWrite), mask per beat; the same, and unless one of the others has a row
    read_<engine> : In(MemoryRead), one engine's port

    Latency/throughput: read data after 2 cycles, one row a cycle and port; one write a cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        bits = c.weight_row_bytes * 8
        members = {"dma": In(WeightWrite(bits, c.beats_per_weight_row))}
        if c.attention:
            members["loader"] = In(WeightWrite(bits, c.weight_row_bytes // c.row_bytes))
        if c.trio:
            members["z"] = In(WeightWrite(bits, c.beats_per_weight_row))
        members |= {f"read_{e}": In(MemoryRead(bits, enable=e == "rmac")) for e in c.engine_names}
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        address = ceil_log2(c.weight_rows)
        shared = c.trio and not c.attention and not c.ultraram
        columns = range(c.beats_per_weight_row)
        # in order of priority: port, row, what marks its columns: of those that can be chosen alone, and never without
        # ``valid``, so that no signal chooses more than a column
        writers = [self._loader(m, columns)] if c.attention else []
        writers += [(self.z, self.z.data, self.z.mask)] if c.trio else []
        writers += [(self.dma, self.dma.data, self.dma.mask)]

        addr, before = self.dma.addr[:address], Const(0, 1)
        for port, _, _ in writers:
            busy = self.read_rmac.en & (self.read_rmac.addr[0] == port.addr[0]) if shared else Const(0, 1)
            m.d.comb += port.ready.eq(~before & ~busy)
            before = before | port.valid
        for port, _, _ in reversed(writers[:-1]):
            addr = Mux(port.valid, port.addr[:address], addr)
        bits = c.beat_bytes * 8
        rows = [self.dma.data.word_select(i, bits) for i in columns]
        for _, row, marks in reversed(writers[:-1]):
            rows = [Mux(marks[i], row.word_select(i, bits), below) for i, below in enumerate(rows)]
        write_addr, write_data = Signal(address), Signal(len(self.dma.data))
        m.d.comb += [write_addr.eq(addr), write_data.eq(Cat(rows))]

        mine = [Cat(p.valid & p.ready & marks[i] for p, _, marks in writers).any() for i in columns]
        if shared:
            self._banks(m, address, mine, write_addr, write_data)
        else:
            self._copies(m, address, mine, write_addr, write_data)
        return m

    def _loader(self, m, columns):
        """The key loader's port, its row and the columns that it writes, a cycle later."""
        given = self.loader
        late = SimpleNamespace(valid=Signal(), ready=Signal(), addr=Signal(len(given.addr), reset_less=True))
        row = Signal(len(given.data), reset_less=True)
        m.d.comb += given.ready.eq(1)
        m.d.sync += [late.valid.eq(given.valid), late.addr.eq(given.addr), row.eq(given.data)]
        beats = self._config.beats_per_row
        marks = [copies(m, 1, f"loader{i}_", given.valid & given.mask[i // beats])[0][0] for i in columns]
        return late, row, marks

    def _copies(self, m, address, enables, write_addr, write_data):
        """A memory for each engine, written together."""
        c = self._config
        bits = c.beat_bytes * 8
        for engine in c.engine_names:
            columns = []
            read = getattr(self, f"read_{engine}")
            for i, enable in enumerate(enables):
                column = ram(bits, c.weight_rows, "ultra" * c.ultraram)
                m.submodules[f"column{i}" if engine == "mat" else f"{engine}_column{i}"] = column
                m.d.comb += [
                    column.write_enable.eq(enable),
                    column.write_addr.eq(write_addr),
                    column.write_data.eq(write_data.word_select(i, bits)),
                    column.read_enable.eq(1),
                    column.read_addr.eq(read.addr[:address]),
                ]
                columns.append(column.read_data)
            m.d.comb += read.data.eq(Cat(*columns))

    def _banks(self, m, address, enables, write_addr, write_data):
        """Even and odd rows."""
        c = self._config
        bits = c.beat_bytes * 8
        reads = [self.read_mat, self.read_rmac]
        odd = []  # with the data, for each column
        for n, read in enumerate(reads):
            late = Signal(name=f"odd{n}", reset_less=True)
            m.d.sync += late.eq(read.addr[0])
            odd.append([o for (o,) in copies(m, len(enables), f"odd{n}_", late)])
        rows = [[], []]
        for i, enable in enumerate(enables):
            found = []
            for bank in range(2):
                column = shared_ram(bits, (c.weight_rows + 1) // 2)
                m.submodules[f"column{i}_bank{bank}"] = column
                m.d.comb += [
                    column.read0_addr.eq(reads[0].addr[1:address]),
                    column.read1_enable.eq(reads[1].en & (reads[1].addr[0] == bank)),
                    column.read1_addr.eq(reads[1].addr[1:address]),
                    column.write_enable.eq(enable & (write_addr[0] == bank)),
                    column.write_addr.eq(write_addr[1:]),
                    column.write_data.eq(write_data.word_select(i, bits)),
                ]
                found.append((column.read0_data, column.read1_data))
            for n in range(2):
                rows[n].append(Mux(odd[n][i], found[1][n], found[0][n]))
        for n, read in enumerate(reads):
            m.d.comb += read.data.eq(Cat(*rows[n]))


class ParameterMemory(wiring.Component):
    """``rows`` beats: parameter entries of post-processing or LayerNorm.

    Parameters
    ----------
    config : beat size
    rows : beats
    read_bytes : whole beats, a power of two of them, read at once

    Members
    -------
    write : In(WeightWrite) of one beat
    read : In(MemoryRead) of ``read_bytes``; the address counts beats, the read begins at the multiple of ``read_bytes``
        at or below it

    Latency: 2 cycles, one read and one write a cycle.
    """

    def __init__(self, config: AcceleratorConfig, rows: int, read_bytes: int | None = None):
        self._bits, self._rows = config.beat_bytes * 8, rows
        self._columns = (read_bytes or config.beat_bytes) // config.beat_bytes
        super().__init__({"write": In(WeightWrite(self._bits, 1)), "read": In(MemoryRead(self._bits * self._columns))})

    def elaborate(self, platform):
        m = Module()
        low, depth = exact_log2(self._columns), self._rows // self._columns
        address = ceil_log2(self._rows)
        write = self.write
        m.d.comb += write.ready.eq(1)
        data = []
        for i in range(self._columns):
            ram = block(Ram(self._bits, depth), f"vf_ram_{self._bits}x{depth}")
            m.submodules["ram" if self._columns == 1 else f"ram{i}"] = ram
            enable = write.valid & write.mask[0]
            m.d.comb += [
                ram.write_enable.eq(enable & (write.addr[:low] == i) if low else enable),
                ram.write_addr.eq(write.addr[low:address]),
                ram.write_data.eq(write.data),
                ram.read_enable.eq(1),
                ram.read_addr.eq(self.read.addr[low:address]),
            ]
            data.append(ram.read_data)
        m.d.comb += self.read.data.eq(Cat(*data))
        return m


class KsumMemory(wiring.Component):
    """``ksum_rows`` words of ``word`` int8: sums of keys over the tokens, one copy for each engine.

    Members
    -------
    write : In(KsumWrite)
    read_<engine> : In(MemoryRead) of one word

    Latency: 2 cycles, one word a cycle and port.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        bits = c.word * 8
        super().__init__({"write": In(KsumWrite(c))} | {f"read_{e}": In(MemoryRead(bits)) for e in c.engine_names})

    def elaborate(self, platform):
        c = self._config
        m = Module()
        bits, address = c.word * 8, ceil_log2(c.ksum_rows)
        for engine in c.engine_names:
            read = getattr(self, f"read_{engine}")
            m.submodules[engine] = ram = block(Ram(bits, c.ksum_rows), f"vf_ram_{bits}x{c.ksum_rows}")
            m.d.comb += [
                ram.write_enable.eq(self.write.valid),
                ram.write_addr.eq(self.write.addr[:address]),
                ram.write_data.eq(self.write.data),
                ram.read_enable.eq(1),
                ram.read_addr.eq(read.addr[:address]),
                read.data.eq(ram.read_data),
            ]
        return m
