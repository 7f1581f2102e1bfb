"""The job queue: one entry per image, read twice, by the image DMA and by the result DMA."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..arch.config import AcceleratorConfig

COUNT_BITS = 32


class JobQueue(wiring.Component):
    """``job_depth`` entries of image and result base with one write and two read pointers.

    Parameters
    ----------
    config : job_depth

    Members
    -------
    reset : In(1), empties the queue and clears the counters
    push, image, result : In, append a job; ignored when ``full``
    full, free : Out, free = entries that neither reader holds
    pop_image, pop_result : In(1), the reader has finished its image
    image_base, result_base : Out(64), of each reader's present job
    submitted, completed : Out(32), jobs pushed and results popped since reset, modulo 2^32

    Latency: push to base 1 cycle, pop to the next base 1 cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._depth = config.job_depth
        super().__init__(
            {
                "reset": In(1),
                "push": In(1),
                "image": In(64),
                "result": In(64),
                "full": Out(1),
                "free": Out(range(config.job_depth + 1)),
                "pop_image": In(1),
                "pop_result": In(1),
                "image_base": Out(64),
                "result_base": Out(64),
                "submitted": Out(COUNT_BITS),
                "completed": Out(COUNT_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bits = max(1, exact_log2(self._depth))
        images = Signal(COUNT_BITS)  # finished by the image DMA
        pushed = Signal()
        m.d.comb += pushed.eq(self.push & ~self.full)
        used = []  # entries that each reader holds, counted: whether a job can enter decides late in a cycle
        for name, pop, count, value, base in (
            ("images", self.pop_image, images, self.image, self.image_base),
            ("results", self.pop_result, self.completed, self.result, self.result_base),
        ):
            m.submodules[name] = store = memory.Memory(shape=64, depth=1 << bits, init=[])
            write, read = store.write_port(), store.read_port(domain="comb")
            level = Signal(range(self._depth + 1), name=f"level_{name}")
            m.d.comb += [
                write.en.eq(pushed),
                write.addr.eq(self.submitted[:bits]),
                write.data.eq(value),
                read.addr.eq(count[:bits]),
                base.eq(read.data),
            ]
            with m.If(pop):
                m.d.sync += count.eq(count + 1)
            m.d.sync += level.eq((level + pushed)[: len(level)] - pop)
            used.append(level)
        with m.If(pushed):
            m.d.sync += self.submitted.eq(self.submitted + 1)
        most = Signal.like(used[0])
        m.d.comb += [
            most.eq(Mux(used[0] > used[1], used[0], used[1])),
            self.full.eq(Cat(level == self._depth for level in used).any()),
            self.free.eq(self._depth - most),
        ]
        with m.If(self.reset):
            m.d.sync += [r.eq(0) for r in (self.submitted, self.completed, images, *used)]
        return m
