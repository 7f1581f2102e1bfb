"""What is proved about the host side: each class is a module with a block, its assumptions and its assertions."""

import dataclasses

from amaranth import Array, Cat, ClockDomain, Const, Elaboratable, Module, Mux, Signal, signed
from amaranth.hdl import Assert, Assume
from amaranth.lib import data

from vitforge_hw.arch import isa
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.registers import Register
from vitforge_hw.control.sequencer import Sequencer
from vitforge_hw.engines.tile_fifo import TileFifo
from vitforge_hw.host.axi import ReadMaster, WriteMaster, burst_limit, image_fifo_beats
from vitforge_hw.host.dma import ResultDma
from vitforge_hw.host.jobs import JobQueue
from vitforge_hw.host.read_engine import ReadQueue
from vitforge_hw.host.register_file import RegisterFile
from vitforge_hw.host.watchdog import Watchdog
from vitforge_hw.interfaces import fields_layout
from vitforge_hw.units.pair import Pair

TINY = get_config("tiny")
SMALL = dataclasses.replace(TINY, burst_beats=4, read_fifo_beats=8)  #: the shallowest FIFOs that there may be


class Property(Elaboratable):
    """``depth``, ``induction``: how it is proved."""

    depth, induction = 4, True

    def __init__(self, dut):
        self.dut = dut
        self._domain = ClockDomain("sync")
        self._free: dict[str, Signal] = {}

    @property
    def ports(self) -> list[Signal]:
        """The free inputs."""
        self.elaborate(None)._MustUse__silence = True
        return [self._domain.clk, *self._free.values()]

    def module(self) -> Module:
        """With the block, out of reset."""
        m = Module()
        m.domains.sync = self._domain
        m.d.comb += self._domain.rst.eq(0)
        m.submodules.dut = self.dut
        return m

    def free(self, shape, name: str) -> Signal:
        return self._free.setdefault(name, Signal(shape, name=f"free_{name}"))

    def drive(self, m: Module, *paths: str):
        """Inputs of the block that may be anything in any cycle."""
        for path in paths:
            port = self.dut
            for part in path.split("."):
                port = getattr(port, part)
            value = port.as_value() if hasattr(port, "as_value") else port
            m.d.comb += value.eq(self.free(len(value), path.replace(".", "_")))

    @staticmethod
    def stable(m: Module, valid, ready, *payload):
        """What is offered stays as it is until it is taken."""
        held = Signal(name=f"{valid.name}_held")
        before = [Signal(len(p), name=f"{p.name}_before") for p in payload]
        m.d.sync += [held.eq(valid & ~ready), *(b.eq(p) for b, p in zip(before, payload, strict=True))]
        with m.If(held):
            m.d.comb += [Assert(valid), *(Assert(b == p) for b, p in zip(before, payload, strict=True))]

    @staticmethod
    def in_a_run(m: Module, burst):
        """An offered burst is aligned, inside a run of 256 bytes (so inside 4 KiB), at most as long as allowed."""
        with m.If(burst.valid):
            m.d.comb += [
                Assert(burst.payload.addr[:4] == 0),
                Assert(burst.payload.addr[4:8] + burst.payload.len < 16),
                Assert(burst.payload.len < burst_limit(TINY)),
            ]


