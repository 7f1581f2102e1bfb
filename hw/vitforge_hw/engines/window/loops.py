"""Nested loops of one step a cycle whose ends are known a cycle ahead, and what is prepared of an instruction."""

from amaranth import C, Cat, Module, Mux, Signal

from ...arch.config import AcceleratorConfig
from ...units.booth import multiply
from .fetch import BITS


def prepared(m: Module, queue, cycles: int):
    """The queue's first entry has been there for ``cycles`` cycles: what is made of it lies in registers."""
    there = Signal(cycles)
    m.d.sync += there.eq(Mux(queue.r_en, 0, Cat(queue.r_rdy, there[:-1])))
    return there[-1]


def late(m: Module, name: str, value) -> Signal:
    """``value`` in a register."""
    r = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += r.eq(value)
    return r


def edge(m: Module, op, config: AcceleratorConfig):
    """Number of a map row's last group, a cycle behind the instruction, and the mask of its pixels, three behind."""
    last = late(m, "last_group", (op.in_groups - 1)[: BITS["in_groups"]])
    before = multiply(m, last, C(config.cores, config.cores.bit_length()), 1, "pixels_before")
    pixels = (op.width - before[: BITS["width"]])[: BITS["width"]]
    return last, late(m, "rest", Cat(pixels > core for core in range(config.cores)))


EDGE = 3  #: cycles of ``edge``


def loops(m: Module, on, ready, counters: list) -> tuple[dict, dict]:
    """Counters, innermost first, as (name, counter, its last value): (it is at its last value, the step ends it).

    on : a step. The last values are there a cycle before ``ready``; all counters begin at 0.
    """
    over, ends = {}, {}
    for name, counter, final in counters:
        over[name] = Signal(name=f"{name}_last")
        ends[name] = Signal(name=f"ends_{name}")
        following = Mux(over[name], 0, counter + 1)[: len(counter)]
        m.d.comb += ends[name].eq(on & over[name])
        with m.If(~ready):
            m.d.sync += over[name].eq(counter == final)
        with m.Elif(on):
            m.d.sync += [counter.eq(following), over[name].eq(following == final)]
        on = ends[name]
    return over, ends
