"""R-MAC: pointwise and depthwise convolutions, K^T V and sums over tokens, up to the sums before the bias."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arch import isa
from ..arch.config import ACC_BITS, AcceleratorConfig
from ..emit import block
from ..interfaces import (
    DEST_BUFFER,
    DEST_KSUM,
    DEST_Z,
    READ_LATENCY,
    RESULTS,
    BufferRead,
    ChunkControl,
    EngineOutput,
    MemoryRead,
)
from ..units.copies import copies
from ..units.divisor_lane import DivisorLane
from . import step_issue as mat_issue
from .group_fetch import GroupFetch
from .instruction import hold
from .rmac_array import RMacArray
from .step_issue import ArrayState, StepIssue, word_steps
from .tile_fifo import TileFifo
from .window import buffer as window_buffer
from .window.buffer import WindowBuffer, write_members
from .window.fetch import WINDOW_OP, WindowFetch
from .window.issue import TapIssue
from .window.outer import OuterIssue
from .window.sum import TokenSum

TILES = 32  #: finished tiles and those on their way: covers the way at a tile a cycle
OPS = 16  #: instructions whose rows have not all begun


class RMac(wiring.Component):
    """Fetch units and issue units of four kinds of instructions around one set of multipliers (RMacArray).

    Kinds follow each other in program order. Pointwise instructions are fetched and issued by MAT's units, with words
    fetched ahead also while another kind computes; depthwise and K^T V share the window buffer, whose fetch likewise
    runs ahead; sums over tokens stream from the activation buffer. A new kind begins when the last tile of the kind
    before has been handed over. Finished tiles wait in a FIFO for post-processing's credits.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    ctl : ChunkControl
    rd : input words of every kind, the unit whose turn it is first
    weights : weight rows; ksum : Ksum words for divisors
    out : EngineOutput
    busy : a row has its go and is not done
    array : what the multipliers do (ArrayState, 2 bits) and the end of a row's steps (monitor)

    Latency
    -------
    Go -> first request 2; the last step of a set's taps -> its first tile 14. A change of kind costs 10 to 18 cycles
    between the last step and the first, from K^T V 27 (tiny_hybrid).

    Throughput
    ----------
    Pointwise as MAT. Depthwise: k * k (stride 2, even cores: 2 k * k) cycles for a group's ``width`` blocks, or, with
    one block and stride 1, for ``width`` groups; no gap between rows. A word of all cores is read a cycle, with
    pool_words 2 two words of a pixel: with full slots, stride 2 and kernel 3 that takes longer (4 * width words for 9
    or 18 steps). K^T V: blocks * blocks * H passes a head of as many cycles as groups, ``width`` at least. Sums: a
    word of all cores a cycle.

    Reference: arch.arith.depthwise, key_value, key_sum, pool
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        super().__init__(
            {
                "ctl": In(ChunkControl(isa.Chunk.RMAC)),
                "rd": Out(BufferRead(c, pair=True)),
                "weights": Out(MemoryRead(c.weight_row_bytes * 8, enable=True)),
                "ksum": Out(MemoryRead(c.word * 8)),
                "out": Out(EngineOutput(c)),
                "array": Out(3),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        c = self._config
        m = Module()

        def unit(name, component):
            made = block(component, component.module_name)
            m.submodules[name] = made
            return made

        fetch = unit("fetch", GroupFetch(c, rotate=False))
        issue = unit("issue", StepIssue(c))
        window = unit("window_fetch", WindowFetch(c))
        taps = unit("tap_issue", TapIssue(c, TILES))
        outer = unit("outer_issue", OuterIssue(c, TILES))
        sums = unit("token_sum", TokenSum(c, TILES))
        units = {isa.DEPTHWISE: taps, isa.KEY_VALUE: outer, isa.TOKEN_SUM: sums}

        turn, kind, mode = self._instructions(m, fetch, issue, window, units)
        self._goes(m, kind, fetch, window, sums)
        inside = self._turns(m, turn, mode, issue, units)
        self._reads(m, mode, fetch, window, sums)
        array = self._operands(m, mode, fetch, issue, window, taps, outer, sums)
        self._tiles(m, mode, array, issue, taps, outer, sums, inside)
        return m

    def _instructions(self, m, fetch, issue, window, units):
        """An instruction goes to every unit of its kind, and to post-processing, when all can take it."""
        c = self._config
        post = self.out.op
        layout = data.StructLayout({"kind": 2, "op": issue.op.shape()})
        # registered outputs: the kind chooses between the units
        turns = fifo.SyncFIFOBuffered(width=layout.size, depth=OPS)
        goes = fifo.SyncFIFOBuffered(width=2, depth=OPS)
        m.submodules.turns, m.submodules.goes = turns, goes

        def free(op):
            takes = {isa.POINTWISE: fetch.op_ready} | {k: u.op_ready for k, u in units.items()}
            takes[isa.DEPTHWISE] &= window.op_ready
            takes[isa.KEY_VALUE] &= window.op_ready
            ready = Signal(name="units_ready")
            with m.Switch(op.kind):
                for k, there in takes.items():
                    with m.Case(k):
                        m.d.comb += ready.eq(there)
            return turns.w_rdy & goes.w_rdy & post.ready & ready

        op, taken = hold(m, self.ctl.op, free)
        raw = op.as_value()
        other = data.View(WINDOW_OP, raw[: WINDOW_OP.size])
        kind = op.kind
        entry = Signal(layout)
        pointwise, windowed = kind == isa.POINTWISE, (kind == isa.DEPTHWISE) | (kind == isa.KEY_VALUE)
        m.d.comb += [
            post.valid.eq(taken),
            fetch.op_valid.eq(taken & pointwise),
            window.op_valid.eq(taken & windowed),
            *(u.op_valid.eq(taken & (kind == k)) for k, u in units.items()),
            *(fetch.op[name].eq(op[name]) for name, _ in fetch.op.shape()),
            *(u.op[name].eq(other[name]) for u in (window, *units.values()) for name, _ in u.op.shape()),
            entry.kind.eq(kind),
            *(entry.op[name].eq(op[name]) for name, _ in issue.op.shape()),
            turns.w_en.eq(taken),
            turns.w_data.eq(entry),
            goes.w_en.eq(taken),
            goes.w_data.eq(kind),
        ]

        # ---- what post-processing does with the tiles
        to = post.payload
        given = {name for name, _ in op.shape()}
        with m.If(pointwise):
            m.d.comb += [to[name].eq(op[name]) for name, _ in to.shape() if name in given]
            m.d.comb += to.dest.eq(DEST_BUFFER)
        with m.Else():
            given = {name for name, _ in WINDOW_OP}
            shared = [name for name, _ in to.shape() if name in given and name not in ("dest", "bank")]
            m.d.comb += [to[name].eq(other[name]) for name in shared]
        squared = (other.blocks * other.blocks)[: len(to.tiles)]
        with m.Switch(kind):
            with m.Case(isa.DEPTHWISE):
                m.d.comb += [to.tiles.eq(other.blocks), to.groups.eq(other.out_groups - 1), to.dest.eq(DEST_BUFFER)]
            with m.Case(isa.KEY_VALUE):
                m.d.comb += [
                    to.tiles.eq(squared << ceil_log2(c.word)),
                    to.hold.eq((other.blocks << ceil_log2(c.word)) - 1),
                    to.dest.eq(DEST_Z),
                ]
            with m.Case(isa.TOKEN_SUM):
                m.d.comb += [
                    to.tiles.eq(other.blocks),
                    to.dest.eq(Mux(other.dest, DEST_KSUM, DEST_BUFFER)),
                    to.one_bank.eq(1),
                    to.bank.eq(other.bank),
                ]
        turn = data.View(layout, turns.r_data)
        return (turns, turn), goes, Signal(2, name="mode")

    def _goes(self, m, goes, fetch, window, sums):
        """A ``go`` belongs to the oldest instruction whose rows have not all begun."""
        go, kind = self.ctl.go, goes.r_data
        to = {isa.POINTWISE: fetch, isa.DEPTHWISE: window, isa.KEY_VALUE: window, isa.TOKEN_SUM: sums}
        went = Signal()
        with m.Switch(kind):
            for k, u in to.items():
                with m.Case(k):
                    m.d.comb += [go.ready.eq(goes.r_rdy & u.go_ready), u.go_valid.eq(goes.r_rdy & go.valid)]
        m.d.comb += [
            fetch.go_last.eq(go.payload),
            window.go_last.eq(go.payload),
            went.eq(go.valid & go.ready),
            goes.r_en.eq(went & go.payload),
            self.ctl.done.eq(self.out.done),
        ]
        rows = Signal(16)
        m.d.sync += rows.eq((rows + went)[: len(rows)] - self.out.done)
        m.d.comb += self.busy.eq(rows.any())

    def _turns(self, m, turn, mode, issue, units):
        """``mode`` is the kind that has the multipliers; a new kind begins when no tile of the other is inside."""
        turns, entry = turn
        inside = Signal(range(TILES + 1))
        mine = turns.r_rdy & (entry.kind == mode)
        # the last steps of a pointwise instruction are on their way to the multipliers
        ways = Signal(range(mat_issue.LATENCY + 2))
        pushed = Signal()
        with m.If(pushed | (issue.state != ArrayState.NO_OP)):
            m.d.sync += ways.eq(mat_issue.LATENCY + 1)
        with m.Elif(ways.any()):
            m.d.sync += ways.eq(ways - 1)
        changes = turns.r_rdy & ~mine & ~inside.any() & ~ways.any()
        with m.If(changes):
            m.d.sync += mode.eq(entry.kind)
        # chosen a cycle ahead; an instruction behind one of its own kind takes longer to be prepared
        over, leaves = Signal(), Signal()  # the instruction's last step has been issued; a cycle later
        for k, u in units.items():
            enable = Signal(name=f"enable{k}")
            m.d.sync += enable.eq(turns.r_rdy & ~over & ~leaves & (mine | changes) & (entry.kind == k))
            m.d.comb += u.enable.eq(enable)
        m.d.sync += leaves.eq(over)
        m.d.comb += [
            issue.op_valid.eq(mine & (mode == isa.POINTWISE)),
            issue.op.eq(entry.op),
            pushed.eq(issue.op_valid & issue.op_ready),
            over.eq(Cat(u.ended for u in units.values()).any()),
            turns.r_en.eq(pushed | leaves),
        ]
        return inside

    def _reads(self, m, mode, fetch, window, sums):
        """The activation buffer's port: sums (they have their turn), then the kind at work, then the one ahead.

        Whose it is stands in a register, in front of the buffer's arbitration: who wanted it in the cycle before, or,
        if nobody did, the kind at work."""
        clients = (sums, window, fetch)
        grant = Signal(len(clients), init=1 << clients.index(fetch))
        fetches, summing, asks = Signal(), Signal(), Signal(len(clients))
        words, maps = fetch.rd.valid, window.rd.valid
        m.d.comb += [
            fetches.eq(Mux(mode == isa.POINTWISE, words | ~maps, words & ~maps)),
            summing.eq(sums.rd.valid | ((mode == isa.TOKEN_SUM) & ~words & ~maps)),
            asks.eq(Cat(u.rd.valid for u in clients) & grant),
            self.rd.valid.eq(asks.any()),
        ]
        following = Cat(summing, ~summing & ~fetches, ~summing & fetches)
        m.d.sync += grant.eq(following)
        (chosen,) = copies(m, 1, "chosen", following)[0]  # for the address
        owner = asks
        for i in range(READ_LATENCY):
            late = Signal(len(clients), name=f"owner{i}")
            m.d.sync += late.eq(owner if i else asks & self.rd.ready.replicate(len(clients)))
            owner = late
        for n, u in enumerate(clients):
            with m.If(chosen[n]):
                m.d.comb += self.rd.addr.eq(u.rd.addr)
            m.d.comb += [
                u.rd.ready.eq(grant[n] & self.rd.ready),
                u.rd.data.eq(self.rd.data),
                u.rd.data_valid.eq(owner[n]),
            ]
        if self._config.pool_words == 2:  # what the other clients read of a second row is nobody's business
            m.d.comb += [self.rd.pair.eq(window.rd.pair), window.rd.second.eq(self.rd.second)]

    def _operands(self, m, mode, fetch, issue, window, taps, outer, sums):
        """Steps of each kind to the multipliers."""
        c = self._config
        array, store = RMacArray(c), WindowBuffer(c)
        m.submodules.array = array = block(array, array.module_name)
        m.submodules.window = store = block(store, store.module_name)

        # ---- window buffer: map rows that nobody has waited for, the oldest row, the step
        there = Signal(range(c.window_rows + 1))
        oldest = Signal(range(c.window_rows))
        drain = Signal(range(c.width + 1))  # tiles in the shadow copy when this step's sums are in their accumulators
        freed = Signal.like(taps.freed)
        m.d.comb += [freed.eq(taps.freed | outer.freed), window.freed_valid.eq(1)]
        used = Signal.like(taps.used)  # a row's steps are nine at least
        m.d.sync += [
            window.freed.eq(freed),
            used.eq(taps.used),
            there.eq((there + window.arrived - used - outer.used)[: len(there)]),
            oldest.eq((oldest + freed)[: len(oldest)]),
        ]
        is_outer = mode == isa.KEY_VALUE
        step = Signal(taps.step.shape())
        valid = Signal()
        first = Signal()
        last = Signal()
        tiles = Signal.like(taps.tiles)
        m.d.comb += [
            step.eq(Mux(is_outer, outer.step.as_value(), taps.step.as_value())),
            valid.eq(taps.valid | outer.valid),
            first.eq(Mux(is_outer, outer.first, taps.first)),
            last.eq(Mux(is_outer, outer.last, taps.last)),
            tiles.eq(Mux(is_outer, outer.tiles, taps.tiles)),
            store.step.eq(step),
            *(getattr(store, name).eq(getattr(window, name)) for name in write_members(c)),
        ]
        with m.If(valid & last):
            m.d.sync += drain.eq(tiles)
        with m.Elif(drain.any()):
            m.d.sync += drain.eq(drain - 1)
        for u in (taps, outer):
            m.d.comb += [u.there.eq(there), u.oldest.eq(oldest), u.drained.eq(drain <= 1)]

        flags = {"valid": valid, "first": first, "last": last, "tiles": tiles, "reads": taps.valid}
        weight = taps.weight_addr
        for i in range(window_buffer.LATENCY):
            late = {}
            for name, value in flags.items():
                late[name] = Signal(len(value), name=f"step_{name}{i}", reset_less=name not in ("valid", "reads"))
                m.d.sync += late[name].eq(value)
            flags = late
            if i < window_buffer.LATENCY - READ_LATENCY - 1:
                address = Signal(16, name=f"tap_weight{i}", reset_less=True)
                m.d.sync += address.eq(weight)
                weight, tap_reads = address, flags["reads"]

        # ---- the multipliers
        pointwise = mode == isa.POINTWISE
        # registers: whether the weight buffer's writers must wait follows from them
        reads, read_addr = Signal(), Signal(16, reset_less=True)
        m.d.sync += [
            reads.eq(Mux(pointwise, issue.state == ArrayState.STEP, tap_reads)),
            read_addr.eq(Mux(pointwise, issue.weight_next, weight)),
        ]
        words = [fetch.use_data.word_select(core, c.word * 8) for core in range(c.cores)]
        halves = [Cat(w.word_select(h, c.width * 8) for w in words) for h in range(word_steps(c))]
        m.d.comb += [
            issue.arrived.eq(fetch.arrived),
            fetch.freed_valid.eq(issue.freed_valid),
            fetch.freed.eq(issue.freed),
            fetch.use_addr.eq(issue.use_addr),
            self.weights.addr.eq(read_addr),
            self.weights.en.eq(reads),
            array.kind.eq(mode),
            array.x.eq(halves[0] if len(halves) == 1 else Mux(issue.half, halves[1], halves[0])),
            array.w.eq(self.weights.data),
            array.slots.eq(store.slots),
            array.k.eq(store.k),
            array.v.eq(store.v),
            array.tiles.eq(flags["tiles"]),
            *(
                getattr(array, name).eq(Mux(pointwise, getattr(issue, name), flags[name]))
                for name in ("valid", "first", "last")
            ),
            array.sum_x.eq(sums.x),
            array.sum_valid.eq(sums.valid),
            array.sum_first.eq(sums.first),
            array.sum_last.eq(sums.last),
        ]

        # ---- divisors
        lane = DivisorLane(c.cores, c.word, c.width)
        m.submodules.divisor = lane = block(lane, lane.module_name)
        m.d.comb += [
            self.ksum.addr.eq(issue.ksum_addr),
            lane.x.eq(fetch.use_data),
            lane.ksum.eq(self.ksum.data),
            lane.valid.eq(issue.valid & issue.divide),
            *(getattr(lane, name).eq(getattr(issue, name)) for name in ("first", "last", "half", "rule", "lo")),
            self.out.factor_valid.eq(lane.factor_valid),
            self.out.factor.eq(lane.factor),
        ]
        return array

    def _tiles(self, m, mode, array, issue, taps, outer, sums, inside):
        """Finished tiles wait for post-processing's credits; places are taken when a tile's last step is issued."""
        c, out = self._config, self.out
        credits = Signal(range(RESULTS + 1), init=RESULTS)
        tiles = TileFifo(c.cores, c.lanes * ACC_BITS, TILES)
        m.submodules.tiles = tiles = block(tiles, tiles.module_name)
        # whose tiles post-processing has: those of StepIssue count in its own credits, too
        owners = fifo.SyncFIFO(width=1, depth=RESULTS)
        m.submodules.owners = owners
        room = Signal(range(TILES + 1))
        copied, taken = Signal(range(c.width + 1)), Signal(range(c.width + 1))
        # those of a shadow copy a cycle late: the next ones ask for room some cycles later
        m.d.sync += copied.eq(0)
        with m.If(taps.valid & taps.last):
            m.d.sync += copied.eq(taps.tiles)
        with m.Elif(outer.valid & outer.last):
            m.d.sync += copied.eq(outer.tiles)
        with m.If(sums.taken | (issue.valid & issue.last)):
            m.d.comb += taken.eq(1)
        with m.Else():
            m.d.comb += taken.eq(copied)
        m.d.comb += [
            tiles.push.eq(array.tile_valid),
            tiles.tile.eq(array.tile_acc),
            tiles.pop.eq(out.tile_valid),
            out.tile_valid.eq(tiles.ready & credits.any()),
            out.tile_acc.eq(tiles.first),
            owners.w_en.eq(out.tile_valid),
            owners.w_data.eq(mode == isa.POINTWISE),
            owners.r_en.eq(out.popped),
            issue.popped.eq(out.popped & owners.r_data),
            room.eq(TILES - inside),
            *(u.room.eq(room) for u in (taps, outer, sums)),
        ]
        m.d.sync += [
            credits.eq((credits + out.popped)[: len(credits)] - out.tile_valid),
            inside.eq((inside + taken)[: len(inside)] - out.tile_valid),
        ]
        with m.Switch(mode):
            for k, u in {isa.POINTWISE: issue, isa.DEPTHWISE: taps, isa.KEY_VALUE: outer}.items():
                with m.Case(k):
                    m.d.comb += self.array.eq(Cat(u.state, u.row_end))
            with m.Default():
                m.d.comb += self.array.eq(Cat(sums.state, sums.ended))
