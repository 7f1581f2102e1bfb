"""Matrix products of stored weights (or keys, or Z) with token groups, on either engine: down-forward accumulation.

Linear and pointwise layers, scores Q K^T (weights that the key loader has written), grouped layers, and Q Z with the
division by relu(q) Ksum (field ``divide``).
"""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import KSUM_BITS, Chunk, Instruction
from vitforge_hw.arch.latency import Latency

from . import arithmetic
from .access import Access, Memory, cdiv, param_beats, reads, words, writes
from .engine import finish, parameters, phases, post_tail
from .kind import Clock, InstructionKind, Op, Output
from .memories import Memories

KSUM_MASK = (1 << KSUM_BITS) - 1  #: of act1 where divide is set: first Ksum word; the bit above is the division's rule


class Matmul(InstructionKind):
    name = "matmul"
    chunks = (Chunk.MAT, Chunk.RMAC)
    reading = (Memory.ACT, Memory.WEIGHT, Memory.PARAM, Memory.KSUM)
    writing = (Memory.ACT,)

    # ------------------------------------------------------------ accesses and rows

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        groups = np.arange(rows)[:, None] * self.row_groups(op) + np.arange(op["groups"] + 1)
        out = [
            reads(Memory.ACT, _input_rows(op, groups, config)),
            reads(Memory.WEIGHT, op["weight_addr"] + np.arange(_passes(op) * _steps(op, config))),
            reads(Memory.PARAM, param_beats(op["param_addr"], op["tiles"] * config.lanes, config)),
        ]
        if op["divide"]:
            out.append(reads(Memory.KSUM, (op["act1"] & KSUM_MASK) + np.arange(_heads(op) * op["ksteps"])))
        if op["res_mode"]:
            count = op["tiles"] * op["res_mode"]
            out.append(reads(Memory.ACT, words(op["res_addr"], op["res_stride"], groups, count)))
        count = op["tiles"] * (1 + op["out_wide"])
        return [*out, writes(Memory.ACT, words(op["out_addr"], op["out_stride"], groups, count))]

    def row_groups(self, op: Op) -> int:
        return (op.get("groups", 0) + 1) * (1 + op.get("skip", 0))

    def advance(self, op: Op, rows: int, config: AcceleratorConfig) -> Op:
        groups = rows * self.row_groups(op)
        new = op | {f"{x}_addr": op.get(f"{x}_addr", 0) + groups * op[f"{x}_stride"] for x in ("in", "out")}
        if op.get("in_tokens"):
            new["in_first"] = op.get("in_first", 0) + groups
        if op.get("res_mode"):
            new["res_addr"] = op.get("res_addr", 0) + groups * op["res_stride"]
        return new

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> Output:
        each = op.get("groups", 0) + 1
        return Output(
            Memory.ACT, op["out_addr"], each, self.row_groups(op), op.get("out_stride", 0), op["tiles"] * planes
        )

    # ------------------------------------------------------------ cycles

    def group_cycles(self, op: Op, c: AcceleratorConfig) -> int:
        """Cycles of the tiles of one token group on an engine of its own."""
        steps, tile = _steps(op, c), max(phases(c), 1 + op["out_wide"])
        if not op.get("w4"):
            return op["tiles"] * max(steps, tile)
        return op["tiles"] // 2 * max(steps, 2 * tile) + op["tiles"] % 2 * max(steps, tile)

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        return (op.get("groups", 0) + 1) * self.group_cycles(op, c)

    def steps(self, op: Op, c: AcceleratorConfig) -> int:
        return (op.get("groups", 0) + 1) * _passes(op) * _steps(op, c)

    def tiles(self, op: Op, c: AcceleratorConfig) -> list[tuple[int, int]]:
        return [(group, tile) for group in range(op.get("groups", 0) + 1) for tile in range(op["tiles"])]

    def walk(self, clock: Clock, chunk: Chunk, number: int, op: Op, go: int, row: int) -> None:
        """A row's token groups one by one; each group's words stay in the group register for all of its tiles. Where
        MAT has R-MAC beside it, the words of all rows that wait for nothing more are fetched without a pause, as far as
        there is room."""
        c, t, e = clock.c, clock.t, clock.engines[chunk]
        rows = 1
        if chunk == Chunk.MAT and row == 0 and clock.both_engines:
            rows = 1 + _free_rows(clock.instruction(chunk, number))
        go = max(go, e.free)  # one row may wait behind the one that is being read
        room = 1 << (t.mat_fetch_rows * c.max_k // c.word - 1).bit_length()  # words of the group register
        k, cycles = op.get("in_words", 0) or op["ksteps"], self.group_cycles(op, c)
        before = clock.last(chunk, number)
        if e.kind != self.code:
            before, e.kind = max(before, e.drained + t.rmac_switch), self.code
        end = first = 0
        for group in range(op.get("groups", 0) + 1):
            begin = max(go + 2, e.fetched)
            while e.held + k > room and e.words:
                count, used = e.words.pop(0)
                e.held -= count
                begin = max(begin, used)
            e.free = begin
            ahead = k
            if group == 0 and rows > 1:
                held = sum(count for count, used in e.words if used > begin)
                ahead = max(k, min(room - held, rows * (op["groups"] + 1) * k))
            e.fetched = clock.fetch(chunk, op["in_addr"], begin, k, ahead)
            first_word = begin if chunk == Chunk.MAT else clock.reads(op["in_addr"], begin, 1) - 1
            start = max(before, first_word + t.mat_go_to_step - 2)
            end = clock.post(start, max(start + cycles, e.fetched + t.mat_go_to_step - 2), op["tiles"])
            first = first if group else start
            before = end
            e.words.append((k, end))
            e.held += k
        result = t.mat_step_to_result + t.w4_cell * c.w4
        e.drained = end - 1 + (result if chunk == Chunk.MAT else t.rmac_pointwise_to_result)
        second = phases(c) if op.get("w4") and op["tiles"] % 2 == 0 else 0  # the last pass gives two tiles at once
        clock.set(chunk, number, go, first, end, e.drained + second + post_tail(op, c, t))

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        c, groups = m.config, self._groups(op, row)
        tiles, steps = op["tiles"], _steps(op, c)
        w = m.weight[op["weight_addr"] : op["weight_addr"] + _passes(op) * steps].view(np.int8)
        if op.get("w4"):  # even tiles in the low nibbles, odd ones in the high ones
            w = np.stack([x.reshape(_passes(op), -1) for x in ((w << 4) >> 4, w >> 4)], axis=1)
            w = w.reshape(2 * _passes(op), -1)[:tiles]
        w = w.reshape(tiles, steps, c.lanes, c.width).transpose(0, 2, 1, 3).reshape(tiles * c.lanes, -1).copy()
        residual: np.ndarray | int = 0
        ksum = None
        if op["res_mode"]:
            rows = groups[:, None] * op["res_stride"] + np.arange(tiles * op["res_mode"])
            residual = m.tokens(m.act[op["res_addr"] + rows], op["res_mode"])
        if op["divide"]:
            heads, at = _heads(op), op["act1"] & KSUM_MASK
            ksum = m.ksum[at : at + heads * op["ksteps"]].view(np.int8).reshape(heads, -1).copy()
        return _input(m, op, groups), w, parameters(m, op["param_addr"], tiles * c.lanes), residual, ksum

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> np.ndarray:
        x, w, params, residual, ksum = operands
        k = op["ksteps"] * m.config.word
        n = (op["gtiles"] or op["tiles"]) * m.config.lanes
        parts = [(x[:, g * k : (g + 1) * k], w[at : at + n]) for g, at in enumerate(range(0, len(w), n))]
        acc = np.concatenate([arithmetic.matmul8(*p) for p in parts], axis=1)
        constants = arithmetic.constants(params)
        if op["divide"]:
            divisor = np.stack([arithmetic.matmul8(p[0], s[None])[:, 0] for p, s in zip(parts, ksum)], axis=1)
            mant, p = arithmetic.divisor_factor(divisor, op["act1"] >> KSUM_BITS, op["act0"])
            head = np.arange(len(w)) // n
            constants |= dict(m1=mant[:, head], s1=p[:, head] + params["s1"])  # the field is the shift itself
        return m.store(op, self._groups(op, row), finish(acc, constants, op, residual), 1 + op["out_wide"])

    def _groups(self, op: Op, row: int) -> np.ndarray:
        return row * self.row_groups(op) + np.arange(op["groups"] + 1)


def _steps(op: Op, c: AcceleratorConfig) -> int:
    """Steps of a tile: ``width`` channels each."""
    return op["ksteps"] * (c.word // c.width)


def _passes(op: Op) -> int:
    """Passes of the weights over a token group's words: a tile each, with ``w4`` two."""
    return cdiv(op["tiles"], 1 + op.get("w4", 0))


def _heads(op: Op) -> int:
    """Groups of tiles with their own inputs: heads where the instruction divides."""
    return cdiv(op["tiles"], op["gtiles"] or op["tiles"])


def _input_rows(op: Op, groups: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Input rows of each row: every group, or two where ``in_offset`` makes tokens straddle; masked ones not."""
    token = (op["in_first"] + groups) * config.cores + op["in_offset"]
    ends = [token, token + config.cores - 1] if op["in_offset"] else [token]
    if op["in_tokens"]:
        ends = [np.clip(t, 0, op["in_tokens"] - 1) for t in ends]
    groups = np.stack(ends, axis=2).reshape(len(groups), -1) // config.cores - op["in_first"]
    return words(op["in_addr"], op["in_stride"], groups, op["in_words"] or op["ksteps"])


def _free_rows(instruction: Instruction) -> int:
    """Rows behind the first that wait for nothing more: their words are fetched in one go."""
    same = all(w.threshold(instruction.rows - 1) <= max(0, w.threshold(0)) for w in instruction.waits)
    return instruction.rows - 1 if same else 0


def _input(m: Memories, op: Op, groups: np.ndarray) -> np.ndarray:
    """int8 (tokens, words * word); ``in_offset`` shifts tokens, those outside ``in_tokens`` are 0."""
    c = m.config
    each = np.arange(op["in_words"] or op["ksteps"])
    if not op["in_offset"] and not op["in_tokens"]:
        x = m.act[op["in_addr"] + groups[:, None] * op["in_stride"] + each].view(np.int8)
        x = x.reshape(len(groups), len(each), c.cores, c.word).transpose(0, 2, 1, 3)
    else:
        tokens = (((op["in_first"] + groups) * c.cores)[:, None] + np.arange(c.cores) + op["in_offset"]).ravel()
        valid = (tokens >= 0) & (tokens < op["in_tokens"]) if op["in_tokens"] else np.full(len(tokens), True)
        address = op["in_addr"] + (tokens // c.cores - op["in_first"])[:, None] * op["in_stride"] + each
        bank = (tokens % c.cores)[:, None, None] * c.word + np.arange(c.word)
        x = m.act[np.where(valid[:, None], address, 0)[:, :, None], bank].view(np.int8) * valid[:, None, None]
    x = x.reshape(len(groups) * c.cores, -1)
    return np.maximum(x, 0) if op["relu"] else x
