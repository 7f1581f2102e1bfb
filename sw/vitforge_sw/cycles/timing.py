"""Timing of the chunks: one table of latencies, and rows in a stream of rows. Calibrated against the RTL.

The tests compare the table with the constants that the chunks' RTL states.
"""

import dataclasses

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import DEPTHWISE, KEY_VALUE, POINTWISE, TOKEN_SUM, Chunk

from ..compiler.program.access import cdiv, narrow_mapping


@dataclasses.dataclass(frozen=True)
class Timing:
    """Cycles; from the first cycle of the one event to the first cycle of the other."""

    # control/sequencer
    done_to_compare: int = 2  #: done pulse -> the cycle in which COMPARE can see the counter
    wait_cycles: int = 3  #: per satisfied wait of a row: SLOPE, THRESHOLD, COMPARE
    issue_cycles: int = 1  #: op accepted, before its first row's waits
    fetch_cycles: int = 10  #: instruction fetch beyond the beats: port, round robin
    restart_cycles: int = 3  #: last done of an image -> program of the next one is started
    # engines/mat
    mat_go_to_step: int = 5  #: go -> step that uses the first word
    mat_step_to_result: int = 11
    mat_result_to_phase: int = 1
    mat_phase_to_write: int = 19
    trio_lanes: int = 4  #: more, with the dyadic lanes
    mat_write_to_done: int = 1
    mat_fetch_rows: int = 2  #: rows of max_k that the group register holds, rounded up to a power of two
    # engines/rmac; pointwise instructions are those of MAT
    rmac_switch: int = 2  #: last tile of an instruction -> first step of one of another kind
    rmac_window_to_step: int = 2  #: the words of all map rows that an output row needs are asked for -> its first step
    rmac_step_to_result: int = 14  #: depthwise, K^T V: a step or pass -> its first tile
    rmac_pointwise_to_result: int = 13
    rmac_sum_to_result: int = 9
    # layernorm
    ln_between_rows: int = 23  #: least cycles of a row: cores + this
    ln_latency: int = 33  #: go -> last write: 2 C + n + cores + this; done one later
    ln_ahead: int = 2  #: rows with go before the first channel of the present one is summed
    # attention/softmax
    sm_gap: int = 5
    sm_load: int = 4
    sm_latency: int = 16
    sm_entries: int = 64  #: entries of the code ring, whatever their length
    # attention/shifter
    sh_start: int = 5
    sh_latency: int = 12  #: last step -> done: this, the levels of the key adder tree, word
    sh_values: int = 8  #: value rows read ahead
    sh_entry: int = 2  #: softmax done -> entry can be used
    # attention/key_loader
    ld_latency: int = 4  #: go -> done: blocks + this
    # host/dma, host/read_engine
    dma_request: int = 3  #: go -> burst on AR
    dma_return: int = 2  #: last beat -> done
    dma_requests: int = 16  #: requests under way
    result_latency: int = 16  #: go -> first write burst and last response -> done, beyond the memory's latency


TIMING = Timing()


def phases(c: AcceleratorConfig) -> int:
    """Cycles of a tile on the post-processing lanes."""
    return c.word // c.post_channels