class LiteSlave(Property):
    """AXI4-Lite: answers stay, one for each request, none without, within two cycles; sticky and w1c bits."""

    depth = 6
    held = False  #: may a snapshot hold reads back

    def __init__(self):
        table = (
            Register("a", 0x0, "rw", "", (("x", 0, 1, ""), ("y", 1, 1, "")), sticky=0b10),
            Register("b", 0x4, "w1c", "", (("x", 0, 1, ""),)),
            Register("c", 0x8, "wo", ""),
            Register("d", 0xC, "ro", ""),
        )
        super().__init__(RegisterFile({r.name: r for r in table}))

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        bus = dut.bus
        self.drive(m, *(f"bus.{n}" for n in "awaddr awvalid wdata wstrb wvalid bready araddr arvalid rready".split()))
        self.drive(m, "a_load", "a_value", "b_set", "b_clear", "d", "counter_value", *["hold"] * self.held)
        self.stable(m, bus.bvalid, bus.bready, bus.bresp)
        self.stable(m, bus.rvalid, bus.rready, bus.rdata, bus.rresp)
        aw, w, ar = Signal(2), Signal(2), Signal(2)  # requests taken without their answer
        for count, took, gave in (
            (aw, bus.awvalid & bus.awready, bus.bvalid & bus.bready),
            (w, bus.wvalid & bus.wready, bus.bvalid & bus.bready),
            (ar, bus.arvalid & bus.arready, bus.rvalid & bus.rready),
        ):
            m.d.sync += count.eq(count + took - gave)
        m.d.comb += [
            Assert(aw <= 2),
            Assert(w <= 2),
            Assert(ar <= 1),
            Assert((aw != 0) & (w != 0) | ~bus.bvalid),
            Assert((ar != 0) | ~bus.rvalid),
            # what is taken is known: an answer, or a request that waits for its other half
            Assert(aw == bus.bvalid + ~bus.awready),
            Assert(w == bus.bvalid + ~bus.wready),
            Assert(dut.hold | (ar == ~bus.arready)),
        ]
        late = Signal(2)
        with m.If((aw != 0) & (w != 0) & ~bus.bvalid):
            m.d.sync += late.eq(late + 1)
        with m.Else():
            m.d.sync += late.eq(0)
        m.d.comb += Assert(late <= 1)
        sticky, loaded = Signal(), Signal()
        m.d.sync += [sticky.eq(dut.a[1]), loaded.eq(dut.a_load)]
        with m.If(sticky & ~loaded):
            m.d.comb += Assert(dut.a[1])
        was_set, cleared = Signal(), Signal()
        m.d.sync += [was_set.eq(dut.b_set[0]), cleared.eq(dut.b_clear)]
        with m.If(was_set & ~cleared):
            m.d.comb += Assert(dut.b[0])
        m.d.comb += [Assume(dut.a_value[2:] == 0), Assert(dut.a[2:] == 0), Assert(dut.b[1:] == 0)]
        return m


class LiteSlaveHeld(LiteSlave):
    """The same while a snapshot holds reads back at any time (bounded)."""

    depth, induction, held = 20, False, True


class JobCounters(Property):
    """Every bit of ``submitted`` and ``completed``: one more for each job, 0 after a reset, nothing else."""

    depth = 2

    def __init__(self):
        super().__init__(JobQueue(TINY))

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        self.drive(m, "push", "image", "result", "pop_image", "pop_result", "reset")
        known = Signal()
        m.d.sync += known.eq(1)
        for count, step in ((dut.submitted, dut.push & ~dut.full), (dut.completed, dut.pop_result)):
            want = Signal(32, name=f"{count.name}_next")
            m.d.sync += want.eq(Mux(dut.reset, 0, count + step))
            with m.If(known):
                m.d.comb += Assert(count == want)
            with m.Else():
                m.d.comb += Assert(count == 0)
        return m


class Jobs(Property):
    """Never more than job_depth jobs, counters in order; a chosen job's bases are what was pushed (bounded)."""

    depth, induction = 10, False

    def __init__(self):
        super().__init__(JobQueue(TINY))

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        self.drive(m, "push", "image", "result", "pop_image", "pop_result", "reset")
        images = Signal(32)
        chosen = self.free(32, "chosen")
        before, known = Signal(32), Signal()
        m.d.sync += [before.eq(chosen), known.eq(1)]
        m.d.comb += [
            Assume(~known | (chosen == before)),
            Assume(~dut.pop_image | (images != dut.submitted)),
            Assume(~dut.pop_result | (dut.completed != images)),
            Assert(dut.submitted - dut.completed <= TINY.job_depth),
            Assert(dut.free == TINY.job_depth - (dut.submitted - dut.completed)[:8]),
            Assert(dut.full == (dut.free == 0)),
        ]
        with m.If(dut.pop_image):
            m.d.sync += images.eq(images + 1)
        image, result, there = Signal(64), Signal(64), Signal()
        with m.If(dut.push & ~dut.full & (dut.submitted == chosen)):
            m.d.sync += [image.eq(dut.image), result.eq(dut.result), there.eq(1)]
        with m.If(there & (images == chosen)):
            m.d.comb += Assert(dut.image_base == image)
        with m.If(there & (dut.completed == chosen)):
            m.d.comb += Assert(dut.result_base == result)
        with m.If(dut.reset):
            m.d.sync += [images.eq(0), there.eq(0)]
        return m


