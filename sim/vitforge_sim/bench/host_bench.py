"""The machine's system side (vitforge_hw.host.host) with memory, driver, sequencers and buffers around it."""

import random
from collections.abc import Sequence

from vitforge_hw.arch import isa, memmap
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.checksum import balance, signature
from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.registers import REGISTERS
from vitforge_hw.host.host import Host

from .axi_model import AxiLite, AxiMemory, ChunkDriver, ReadSource, World, WriteSink
from .replay import USUAL, Resettable, Simulator
from .reuse import reused

DRAM = 0x5_4321_0000_0000  #: byte address of the memory where a test says nothing else
IMAGE, JOB, RESULT = 0x0000, 0x40000, 0x60000  #: memory image, first job's image, first result, behind DRAM
SIZE = 0x80000
INSTRUCTIONS = 12  #: header included: the program's size as the registers and the header say it


class _Checked(ChunkDriver):
    """Fills in the checksum of what an instruction loads from the memory image."""

    def __init__(self, bench: "HostBench", *args):
        self._bench = bench
        super().__init__(*args)

    def add(self, **op):
        size = self._bench.config.beat_bytes
        if not op.get("job") and "checksum" not in op:
            data = bytes(self._bench.image[op["source"] * size :][: op["rows"] * op["beats"] * size])
            op["checksum"] = signature(data, size)
        super().add(**op)


def _host(config: AcceleratorConfig) -> Resettable:
    return Resettable(Host(config))


