"""Timing of the chunks: one table of latencies, and rows in a stream of rows. Calibrated against the RTL.

The tests compare the table with the constants that the chunks' RTL states.
"""

import dataclasses

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk


@dataclasses.dataclass(frozen=True)
class Timing:
    """Cycles; from the first cycle of the one event to the first cycle of the other."""

    # control/sequencer
    done_to_compare: int = 2  #: done pulse -> the cycle in which COMPARE can see the counter
    wait_cycles: int = 3  #: per satisfied wait of a row: SLOPE, THRESHOLD, COMPARE
    issue_cycles: int = 1  #: op accepted, before its first row's waits
    fetch_cycles: int = 10  #: instruction fetch beyond the beats: port, round robin
    restart_cycles: int = 3  #: last done of an image -> program of the next one is started
    # chunks/mat
    mat_go_to_step: int = 5  #: go -> step that uses the first word
    mat_step_to_result: int = 11
    mat_result_to_phase: int = 1
    mat_phase_to_write: int = 19
    mat_write_to_done: int = 1
    mat_fetch_rows: int = 2  #: rows of max_k that the group register holds, rounded up to a power of two
    # chunks/layernorm
    ln_between_rows: int = 23  #: least cycles of a row: cores + this
    ln_latency: int = 33  #: go -> last write: 2 C + n + cores + this; done one later
    ln_ahead: int = 2  #: rows with go before the first channel of the present one is summed
    # chunks/softmax
    sm_gap: int = 5
    sm_load: int = 4
    sm_latency: int = 16
    sm_entries: int = 64  #: entries of the code ring, whatever their length
    # chunks/shifter
    sh_start: int = 5
    sh_latency: int = 12  #: last step -> done: this, the levels of the key adder tree, word
    sh_values: int = 8  #: value rows read ahead
    sh_entry: int = 2  #: softmax done -> entry can be used
    # chunks/loader
    ld_latency: int = 4  #: go -> done: blocks + this
    # chunks/dma, read engine
    dma_request: int = 3  #: go -> burst on AR
    dma_return: int = 2  #: last beat -> done
    dma_requests: int = 16  #: requests under way
    result_latency: int = 16  #: go -> first write burst and last response -> done, beyond the memory's latency


TIMING = Timing()


def mat_row(op: dict[str, int], c: AcceleratorConfig) -> int:
    """Cycles of a row of tiles on the PE array."""
    return op["tiles"] * max(op["ksteps"], c.word // c.post_channels, 1 + op["out_wide"])


def mat_tail(op: dict[str, int], c: AcceleratorConfig, t: Timing = TIMING) -> int:
    """Last step issued -> done."""
    tail = t.mat_step_to_result + t.mat_result_to_phase + t.mat_phase_to_write + t.mat_write_to_done
    return tail + c.word // c.post_channels - 1 + op["out_wide"]


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
    }[chunk]()