class Reads(Property):
    """A read master: requests stay; rready always; as many beats are taken as were asked for, none of another epoch or
    queue; a chosen beat leaves as it came, in its place (so a FIFO has room for all that was reserved); idle means that
    nothing is outstanding (bounded)."""

    depth, induction = 8, False

    def __init__(self):
        super().__init__(ReadMaster(SMALL))

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        self.drive(m, "burst.valid", "burst.payload", "beat0.ready", "beat1.ready", "epoch")
        self.drive(m, *(f"axi.{n}" for n in "arready rid rdata rresp rlast rvalid".split()))
        axi, burst = dut.axi, dut.burst
        chosen = self.free(4, "chosen")  # beat of each queue
        constant, known = Signal(7), Signal()
        m.d.sync += [constant.eq(Cat(dut.epoch, chosen)), known.eq(1)]
        m.d.comb += Assume(~known | (Cat(dut.epoch, chosen) == constant))
        self.stable(m, axi.arvalid, axi.arready, axi.araddr, axi.arlen, axi.arid)
        m.d.comb += [Assert(axi.rready), Assert(axi.arsize == 4), Assert(axi.arburst == 1)]
        m.d.comb += Assert(~axi.arvalid | (axi.arid[1:] == dut.epoch))
        came = axi.rvalid & ~dut.stray
        with m.If(axi.rvalid & (axi.rid[1:] != dut.epoch)):
            m.d.comb += Assert(dut.stray)
        for i, (depth, out) in enumerate(zip((SMALL.read_fifo_beats, image_fifo_beats(SMALL)), (dut.beat0, dut.beat1))):
            asked, reserved = Signal(8, name=f"asked{i}"), Signal(8, name=f"reserved{i}")
            took, gave, kept = Signal(8, name=f"took{i}"), Signal(8, name=f"gave{i}"), Signal(130, name=f"kept{i}")
            mine, take, pop = burst.payload.id == i, came & (axi.rid[0] == i), out.valid & out.ready
            started = axi.arvalid & axi.arready & (axi.arid[0] == i)
            m.d.comb += Assume(~burst.valid | ~mine | (reserved + burst.payload.len + 1 <= depth))
            m.d.sync += [
                asked.eq(asked + Mux(started, axi.arlen + 1, 0) - take),
                reserved.eq(reserved + Mux(burst.valid & burst.ready & mine, burst.payload.len + 1, 0) - pop),
                took.eq(took + take),
                gave.eq(gave + pop),
            ]
            m.d.comb += [
                Assert(~take | asked.any()),
                Assert(~(axi.rvalid & (axi.rid == Cat(Const(i, 1), dut.epoch)) & asked.any()) | take),
                Assert(~dut.idle | ~asked.any()),
                Assert(~out.valid | (gave < took)),
            ]
            with m.If(take & (took == chosen)):
                m.d.sync += kept.eq(Cat(axi.rdata, axi.rresp))
            with m.If(out.valid & (gave == chosen)):
                m.d.comb += Assert(out.payload.as_value() == kept)
        return m


class ReadBursts(Property):
    """Every read burst lies within a run of 256 bytes, at most as long as allowed, aligned; requests have beats."""

    depth, induction = 10, False

    def __init__(self):
        super().__init__(ReadQueue(TINY, 16, 0))

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        self.drive(m, "request.valid", "request.payload", "burst.ready", "popped", "stop", "reset")
        m.d.comb += Assume(dut.request.payload.beats != 0)
        self.in_a_run(m, dut.burst)
        return m