def group_cycles(op: dict[str, int], c: AcceleratorConfig) -> int:
    """Cycles of the tiles of one token group of a pointwise instruction on an engine of its own."""
    return op["tiles"] * max(op["ksteps"] * (c.word // c.width), phases(c), 1 + op["out_wide"])


def group_words(op: dict[str, int]) -> int:
    """Input words of one token group of a pointwise instruction."""
    return op.get("in_words", 0) or op["ksteps"]


def mat_row(op: dict[str, int], c: AcceleratorConfig) -> int:
    """Cycles of a row of a pointwise instruction on an engine of its own."""
    return (op.get("groups", 0) + 1) * group_cycles(op, c)


def mat_tail(op: dict[str, int], c: AcceleratorConfig, t: Timing = TIMING) -> int:
    """Last step issued -> done."""
    return t.mat_step_to_result + post_tail(op, c, t)


def post_tail(op: dict[str, int], c: AcceleratorConfig, t: Timing = TIMING) -> int:
    """A row's last tile -> done."""
    tail = t.mat_result_to_phase + t.mat_phase_to_write + t.trio_lanes * c.trio + t.mat_write_to_done
    return tail + phases(c) - 1 + op.get("out_wide", 0)


def rmac_tail(op: dict[str, int], c: AcceleratorConfig, t: Timing = TIMING) -> int:
    """Last step issued -> done, on R-MAC: the tiles of a step or pass leave one by one."""
    kind = op.get("kind", POINTWISE)
    if kind == POINTWISE:
        return t.rmac_pointwise_to_result + post_tail(op, c, t)
    if kind == TOKEN_SUM:
        return t.rmac_sum_to_result + post_tail(op, c, t)
    tiles = c.width if kind == KEY_VALUE else min(c.width, depthwise_sets(op, c)[1])
    return t.rmac_step_to_result + (tiles - 1) * phases(c) + post_tail(op, c, t)


def depthwise_sets(op: dict[str, int], c: AcceleratorConfig) -> tuple[int, int]:
    """Self-accumulations (of kernel^2 taps) of a row, and the tiles that they give."""
    if narrow_mapping(op["blocks"], op["stride"] + 1):
        return cdiv(op["out_groups"], c.width), op["out_groups"]
    return op["out_groups"] * cdiv(op["blocks"], c.width), op["out_groups"] * op["blocks"]


def set_cycles(op: dict[str, int], c: AcceleratorConfig) -> int:
    """Cycles of one self-accumulation; its tiles leave one by one."""
    sets, tiles = depthwise_sets(op, c)
    return max(op["kernel"] ** 2 * (1 + op["stride"]), cdiv(tiles * phases(c), sets))


def key_value_row(op: dict[str, int], c: AcceleratorConfig) -> tuple[int, int]:
    """K^T V of one head: input words read, and cycles of its passes (a pass gives ``width`` tiles)."""
    groups, blocks = op["in_groups"] * op["height"], op["blocks"]
    passes = blocks * blocks * (c.word // c.width)
    return 2 * blocks * groups, passes * max(groups, c.width * phases(c))


def window_row(op: dict[str, int], c: AcceleratorConfig) -> int:
    """Cycles of a row of an RMAC instruction that is not pointwise, in a stream of rows, all its words being there."""
    if op["kind"] == DEPTHWISE:
        return depthwise_sets(op, c)[0] * set_cycles(op, c)
    return max(key_value_row(op, c)) if op["kind"] == KEY_VALUE else sum_row(op)


def sum_row(op: dict[str, int]) -> int:
    """Sums over tokens: a word a cycle."""
    return op["in_groups"] * op["height"] * op["blocks"]


def rmac_row(op: dict[str, int], c: AcceleratorConfig) -> int:
    """Cycles of a row of any RMAC instruction on an engine of its own."""
    return mat_row(op, c) if op.get("kind", POINTWISE) == POINTWISE else window_row(op, c)


def engine_steps(op: dict[str, int], c: AcceleratorConfig) -> int:
    """Cycles in which an engine multiplies in a row (sums over tokens: adds)."""
    kind = op.get("kind", POINTWISE)
    if kind == POINTWISE:
        return (op.get("groups", 0) + 1) * op["tiles"] * op["ksteps"] * (c.word // c.width)
    if kind == DEPTHWISE:
        return depthwise_sets(op, c)[0] * op["kernel"] ** 2 * (1 + op["stride"])
    if kind == KEY_VALUE:
        return op["blocks"] ** 2 * (c.word // c.width) * op["in_groups"] * op["height"]
    return sum_row(op)


def row_tiles(op: dict[str, int], c: AcceleratorConfig) -> int:
    """Tiles that a row of an engine gives to post-processing."""
    kind = op.get("kind", POINTWISE)
    if kind == POINTWISE:
        return (op.get("groups", 0) + 1) * op["tiles"]
    if kind == KEY_VALUE:
        return op["blocks"] ** 2 * c.word
    return op["blocks"] if kind == TOKEN_SUM else depthwise_sets(op, c)[1]


def layernorm_row(op: dict[str, int], c: AcceleratorConfig, t: Timing = TIMING) -> int:
    """Cycles of a row in a stream of rows."""
    return max(op["blocks"] * c.word, c.cores + t.ln_between_rows)


def layernorm_latency(op: dict[str, int], c: AcceleratorConfig, t: Timing = TIMING) -> int:
    """go -> done."""
    n = max(1 + op["in_wide"], 8 * c.word // c.beat_bytes)
    return 2 * op["blocks"] * c.word + n + c.cores + t.ln_latency + 1


def softmax_row(op: dict[str, int], t: Timing = TIMING) -> int:
    """Cycles of a row in a stream of rows."""
    return op["keys"] + (op["keys"] + t.sm_gap) * op["rule"]


def shifter_block(op: dict[str, int], c: AcceleratorConfig) -> int:
    """Cycles of a block of channels in a stream of blocks."""
    return max(-(-op["keys"] // c.attend_keys), c.word)


def shifter_latency(c: AcceleratorConfig, t: Timing = TIMING) -> int:
    """Last step -> done."""
    return t.sh_latency + (c.attend_keys - 1).bit_length() + c.word


def row_cycles(chunk: Chunk, op: dict[str, int], c: AcceleratorConfig, t: Timing = TIMING) -> int:
    """Cycles of a row in a stream of rows (DMA: beats)."""
    return {
        Chunk.MAT: lambda: mat_row(op, c),
        Chunk.SHIFTER: lambda: op["blocks"] * shifter_block(op, c),
        Chunk.LAYERNORM: lambda: layernorm_row(op, c, t),
        Chunk.SOFTMAX: lambda: softmax_row(op, t),
        Chunk.LOADER: lambda: op["blocks"],
        Chunk.WEIGHT_DMA: lambda: op["beats"],
        Chunk.IMAGE_DMA: lambda: op["beats"],
        Chunk.RESULT_DMA: lambda: op["count"],
        Chunk.RMAC: lambda: rmac_row(op, c),
    }[chunk]()
