"""The code ring: 4-bit attention codes and row factors on their way from softmax to the shifter array."""

from amaranth import Cat, Module, Signal
from amaranth.lib import fifo, memory, wiring
from amaranth.lib.wiring import In, Out, Signature

from ..arch.config import AcceleratorConfig
from ..arch.latency import CYCLES
from ..interfaces import READ_LATENCY

ENTRIES = CYCLES.sm_entries  #: entries that the ring can hold, whatever their length


def word_bits(config: AcceleratorConfig) -> int:
    """Bits of a ring word, ``attend_keys`` keys x ``cores`` tokens: code [key][token] at 4 * (key * cores + token)."""
    return config.cores * config.attend_keys * 4


def max_words(config: AcceleratorConfig) -> int:
    """Words of the longest entry."""
    return -(-config.max_tokens // config.attend_keys)


class CodePush(Signature):
    """Write side of the code ring, seen from softmax (``Out``).

    Members
    -------
    need : words of the entry that is to be started next.
    room : (In) the ring has ``need`` free words and a free entry.
    start : reserves ``need`` words and an entry; only with ``room``.
    valid, word : one word of the entry; always accepted.
    commit, words, mant, p : ends an entry of ``words`` words (their last ``valid`` came before) and hands over the row
        factors, 8 and 5 bits per token. Entries are committed in the order of their starts.
    """

    def __init__(self, config: AcceleratorConfig):
        length = range(max_words(config) + 1)
        super().__init__(
            {
                "need": Out(length),
                "room": In(1),
                "start": Out(1),
                "valid": Out(1),
                "word": Out(word_bits(config)),
                "commit": Out(1),
                "words": Out(length),
                "mant": Out(8 * config.cores),
                "p": Out(5 * config.cores),
            }
        )


class CodePop(Signature):
    """Read side of the code ring, seen from the shifter array (``Out``).

    Members
    -------
    valid : (In) an entry is committed; ``mant`` and ``p`` are its row factors.
    index : word of the entry to read, every cycle; ``word`` has it READ_LATENCY cycles later.
    free : releases the entry; the next one can be there, and be read, in the following cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__(
            {
                "valid": In(1),
                "mant": In(8 * config.cores),
                "p": In(5 * config.cores),
                "index": Out(range(max_words(config))),
                "word": In(word_bits(config)),
                "free": Out(1),
            }
        )


class CodeRing(wiring.Component):
    """Ring of code words with entries that are written once, read several times, then freed.

    Parameters
    ----------
    config : ``code_rows`` words of ``cores * attend_keys`` codes, ``ENTRIES`` entries.

    Members
    -------
    push : In(CodePush(config))
    pop : In(CodePop(config))

    Latency/throughput: one word written and one read a cycle; an entry is seen 2 cycles after its commit at
    the latest (``COMMIT_LATENCY``); space is free the cycle after ``free``.

    Reference: docs/architecture.md (Chunks)
    """

    COMMIT_LATENCY = CYCLES.sh_entry

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({"push": In(CodePush(config)), "pop": In(CodePop(config))})

    def elaborate(self, platform):
        m = Module()
        rows = self.config.code_rows
        push, pop = self.push, self.pop

        m.submodules.words = store = memory.Memory(shape=word_bits(self.config), depth=rows, init=[])
        write, read = store.write_port(), store.read_port()
        m.submodules.factors = factors = fifo.SyncFIFOBuffered(
            width=len(push.mant) + len(push.p) + len(push.words), depth=ENTRIES
        )

        base = Signal(range(rows))  # of the entry at the head
        head = Signal(range(rows))
        out = Signal(word_bits(self.config), reset_less=True)
        length = Signal.like(push.words)
        assert READ_LATENCY == 2
        m.d.comb += [
            write.addr.eq(head),
            write.data.eq(push.word),
            write.en.eq(push.valid),
            factors.w_data.eq(Cat(push.mant, push.p, push.words)),
            factors.w_en.eq(push.commit),
            Cat(pop.mant, pop.p, length).eq(factors.r_data),
            pop.valid.eq(factors.r_rdy),
            factors.r_en.eq(pop.free),
            read.addr.eq((base + pop.index)[: len(base)]),
            pop.word.eq(out),
        ]
        m.d.sync += out.eq(read.data)
        with m.If(push.valid):
            m.d.sync += head.eq(head + 1)
        with m.If(pop.free):
            m.d.sync += base.eq(base + length)

        space = Signal(range(rows + 1), init=rows)
        entries = Signal(range(ENTRIES + 1), init=ENTRIES)
        m.d.comb += push.room.eq((space >= push.need) & (entries != 0))
        with m.If(push.start & pop.free):
            m.d.sync += space.eq(space - push.need + length)
        with m.Elif(push.start):
            m.d.sync += [space.eq(space - push.need), entries.eq(entries - 1)]
        with m.Elif(pop.free):
            m.d.sync += [space.eq(space + length), entries.eq(entries + 1)]
        return m