class WriteBursts(Property):
    """Every burst of the result DMA lies within a run of 256 bytes, aligned, at most as long as allowed (job bases are
    aligned: the register file refuses others)."""

    depth = 8

    def __init__(self):
        super().__init__(ResultDma(TINY))

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        self.drive(m, "reset", "ctl.op.valid", "ctl.op.payload", "ctl.go.valid", "ctl.go.payload", "base", "written")
        self.drive(m, "result_rd.ready", "result_rd.data_valid", "result_rd.data", "burst.ready", "beat.ready")
        m.d.comb += Assume(dut.base[:12] == 0)
        self.in_a_run(m, dut.burst)
        return m


class Order(Property):
    """A queue: a chosen entry leaves as it came, in its place; none without one that came, none lost."""

    entries, depth, induction = 0, 12, False

    def watch(self, m: Module, push, value, ready, first, pop):
        chosen, kept = self.free(5, "chosen"), Signal(len(value))
        before, known = Signal(5), Signal()
        came, left = Signal(5), Signal(5)
        m.d.sync += [before.eq(chosen), known.eq(1), came.eq(came + push), left.eq(left + pop)]
        m.d.comb += [
            Assume(~known | (chosen == before)), Assert(~ready | (came != left)),
            Assert((came - left)[:5] <= self.entries),
        ]  # fmt: skip
        with m.If(push & (came == chosen)):
            m.d.sync += kept.eq(value)
        with m.If(ready & (left == chosen)):
            m.d.comb += Assert(first == kept)
        return came, left


class TwoEntries(Order):
    """The queue of registers in front of arbiters and behind FIFOs (units.pair): in order, full with two."""

    entries, induction = 2, True

    def __init__(self):
        super().__init__(Pair(8))

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        self.drive(m, "w_en", "w_data", "r_en")
        came, left = self.watch(m, dut.w_en & dut.w_rdy, dut.w_data, dut.r_rdy, dut.r_data, dut.r_en & dut.r_rdy)
        level = Signal(5)
        m.d.comb += [level.eq(came - left), Assert(dut.w_rdy == (level < 2)), Assert(dut.r_rdy == level.any())]
        return m


class Tiles(Order):
    """R-MAC's queue of tiles (engines.tile_fifo), which is never written when full."""

    entries = 4

    def __init__(self):
        super().__init__(TileFifo(2, 8, 4))

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        self.drive(m, "push", "tile", "pop")
        came, left = self.watch(m, dut.push, dut.tile, dut.ready, dut.first, dut.pop)
        level = Signal(5)
        m.d.comb += [
            level.eq(came - left), Assume(~dut.push | (level < 4)), Assume(~dut.pop | dut.ready),
            Assert(dut.ready == level.any()),
        ]  # fmt: skip
        return m


class Writes(Property):
    """The write master: AW and W stay, WLAST with the last beat and only there, one burst at a time, BREADY always."""

    depth, induction = 20, False

    def __init__(self):
        super().__init__(WriteMaster())

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        self.drive(m, "burst.valid", "burst.payload", "beat.valid", "beat.payload", "stop", "epoch")
        self.drive(m, *(f"axi.{n}" for n in "awready wready bid bresp bvalid".split()))
        axi = dut.axi
        held, word = Signal(), Signal(128)  # the sender's stream is stable
        before, known = Signal(3), Signal()
        m.d.sync += [held.eq(dut.beat.valid & ~dut.beat.ready), word.eq(dut.beat.payload)]
        m.d.sync += [before.eq(dut.epoch), known.eq(1)]
        m.d.comb += [Assume(~held | (dut.beat.valid & (dut.beat.payload == word)))]
        m.d.comb += Assume(~known | (dut.epoch == before))
        self.stable(m, axi.awvalid, axi.awready, axi.awaddr, axi.awlen, axi.awid)
        self.stable(m, axi.wvalid, axi.wready, axi.wdata, axi.wstrb, axi.wlast)
        m.d.comb += Assert(axi.bready)
        taken, length, open_ = Signal(5), Signal(4), Signal()
        with m.If(dut.burst.valid & dut.burst.ready):
            m.d.comb += Assert(~open_)
            m.d.sync += [taken.eq(0), length.eq(dut.burst.payload.len), open_.eq(1)]
        with m.If(axi.wvalid & axi.wready):
            m.d.comb += [Assert(open_), Assert(taken <= length), Assert(axi.wlast == (taken == length))]
            m.d.sync += taken.eq(taken + 1)
        with m.If(dut.done):
            m.d.comb += [Assert(open_), Assert(taken == length + 1)]
            m.d.sync += open_.eq(0)
        m.d.comb += Assert(dut.idle == ~open_)
        return m


