"""DRAM and the read engine's queues: bandwidth, latency, bursts, credits for FIFO space."""

import math

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.latency import Latency
from vitforge_hw.arch.memmap import STRIPE_BEATS


class Dram:
    """Beats a cycle, shared by all requests: each finds room behind its time, in slots of 64 cycles."""

    SLOT = 64

    def __init__(self, rate: float):
        self.rate = rate
        self.left: dict[int, float] = {}

    def transfer(self, time: int, beats: int) -> int:
        """End of a transfer that can begin at ``time``."""
        slot, start = divmod(time, self.SLOT)
        rest, end = float(beats), float(time)
        while rest > 1e-9:
            room = self.left.get(slot, self.SLOT * self.rate)
            take = min(rest, room, (self.SLOT - start) * self.rate)
            if take > 0:
                self.left[slot] = room - take
                rest -= take
                used = self.SLOT * self.rate - self.left[slot]
                fresh = room > self.SLOT * self.rate - 1e-9
                end = slot * self.SLOT + max(start + take / self.rate, 0 if fresh else used / self.rate)
            slot, start = slot + 1, 0
        return math.ceil(end - 1e-9)


def image_queue_beats(config: AcceleratorConfig) -> int:
    """FIFO depth of the image queue (host/axi.py)."""
    limit = min(STRIPE_BEATS, config.burst_beats)
    return max(2 * limit, min(64, config.read_fifo_beats // 4))


class ReadQueue:
    """One queue of the read engine: bursts in order, each with space reserved for all of its beats.

    Parameters
    ----------
    dram, latency : memory; cycles from AR to the first beat
    depth : beats that the queue's FIFO holds
    """

    def __init__(self, dram: Dram, latency: int, depth: int, config: AcceleratorConfig, timing: Latency):
        self.dram, self.latency, self.depth, self.t = dram, latency, depth, timing
        self.limit = min(STRIPE_BEATS, config.burst_beats)
        self.beats = 0  #: asked for so far
        self.issued = self.arrived = -1
        self.bursts: list[tuple[int, int]] = []  #: (beats up to this burst's end, time of its last beat)
        self.oldest = 0

    def _popped(self, beat: int) -> int:
        """Time at which beat number ``beat`` (from 1) has left the FIFO."""
        while self.bursts[self.oldest][0] < beat:
            self.oldest += 1
        total, time = self.bursts[self.oldest]
        return time - (total - beat) + 1

    def read(self, go: int, source: int, beats: int) -> tuple[int, int]:
        """(first burst on AR, last beat) of a request taken at ``go``."""
        first, position = None, source % self.limit
        while beats:
            length = min(self.limit - position, beats)
            time = max(self.issued + 1, go + self.t.dma_request)
            if self.beats + length > self.depth:
                time = max(time, self._popped(self.beats + length - self.depth) + 2)
            first = time if first is None else first
            self.issued = time
            self.arrived = max(self.dram.transfer(time, length) + self.latency, self.arrived + length)
            self.beats += length
            self.bursts.append((self.beats, self.arrived))
            beats, position = beats - length, 0
        return first, self.arrived