class HostBench:
    """Host(config) with models; ``run(test)`` runs ``async def test(bench)``; the memory's address is ``dram``.

    The logical bytes of memory image and job image are ``image`` and ``job`` (random), as beats of all masters; the
    header in front of ``image`` is valid for a program of INSTRUCTIONS.
    """

    def __init__(
        self, config: AcceleratorConfig, *, seed=1, stall=0.2, latency=(1, 30), pause=0.2, buffer_stall=0.2, dram=DRAM
    ):
        self.config = c = config
        self.rng = rng = random.Random(seed)
        self.top = reused(_host, c)
        self.host = h = self.top.dut
        self.at = dram
        self.starts = {f"{k.name.lower()}_start": rng.randrange(INSTRUCTIONS) for k in isa.Chunk}
        ends = {k: INSTRUCTIONS - self.starts[f"{k.name.lower()}_start"] for k in isa.Chunk}
        counts = {k: rng.randint(0, ends[k]) for k in isa.Chunk}  # of an absent chunk: none
        self.starts |= {f"{k.name.lower()}_count": counts[k] if k in c.chunks else 0 for k in isa.Chunk}
        self.image = bytearray(rng.randbytes(JOB - IMAGE))
        self.seal()
        self.job = rng.randbytes(RESULT - JOB)
        self.rows = [rng.randbytes(c.row_bytes) for _ in range(512)]
        self.dram = bytearray(SIZE)
        self.store()
        ports = [getattr(h, f"m_axi_gmem{i}") for i in range(c.masters)]
        self.memory = AxiMemory(ports, self.dram, latency, stall, seed, c.burst_beats, dram)
        self.lite = AxiLite(h.s_axi_ctrl, seed)
        self.weight = _Checked(self, h.weight_ctl, pause, seed + 1)
        self.image_in = _Checked(self, h.image_ctl, pause, seed + 2)
        self.result = ChunkDriver(h.result_ctl, pause, seed + 3)
        b = c.beat_bytes
        self.sinks = [
            WriteSink(h.weights, c.weight_row_bytes, c.beats_per_weight_row, buffer_stall, seed + 4),
            WriteSink(h.params, b, 1, buffer_stall, seed + 5),
            WriteSink(h.ln_params, b, 1, buffer_stall, seed + 6),
        ]
        self.program = WriteSink(h.program, b, 1, 0, seed)
        self.buffer = WriteSink(h.image_wr, c.row_bytes, c.cores, buffer_stall, seed + 7)
        self.source = ReadSource(h.result_rd, self.rows, buffer_stall, seed + 8)
        self.drivers = [self.weight, self.image_in, self.result]
        self.models = [self.memory, self.lite, *self.drivers, *self.sinks, self.program, self.buffer, self.source]

    def seal(self, instructions: int = INSTRUCTIONS, **header: int):
        """Write the header, with a checksum over so many instructions; ``header``: fields that differ."""
        fields = {"magic": isa.MAGIC, "config_hash": self.config.hash, "build_hash": build_hash(self.config)}
        packed = isa.pack(isa.HEADER_FIELDS, fields | self.starts | header, "header")
        self.image[: isa.INSTRUCTION_BYTES] = packed.to_bytes(isa.INSTRUCTION_BYTES, "little")
        program = bytes(self.image[: instructions * isa.INSTRUCTION_BYTES])
        at = 4 * isa.CHECKSUM_WORD
        self.image[at : at + 4] = balance(program, self.config.beat_bytes, isa.CHECKSUM_WORD).to_bytes(4, "little")

    def store(self):
        """Write ``image`` and ``job`` to the memory in the masters' order."""
        for where, data in ((IMAGE, self.image), (JOB, self.job)):
            striped = memmap.stripe(bytes(data), self.config.masters)
            self.dram[where : where + len(striped)] = striped

    def run(self, test, simulators: Sequence[str] = ()):
        """``simulators``: of the replay, by default those that the configuration leaves time for."""
        chosen = simulators or (USUAL if self.config.name == "tiny" else ("verilator",))
        simulator = Simulator(self.top, simulators=chosen)
        simulator.add_clock(1e-8)

        async def bench(ctx):
            self.world = self.lite.world = World(ctx, self.models)
            await test(self)

        simulator.add_testbench(bench)
        simulator.run()

    # ---- the driver's view
    async def write(self, name: str, value: int):
        await self.lite.write(REGISTERS[name].offset, value)

    async def read(self, name: str) -> int:
        return await self.lite.read(REGISTERS[name].offset)

    async def read64(self, name: str) -> int:
        return await self.read(f"{name}_lo") | await self.read(f"{name}_hi") << 32

    async def counter(self, name: str) -> int:
        """A counter as it is now."""
        await self.write("snapshot", 1)
        return await self.read64(name)

    async def write64(self, name: str, value: int):
        await self.write(f"{name}_lo", value & 0xFFFFFFFF)
        await self.write(f"{name}_hi", value >> 32)

    async def setup(self, program_beats: int = 0, jobs: int = 1, enable: bool = True):
        """Set the bases, queue jobs, enable and wait until the program runs."""
        await self.write64("program", self.at + IMAGE)
        await self.write("program_beats", program_beats or self.config.instruction_beats * INSTRUCTIONS)
        await self.write64("job_image", self.at + JOB)
        await self.write64("job_result", self.at + RESULT)
        await self.write("job_image_stride", 0x1000)
        await self.write("job_result_stride", 0x2000)
        for _ in range(jobs):
            await self.write("job_submit", 1)
        if enable:
            await self.write("control", 1)
            await self.world.until(lambda: self.world.ctx.get(self.host.run))

    async def finish(self, limit: int = 20000):
        """Until every chunk has done what was asked for."""
        await self.world.until(lambda: all(d.finished for d in self.drivers), limit)

    async def end_image(self, *chunks: isa.Chunk):
        """One cycle of ``image_end`` for these chunks."""
        self.world.ctx.set(self.host.image_end, sum(1 << c for c in chunks))
        await self.world.step()
        self.world.ctx.set(self.host.image_end, 0)

    async def soft_reset(self, limit: int = 2000):
        """Write the bit, watch core_reset (which resets the models of what is outside), wait until it reads 0."""
        await self.write("control", 2)
        ctx, host = self.world.ctx, self.host
        await self.world.until(lambda: ctx.get(host.core_reset), limit)
        assert self.memory.outstanding == 0, "reset before AXI was drained"
        for driver in self.drivers:
            driver.reset()
        self.source.pipe = [None, None]
        while await self.read("control"):
            pass

    async def aresetn(self, cycles: int = 2):
        """Reset without drain: all but the memory's and the buffers' contents is as it was at first."""
        self.world.ctx.set(self.top.reset, 1)
        for _ in range(cycles):
            self.memory.aresetn()
            await self.world.step()
        self.world.ctx.set(self.top.reset, 0)
        self.memory.aresetn()
        for driver in self.drivers:
            driver.reset()
        self.source.pipe = [None, None]
