"""A chunk alone: behind its control port a sequencer whose waits are all satisfied, its rows counted by ``done``."""

from vitforge_hw.arch.isa import Field

from .portbench import PortBench, Record


class ChunkBench(PortBench):
    """Drives one chunk through a list of instructions.

    dut: component with `ctl`; instructions: dicts of `rows` and op fields; "go" and "op" stall as the ports do;
    options: PortBench's.
    """

    def __init__(self, dut, instructions, **options):
        super().__init__(dut, **options)
        self.instructions = instructions
        self.rows = sum(i["rows"] for i in instructions)
        self.add(self._ops)
        self.add(self._goes)

    def may_go(self, row: int) -> bool:
        """Whether the program's row may be started (when "go" does not stall)."""
        return True

    async def _ops(self, ctx):
        await self.offer(ctx, self.dut.ctl.op, self.instructions, "op", self.record.ops)

    async def _goes(self, ctx):
        last = [int(r == i["rows"] - 1) for i in self.instructions for r in range(i["rows"])]
        await self.offer(ctx, self.dut.ctl.go, last, "go", self.record.goes, self.may_go)

    def run(self, limit: int, after: int = 20) -> Record:
        """Run until every row is done and `after` cycles more; raises TimeoutError beyond `limit` cycles."""

        async def main(ctx):
            cycle = 0
            while len(self.record.done) < self.rows:
                if cycle > limit:
                    raise TimeoutError(f"{len(self.record.done)} of {self.rows} rows done after {limit} cycles")
                _, _, done = await ctx.tick().sample(self.dut.ctl.done)
                if done:
                    self.record.done.append(cycle)
                cycle += 1
            for _ in range(after):
                _, _, done = await ctx.tick().sample(self.dut.ctl.done)
                assert not done, "done without a row"

        self.sim.add_testbench(main)
        self.sim.run()
        return self.record


def pack_entries(fields: tuple[Field, ...], entries: list[dict[str, int]], beat_bytes: int) -> list[int]:
    """Parameter entries of 8 bytes each to beats."""
    from vitforge_hw.arch import isa

    raw = b"".join(isa.pack(fields, e, "entry").to_bytes(isa.PARAM_BYTES, "little") for e in entries)
    raw += bytes(-len(raw) % beat_bytes)
    return [int.from_bytes(raw[i : i + beat_bytes], "little") for i in range(0, len(raw), beat_bytes)]
