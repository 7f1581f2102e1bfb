"""Multiplier cell of the PE array: two tokens share each multiplier, or two lanes of the last odd token."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS
from ..emit import block
from .packed import CHAIN_LATENCY, PACKED_BITS, TREE, chains, forward, pack, reg, skew, stages
from .plain_cell import PlainCell

LATENCY = CHAIN_LATENCY + 2  #: cycles from the operands of position 0 to the accumulator that holds their sum


def packed_inputs(
    m: Module, x, half, cores: int, word: int, width: int, packed: bool = True
) -> list[list[Signal]]:  # fmt: skip
    """Registers with the packed inputs of one step, skewed: per pair of tokens ``width`` of them, or each token's bytes
    where multipliers are not ``packed``.

    x: a group's words (byte ``token * word + i``); half: which ``width`` bytes of each word. The last of an odd number
    of tokens comes behind the pairs as plain bytes, in a register as well.
    """

    def byte(token, i):
        parts = [x.word_select(token * word + first + i, 8).as_signed() for first in range(0, word, width)]
        return parts[0] if len(parts) == 1 else Mux(half, parts[1], parts[0]).as_signed()

    # bytes are skewed, not what they are packed into: fewer bits
    late = [skew(m, [byte(token, i) for i in range(width)], f"x{token}_") for token in range(cores)]
    pairs = [pair_register(m, late[n], late[n + 1], f"packed{n // 2}_", packed) for n in range(0, cores - 1, 2)]
    if cores % 2:
        pairs.append([reg(m, b, f"x{i}") for i, b in enumerate(late[-1])])
    return pairs


def pair_register(m: Module, low: list, high: list, name: str, packed: bool = True) -> list[Signal]:
    """Registers with two rows of bytes, ``packed``, or one row behind the other."""
    if not packed:
        return [reg(m, b.as_signed(), f"{name}{i}") for i, b in enumerate([*low, *high])]
    return [reg(m, pack(a.as_signed(), b.as_signed()), f"{name}{i}") for i, (a, b) in enumerate(zip(low, high))]


def pe_cell(m: Module, inputs: list, w, valid, first, name: str, packed: bool = True) -> "PECell | PlainCell":
    """A cell with its inputs connected, submodule ``name`` of ``m``: of multipliers that are ``packed``, or not."""
    width = len(inputs) // (1 if packed else 2)
    cell = block((PECell if packed else PlainCell)(width), f"vf_{'pe' if packed else 'plain'}_cell_{width}")
    m.submodules[name] = cell
    m.d.comb += [
        *(cell.a[i].eq(x) for i, x in enumerate(inputs)),
        cell.w.eq(w),
        cell.valid.eq(valid),
        cell.first.eq(first),
    ]
    return cell


class PECell(wiring.Component):
    """``width`` packed multipliers for two tokens and one output lane, with their accumulators.

    Per chain of 8: p = sum_i ((a1[i] << 18) + a0[i]) * w[i]; token 0 gets p[:18], token 1 gets p[18:] + p[17].

    Parameters
    ----------
    width : inputs a cycle, 8 or 16

    Members
    -------
    a : the packed inputs of both tokens (``pack``), input i i modulo 8 cycles late
    w : ``width`` int8 weights, -127..127, element 0 in the low byte, as late as the inputs
    valid, first : with the operands of position 0: they count; they begin a new sum
    acc0, acc1 : accumulators of token 0 and token 1

    Latency/throughput
    ------------------
    Operands of cycle t (of position i: t + i modulo 8) are in acc0/acc1 in cycle t + LATENCY (12): operand, product,
    eight chain, field sum, accumulator registers. One step a cycle.

    Reference
    ---------
    sum(a * w) modulo 2^27
    """

    def __init__(self, width: int):
        if width % TREE:
            raise ValueError(f"PE cell: width must be a multiple of {TREE}, not {width}")
        self._width = width
        super().__init__(
            {
                "a": In(signed(PACKED_BITS)).array(width),
                "w": In(8 * width),
                "valid": In(1),
                "first": In(1),
                "acc0": Out(signed(ACC_BITS)),
                "acc1": Out(signed(ACC_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        weights = [self.w.word_select(i, 8).as_signed() for i in range(self._width)]
        parts = chains(m, list(self.a), weights, 0, 0, 1)
        valid = stages(m, self.valid, LATENCY - 1, "valid")
        first = stages(m, self.first, LATENCY - 1, "first", reset_less=True)
        acc0, acc1 = forward(m, parts, valid[-1], first[-1])
        m.d.comb += [self.acc0.eq(acc0), self.acc1.eq(acc1)]
        return m
