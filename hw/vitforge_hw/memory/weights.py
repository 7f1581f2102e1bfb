"""Weight buffer, parameter memories and program memory: written by DMA (and the key loader), read privately."""

from amaranth import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from ..arch.config import AcceleratorConfig
from ..emit import block
from ..interfaces import MemoryRead, WeightWrite
from .ram import Ram


class WeightBuffer(wiring.Component):
    """``weight_rows`` rows of lanes x width bytes in beat-wide columns.

    Members
    -------
    loader : In(WeightWrite), mask per slice of ``cores`` lanes; has priority
    dma : In(WeightWrite), mask per beat
    read : In(MemoryRead), the PE array's port

    Latency/throughput: read data after 2 cycles, one row a cycle; one write a cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        bits = c.weight_row_bytes * 8
        super().__init__(
            {
                "loader": In(WeightWrite(bits, c.weight_row_bytes // c.row_bytes)),
                "dma": In(WeightWrite(bits, c.beats_per_weight_row)),
                "read": In(MemoryRead(bits)),
            }
        )

    def elaborate(self, platform):
        c = self._config
        m = Module()
        address = ceil_log2(c.weight_rows)
        bits = c.beat_bytes * 8
        m.d.comb += [self.loader.ready.eq(1), self.dma.ready.eq(~self.loader.valid)]
        columns = []
        for i in range(c.beats_per_weight_row):
            column = block(Ram(bits, c.weight_rows), f"vf_ram_{bits}x{c.weight_rows}")
            m.submodules[f"column{i}"] = column
            by_loader = self.loader.valid & self.loader.mask[i // c.beats_per_row]
            m.d.comb += [
                column.write_enable.eq(by_loader | (self.dma.valid & self.dma.ready & self.dma.mask[i])),
                column.write_addr.eq(Mux(self.loader.valid, self.loader.addr[:address], self.dma.addr[:address])),
                column.write_data.eq(
                    Mux(self.loader.valid, self.loader.data.word_select(i, bits), self.dma.data.word_select(i, bits))
                ),
                column.read_enable.eq(1),
                column.read_addr.eq(self.read.addr[:address]),
            ]
            columns.append(column.read_data)
        m.d.comb += self.read.data.eq(Cat(*columns))
        return m


class ParameterMemory(wiring.Component):
    """``rows`` beats: parameter entries of post-processing or LayerNorm.

    Members
    -------
    write : In(WeightWrite) of one beat
    read : In(MemoryRead) of one beat

    Latency: 2 cycles, one read and one write a cycle.
    """

    def __init__(self, config: AcceleratorConfig, rows: int):
        self._bits, self._rows = config.beat_bytes * 8, rows
        super().__init__({"write": In(WeightWrite(self._bits, 1)), "read": In(MemoryRead(self._bits))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = block(Ram(self._bits, self._rows), f"vf_ram_{self._bits}x{self._rows}")
        address = ceil_log2(self._rows)
        m.d.comb += [
            self.write.ready.eq(1),
            ram.write_enable.eq(self.write.valid & self.write.mask[0]),
            ram.write_addr.eq(self.write.addr[:address]),
            ram.write_data.eq(self.write.data),
            ram.read_enable.eq(1),
            ram.read_addr.eq(self.read.addr[:address]),
            self.read.data.eq(ram.read_data),
        ]
        return m
