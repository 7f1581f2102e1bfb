"""Softmax of one token of the group: score store, maximum, codes, sums."""

from amaranth import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..arch import arith
from ..arch.config import AcceleratorConfig
from ..units.log2 import Log2
from ..units.row_factor import RowFactor, decode_code

#: a weight is at most 2^15 and a row has at most 511 keys
WEIGHT_SUM_BITS = 24
#: a term is at most 2^16
EXP2_SUM_BITS = 25


def store_bits(config: AcceleratorConfig) -> int:
    """Address bits of one half of the score store."""
    return (-(-config.max_tokens // config.word) - 1).bit_length()


def delay(m: Module, signal, cycles: int, name: str):
    """``signal`` ``cycles`` registers later."""
    for i in range(cycles):
        later = Signal.like(signal, name=f"{name}_{i + 1}", reset_less=True)
        m.d.sync += later.eq(signal)
        signal = later
    return signal


def maximum(values):
    """Largest of some signed values, a tree."""
    while len(values) > 1:
        values = [
            Mux(a > b, a, b) for a, b in zip(values[::2], values[1::2] + values[-1:] * (len(values) % 2), strict=True)
        ]
    return values[0]


class SoftmaxLane(wiring.Component):
    """Scores of one token to 4-bit codes; driven by the Softmax chunk, without back-pressure.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    load_valid, load_first, load_bank, load_addr, load_mask, load_data : one word of scores for one half (``bank``)
        of the store; ``first`` starts the row's maximum, ``mask`` has the valid keys.
    key_valid, key_first, key_sum, key_rule, key_bank, key_addr, key_channel, c, sc : one key; with ``key_sum`` it
        enters the sum of the log2 rule, otherwise it gets a code; ``first`` starts the sums.
    code : CODE_LATENCY cycles after its key.
    log_sum : LOG_LATENCY cycles after the last key of a summing pass, until the next one.
    mant, p : row factor, FACTOR_LATENCY cycles after the row's last key, for one cycle.

    Latency/throughput: one word loaded and one key a cycle. A key may be issued LOAD_LATENCY cycles after the row's
    last word was loaded; codes of the log2 rule need CODE_GAP idle cycles between the passes.

    Reference: arith.softmax_codes, arith.code_weight, arith.row_factor
    """

    LOAD_LATENCY = 2
    CODE_LATENCY = 8
    FACTOR_LATENCY = CODE_LATENCY + 2 + RowFactor.LATENCY
    LOG_LATENCY = 10 + Log2.LATENCY
    CODE_GAP = LOG_LATENCY - (CODE_LATENCY - 1) - 1

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "load_valid": In(1),
                "load_first": In(1),
                "load_bank": In(1),
                "load_addr": In(store_bits(config)),
                "load_mask": In(config.word),
                "load_data": In(8 * config.word),
                "key_valid": In(1),
                "key_first": In(1),
                "key_sum": In(1),
                "key_rule": In(1),
                "key_bank": In(1),
                "key_addr": In(store_bits(config)),
                "key_channel": In(range(config.word)),
                "c": In(10),
                "sc": In(4),
                "code": Out(4),
                "log_sum": Out(signed(12)),
                "mant": Out(8),
                "p": Out(5),
            }
        )

    def elaborate(self, platform):
        m = Module()
        word = self.config.word
        m.submodules.store = store = memory.Memory(
            shape=8 * word, depth=2 << store_bits(self.config), init=[], attrs={"ram_style": "distributed"}
        )
        tops = self._load(m, store.write_port())
        u = self._distance(m, store.read_port(), tops)
        log_sum = self._sum(m, u)
        self._code(m, u, log_sum)
        return m

    def _load(self, m: Module, write) -> Array:
        """Masked scores into the store, the running maximum of each half."""
        word = self.config.word
        # 1: keys beyond the row become the smallest score; what they held does not matter
        scores = [Signal(signed(8), name=f"score{i}", reset_less=True) for i in range(word)]
        m.d.sync += [
            s.eq(Mux(self.load_mask[i], self.load_data.word_select(i, 8).as_signed(), -128))
            for i, s in enumerate(scores)
        ]
        valid1 = delay(m, self.load_valid, 1, "store_valid")
        m.d.comb += [
            write.en.eq(valid1),
            write.addr.eq(delay(m, Cat(self.load_addr, self.load_bank), 1, "store_addr")),
            write.data.eq(Cat(scores)),
        ]
        # 2, 3: maximum of the word
        quads = [Signal(signed(8), name=f"quad{i}", reset_less=True) for i in range(word // 4)]
        m.d.sync += [q.eq(maximum(scores[4 * i : 4 * i + 4])) for i, q in enumerate(quads)]
        best = Signal(signed(8), reset_less=True)
        m.d.sync += best.eq(maximum(quads))
        # 4: of the row
        valid3 = delay(m, valid1, 2, "best_valid")
        bank3 = delay(m, self.load_bank, 3, "best_bank")
        first3 = delay(m, self.load_first, 3, "best_first")
        tops = [Signal(signed(8), name=f"top{i}", reset_less=True) for i in range(2)]
        for bank, top in enumerate(tops):
            with m.If(valid3 & (bank3 == bank) & (first3 | (best > top))):
                m.d.sync += top.eq(best)
        return Array(tops)

    def _distance(self, m: Module, read, tops: Array):
        """u of the key issued 7 cycles before."""
        m.d.comb += read.addr.eq(Cat(self.key_addr, self.key_bank))
        # 1: the store; 2: the key
        channel = delay(m, self.key_channel, 1, "channel")
        score = Signal(signed(8), reset_less=True)
        m.d.sync += score.eq(Array([read.data.word_select(i, 8) for i in range(self.config.word)])[channel].as_signed())
        # 3: t = max - x
        distance = Signal(8, reset_less=True)
        m.d.sync += distance.eq((tops[delay(m, self.key_bank, 2, "top_bank")] - score)[:8])
        # 4: t * c
        product = Signal(18, reset_less=True)
        m.d.sync += product.eq(distance * delay(m, self.c, 3, "c"))
        # 5: half of the last place; 6: shift; 7: saturate
        sc = delay(m, self.sc, 3, "sc")
        half = Signal(15, reset_less=True)
        m.d.sync += half.eq((Const(1, 16) << sc)[1:16])
        rounded = Signal(19, reset_less=True)
        m.d.sync += rounded.eq(product + half)
        shifted = Signal(19, reset_less=True)
        m.d.sync += shifted.eq(rounded >> delay(m, sc, 2, "shift"))
        u = Signal(8, reset_less=True)
        m.d.sync += u.eq(shifted[:8] | shifted[8:].any().replicate(8))
        return u

    def _sum(self, m: Module, u):
        """First pass of the log2 rule: L."""
        # 8: table, 9: shift, 10: sum
        table = Array([Const(t, 17) for t in arith.EXP2_TABLE])
        mantissa = Signal(17, reset_less=True)
        exponent = Signal(4, reset_less=True)
        term = Signal(17, reset_less=True)
        total = Signal(EXP2_SUM_BITS, reset_less=True)
        m.d.sync += [mantissa.eq(table[u[:4]]), exponent.eq(u[4:]), term.eq(mantissa >> exponent)]
        first = delay(m, self.key_first, 9, "sum_first")
        with m.If(delay(m, self.key_valid & self.key_sum, 9, "sum_valid")):
            m.d.sync += total.eq(Mux(first, 0, total) + term)
        # 11 to 13
        m.submodules.log2 = log2 = Log2(EXP2_SUM_BITS)
        m.d.comb += [log2.i.eq(total), self.log_sum.eq(log2.o)]
        return log2.o

    def _code(self, m: Module, u, log_sum):
        """Codes, the sum of their weights, the row factor."""
        rule = delay(m, self.key_rule, self.CODE_LATENCY - 1, "rule")
        k, f = u[4:], u[:4]
        fine = Signal(4)  # half steps in the first four octaves
        m.d.comb += fine.eq(Cat(0, k[:2]) + Mux(f <= 3, 0, Mux(f <= 10, 1, 2)))
        coarse = Signal(5)
        m.d.comb += coarse.eq(4 + k + (f >= 8))
        log = Signal(9)  # L of a softmax sum is never negative
        m.d.comb += log.eq(u + log_sum[:8] + 8)
        code = Signal(4, reset_less=True)
        with m.If(rule == arith.RULE_LOG2):
            m.d.sync += code.eq(Mux(log[8], 15, log[4:8]))
        with m.Elif(k[2:].any()):
            m.d.sync += code.eq(coarse[:4] | coarse[4].replicate(4))
        with m.Else():
            m.d.sync += code.eq(fine)
        m.d.comb += self.code.eq(code)

        # 9: weight, 10: sum
        zero, three, exponent = decode_code(code, delay(m, rule, 1, "weight_rule"))
        weight = Signal(16, reset_less=True)
        m.d.sync += weight.eq(Mux(zero, 0, Cat(1, three) << exponent))
        total = Signal(WEIGHT_SUM_BITS, reset_less=True)
        first = delay(m, self.key_first, self.CODE_LATENCY + 1, "weight_first")
        with m.If(delay(m, self.key_valid & ~self.key_sum, self.CODE_LATENCY + 1, "weight_valid")):
            m.d.sync += total.eq(Mux(first, 0, total) + weight)
        # 11 to 13
        m.submodules.factor = factor = RowFactor(WEIGHT_SUM_BITS)
        m.d.comb += [factor.w.eq(total), self.mant.eq(factor.mant), self.p.eq(factor.p)]
