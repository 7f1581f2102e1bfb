"""Multiplier cell of R-MAC: down-forward accumulation as in the PE array, or an accumulator for every product."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from ..arch.config import ACC_BITS
from .packed import CHAIN_LATENCY, FIELD, TREE, chains, forward, pack, reg, stages
from .shadow import shadow

LATENCY = 1 + CHAIN_LATENCY + 2  #: cycles from the operands of position 0 to the down-forward accumulator
OWN_LATENCY = 4  #: cycles from an operand to the sum of its own
PRODUCT = 128 * 127  #: largest magnitude of a product: of one step of a self-accumulation


def own_widths(steps: int) -> tuple[int, int]:
    """(bits of a wrap counter, bits of an own sum) for sums of at most ``steps`` products.

    The lower field of FIELD bits holds the sum modulo 2^FIELD; the counter c says how often it went over the top less
    how often under the bottom: |c| <= (|sum| + 2^(FIELD - 1)) >> FIELD.
    """
    largest = steps * PRODUCT
    return bits_for((largest + (1 << FIELD - 1)) >> FIELD) + 1, bits_for(largest) + 1


class RMacCell(wiring.Component):
    """``width`` packed multipliers of one lane: two values share a multiplier (units.packed).

    Operands of multiplier i: (x0[i], x1[i]) and wx[i], both i modulo 8 cycles late; with ``depthwise`` (slots0[i],
    slots1[i]) and ws[i]; with ``outer`` (v0, v1) and relu(k[i]).
    Down-forward (``valid``): every multiplier adds the sum of the one below, the sum of all products goes to acc0,
    acc1. Self-accumulation (``own``): every multiplier adds its own sum; a sum too long for the lower field wraps it,
    and the wraps are counted. ``load`` copies sums and counters to a shadow copy, of which ``shift`` takes i = 0 away,
    so that it leaves while the next sums are being made.

    Parameters
    ----------
    width : multipliers, 8 or 16
    steps : longest self-accumulation

    Members
    -------
    depthwise, outer : which operands the steps from the next cycle on have
    x0, x1, slots0, slots1 : ``width`` bytes of two tokens; v0, v1 : two elements of a token
    wx, ws, k : ``width`` int8 operands, -127..127 (k: any), element 0 in the low byte
    valid, own, first : a step of either accumulation (with the operands of position 0); it begins a new sum. Steps of
        the two may follow each other LATENCY cycles apart
    acc0, acc1 : down-forward accumulators of the lower and the upper field
    load, shift : a cycle later the shadow copy takes the own sums (has priority); it moves on by one
    shadow0, shadow1 : element 0 of the shadow copy of the cycle before

    Latency/throughput
    ------------------
    Operands of cycle t: in acc0/acc1 in t + LATENCY (13), in their own sums in t + OWN_LATENCY (4); ``load`` takes a
    finished one from the cycle before on. One step a cycle.

    Reference
    ---------
    sum(x * wx) modulo 2^27; slots[i] * ws[i] and relu(k[i]) * v summed over steps
    """

    def __init__(self, width: int, steps: int):
        if width % TREE:
            raise ValueError(f"R-MAC cell: width must be a multiple of {TREE}, not {width}")
        self._width, self._steps = width, steps
        self._count_bits, self._own_bits = own_widths(steps)
        if self._own_bits > ACC_BITS:
            raise ValueError(f"R-MAC cell: sums of {steps} products must fit {ACC_BITS} bits, take {self._own_bits}")
        super().__init__(
            {
                "depthwise": In(1),
                "outer": In(1),
                **{name: In(8 * width) for name in ("x0", "x1", "slots0", "slots1", "wx", "ws", "k")},
                "v0": In(8),
                "v1": In(8),
                "valid": In(1),
                "own": In(1),
                "first": In(1),
                "load": In(1),
                "shift": In(1),
                "acc0": Out(signed(ACC_BITS)),
                "acc1": Out(signed(ACC_BITS)),
                "shadow0": Out(signed(self._own_bits)),
                "shadow1": Out(signed(self._own_bits)),
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        return f"vf_rmac_cell_{self._width}x{self._steps}"

    def elaborate(self, platform):
        m = Module()
        # what every multiplier needs is in a register of the cell's own: hundreds of loads
        depthwise, outer, load, shift = (
            stages(m, getattr(self, name), 1, f"{name}_", reset_less=True)[0]
            for name in ("depthwise", "outer", "load", "shift")
        )
        valid = stages(m, self.valid, LATENCY - 1, "valid")
        own = stages(m, self.own, OWN_LATENCY, "own")
        first = stages(m, self.first, LATENCY - 1, "first", reset_less=True)
        mode = Signal(reset_less=True)  # of the steps on their way
        with m.If(valid[0] | own[0]):
            m.d.sync += mode.eq(own[0])

        a, b = [], []
        for i in range(self._width):
            byte = lambda source, i=i: source.word_select(i, 8)  # noqa: E731
            values = []
            for n in "01":
                v, slots, x = (getattr(self, name + n) for name in ("v", "slots", "x"))
                value = Signal(signed(8), name=f"value{n}_{i}")
                m.d.comb += value.eq(Mux(outer, v, Mux(depthwise, byte(slots), byte(x))))
                values.append(value)
            key = byte(self.k) & ~byte(self.k)[-1].replicate(8)
            weight = Mux(outer, key, Mux(depthwise, byte(self.ws), byte(self.wx))).as_signed()
            a.append(reg(m, pack(*values), f"packed{i}"))
            b.append(reg(m, weight, f"w{i}"))
        enable = Signal()
        m.d.comb += enable.eq(~mode | own[2])
        parts = chains(m, a, b, mode, first[1], enable)

        # ---- self-accumulation: wraps of the lower fields, shadow copy
        own_sums = [self._own_sum(m, i, part.p, own[3], first[3]) for i, part in enumerate(parts)]
        leaving = shadow(m, own_sums, load, shift, "copy")
        bits = self._own_bits
        sums, count = leaving[: FIELD + bits], leaving[FIELD + bits :].as_signed()
        # lower = sums[:FIELD] - borrowed + (count << FIELD), upper = sums[FIELD:] + borrowed - count
        wraps = Signal(signed(bits - FIELD))
        m.d.comb += wraps.eq((count - sums[FIELD - 1])[: bits - FIELD].as_signed())
        m.d.sync += [
            self.shadow0.eq(Cat(sums[:FIELD], wraps).as_signed()),
            self.shadow1.eq((sums[FIELD:].as_signed() - wraps)[:bits].as_signed()),
        ]

        acc0, acc1 = forward(m, parts, valid[-1], first[-1])
        m.d.comb += [self.acc0.eq(acc0), self.acc1.eq(acc1)]
        return m

    def _own_sum(self, m, i: int, p, own, first):
        """A multiplier's two fields, and above them its wrap counter.

        A step moves the lower field by at most 2^14: it has gone over the top where its two upper bits went from 01 to
        10, under the bottom where they went from 10 to 01.
        """
        now, before = p[FIELD - 2 : FIELD], Signal(2, name=f"top{i}", reset_less=True)
        count = Signal(signed(self._count_bits), name=f"count{i}", reset_less=True)
        counted = Signal(signed(self._count_bits), name=f"counted{i}")
        over, under = (before == 0b01) & (now == 0b10), (before == 0b10) & (now == 0b01)
        with m.If(first):
            m.d.comb += counted.eq(0)
        with m.Else():
            # + 1, - 1 or 0
            m.d.comb += counted.eq((count + Cat(over | under, under).as_signed())[: self._count_bits].as_signed())
        with m.If(own):
            m.d.sync += [before.eq(now), count.eq(counted)]
        return Cat(p[: FIELD + self._own_bits], counted)
