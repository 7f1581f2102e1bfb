"""Reads of all masters side by side: two queues of requests become bursts and come back as joined beats."""

from amaranth import C, Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..arch.config import AcceleratorConfig
from ..arch.latency import CYCLES
from ..arch.memmap import STRIPE_BEATS
from ..emit import block
from ..units.pair import Pair
from .axi import (
    ATTRIBUTES,
    BURST,
    DATA_BITS,
    EPOCH_BITS,
    OKAY,
    AXI4Read,
    ReadMaster,
    burst_limit,
    image_fifo_beats,
    join_channels,
)

REQUEST_DEPTH = CYCLES.dma_requests  #: requests of one queue under way
STAGE = 2  #: entries of a FIFO that only cuts a path
BEATS_BITS = 20

#: ``beats`` (at least 1) beats of all masters from beat ``beat`` of the striped image at ``base`` (multiple of 4096)
REQUEST = data.StructLayout({"base": 64, "beat": 26, "beats": BEATS_BITS})


def beat_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A joined beat: master m's bytes at 16 m; ``last`` with a request's last beat."""
    return data.StructLayout({"data": config.beat_bytes * 8, "last": 1})


class ReadQueue(wiring.Component):
    """Cuts one queue's requests into bursts, reserves their space, and counts the beats that come back.

    Parameters
    ----------
    config : number of masters, longest burst
    depth : beats that each master's FIFO of this queue holds
    queue : AXI id

    Members
    -------
    reset : In(1)
    stop : In(1), offer no further burst
    request : In(stream(REQUEST))
    burst : Out(stream(BURST)), master 0's address; offered only when every beat of it has space; a burst is not
        withdrawn except by ``stop``
    popped : In(1), a joined beat leaves the FIFOs
    expected : Out(1), a beat is expected (a request is open)
    addr : Out(64), master 0's address of the expected beat
    last : Out(1), the expected beat is its request's last

    Latency: request to burst 4 cycles; throughput: a burst a cycle, requests back to back.
    Reference: memmap.stripe.
    """

    def __init__(self, config: AcceleratorConfig, depth: int, queue: int):
        self._config, self._depth, self._queue = config, depth, queue
        super().__init__(
            {
                "reset": In(1),
                "stop": In(1),
                "request": In(stream.Signature(REQUEST)),
                "burst": Out(stream.Signature(BURST)),
                "popped": In(1),
                "expected": Out(1),
                "addr": Out(64),
                "last": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        limit = burst_limit(self._config)
        # a beat's address: run (256 bytes of each master), master, position in the run, byte
        low = exact_log2(STRIPE_BEATS) + 4 + exact_log2(self._config.masters)
        piece = data.StructLayout({"pos": 4, "run": 64 - low, "beats": BEATS_BITS})

        def address(p):
            return Cat(C(0, 4), p.pos, C(0, low - 8), p.run)

        # the same piece goes to the splitter and to the collector behind it
        new = Signal(piece)
        request = self.request
        m.d.comb += [
            new.run.eq((request.payload.base >> low) + (request.payload.beat >> 4)),
            new.pos.eq(request.payload.beat[:4]),
            new.beats.eq(request.payload.beats),
        ]
        m.submodules.split = split = SyncFIFO(width=piece.size, depth=REQUEST_DEPTH)
        m.submodules.collect = collect = SyncFIFO(width=piece.size, depth=REQUEST_DEPTH)
        m.d.comb += request.ready.eq(split.w_rdy & collect.w_rdy)
        for fifo in (split, collect):
            m.d.comb += [fifo.w_data.eq(new.as_value()), fifo.w_en.eq(request.valid & request.ready)]

        # ---- splitter; bursts with their space reserved wait in a stage of registers
        now, active = Signal(piece), Signal()
        m.submodules.bursts = bursts = SyncFIFO(width=BURST.size, depth=STAGE)
        cut, waiting = Signal(data.StructLayout({"addr": 64, "length": 5})), Signal()
        new_burst, next_cut = Signal(BURST), Signal()
        to_end, length = Signal(5), Signal(5)
        credits = Signal(range(-limit, self._depth + 1), init=self._depth)  # without the waiting burst's beats
        position = now.pos & (limit - 1)
        fire = Signal()
        m.d.comb += [
            to_end.eq(limit - position),
            length.eq(Mux(now.beats < to_end, now.beats[:5], to_end)),
            new_burst.addr.eq(cut.addr),
            new_burst.len.eq(cut.length - 1),
            new_burst.id.eq(self._queue),
            fire.eq(waiting & bursts.w_rdy & ~credits[-1]),
            next_cut.eq(active & (~waiting | fire)),
            bursts.w_en.eq(fire),
            bursts.w_data.eq(new_burst.as_value()),
            self.burst.payload.as_value().eq(bursts.r_data),
            self.burst.valid.eq(bursts.r_rdy & ~self.stop),
            bursts.r_en.eq(self.burst.ready & ~self.stop),
            split.r_en.eq(~active | ((~waiting | fire) & (now.beats <= to_end))),
        ]
        with m.If(~waiting | fire):
            m.d.sync += [waiting.eq(active), cut.addr.eq(address(now)), cut.length.eq(length)]
        with m.If(next_cut):
            m.d.sync += [now.beats.eq(now.beats - length), now.pos.eq(now.pos + length)]
            with m.If(now.pos + length == STRIPE_BEATS):
                m.d.sync += now.run.eq(now.run + 1)
        with m.If(split.r_en):
            m.d.sync += [now.as_value().eq(split.r_data), active.eq(split.r_rdy)]
        m.d.sync += credits.eq(credits - Mux(next_cut, length, 0) + self.popped)

        # ---- collector
        head, expected = Signal(piece), Signal()
        m.d.comb += [
            self.expected.eq(expected),
            self.addr.eq(address(head)),
            self.last.eq(head.beats == 1),
            collect.r_en.eq(~expected | (self.popped & self.last)),
        ]
        with m.If(self.popped):
            m.d.sync += [head.beats.eq(head.beats - 1), head.pos.eq(head.pos + 1)]
            with m.If(head.pos == STRIPE_BEATS - 1):
                m.d.sync += head.run.eq(head.run + 1)
        with m.If(collect.r_en):
            m.d.sync += [head.as_value().eq(collect.r_data), expected.eq(collect.r_rdy)]
        return ResetInserter(self.reset)(m)


class ReadEngine(wiring.Component):
    """All read masters: two queues of requests in, two streams of joined beats out.

    The queues share the AR channels in turn (round robin between bursts), but never block each other: a burst is
    requested only with space reserved for all of its beats on every master.

    Parameters
    ----------
    config : masters, FIFO depths, longest burst

    Members
    -------
    reset : In(1), clears everything; only while ``stop`` and ``idle``
    stop : In(1), request no further burst
    attributes : In(ATTRIBUTES), of every burst; changes only while ``idle``
    epoch : In(3), upper bits of AXI ids; changes only at aresetn
    idle : Out(1), nothing is outstanding on any master
    request0, beat0 : weights and program (AXI id 0); request1, beat1: images (id 1)
    error, error_addr, error_resp : one cycle for a beat with a response other than OKAY; the beat is delivered too
    error_queue : Out(2), with ``error``: of which queues
    moved : Out(1), some beat came in this cycle; stray : Out(1), one that nobody waits for
    m_axi<n> : Out(AXI4Read)

    Latency: request to ARVALID 5 cycles, last RVALID to beat 3 cycles. Throughput: one joined beat a cycle while
    burst_limit + latency <= FIFO depth.
    Reference: memmap.stripe.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        beat = stream.Signature(beat_layout(config))
        super().__init__(
            {
                "reset": In(1),
                "stop": In(1),
                "attributes": In(ATTRIBUTES),
                "epoch": In(EPOCH_BITS),
                "idle": Out(1),
                "request0": In(stream.Signature(REQUEST)),
                "request1": In(stream.Signature(REQUEST)),
                "beat0": Out(beat),
                "beat1": Out(beat),
                "error": Out(1),
                "error_addr": Out(64),
                "error_resp": Out(2),
                "error_queue": Out(2),
                "moved": Out(1),
                "stray": Out(1),
            }
            | {f"m_axi{i}": Out(AXI4Read()) for i in range(config.masters)}
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        low = exact_log2(STRIPE_BEATS) + 4  # log2 of a run's bytes: the master's number stands above
        masters = []
        for i in range(c.masters):
            m.submodules[f"master{i}"] = master = block(ReadMaster(c), "vf_read_master")
            join_channels(m, getattr(self, f"m_axi{i}"), master.axi, AXI4Read())
            m.d.comb += [
                master.reset.eq(self.reset),
                master.attributes.eq(self.attributes),
                master.epoch.eq(self.epoch),
            ]
            masters.append(master)
        m.d.comb += self.moved.eq(Cat(*(master.axi.rvalid & master.axi.rready for master in masters)).any())
        m.d.comb += self.stray.eq(Cat(*(master.stray for master in masters)).any())
        m.d.comb += self.idle.eq(Cat(*(master.idle for master in masters)).all())

        # ---- requests
        queues = []
        for i, depth in enumerate((c.read_fifo_beats, image_fifo_beats(c))):
            m.submodules[f"queue{i}"] = queue = ReadQueue(c, depth, i)
            m.d.comb += [queue.reset.eq(self.reset), queue.stop.eq(self.stop)]
            wiring.connect(m, wiring.flipped(getattr(self, f"request{i}")), queue.request)
            queues.append(queue)
        turn, choice, room = Signal(), Signal(), Signal()
        burst = Signal(BURST)
        valid = Cat(q.burst.valid for q in queues)
        m.d.comb += [
            room.eq(Cat(*(master.burst.ready for master in masters)).all()),
            choice.eq(Mux(turn, valid[1], ~valid[0])),
            burst.eq(Mux(choice, queues[1].burst.payload.as_value(), queues[0].burst.payload.as_value())),
            queues[0].burst.ready.eq(~choice & room),
            queues[1].burst.ready.eq(choice & room),
        ]
        with m.If(valid.any() & room):
            m.d.sync += turn.eq(~choice)
        for i, master in enumerate(masters):
            m.d.comb += [
                master.burst.valid.eq(valid.any() & room),
                master.burst.payload.eq(burst),
                master.burst.payload.addr.eq(burst.addr | (i << low)),
            ]

        # ---- data
        failed = []
        for q, queue in enumerate(queues):
            beats = [getattr(master, f"beat{q}") for master in masters]
            out = getattr(self, f"beat{q}")
            # joined beats wait in a stage of registers: the receiver's choice of the moment ends there
            m.submodules[f"joined{q}"] = joined = SyncFIFO(width=len(out.payload.data), depth=STAGE)
            m.submodules[f"lasts{q}"] = lasts = Pair(1)  # its control
            m.d.comb += [
                joined.w_data.eq(Cat(*(b.payload.data for b in beats))),
                lasts.w_data.eq(queue.last),
                queue.popped.eq(lasts.w_rdy & queue.expected & Cat(*(b.valid for b in beats)).all()),
                out.valid.eq(lasts.r_rdy),
                out.payload.data.eq(joined.r_data),
                out.payload.last.eq(lasts.r_data),
            ]
            for stage in (joined, lasts):
                m.d.comb += [stage.w_en.eq(queue.popped), stage.r_en.eq(out.ready)]
            m.d.comb += [b.ready.eq(queue.popped) for b in beats]
            wrong = Signal(c.masters, name=f"wrong{q}")
            m.d.comb += wrong.eq(Cat(b.payload.resp != OKAY for b in beats))
            number, resp = Signal(2, name=f"number{q}"), Signal(2, name=f"resp{q}")
            for i in reversed(range(c.masters)):
                with m.If(wrong[i]):
                    m.d.comb += [number.eq(i), resp.eq(beats[i].payload.resp)]
            failed.append((queue.popped & wrong.any(), queue.addr | (number << low), resp))
        (error0, addr0, resp0), (error1, addr1, resp1) = failed
        m.d.sync += [
            self.error.eq(error0 | error1),
            self.error_queue.eq(Cat(error0, error1)),
            self.error_addr.eq(Mux(error0, addr0, addr1)),
            self.error_resp.eq(Mux(error0, resp0, resp1)),
        ]
        assert DATA_BITS * c.masters == c.beat_bytes * 8
        return ResetInserter(self.reset)(m)