class Dog(Property):
    """The watchdog never speaks without reason, nor twice for one standstill, nor when off."""

    depth, induction = 40, False

    def __init__(self):
        super().__init__(Watchdog())

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        self.drive(m, "period", "active", "progress")
        still, spoke = Signal(32), Signal()
        with m.If(~dut.active | dut.progress):
            m.d.sync += [still.eq(0), spoke.eq(0)]
        with m.Else():
            with m.If(~still.all()):
                m.d.sync += still.eq(still + 1)
            with m.If(dut.expired):
                m.d.sync += spoke.eq(1)
        with m.If(dut.expired):
            m.d.comb += [
                Assert(dut.active), Assert(dut.period != 0), Assert(still >= dut.period), Assert(~spoke),
            ]  # fmt: skip
        return m


class Waits(Property):
    """A row starts only after each wait in front of the first one that is off was met at some moment of that row, and
    only rows of a fetched instruction start, as many as it has, the last one marked (bounded: the first
    row, and its first wait)."""

    depth, induction = 10, False

    def __init__(self):
        super().__init__(Sequencer(isa.Chunk.RESULT_DMA))

    def elaborate(self, platform):
        m, dut = self.module(), self.dut
        ctl, layout = dut.ctl, data.ArrayLayout(fields_layout(isa.WAIT_FIELDS), isa.WAITS)
        self.drive(m, "run", "start", "count", "submitted", "counters", "fetch.done", "fetch.data")
        self.drive(m, "ctl.op.ready", "ctl.go.ready", "ctl.done")
        m.d.comb += Assume(dut.fetch.valid | ~dut.fetch.done)
        # the instruction that was fetched last, then the one that runs
        fetched, word, there = Signal(len(dut.fetch.data)), Signal(len(dut.fetch.data)), Signal()
        row = Signal(isa.ROWS_FIELD.bits + 1, init=1)
        rows, waits = word[isa.WAITS * isa.WAIT_BITS :][: isa.ROWS_FIELD.bits], data.View(layout, word[: layout.size])
        with m.If(dut.fetch.done):
            m.d.sync += fetched.eq(dut.fetch.data)
        taken, starts = ctl.op.valid & ctl.op.ready, ctl.go.valid & ctl.go.ready
        before = Const(1, 1)  # all waits up to here are on
        for n in range(isa.WAITS):
            wait, met = waits[n], Signal(name=f"met{n}")
            slope, capped, threshold = Signal(signed(24)), Signal(signed(24)), Signal(32)
            counters = Array(dut.counters.word_select(i, 32) for i in range(len(isa.Chunk)))
            m.d.comb += [
                Assume(dut.fetch.data[n * isa.WAIT_BITS + 1 :][:4] < len(isa.Chunk)),
                slope.eq((row * wait.a + wait.b) >> wait.s),
                capped.eq(Mux(slope > wait.cap, wait.cap, slope)),
                threshold.eq((dut.counter[16:] << isa.IMAGE_SHIFT) + wait.base + capped),
            ]
            with m.If(taken | starts):
                m.d.sync += met.eq(0)
            with m.Elif(~(counters[wait.src] - threshold)[31]):
                m.d.sync += met.eq(1)
            before = before & wait.enable
            m.d.comb += Assert(~ctl.go.valid | ~before | met)
        with m.If(taken):
            m.d.sync += [word.eq(fetched), there.eq(1), row.eq(1)]
        with m.If(starts):
            m.d.sync += [row.eq(row + 1), there.eq(row != rows)]
        with m.If(ctl.go.valid):
            m.d.comb += [Assert(there), Assert(ctl.go.payload == (row == rows))]
        return m


ALL = (
    LiteSlave, LiteSlaveHeld, JobCounters, Jobs, Reads, ReadBursts, Writes, WriteBursts, Dog, Waits, TwoEntries, Tiles,
)  # fmt: skip
