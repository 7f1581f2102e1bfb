"""What became of each job: a queue of number, errors and cycles."""

from amaranth import Array, C, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..arch.config import AcceleratorConfig
from .error_log import ERRORS
from .jobs import COUNT_BITS

CYCLE_BITS = 32
STATUS = data.StructLayout({"job": COUNT_BITS, "errors": ERRORS, "cycles": CYCLE_BITS})


class JobStatus(wiring.Component):
    """Notes the errors of each job under way and queues its status when its result is in memory.

    The readers work ahead: an error counts for the job that its chunk is at.

    Parameters
    ----------
    config : job_depth; the status queue has twice as many entries, a full one loses its oldest

    Members
    -------
    reset : In(1), the job queue is emptied: what is under way is forgotten
    clear : In(1), the status queue too
    push, submitted : In, a job enters, and its number
    weight_errors, image_errors, result_errors : In(ERRORS), pulses for the job that this DMA is at
    weight_end, image_end, result_end : In(1), the DMA has finished its job; result_end: the job is done
    working : In(1), jobs are outstanding
    pop : In(1), take the oldest status away; ignored when there is none
    count : Out, statuses that wait; head : Out(STATUS), the oldest, 0 when there is none

    Latency: result_end to count 1 cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._depth, self._entries = config.job_depth, 2 * config.job_depth
        super().__init__(
            {
                "reset": In(1),
                "clear": In(1),
                "push": In(1),
                "submitted": In(COUNT_BITS),
                "weight_errors": In(ERRORS),
                "image_errors": In(ERRORS),
                "result_errors": In(ERRORS),
                "weight_end": In(1),
                "image_end": In(1),
                "result_end": In(1),
                "working": In(1),
                "pop": In(1),
                "count": Out(range(2 * config.job_depth + 1)),
                "head": Out(STATUS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bits = exact_log2(self._depth)

        def slot(number):
            return number[:bits] if bits else C(0)

        # ---- jobs under way, by number modulo job_depth
        marks = [Signal(ERRORS, name=f"errors_{i}") for i in range(self._depth)]
        at = {}
        for name in ("weight", "image", "result"):
            at[name] = number = Signal(COUNT_BITS, name=f"{name}_job")
            with m.If(getattr(self, f"{name}_end")):
                m.d.sync += number.eq(number + 1)
        for i, mark in enumerate(marks):
            new = 0
            for name, number in at.items():
                new = new | Mux(slot(number) == i, getattr(self, f"{name}_errors"), 0)
            m.d.sync += mark.eq(mark | new)
            with m.If(self.push & (slot(self.submitted) == i)):
                m.d.sync += mark.eq(0)
        cycles = Signal(CYCLE_BITS)
        with m.If(self.result_end | ~self.working):
            m.d.sync += cycles.eq(0)
        with m.Elif(~cycles.all()):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(self.reset):
            m.d.sync += [number.eq(0) for number in at.values()] + [mark.eq(0) for mark in marks]

        # ---- statuses
        m.submodules.store = store = memory.Memory(shape=STATUS, depth=self._entries, init=[])
        write, read = store.write_port(), store.read_port(domain="comb")
        first, count = Signal(range(self._entries)), self.count
        full, pop = Signal(), Signal()
        m.d.comb += [
            full.eq(count == self._entries),
            pop.eq((self.pop & count.any()) | (self.result_end & full)),
            write.en.eq(self.result_end),
            write.addr.eq(first + count),
            write.data.job.eq(at["result"]),
            write.data.errors.eq(Array(marks)[slot(at["result"])] | self.result_errors),
            write.data.cycles.eq(cycles),
            read.addr.eq(first),
            self.head.eq(Mux(count.any(), read.data.as_value(), 0)),
        ]
        m.d.sync += count.eq(count + self.result_end - pop)
        with m.If(pop):
            m.d.sync += first.eq(first + 1)
        with m.If(self.clear):
            m.d.sync += count.eq(0)
        return m
