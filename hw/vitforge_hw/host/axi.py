"""AXI4 and AXI4-Lite signatures, the read and the write side of one master port."""

from amaranth import C, Cat, Module, Mux, ResetInserter, ResetSignal, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, Signature

from ..arch.config import AcceleratorConfig
from ..arch.memmap import STRIPE_BEATS

DATA_BITS = 128
WEIGHT_ID, IMAGE_ID = 0, 1  #: bit 0 of AXI ids: the two read queues; above it the epoch
EPOCH_BITS = 3  #: counts resets with something outstanding, so that late answers are known as such
OKAY = 0


def _address(prefix: str) -> dict:
    return {
        f"{prefix}id": Out(4),
        f"{prefix}addr": Out(64),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}lock": Out(1),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}qos": Out(4),
        f"{prefix}user": Out(1),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


class AXI4Read(Signature):
    """AR and R of a 128-bit AXI4 port with 64-bit addresses and 4-bit ids, seen from the master (``Out``)."""

    def __init__(self):
        response = {"rid": In(4), "rdata": In(DATA_BITS), "rresp": In(2), "rlast": In(1), "rvalid": In(1)}
        super().__init__(_address("ar") | response | {"rready": Out(1)})


class AXI4Write(Signature):
    """AW, W and B of a 128-bit AXI4 port, seen from the master (``Out``)."""

    def __init__(self):
        super().__init__(
            _address("aw")
            | {"wdata": Out(DATA_BITS), "wstrb": Out(DATA_BITS // 8), "wlast": Out(1), "wvalid": Out(1)}
            | {"wready": In(1), "bid": In(4), "bresp": In(2), "bvalid": In(1), "bready": Out(1)}
        )


class AXI4(Signature):
    """All five channels, seen from the master (``Out``)."""

    def __init__(self):
        super().__init__(dict(AXI4Write().members) | dict(AXI4Read().members))


class AXI4Lite(Signature):
    """AXI4-Lite with 12-bit addresses and 32-bit data, seen from the master; a slave has ``In(AXI4Lite())``."""

    def __init__(self):
        super().__init__(
            {"awaddr": Out(12), "awprot": Out(3), "awvalid": Out(1), "awready": In(1)}
            | {"wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1)}
            | {"bresp": In(2), "bvalid": In(1), "bready": Out(1)}
            | {"araddr": Out(12), "arprot": Out(3), "arvalid": Out(1), "arready": In(1)}
            | {"rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1)}
        )


def join_channels(m: Module, outer, inner, signature: Signature):
    """Connect the master's port ``outer`` of a component to ``inner``, a submodule's; both of ``signature``'s names."""
    for name, member in signature.members.items():
        a, b = getattr(outer, name), getattr(inner, name)
        m.d.comb += a.eq(b) if member.flow == Out else b.eq(a)


#: what register axi_attributes says of one direction
ATTRIBUTES = data.StructLayout({"cache": 4, "prot": 3, "user": 1})


def address_constants(m: Module, port, prefix: str, attributes=None):
    """INCR bursts of 16-byte beats with these attributes (ATTRIBUTES; none: modifiable, bufferable, secure data)."""
    values = {"size": 4, "burst": 1, "lock": 0, "cache": 0b0011, "prot": 0, "qos": 0, "user": 0}
    for name, value in values.items():
        signal = getattr(port, prefix + name)
        given = attributes is not None and name in ATTRIBUTES.members
        m.d.comb += signal.eq(getattr(attributes, name) if given else C(value, len(signal)))


def burst_limit(config: AcceleratorConfig) -> int:
    """Longest burst in beats: never beyond a run of 256 bytes, so never across 4 KiB."""
    return min(STRIPE_BEATS, config.burst_beats)


def image_fifo_beats(config: AcceleratorConfig) -> int:
    """Depth of each master's FIFO for image data."""
    return max(2 * burst_limit(config), min(64, config.read_fifo_beats // 4))


#: a read burst of one master
BURST = data.StructLayout({"addr": 64, "len": 4, "id": 1})
#: a beat of one master with its response
READ_BEAT = data.StructLayout({"data": DATA_BITS, "resp": 2})


class ReadMaster(wiring.Component):
    """AR and R of one master: bursts out, beats into one FIFO per id.

    Parameters
    ----------
    config : FIFO depths

    Members
    -------
    reset : In(1), clears everything; only while ``idle``
    attributes : In(ATTRIBUTES), of every burst; changes only while ``idle``
    epoch : In(3), upper bits of ids; changes only at aresetn
    burst : In(stream(BURST)); the sender has reserved FIFO space for each of its beats
    beat0, beat1 : Out(stream(READ_BEAT)), beats of id 0 (weights, program) and id 1 (images), in order
    idle : Out(1), no burst is waiting or outstanding
    stray : Out(1), a beat came that nobody waits for: of another epoch, or more than was asked for; it is dropped
    axi : Out(AXI4Read); rready is always 1, because the space is reserved

    Latency/throughput: burst to ARVALID 1 cycle, RVALID to beat 2 cycles; one beat a cycle.
    Reference: memmap.stripe for the addresses.
    """

    def __init__(self, config: AcceleratorConfig):
        self._depths = (config.read_fifo_beats, image_fifo_beats(config))
        super().__init__(
            {
                "reset": In(1),
                "attributes": In(ATTRIBUTES),
                "epoch": In(EPOCH_BITS),
                "burst": In(stream.Signature(BURST)),
                "beat0": Out(stream.Signature(READ_BEAT)),
                "beat1": Out(stream.Signature(READ_BEAT)),
                "idle": Out(1),
                "stray": Out(1),
                "axi": Out(AXI4Read()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        address_constants(m, axi, "ar", self.attributes)
        m.submodules.bursts = bursts = SyncFIFO(width=BURST.size, depth=4)
        burst = data.View(BURST, bursts.r_data)
        m.d.comb += [
            bursts.w_data.eq(self.burst.payload.as_value()),
            bursts.w_en.eq(self.burst.valid),
            self.burst.ready.eq(bursts.w_rdy),
            axi.araddr.eq(burst.addr),
            axi.arlen.eq(burst.len),
            axi.arid.eq(Cat(burst.id, self.epoch)),
            axi.arvalid.eq(bursts.r_rdy),
            bursts.r_en.eq(axi.arready),
        ]

        started, taken, waiting = axi.arvalid & axi.arready, [], []
        for i, (depth, out) in enumerate(zip(self._depths, (self.beat0, self.beat1), strict=True)):
            # one more than the credits: the memory behind the output register then has a power of two of rows
            m.submodules[f"fifo{i}"] = fifo = SyncFIFOBuffered(width=READ_BEAT.size, depth=depth + 1)
            incoming = Signal(READ_BEAT, name=f"incoming{i}")
            missing = Signal(range(depth + 1), name=f"missing{i}")  # beats outstanding
            take = Signal(name=f"take{i}")
            m.d.comb += [
                take.eq(axi.rvalid & (axi.rid == Cat(C(i, 1), self.epoch)) & missing.any()),
                incoming.data.eq(axi.rdata),
                incoming.resp.eq(axi.rresp),
                fifo.w_data.eq(incoming.as_value()),
                fifo.w_en.eq(take),
                out.payload.as_value().eq(fifo.r_data),
                out.valid.eq(fifo.r_rdy),
                fifo.r_en.eq(out.ready),
            ]
            m.d.sync += missing.eq(missing - take + Mux(started & (burst.id == i), burst.len + 1, 0))
            taken.append(take)
            waiting.append(missing.any())
        m.d.comb += [
            axi.rready.eq(1),
            self.stray.eq(axi.rvalid & ~Cat(taken).any()),
            self.idle.eq(~Cat(waiting).any() & ~bursts.r_rdy),
        ]
        return ResetInserter(self.reset)(m)


PATIENCE = 4096  #: cycles that a memory may take to accept a beat that it waits for

#: a write burst: its data are complete in the sender's FIFO
WRITE_BURST = data.StructLayout({"addr": 64, "len": 4})


class WriteMaster(wiring.Component):
    """AW, W and B of one master, one burst at a time.

    Only whole bursts end: one of which aresetn finds a part sent is ended afterwards, with strobes of 0, because a
    memory that was not reset waits for it. One that was reset does not: after PATIENCE cycles in which nothing moves
    the burst is forgotten. Its response, and that of a burst sent whole, is stray.

    Members
    -------
    reset : In(1), clears everything; only while ``idle``
    epoch : In(3), upper bits of ids; changes only at aresetn
    stop : In(1), accept no further burst
    attributes : In(ATTRIBUTES), of every burst; changes only while ``idle``
    burst : In(stream(WRITE_BURST)); its beats must follow without waiting for anything but ``beat``
    beat : In(stream(128)), whole beats
    done : Out(1), one cycle for each burst, at its response
    error, error_addr, error_resp : one cycle with ``done`` when the response is not OKAY
    stray : Out(1), a response came that nobody waits for; it is dropped
    idle : Out(1); moved : Out(1), a beat or response moves in this cycle
    axi : Out(AXI4Write)

    Latency: burst to AWVALID and WVALID 1 cycle; throughput: one beat a cycle inside a burst.
    """

    def __init__(self):
        super().__init__(
            {
                "reset": In(1),
                "stop": In(1),
                "epoch": In(EPOCH_BITS),
                "attributes": In(ATTRIBUTES),
                "burst": In(stream.Signature(WRITE_BURST)),
                "beat": In(stream.Signature(DATA_BITS)),
                "done": Out(1),
                "error": Out(1),
                "error_addr": Out(64),
                "error_resp": Out(2),
                "stray": Out(1),
                "idle": Out(1),
                "moved": Out(1),
                "axi": Out(AXI4Write()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        address_constants(m, axi, "aw", self.attributes)
        # these survive aresetn
        burst, count = Signal(WRITE_BURST, reset_less=True), Signal(4, reset_less=True)
        active, address_left, data_left, cut = (
            Signal(name=n, reset_less=True) for n in ("active", "address_left", "data_left", "cut")
        )
        patience = Signal(range(PATIENCE), reset_less=True)
        aresetn, own = Signal(), Signal()
        m.d.comb += [
            aresetn.eq(~ResetSignal()),
            own.eq(active & ~address_left & ~data_left & ~cut & (axi.bid == Cat(C(0, 1), self.epoch))),
            self.idle.eq(~active),
            self.moved.eq((axi.wvalid & axi.wready) | self.done),
            self.burst.ready.eq(~active & ~self.stop),
            axi.awid.eq(Cat(cut, self.epoch)),  # never that of a burst whose response counts
            axi.awaddr.eq(burst.addr),
            axi.awlen.eq(burst.len),
            axi.awvalid.eq(active & address_left & aresetn),
            axi.wdata.eq(self.beat.payload),
            axi.wstrb.eq(Mux(cut, 0, 0xFFFF)),
            axi.wlast.eq(count == burst.len),
            axi.wvalid.eq(active & data_left & (cut | self.beat.valid) & aresetn),
            self.beat.ready.eq(active & data_left & axi.wready & ~cut),
            axi.bready.eq(1),
            self.done.eq(own & axi.bvalid),
            self.stray.eq(axi.bvalid & ~own),
            self.error.eq(self.done & (axi.bresp != OKAY)),
            self.error_addr.eq(burst.addr),
            self.error_resp.eq(axi.bresp),
        ]
        with m.If(self.burst.valid & self.burst.ready):
            m.d.sync += [
                burst.eq(self.burst.payload),
                active.eq(1),
                address_left.eq(1),
                data_left.eq(1),
                count.eq(0),
            ]
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += address_left.eq(0)
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += count.eq(count + 1)
            with m.If(axi.wlast):
                m.d.sync += data_left.eq(0)
        with m.If(self.done):
            m.d.sync += active.eq(0)
        moved = (axi.awvalid & axi.awready) | (axi.wvalid & axi.wready)
        with m.If(cut):
            m.d.sync += patience.eq(Mux(moved, 0, patience + 1))
            with m.If((~address_left & ~data_left) | patience.all()):
                m.d.sync += [active.eq(0), cut.eq(0)]
        with m.If(~aresetn):
            begun = (~address_left & data_left) | (address_left & (count.any() | ~data_left))
            m.d.sync += [cut.eq(active & begun), active.eq(active & begun), patience.eq(0)]
        return ResetInserter(self.reset)(m)
