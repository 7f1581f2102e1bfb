"""Latencies of the chunks, declared once: the cycle model walks with them, the RTL reads those that it builds from, the
benches measure the others.

Cycles, from the first cycle of the one event to the first cycle of the other.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Latency:
    """The table; sections name the RTL module."""

    # control/sequencer
    done_to_compare: int = 2  #: done pulse -> the cycle in which COMPARE can see the counter
    wait_cycles: int = 3  #: per satisfied wait of a row: SLOPE, THRESHOLD, COMPARE
    issue_cycles: int = 1  #: op accepted, before its first row's waits
    fetch_cycles: int = 10  #: instruction fetch beyond the beats: port, round robin
    restart_cycles: int = 3  #: last done of an image -> program of the next one is started
    # engines/mat
    go_to_read: int = 3  #: go taken -> first input request
    read_to_step: int = 3  #: request accepted -> the step that uses the word
    mat_step_to_result: int = 16  #: a tile's last step -> its sums
    w4_cell: int = 3  #: more, with w4: the fields of pairs of products are split before they are added
    mat_result_to_phase: int = 1  #: sums -> first phase of post-processing
    mat_phase_to_write: int = 19  #: a tile's last phase on the lanes -> write request of the (low) row
    trio_lanes: int = 4  #: more, with the dyadic lanes
    mat_write_to_done: int = 1  #: a row's last write accepted -> done
    mat_fetch_rows: int = 2  #: rows of max_k that the group register holds, rounded up to a power of two
    # engines/rmac; pointwise instructions are those of MAT
    rmac_switch: int = 2  #: last tile of an instruction -> first step of one of another kind
    rmac_window_to_step: int = 4  #: the words of all map rows that an output row needs are asked for -> its first step
    rmac_step_to_result: int = 14  #: depthwise, K^T V: a step or pass -> its first tile
    rmac_product_levels: int = 1  #: K^T V: so many more, and those of the adder tree over the cores
    rmac_pointwise_to_result: int = 18  #: the same of a pointwise instruction
    rmac_sum_to_result: int = 10  #: the same of a sum over tokens
    # layernorm
    ln_between_rows: int = 27  #: least cycles of a row: cores + this
    ln_latency: int = 37  #: go -> last write: 2 C + n + cores + this; done one later
    ln_hardswish: int = 7  #: more, with trio
    ln_ahead: int = 2  #: rows with go before the first channel of the present one is summed
    # attention/softmax
    sm_gap: int = 5  #: between the passes of the log2 rule
    sm_load: int = 4  #: go -> first key, beyond the words of a row
    sm_latency: int = 16  #: go -> done: words + keys of all passes + this
    sm_entries: int = 64  #: entries of the code ring, whatever their length
    # attention/shifter
    sh_start: int = 6  #: go -> first step
    sh_latency: int = 12  #: last step -> done: this, the levels of the key adder tree, word
    sh_values: int = 8  #: value rows read ahead
    sh_entry: int = 2  #: softmax done -> entry can be used
    # attention/key_loader
    ld_latency: int = 6  #: go -> done: blocks + this
    # host/dma, host/read_engine
    dma_request: int = 5  #: go -> burst on AR
    dma_return: int = 4  #: last beat -> done
    dma_requests: int = 16  #: requests under way
    result_latency: int = 6  #: go -> first write burst and last response -> done, beyond the memory's latency
    result_burst: int = 3  #: a burst, beyond its beats and the memory's latency: the next one waits for its response

    @property
    def mat_go_to_step(self) -> int:
        """go -> step that uses the first word."""
        return self.go_to_read + self.read_to_step


CYCLES = Latency()
