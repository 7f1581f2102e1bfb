"""Right shifts of which only a few low bits are wanted: saturation is known before the shift is done."""

from amaranth import Cat, Module, Mux, Signal, signed


def drop(m: Module, x, sign, n, step: int, bits: int, name: str):
    """``x >> n * step`` in its lowest ``bits`` bits alone, combinational: (value, lost).

    n : 1 or 2 bits, so that a bit of the value takes one LUT of six inputs
    sign : stands above x; lost: a bit above the value is not ``sign``
    """
    choices = 1 << len(n)
    padded = Cat(x, sign.replicate(max(0, bits + (choices - 1) * step - len(x))))
    by = [padded[k * step : k * step + bits] for k in range(choices)]
    pairs = [Mux(n[0], odd, even) for even, odd in zip(by[::2], by[1::2], strict=True)]
    value = Signal(bits, name=name)
    lost = Signal(name=f"{name}_lost")
    # groups of bits that the next larger shift would bring into the value
    groups = [x[at : at + step] for at in range(bits, len(x), step)]
    ends = [n <= k for k in range(choices - 1)] + [1] * len(groups)
    m.d.comb += [
        value.eq(pairs[0] if len(pairs) == 1 else Mux(n[1], pairs[1], pairs[0])),
        lost.eq(Cat((group ^ sign.replicate(len(group))).any() & end
                    for group, end in zip(groups, ends, strict=False)).any()),
    ]  # fmt: skip
    return value, lost


def round_saturated(m: Module, low, lost, sign, bits: int) -> Signal:
    """Signed sat(floor + half) of ``bits`` bits, 2 cycles later; low : rounding bit, floor; lost, sign : as of drop."""
    floor = Signal(bits, reset_less=True)
    half, over, negative = (Signal(name=name, reset_less=True) for name in ("half", "over", "negative"))
    beyond = lost | (low[-1] ^ sign)
    m.d.sync += [
        floor.eq(low[1:]),
        half.eq(low[0] & ~(beyond | low[1:-1].all() & ~sign)),  # the largest value is not rounded up
        over.eq(beyond),
        negative.eq(sign),
    ]
    rounded = Signal(signed(bits), name="rounded", reset_less=True)
    m.d.sync += rounded.eq(Mux(over, Cat((~negative).replicate(bits - 1), negative), floor) + half)
    return rounded
