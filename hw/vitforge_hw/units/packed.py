"""Two int8 values share a multiplier: packing, products, trees of them, both fields of a sum, accumulators."""

from amaranth import C, Cat, Module, Mux, Signal, signed

from ..arch.config import ACC_BITS

FIELD = 18  #: distance of the two values' fields: eight products of |w| <= 127 stay within FIELD bits
PACKED_BITS = 27  #: (a1 << FIELD) + a0 for int8 a0, a1
PRODUCT_BITS = 33  #: |packed * w| < 2^32 for |w| <= 127
TREE = 8  #: products added before the fields are split


def add(a, b, bits: int):
    """Signed sum in ``bits`` bits (the caller knows that it fits)."""
    return (a + b)[:bits].as_signed()


def pack(a0, a1):
    """(a1 << FIELD) + a0 as a signed number of PACKED_BITS bits: the upper field borrows one where a0 is negative."""
    low = Cat(a0, a0[-1].replicate(FIELD - len(a0)))
    return Cat(low, add(a1, a0[-1:].as_signed(), PACKED_BITS - FIELD)).as_signed()


def split(p):
    """Both fields of a sum of products, the upper one with the bit back that it lent."""
    return p[:FIELD].as_signed(), add(p[FIELD:].as_signed(), p[FIELD - 1 : FIELD], len(p) - FIELD)


def reg(m: Module, value, name: str) -> Signal:
    """A register of a signed value."""
    r = Signal(signed(len(value)), name=name, reset_less=True)
    m.d.sync += r.eq(value)
    return r


def stages(m: Module, value, cycles: int, name: str, reset_less: bool = False) -> list[Signal]:
    """A bit 1 to ``cycles`` registers later."""
    later = []
    for i in range(cycles):
        s = Signal(name=f"{name}{i}", reset_less=reset_less)
        m.d.sync += s.eq(value)
        later.append(s)
        value = s
    return later


def multiply(m: Module, a, w, i: int) -> Signal:
    """Product ``i`` of a cell, packed ``a`` times int8 ``w``, 2 cycles later."""
    a, w = reg(m, a, f"a_r{i}"), reg(m, w, f"w_r{i}")
    return reg(m, (a * w)[:PRODUCT_BITS].as_signed(), f"product{i}")


def accumulate(m: Module, value, valid, first, bits: int, name: str) -> Signal:
    """Accumulator of ``bits`` bits: with ``valid`` it takes ``value`` (``first``) or adds it, 1 cycle later."""
    acc = Signal(signed(bits), name=name, reset_less=True)
    with m.If(valid):
        m.d.sync += acc.eq(add(Mux(first, C(0, signed(bits)), acc), value, bits))
    return acc


def forward(m: Module, products: list[Signal], valid, first) -> list[Signal]:
    """Accumulators of all products' lower and upper fields, 5 cycles later: trees of TREE products, split, sum.

    valid, first: 4 cycles after the products that they belong to.
    """
    fields = []
    for tree in range(len(products) // TREE):
        nodes, bits = products[tree * TREE : (tree + 1) * TREE], PRODUCT_BITS
        while len(nodes) > 1:
            bits += 1
            nodes = [
                reg(m, add(x, y, bits), f"tree{tree}_{bits - PRODUCT_BITS}_{i}")
                for i, (x, y) in enumerate(zip(nodes[::2], nodes[1::2], strict=True))
            ]
        fields.append(split(nodes[0]))
    accumulators = []
    for n, parts in enumerate(zip(*fields, strict=True)):
        # as wide as the accumulators, so that the Verilog needs no implicit extension
        total = Signal(signed(ACC_BITS), name=f"sum{n}", reset_less=True)
        m.d.sync += total.eq(sum(parts[1:], parts[0]))
        accumulators.append(accumulate(m, total, valid, first, ACC_BITS, f"acc{n}_r"))
    return accumulators
