"""Which memory rows each row of an instruction reads and writes, from the decoded op fields alone.

The compiler's waits, the order proof and the cycle model all ask this module, so an access that it forgets is
forgotten by all three; the emulator, which does not use it, shows such a mistake as a wrong tensor.

Ops may omit fields that are 0.
"""

import dataclasses

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import (
    DEPTHWISE,
    DEST_LN_PARAMS,
    DEST_PARAMS,
    DEST_WEIGHTS,
    KEY_VALUE,
    PARAM_BYTES,
    POINTWISE,
    Chunk,
    op_fields,
)

ACT, WEIGHT, PARAM, LN_PARAM, KSUM = MEMORIES = range(5)
MEMORY_NAMES = ("activation buffer", "weight buffer", "parameters", "LayerNorm parameters", "Ksum memory")
_DEST = {DEST_WEIGHTS: WEIGHT, DEST_PARAMS: PARAM, DEST_LN_PARAMS: LN_PARAM}
KSUM_MASK = 0x7FF  #: of a dividing instruction's act1: first Ksum word


def cdiv(a: int, b: int) -> int:
    """Ceiling division."""
    return -(-a // b)


def memory_rows(config: AcceleratorConfig) -> tuple[int, ...]:
    """Rows of each memory (parameter memories: beats; Ksum memory: words)."""
    return config.act_rows, config.weight_rows, config.param_rows, config.ln_param_rows, config.ksum_rows


def narrow_mapping(blocks: int, stride: int) -> bool:
    """Depthwise: slots hold token groups of the one block (docs/hybrid.md); otherwise blocks of one group."""
    return blocks == 1 and stride == 1


@dataclasses.dataclass(frozen=True)
class Access:
    """``index``: memory rows, shape (n,) where every row of the instruction makes the same access; otherwise (m, n) for
    rows ``first`` to ``first + m - 1``, and the others make none."""

    memory: int
    write: bool
    index: np.ndarray
    first: int = 0

    @property
    def shared(self) -> bool:
        return self.index.ndim == 1

    def row(self, r: int) -> np.ndarray:
        if self.shared:
            return self.index
        return self.index[r - self.first] if self.first <= r < self.first + len(self.index) else self.index[:0].ravel()


def _grid(base: int, stride: int, rows: int, n: int) -> np.ndarray:
    return base + np.arange(rows)[:, None] * stride + np.arange(n)


def row_groups(chunk: Chunk, op: dict[str, int]) -> int:
    """What ``first`` of a step or label advances by from row to row: token groups (MAT, RMAC), heads (K^T V), rows of
    the instruction (DMA), groups (all others: one group a row)."""
    if chunk == Chunk.RMAC and op.get("kind", 0) != POINTWISE:
        return op["out_groups"] if op["kind"] == DEPTHWISE else 1
    return (op.get("groups", 0) + 1) * (1 + op.get("skip", 0)) if chunk in (Chunk.MAT, Chunk.RMAC) else 1


def accesses(chunk: Chunk, rows: int, op: dict[str, int], config: AcceleratorConfig) -> list[Access]:
    """Every access of an instruction; reads before writes."""
    kind = op.get("kind", POINTWISE)
    o = {f.name: op.get(f.name, 0) for f in op_fields(chunk, kind)}
    cores, lanes = config.cores, config.lanes
    beat = config.beat_bytes
    if chunk in (Chunk.MAT, Chunk.RMAC):
        if kind == POINTWISE:
            return _pointwise(o, rows, config)
        return {DEPTHWISE: _depthwise, KEY_VALUE: _key_value}.get(kind, _token_sum)(o, rows, config)
    if chunk == Chunk.SHIFTER:
        v = _grid(o["v_addr"], o["v_stride"], cdiv(o["keys"], cores), o["blocks"]).ravel()
        return [Access(ACT, False, v), Access(ACT, True, _grid(o["out_addr"], o["out_stride"], rows, o["blocks"]))]
    if chunk == Chunk.LAYERNORM:
        n = cdiv(o["blocks"] * config.word * PARAM_BYTES, beat)
        return [
            Access(ACT, False, _grid(o["in_addr"], o["in_stride"], rows, o["blocks"] * (1 + o["in_wide"]))),
            Access(LN_PARAM, False, o["param_addr"] + np.arange(n)),
            Access(ACT, True, _grid(o["out_addr"], o["out_stride"], rows, o["blocks"])),
        ]
    if chunk == Chunk.SOFTMAX:
        return [Access(ACT, False, _grid(o["in_addr"], o["in_stride"], rows, cdiv(o["keys"], config.word)))]
    if chunk == Chunk.LOADER:
        tile = np.arange(rows) * cores // lanes
        dest = o["weight_addr"] + tile[:, None] * o["blocks"] + np.arange(o["blocks"])
        return [
            Access(ACT, False, _grid(o["in_addr"], o["in_stride"], rows, o["blocks"])),
            Access(WEIGHT, True, dest),
        ]
    if chunk == Chunk.WEIGHT_DMA:
        n = o["beats"] // config.beats_per_weight_row if o["dest"] == DEST_WEIGHTS else o["beats"]
        return [Access(_DEST[o["dest"]], True, _grid(o["dest_addr"], 0, rows, n))]
    if chunk == Chunk.IMAGE_DMA:
        n = o["beats"] // config.beats_per_row
        return [Access(ACT, True, _grid(o["out_addr"], n, rows, n))]
    return [Access(ACT, False, _grid(o["in_addr"], 0, rows, o["count"]))]


# ---------------------------------------------------------------- engines


def _params(at: int, channels: int, config: AcceleratorConfig) -> np.ndarray:
    return at + np.arange(cdiv(channels * PARAM_BYTES, config.beat_bytes))


def _words(base: int, stride: int, groups: np.ndarray, n: int) -> np.ndarray:
    """``n`` words of each group; groups (rows, groups of a row) -> (rows, words)."""
    return (base + groups[:, :, None] * stride + np.arange(n)).reshape(len(groups), -1)


def _pointwise(o: dict[str, int], rows: int, config: AcceleratorConfig) -> list[Access]:
    each = o["groups"] + 1
    groups = np.arange(rows)[:, None] * each * (1 + o["skip"]) + np.arange(each)
    steps = o["ksteps"] * config.word // config.width
    out = [
        Access(ACT, False, _input(o, groups, config)),
        Access(WEIGHT, False, o["weight_addr"] + np.arange(o["tiles"] * steps)),
        Access(PARAM, False, _params(o["param_addr"], o["tiles"] * config.lanes, config)),
    ]
    if o["divide"]:
        heads = cdiv(o["tiles"], o["gtiles"] or o["tiles"])
        out.append(Access(KSUM, False, (o["act1"] & KSUM_MASK) + np.arange(heads * o["ksteps"])))
    if o["res_mode"]:
        out.append(Access(ACT, False, _words(o["res_addr"], o["res_stride"], groups, o["tiles"] * o["res_mode"])))
    return [*out, Access(ACT, True, _words(o["out_addr"], o["out_stride"], groups, o["tiles"] * (1 + o["out_wide"])))]


def _input(o: dict[str, int], groups: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Input rows of each row: every group, or two where ``in_offset`` makes tokens straddle; masked ones not."""
    words = o["in_words"] or o["ksteps"]
    token = (o["in_first"] + groups) * config.cores + o["in_offset"]
    ends = [token, token + config.cores - 1] if o["in_offset"] else [token]
    if o["in_tokens"]:
        ends = [np.clip(t, 0, o["in_tokens"] - 1) for t in ends]
    groups = np.stack(ends, axis=2).reshape(len(groups), -1) // config.cores - o["in_first"]
    return _words(o["in_addr"], o["in_stride"], groups, words)


def _depthwise(o: dict[str, int], rows: int, config: AcceleratorConfig) -> list[Access]:
    """A row reads the map rows that no row of the instruction before it has read; the first one all that it needs."""
    stride, half = o["stride"] + 1, o["kernel"] // 2
    last = np.minimum(o["height"] - 1, (o["first"] + np.arange(rows)) * stride + half) + 1
    begin = np.concatenate([[max(0, o["first"] * stride - half)], last[:-1]])
    count = last - begin
    out = []
    edges = [0, *(1 + np.flatnonzero(np.diff(count))), rows]  # runs of rows that read equally many map rows
    for a, b in zip(edges, edges[1:]):
        if count[a]:
            groups = begin[a:b, None] * o["in_groups"] + np.arange(count[a] * o["in_groups"])
            out.append(Access(ACT, False, _words(o["in_addr"], o["in_stride"], groups, o["blocks"]), int(a)))
    taps = o["kernel"] ** 2
    sets = cdiv(o["blocks"], config.width)
    groups = np.arange(rows)[:, None] * o["out_groups"] + np.arange(o["out_groups"])
    return [
        *out,
        Access(WEIGHT, False, o["weight_addr"] + np.arange(sets * taps)),
        Access(PARAM, False, _params(o["param_addr"], o["blocks"] * config.lanes, config)),
        Access(ACT, True, _words(o["out_addr"], o["out_stride"], groups, o["blocks"])),
    ]


def head_rows(o: dict[str, int], config: AcceleratorConfig) -> tuple[int, int]:
    """K^T V: weight rows of one head's Z, and its parameter beats."""
    return (
        o["blocks"] ** 2 * (config.word // config.width),
        o["blocks"] * config.lanes * PARAM_BYTES // config.beat_bytes,
    )


def _key_value(o: dict[str, int], rows: int, config: AcceleratorConfig) -> list[Access]:
    """A row is a head: its words of every group."""
    z, beats = head_rows(o, config)
    every = np.arange(o["in_groups"] * o["height"])[:, None] * o["in_stride"] + np.arange(o["blocks"])
    heads = np.arange(rows)[:, None]
    words = heads * o["blocks"] + every.ravel()
    return [
        Access(ACT, False, o["in_addr"] + words),
        Access(ACT, False, o["v_addr"] + words),
        Access(PARAM, False, o["param_addr"] + heads * beats + np.arange(beats)),
        Access(WEIGHT, True, o["weight_addr"] + heads * z + np.arange(z)),
    ]


def _token_sum(o: dict[str, int], rows: int, config: AcceleratorConfig) -> list[Access]:
    groups = np.arange(o["in_groups"] * o["height"])[None]
    memory, at = (KSUM, o["weight_addr"]) if o["dest"] else (ACT, o["out_addr"])
    return [
        Access(ACT, False, _words(o["in_addr"], o["in_stride"], groups, o["blocks"])),
        Access(PARAM, False, _params(o["param_addr"], o["blocks"] * config.lanes, config)),
        Access(memory, True, _grid(at, 0, 1, o["blocks"])),
    ]


# ---------------------------------------------------------------- cutting


def advance(chunk: Chunk, op: dict[str, int], rows: int, config: AcceleratorConfig) -> dict[str, int]:
    """The op of the same instruction without its first ``rows`` rows."""
    new = dict(op)

    def move(address, step):
        new[address] = op.get(address, 0) + rows * step

    groups = row_groups(chunk, op)
    kind = op.get("kind", POINTWISE)
    if chunk in (Chunk.MAT, Chunk.RMAC) and kind == POINTWISE:
        move("in_addr", groups * op["in_stride"])
        move("out_addr", groups * op["out_stride"])
        if op.get("in_tokens"):
            move("in_first", groups)
        if op.get("res_mode"):
            move("res_addr", groups * op["res_stride"])
    elif chunk == Chunk.RMAC and kind == DEPTHWISE:
        move("first", 1)
        move("out_addr", groups * op["out_stride"])
    elif chunk == Chunk.RMAC and kind == KEY_VALUE:
        z, beats = head_rows(op, config)
        move("in_addr", op["blocks"])
        move("v_addr", op["blocks"])
        move("weight_addr", z)
        move("param_addr", beats)
    elif chunk == Chunk.SHIFTER:
        move("out_addr", op["out_stride"])
    elif chunk == Chunk.LAYERNORM:
        move("in_addr", op["in_stride"])
        move("out_addr", op["out_stride"])
    elif chunk == Chunk.SOFTMAX:
        move("in_addr", op["in_stride"])
    elif chunk == Chunk.LOADER:
        assert rows * config.cores % config.lanes == 0, rows
        move("in_addr", op["in_stride"])
        new["weight_addr"] += rows * config.cores // config.lanes * op["blocks"]
    elif chunk == Chunk.IMAGE_DMA:
        move("source", op["beats"])
        move("out_addr", op["beats"] // config.beats_per_row)
    else:
        raise AssertionError(f"{chunk.name} instructions have one row")
    return new


def reads_again(chunk: Chunk, op: dict[str, int]) -> bool:
    """Whether an instruction's second part reads what the first has read (rows that windows share)."""
    return chunk == Chunk.RMAC and op.get("kind", POINTWISE) == DEPTHWISE


def split_unit(chunk: Chunk, config: AcceleratorConfig) -> int:
    """Instructions of this chunk can only be cut at multiples of this many rows."""
    return config.lanes // config.cores if chunk == Chunk.LOADER else 1
