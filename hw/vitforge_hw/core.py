"""Everything between the host interface and the arithmetic: sequencers, chunks, buffers. Connects, no arithmetic."""

from amaranth import C, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .arch.config import AcceleratorConfig
from .arch.isa import WAITS, Chunk
from .attention.code_ring import CodeRing
from .attention.key_loader import Loader
from .attention.shifter import ShifterArray
from .attention.softmax import Softmax
from .compute import Engines
from .control.program import ProgramMemory
from .control.reset import reset_copy
from .control.sequencer import Sequencer
from .emit import block
from .host.boot import header_members
from .interfaces import BufferRead, BufferWrite, ChunkControl, WeightWrite
from .layernorm.layernorm import LayerNorm
from .memory.activation import ActivationBuffer
from .memory.weights import KsumMemory, ParameterMemory, WeightBuffer

#: DMA chunks live on the host side of the core
HOST_CHUNKS = {Chunk.WEIGHT_DMA: "weight_ctl", Chunk.IMAGE_DMA: "image_ctl", Chunk.RESULT_DMA: "result_ctl"}


class Core(wiring.Component):
    """Sequencers with their chunks around the buffers. Only the chunks of ``config.chunks`` are there.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    run, submitted : program loaded and enabled; images queued since enable
    <chunk>_start, <chunk>_count : for all of isa.Chunk, first instruction and number of instructions, from the
        program's header
    weight_ctl, image_ctl, result_ctl : control of the DMA chunks
    weights, params, ln_params, program : writes by the weight DMA
    image_wr, result_rd : activation-buffer ports of image and result DMA
    image_end, busy, stall : per chunk of isa.Chunk (absent ones 0): program of an image complete; a row in work; a row
        waiting
    progress : some counter moved
    active : some sequencer is inside an image's program

    Throughput and latency: docs/architecture.md, by chunk.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        n = len(Chunk)
        members = {
            "run": In(1),
            "submitted": In(16),
            "weights": In(WeightWrite(c.weight_row_bytes * 8, c.beats_per_weight_row)),
            "params": In(WeightWrite(c.beat_bytes * 8, 1)),
            "ln_params": In(WeightWrite(c.beat_bytes * 8, 1)),
            "program": In(WeightWrite(c.beat_bytes * 8, 1)),
            "image_wr": In(BufferWrite(c)),
            "result_rd": In(BufferRead(c)),
            "image_end": Out(n),
            "busy": Out(n),
            "stall": Out(n),
            "progress": Out(1),
            "active": Out(1),
        }
        members |= {name: Out(ChunkControl(chunk)) for chunk, name in HOST_CHUNKS.items()}
        members |= {name: In(16) for name in header_members()}
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        tag = f"{c.cores}x{c.word}"
        m.submodules.activations = activations = block(ActivationBuffer(c), f"vf_activation_buffer_{tag}")
        m.submodules.weight_buffer = weight_buffer = block(WeightBuffer(c), f"vf_weight_buffer_{tag}")
        m.submodules.params = params = block(
            ParameterMemory(c, c.param_rows, c.param_read_bytes), f"vf_params_{c.beat_bytes * 8}x{c.param_rows}"
        )
        m.submodules.ln_params = ln_params = block(
            ParameterMemory(c, c.ln_param_rows), f"vf_ln_params_{c.beat_bytes * 8}x{c.ln_param_rows}"
        )
        program = block(ProgramMemory(c), f"vf_program_{c.beat_bytes * 8}x{c.program_rows}")
        m.submodules.program_memory = program
        m.submodules.engines = engines = block(Engines(c), f"vf_engines_{tag}x{c.width}", reset_copy(m, "engines"))
        m.submodules.layernorm = layernorm = block(LayerNorm(c), f"vf_layernorm_{tag}", reset_copy(m, "layernorm"))
        controls = {Chunk[e.upper()]: getattr(engines, f"{e}_ctl") for e in c.engine_names}
        controls |= {Chunk.LAYERNORM: layernorm.ctl}
        controls |= {chunk: flipped(getattr(self, name)) for chunk, name in HOST_CHUNKS.items()}
        reads = {"layernorm": layernorm.rd, "result": flipped(self.result_rd)}
        writes = {"layernorm": layernorm.wr, "image": flipped(self.image_wr)}
        for e in c.engine_names:
            reads |= {f"{e}_in": getattr(engines, f"{e}_rd"), f"{e}_res": getattr(engines, f"{e}_res")}
            writes[e] = getattr(engines, f"{e}_wr")

        # ---- weights and parameters
        connect(m, flipped(self.weights), weight_buffer.dma)
        for e in c.engine_names:
            connect(m, getattr(engines, f"{e}_weights"), getattr(weight_buffer, f"read_{e}"))
        connect(m, flipped(self.params), params.write)
        connect(m, engines.params, params.read)
        connect(m, flipped(self.ln_params), ln_params.write)
        connect(m, layernorm.params, ln_params.read)
        connect(m, flipped(self.program), program.write)

        taps = [
            ("stats_s1", layernorm.stats_valid, layernorm.stats_s1),
            ("stats_s2", layernorm.stats_valid, layernorm.stats_s2),
            ("tile", engines.mat_tile_valid, engines.mat_tile_acc),
        ]
        if c.trio:  # Z and the sums of keys, from post-processing
            m.submodules.ksum = ksum = block(KsumMemory(c), f"vf_ksum_{c.word * 8}x{c.ksum_rows}")
            connect(m, engines.z, weight_buffer.z)
            connect(m, engines.ksum_wr, ksum.write)
            for e in c.engine_names:
                connect(m, getattr(engines, f"{e}_ksum"), getattr(ksum, f"read_{e}"))
            taps.append(("rmac_tile", engines.rmac_tile_valid, engines.rmac_tile_acc))
        if c.attention:  # softmax to shifter array, keys to the weight buffer
            m.submodules.shifter = shifter = block(ShifterArray(c), f"vf_shifter_array_{tag}", reset_copy(m, "shifter"))
            m.submodules.softmax = softmax = block(Softmax(c), f"vf_softmax_{tag}", reset_copy(m, "softmax"))
            m.submodules.code_ring = ring = block(CodeRing(c), f"vf_code_ring_{tag}")
            m.submodules.loader = loader = block(Loader(c), f"vf_loader_{tag}")
            connect(m, loader.wr, weight_buffer.loader)
            connect(m, softmax.codes, ring.push)
            connect(m, shifter.codes, ring.pop)
            controls |= {Chunk.SHIFTER: shifter.ctl, Chunk.SOFTMAX: softmax.ctl, Chunk.LOADER: loader.ctl}
            reads |= {"shifter": shifter.rd, "softmax": softmax.rd, "loader": loader.rd}
            writes["shifter"] = shifter.wr
            taps += [
                ("codes", softmax.code_valid, softmax.code_word),
                ("log_sum", softmax.log_sum_valid, softmax.log_sum),
                ("attend", shifter.acc_valid, shifter.acc),
            ]

        # ---- activation buffer
        for name, port in reads.items():
            connect(m, port, getattr(activations, f"read_{name}"))
        for name, port in writes.items():
            connect(m, port, getattr(activations, f"write_{name}"))

        # ---- sequencers
        assert set(controls) == set(c.chunks)
        sequencers = {}
        counters = Signal(32 * len(Chunk))
        for chunk in c.chunks:
            s = block(Sequencer(chunk, c.w4, c.beat_bytes * 8), f"vf_sequencer_{chunk.name.lower()}")
            sequencers[chunk] = s
            m.submodules[f"sequencer_{chunk.name.lower()}"] = s
            connect(m, s.ctl, controls[chunk])
            connect(m, s.fetch, getattr(program, f"fetch{int(chunk)}"))
            m.d.comb += [
                s.run.eq(self.run),
                s.submitted.eq(self.submitted),
                s.start.eq(getattr(self, f"{chunk.name.lower()}_start")),
                s.count.eq(getattr(self, f"{chunk.name.lower()}_count")),
                s.counters.eq(counters),
            ]

        def of_all(member: str, bits: int = 1):
            """A member of each chunk's sequencer, in the order of isa.Chunk; 0 for an absent one."""
            return Cat(getattr(sequencers[k], member) if k in sequencers else C(0, bits) for k in Chunk)

        before = Signal.like(counters)
        m.d.sync += before.eq(counters)
        m.d.comb += [
            counters.eq(of_all("counter", 32)),
            self.progress.eq(counters != before),
            self.active.eq(of_all("running").any()),
            self.image_end.eq(of_all("image_end")),
            self.busy.eq(of_all("busy")),
            self.stall.eq(of_all("stalled")),
        ]

        ports = {**{name: port for name, port in writes.items() if name != "image"}, "image": self.image_wr}
        self._watch(m, ports, [*taps, ("image_end", self.image_end.any(), self.image_end)])
        if c.trio:
            self._watch(m, {"z": engines.z, "ksum": engines.ksum_wr}, [])
        self._watch_timeline(m, engines, sequencers)
        return m

    def _watch(self, m, ports: dict, values: list):
        """Named signals for passive monitors (sim): write ports by name, and (name, valid, value) inside the units."""
        for name, port in ports.items():
            valid = Signal(name=f"watch_{name}_valid")
            addr = Signal(16, name=f"watch_{name}_addr")
            data = Signal(len(port.data), name=f"watch_{name}_data")
            accepted = port.valid & port.ready if "ready" in port.signature.members else port.valid
            m.d.comb += [valid.eq(accepted), addr.eq(port.addr), data.eq(port.data)]
        for name, valid_signal, value in values:
            valid = Signal(name=f"watch_{name}_valid")
            data = Signal(len(value), name=f"watch_{name}_data")
            m.d.comb += [valid.eq(valid_signal), data.eq(value)]

    def _watch_timeline(self, m, engines, sequencers):
        """What the chunks do, for the timeline: a record whenever something changes.

        timeline: CHUNK_BITS per chunk, in the order of isa.Chunk (absent ones 0, waiting for none): go, done, running,
        number of the wait that the next row waits for (3 bits, WAITS: none). array, rmac_array: state of an engine's PE
        array (2 bits), end of a row's steps.
        """
        states, chunks, events = [], [], []
        for chunk in Chunk:
            if chunk not in sequencers:
                chunks.append(Cat(C(0, 3), C(WAITS, 3)))
                continue
            s = sequencers[chunk]
            event = Cat(s.ctl.go.valid & s.ctl.go.ready, s.ctl.done)
            state = Cat(s.running, s.waiting)
            states.append(state)
            events.append(event)
            chunks.append(Cat(event, state))
        states, events = Cat(states), Cat(events)
        last_states = Signal.like(states, name="watch_states")
        m.d.sync += last_states.eq(states)
        values = [("timeline", events.any() | (states != last_states), Cat(chunks))]
        for e in self._config.engine_names:
            name = "array" if e == "mat" else f"{e}_array"
            array = getattr(engines, f"{e}_array")
            last = Signal(2, name=f"watch_{name}_state")
            m.d.sync += last.eq(array[:2])
            values.append((name, array[2] | (array[:2] != last), array))
        self._watch(m, {}, values)
