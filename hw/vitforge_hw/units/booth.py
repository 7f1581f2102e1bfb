"""Products in LUTs, for multiplications that are too small or too few for a DSP block."""

from amaranth import C, Cat, Module, Mux, Signal, Value, signed

from .packed import add_carry


def digits(b: Value) -> list[tuple[Value, Value, Value]]:
    """Radix-4 digits of a signed number, lowest first: bits (b[2 j - 1], b[2 j], b[2 j + 1]) of digit j, which stands
    for b[2 j - 1] + b[2 j] - 2 b[2 j + 1]."""
    padded = Cat(C(0, 1), b, b[-1])
    return [(padded[2 * j], padded[2 * j + 1], padded[2 * j + 2]) for j in range((len(b) + 1) // 2)]


def add_multiple(m: Module, acc: Value, a: Value, digit, bits: int, name: str) -> Value:
    """acc + digit * a: one LUT of six inputs and a carry bit for each of ``bits`` (and one for the carry-in).

    acc, a : signed, at most ``bits`` and ``bits - 1`` bits
    """
    below, low, high = digit
    magnitude = Signal(signed(bits), name=f"{name}_magnitude")
    multiple = Signal(signed(bits), name=f"{name}_multiple")
    # names for both: expressions are written out wherever they are used
    m.d.comb += [
        magnitude.eq(Mux(below ^ low, a, Mux(below == high, 0, a << 1))),
        multiple.eq(magnitude ^ high.replicate(bits)),  # -m is ~m + 1, the one is carried in
    ]
    total = Signal(signed(bits), name=f"{name}_sum")
    m.d.comb += total.eq(add_carry(acc, multiple, high, bits))
    return total


def multiply(m: Module, a, b, cycles: int, name: str, first: int | None = None) -> Signal:
    """Signed product a * b, ``cycles`` registers later; half as many adders as ``b`` has bits.

    first: adders in the first cycle (default: as many as in the others), fewer where an operand comes late.

    Booth's recoding of b, each digit's multiple of ``a`` added to the sum of those below in the LUTs of one adder.
    Unsigned operands get a sign of 0.
    """
    a, b = (Value.cast(x) if Value.cast(x).shape().signed else Cat(x, C(0, 1)).as_signed() for x in (a, b))
    bits = len(a) + 2  # |a * (what stands below)| <= 2^(len(a) - 1) * 2^(2 j + 1)
    todo = digits(b)
    total = len(a) + len(b)
    acc, done = C(0, signed(bits)), []  # sum of the digits so far: acc above done
    per_cycle = -(-len(todo) // max(cycles, 1))
    first = per_cycle if first is None else first
    if len(todo) > first + per_cycle * (max(cycles, 1) - 1):
        raise ValueError(f"{name}: {first} adders in the first cycle leave too many for the others")
    for cycle in range(max(cycles, 1)):
        count = per_cycle if cycle else first
        for number, digit in enumerate(todo[:count]):
            acc = add_multiple(m, acc, a, digit, bits, f"{name}{cycle}_{number}")
            done += [acc[0], acc[1]]
            acc = acc[2:].as_signed()
        todo = todo[count:]
        last = cycle >= cycles - 1
        now = Cat(*done, acc)[:total] if last else Cat(*done, acc)
        register = Signal(signed(len(now)), name=f"{name}{cycle}", reset_less=True)
        m.d["sync" if cycles else "comb"] += register.eq(now)
        if last:
            return register
        acc = register[len(done) :].as_signed()
        done = list(register[: len(done)])
        a, todo = _late(m, a, todo, f"{name}{cycle}")


def _late(m: Module, a, todo, name: str):
    """The multiplicand and the bits of the digits that are left, a register later."""
    if not todo:
        return a, todo
    kept = Signal(signed(len(a)), name=f"{name}_a", reset_less=True)
    bits = [todo[0][0], *(bit for digit in todo for bit in digit[1:])]
    left = Signal(len(bits), name=f"{name}_b", reset_less=True)
    m.d.sync += [kept.eq(a), left.eq(Cat(bits))]
    return kept, [tuple(left[2 * j + n] for n in range(3)) for j in range(len(todo))]
