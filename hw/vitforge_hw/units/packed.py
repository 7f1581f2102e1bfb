"""Two int8 values share a multiplier: packing, both fields of a sum, chains of multipliers, their accumulators.

A multiplier is a ``Dsp``. TREE of them are a chain: each adds the sum of the one below to its product, so that
operands of position i come i cycles after those of position 0 (``skew``), and the last one has the sum of all.
"""

from amaranth import C, Cat, Module, Mux, Signal, signed

from ..arch.config import ACC_BITS
from .dsp import Dsp, Source, dsp

FIELD = 18  #: distance of the two values' fields: eight products of |w| <= 127 stay within FIELD bits
PACKED_BITS = 27  #: (a1 << FIELD) + a0 for int8 a0, a1
TREE = 8  #: products added before the fields are split
SUM_BITS = 36  #: of a chain: |packed * w| < 2^32 for |w| <= 127, eight of them
CHAIN_LATENCY = 2 + TREE  #: operands of position 0 to the chain's sum: A and B, M, a P for each position


def add(a, b, bits: int):
    """Signed sum in ``bits`` bits (the caller knows that it fits)."""
    return (a + b)[:bits].as_signed()


def add_carry(a, b, carry, bits: int):
    """Signed a + b + carry, one adder: the bit goes in below both.

    Written as a - ~b - ~carry, which keeps ``a`` where Yosys wants a plain register (a carry chain's data input): ``b``
    may be logic of up to five inputs, it shares the LUTs of the sum.
    """
    total = Cat(carry, a).as_signed() - Cat(~carry, ~b).as_signed()
    return total[1 : 1 + bits].as_signed()


def pack(a0, a1):
    """(a1 << FIELD) + a0 as a signed number of PACKED_BITS bits: the upper field borrows one where a0 is negative."""
    low = Cat(a0, a0[-1].replicate(FIELD - len(a0)))
    return Cat(low, add(a1, a0[-1:].as_signed(), PACKED_BITS - FIELD)).as_signed()


def reg(m: Module, value, name: str) -> Signal:
    """A register of a signed value."""
    r = Signal(signed(len(value)), name=name, reset_less=True)
    m.d.sync += r.eq(value)
    return r


def stages(m: Module, value, cycles: int, name: str, reset_less: bool = False) -> list[Signal]:
    """A value 1 to ``cycles`` registers later."""
    later = []
    for i in range(cycles):
        s = Signal(len(value), name=f"{name}{i}", reset_less=reset_less)
        m.d.sync += s.eq(value)
        later.append(s)
        value = s
    return later


def skew(m: Module, values: list, name: str) -> list:
    """Value i, i modulo TREE cycles later: operands of chains."""
    return [[v, *stages(m, v, i % TREE, f"{name}{i}_", reset_less=True)][-1] for i, v in enumerate(values)]


def skewed_bytes(m: Module, row, name: str) -> Signal:
    """A row of bytes, byte i modulo TREE cycles later."""
    return Cat(skew(m, [row.word_select(i, 8) for i in range(len(row) // 8)], name))


def accumulate(m: Module, value, valid, first, bits: int, name: str, carry=None) -> Signal:
    """Accumulator of ``bits`` bits: with ``valid`` it takes ``value`` (``first``) or adds it, 1 cycle later; ``carry``:
    a bit added as well."""
    acc = Signal(signed(bits), name=name, reset_less=True)
    before = Mux(first, C(0, signed(bits)), acc)
    with m.If(valid):
        m.d.sync += acc.eq(add_carry(value, before, C(0, 1) if carry is None else carry, bits))
    return acc


def chains(m: Module, a: list, b: list, own, first, enable, **options: int) -> list[Dsp]:
    """Multipliers of skewed operands, TREE in a chain.

    own, first: 1 cycle after the operands; each multiplier adds to its own sum, and begins a new one. enable: 2 cycles
    after the operands. Constants 0, 0, 1: chains alone. options: the multipliers' (``dsp``).
    """
    parts: list[Dsp] = []
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        below = parts[-1] if i % TREE else None
        down = Source.ZERO if below is None else Source.BELOW
        source = down if isinstance(own, int) else Mux(own, Mux(first, Source.ZERO, Source.OWN), down)
        parts.append(dsp(m, f"dsp{i}", x, y, source, enable, below, **options))
    return parts


def forward(m: Module, parts: list[Dsp], valid, first) -> list[Signal]:
    """Accumulators of all chains' lower and upper fields, 2 cycles after the chains' sums: fields' sums, accumulators.

    valid, first: 1 cycle after the chains' sums that they belong to.
    """
    ends = [part.p[:SUM_BITS] for part in parts[TREE - 1 :: TREE]]
    lower = [p[:FIELD].as_signed() for p in ends]
    upper = [p[FIELD:].as_signed() for p in ends]
    carries = [p[FIELD - 1] for p in ends]  # what the lower field borrowed from the upper one
    # as wide as the accumulators, so that the Verilog needs no implicit extension
    sums = [Signal(signed(ACC_BITS), name=f"sum{n}", reset_less=True) for n in range(2)]
    carry = Signal(reset_less=True)
    if len(ends) == 1:
        m.d.sync += [sums[0].eq(lower[0]), sums[1].eq(upper[0])]
    else:
        bits = SUM_BITS - FIELD + 1
        m.d.sync += [
            sums[0].eq(lower[0] + lower[1]),
            sums[1].eq(add_carry(upper[0], upper[1], carries[1], bits)),
        ]
    m.d.sync += carry.eq(carries[0])
    return [
        accumulate(m, sums[0], valid, first, ACC_BITS, "acc0_r"),
        accumulate(m, sums[1], valid, first, ACC_BITS, "acc1_r", carry),
    ]
