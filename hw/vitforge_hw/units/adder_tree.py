"""Adder tree with an accumulator behind it."""

from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .packed import accumulate, add


class AdderTree(wiring.Component):
    """Adds ``inputs`` numbers a cycle and accumulates the sums; a register behind every level.

    Parameters
    ----------
    inputs : numbers a cycle, a power of two
    bits : width of the numbers
    total_bits : of the sum, default ``bits``; a level's sums have no more than one bit above those before

    Members
    -------
    x : the numbers
    valid, first : they count; they begin a new sum
    total : the accumulator

    Latency/throughput: numbers of cycle t are in ``total`` in cycle t + latency(inputs); one set a cycle.

    Reference: sum(x) modulo 2^total_bits
    """

    def __init__(self, inputs: int, bits: int, total_bits: int = 0):
        if inputs & (inputs - 1):
            raise ValueError(f"adder tree: inputs must be a power of two, not {inputs}")
        self._inputs, self._bits, self._total_bits = inputs, bits, total_bits or bits
        super().__init__(
            {
                "x": In(signed(bits)).array(inputs),
                "valid": In(1),
                "first": In(1),
                "total": Out(signed(self._total_bits)),
            }
        )

    @staticmethod
    def latency(inputs: int) -> int:
        """Levels and the accumulator."""
        return ceil_log2(inputs) + 1

    def elaborate(self, platform):
        m = Module()
        nodes, valid, first, bits = list(self.x), self.valid, self.first, self._bits
        while len(nodes) > 1:
            level = ceil_log2(len(nodes))
            pairs = list(zip(nodes[::2], nodes[1::2], strict=True))
            bits = min(bits + 1, self._total_bits)
            nodes = [Signal(signed(bits), name=f"node{level}_{i}", reset_less=True) for i in range(len(pairs))]
            v, f = Signal(name=f"valid{level}"), Signal(name=f"first{level}", reset_less=True)
            m.d.sync += [n.eq(add(a, b, bits)) for n, (a, b) in zip(nodes, pairs, strict=True)]
            m.d.sync += [v.eq(valid), f.eq(first)]
            valid, first = v, f
        m.d.comb += self.total.eq(accumulate(m, nodes[0], valid, first, self._total_bits, "total"))
        return m
