"""Multiplier cell of R-MAC: down-forward accumulation as in the PE array, or an accumulator for every product."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS
from .packed import TREE, accumulate, forward, multiply, pack, reg, split, stages

LATENCY = 8  #: cycles from an operand to the down-forward accumulator that holds it
OWN_LATENCY = 5  #: cycles from an operand to its own accumulators


class RMacCell(wiring.Component):
    """``width`` packed multipliers of one lane: two values share a multiplier (units.packed).

    Operands of multiplier i: (x0[i], x1[i]) and wx[i]; with ``depthwise`` (slots0[i], slots1[i]) and ws[i]; with
    ``outer`` (v0, v1) and relu(k[i]).
    Down-forward (``valid``): the sum of all products goes to acc0, acc1. Self-accumulation (``own``): product i is
    split into its two fields and added to accumulators (i, 0) and (i, 1); ``load`` copies these to a shadow copy, of
    which ``shift`` takes i = 0 away, so that it leaves while the next sums are being made.

    Parameters
    ----------
    width : multipliers, 8 or 16

    Members
    -------
    depthwise, outer : which operands a step has
    x0, x1, slots0, slots1 : ``width`` bytes of two tokens; v0, v1 : two elements of a token
    wx, ws, k : ``width`` int8 operands, -127..127 (k: any), element 0 in the low byte
    valid, own, first : a step of either accumulation; it begins a new sum
    acc0, acc1 : down-forward accumulators of the lower and the upper field
    load, shift : the shadow copy takes the own accumulators (has priority); it moves on by one
    shadow0, shadow1 : element 0 of the shadow copy

    Latency/throughput
    ------------------
    Operands of cycle t: in acc0/acc1 in t + LATENCY (8), in their own accumulators in t + OWN_LATENCY (5); ``load`` and
    ``shift`` act at once. One step a cycle.

    Reference
    ---------
    sum(x * wx) modulo 2^27; slots[i] * ws[i] and relu(k[i]) * v summed over steps
    """

    def __init__(self, width: int):
        if width % TREE:
            raise ValueError(f"R-MAC cell: width must be a multiple of {TREE}, not {width}")
        self._width = width
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
                "shadow0": Out(signed(ACC_BITS)),
                "shadow1": Out(signed(ACC_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        valid = stages(m, self.valid, LATENCY - 1, "valid")
        own = stages(m, self.own, OWN_LATENCY - 1, "own")
        first = stages(m, self.first, LATENCY - 1, "first", reset_less=True)

        products = []
        for i in range(self._width):
            byte = lambda source, i=i: source.word_select(i, 8)  # noqa: E731
            a0, a1 = (
                Mux(self.outer, v, Mux(self.depthwise, byte(slots), byte(x))).as_signed()
                for v, slots, x in ((self.v0, self.slots0, self.x0), (self.v1, self.slots1, self.x1))
            )
            key = byte(self.k) & ~byte(self.k)[-1].replicate(8)
            packed = reg(m, pack(a0, a1), f"packed{i}")
            weight = Mux(self.outer, key, Mux(self.depthwise, byte(self.ws), byte(self.wx))).as_signed()
            products.append(multiply(m, packed, reg(m, weight, f"w{i}"), i))

        # ---- self-accumulation: one product has 15 bits
        shadow = []
        for i, p in enumerate(products):
            fields = []
            lower, upper = split(p)
            for n, field in enumerate((lower[: len(upper)].as_signed(), upper)):
                part = reg(m, field, f"part{n}_{i}")
                acc = accumulate(m, part, own[-1], first[OWN_LATENCY - 2], ACC_BITS, f"own_acc{n}_{i}")
                fields.append((acc, Signal(signed(ACC_BITS), name=f"shadow{n}_{i}", reset_less=True)))
            shadow.append(fields)
        with m.If(self.load):
            m.d.sync += [copy.eq(acc) for fields in shadow for acc, copy in fields]
        with m.Elif(self.shift):
            m.d.sync += [
                here[n][1].eq(there[n][1]) for here, there in zip(shadow, shadow[1:], strict=False) for n in range(2)
            ]
        m.d.comb += [self.shadow0.eq(shadow[0][0][1]), self.shadow1.eq(shadow[0][1][1])]

        acc0, acc1 = forward(m, products, valid[-1], first[-1])
        m.d.comb += [self.acc0.eq(acc0), self.acc1.eq(acc1)]
        return m
