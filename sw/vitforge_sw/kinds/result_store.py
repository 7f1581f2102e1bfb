"""The result DMA: words of one bank from the activation buffer into the job's result; one row."""

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk
from vitforge_hw.arch.latency import Latency
from vitforge_hw.arch.memmap import STRIPE_BEATS

from .access import Access, Memory, cdiv, grid, reads
from .kind import Clock, InstructionKind, Op
from .memories import Memories


class ResultStore(InstructionKind):
    name = "result_store"
    chunks = (Chunk.RESULT_DMA,)
    reading = (Memory.ACT,)

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        return [reads(Memory.ACT, grid(op["in_addr"], 0, rows, op["count"]))]

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> None:
        """The tensor has been written before."""

    # ------------------------------------------------------------ cycles

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        return op["count"]

    def walk(self, clock: Clock, chunk: Chunk, number: int, op: Op, go: int, row: int) -> None:
        """Words are packed to 16 bytes; a burst leaves when all its words are read, behind the response to the one
        before. All others' reads hold up those of the result."""
        c, t = clock.c, clock.t
        per_beat, limit = 16 // c.word, min(STRIPE_BEATS, c.burst_beats)
        beats, first = cdiv(op["count"], per_beat), limit - op["offset"] % limit
        bursts = 1 + cdiv(max(0, beats - first), limit)
        held = clock.last_reads(op["in_addr"], go, op["count"]) - go - op["count"]
        end = go + held + min(op["count"], first * per_beat) + beats + bursts * t.result_burst + t.result_latency
        done = end + bursts * clock.latency
        clock.set(chunk, number, go, go, done - clock.latency, done)

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        words = m.act[op["in_addr"] : op["in_addr"] + op["count"], op["bank"] * m.config.word :]
        return (words[:, : m.config.word].copy(),)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> None:
        m.result.append((op["offset"] * 16, operands[0].tobytes()))
