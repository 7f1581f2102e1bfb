"""Everything between the host interface and the arithmetic: sequencers, chunks, buffers. Connects, no arithmetic."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .arch.config import AcceleratorConfig
from .arch.isa import Chunk
from .chunks.layernorm import LayerNorm
from .chunks.loader import Loader
from .chunks.mat import Mat
from .chunks.shifter import ShifterArray
from .chunks.softmax import Softmax
from .control.boot import header_members
from .control.program import ProgramMemory
from .control.sequencer import Sequencer
from .emit import block
from .interfaces import BufferRead, BufferWrite, ChunkControl, WeightWrite
from .memory.activation import ActivationBuffer
from .memory.code_ring import CodeRing
from .memory.weights import ParameterMemory, WeightBuffer

#: DMA chunks live on the host side of the core
HOST_CHUNKS = {Chunk.WEIGHT_DMA: "weight_ctl", Chunk.IMAGE_DMA: "image_ctl", Chunk.RESULT_DMA: "result_ctl"}


class Core(wiring.Component):
    """Sequencers with their chunks around the buffers.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    run, submitted : program loaded and enabled; images queued since enable
    <chunk>_start, <chunk>_count : the chunk's first instruction and number of instructions, from the program's header
    weight_ctl, image_ctl, result_ctl : control of the DMA chunks
    weights, params, ln_params, program : writes by the weight DMA
    image_wr, result_rd : activation-buffer ports of image and result DMA
    image_end, busy, stall : per chunk: program of an image complete; a row in work; a row waiting
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
            ParameterMemory(c, c.param_rows), f"vf_params_{c.beat_bytes * 8}x{c.param_rows}"
        )
        m.submodules.ln_params = ln_params = block(
            ParameterMemory(c, c.ln_param_rows), f"vf_ln_params_{c.beat_bytes * 8}x{c.ln_param_rows}"
        )
        program = block(ProgramMemory(c), f"vf_program_{c.beat_bytes * 8}x{c.program_rows}")
        m.submodules.program_memory = program
        m.submodules.mat = mat = block(Mat(c), f"vf_mat_{tag}")
        m.submodules.shifter = shifter = block(ShifterArray(c), f"vf_shifter_array_{tag}")
        m.submodules.layernorm = layernorm = block(LayerNorm(c), f"vf_layernorm_{tag}")
        m.submodules.softmax = softmax = block(Softmax(c), f"vf_softmax_{tag}")
        m.submodules.code_ring = ring = block(CodeRing(c), f"vf_code_ring_{tag}")
        m.submodules.loader = loader = block(Loader(c), f"vf_loader_{tag}")

        # ---- sequencers
        controls = {
            Chunk.MAT: mat.ctl,
            Chunk.SHIFTER: shifter.ctl,
            Chunk.LAYERNORM: layernorm.ctl,
            Chunk.SOFTMAX: softmax.ctl,
            Chunk.LOADER: loader.ctl,
            **{chunk: flipped(getattr(self, name)) for chunk, name in HOST_CHUNKS.items()},
        }
        sequencers = {}
        counters = Signal(32 * len(Chunk))
        for chunk in Chunk:
            sequencers[chunk] = s = block(Sequencer(chunk), f"vf_sequencer_{chunk.name.lower()}")
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
        before = Signal.like(counters)
        m.d.sync += before.eq(counters)
        m.d.comb += [
            counters.eq(Cat(s.counter for s in sequencers.values())),
            self.progress.eq(counters != before),
            self.active.eq(Cat(s.running for s in sequencers.values()).any()),
            self.image_end.eq(Cat(s.image_end for s in sequencers.values())),
            self.busy.eq(Cat(s.busy for s in sequencers.values())),
            self.stall.eq(Cat(s.stalled for s in sequencers.values())),
        ]

        # ---- activation buffer
        for name, port in (
            ("mat_in", mat.rd),
            ("mat_res", mat.res),
            ("layernorm", layernorm.rd),
            ("softmax", softmax.rd),
            ("shifter", shifter.rd),
            ("loader", loader.rd),
        ):
            connect(m, port, getattr(activations, f"read_{name}"))
        connect(m, flipped(self.result_rd), activations.read_result)
        for name, port in (("mat", mat.wr), ("layernorm", layernorm.wr), ("shifter", shifter.wr)):
            connect(m, port, getattr(activations, f"write_{name}"))
        connect(m, flipped(self.image_wr), activations.write_image)

        # ---- weights and parameters
        connect(m, flipped(self.weights), weight_buffer.dma)
        connect(m, loader.wr, weight_buffer.loader)
        connect(m, mat.weights, weight_buffer.read)
        connect(m, flipped(self.params), params.write)
        connect(m, mat.params, params.read)
        connect(m, flipped(self.ln_params), ln_params.write)
        connect(m, layernorm.params, ln_params.read)
        connect(m, flipped(self.program), program.write)

        # ---- softmax to shifter array
        connect(m, softmax.codes, ring.push)
        connect(m, shifter.codes, ring.pop)

        self._watch(m, mat, shifter, layernorm, softmax)
        self._watch_timeline(m, mat, sequencers)
        return m

    def _watch(self, m, mat, shifter, layernorm, softmax):
        """Named signals for passive monitors (sim): every write port, and values inside the units."""
        for name, port in (
            ("mat", mat.wr),
            ("layernorm", layernorm.wr),
            ("shifter", shifter.wr),
            ("image", self.image_wr),
        ):
            valid = Signal(name=f"watch_{name}_valid")
            addr = Signal(16, name=f"watch_{name}_addr")
            data = Signal(len(port.data), name=f"watch_{name}_data")
            m.d.comb += [valid.eq(port.valid & port.ready), addr.eq(port.addr), data.eq(port.data)]
        for name, valid_signal, value in (
            ("image_end", self.image_end.any(), self.image_end),
            ("codes", softmax.code_valid, softmax.code_word),
            ("log_sum", softmax.log_sum_valid, softmax.log_sum),
            ("tile", mat.tile_valid, mat.tile_acc),
            ("attend", shifter.acc_valid, shifter.acc),
            ("stats_s1", layernorm.stats_valid, layernorm.stats_s1),
            ("stats_s2", layernorm.stats_valid, layernorm.stats_s2),
        ):
            valid = Signal(name=f"watch_{name}_valid")
            data = Signal(len(value), name=f"watch_{name}_data")
            m.d.comb += [valid.eq(valid_signal), data.eq(value)]

    def _watch_timeline(self, m, mat, sequencers):
        """What the chunks do, for the timeline: a record whenever something changes.

        timeline: CHUNK_BITS per chunk, in the order of isa.Chunk: go, done, running, number of the wait that the next
        row waits for (3 bits, WAITS: none). array: state of the PE array (2 bits), end of a row's steps.
        """
        events = Cat(Cat(s.ctl.go.valid & s.ctl.go.ready, s.ctl.done) for s in sequencers.values())
        states = Cat(Cat(s.running, s.waiting) for s in sequencers.values())
        chunks = Cat(
            Cat(s.ctl.go.valid & s.ctl.go.ready, s.ctl.done, s.running, s.waiting) for s in sequencers.values()
        )
        last_states = Signal.like(states, name="watch_states")
        array = mat.array
        last_array = Signal(2, name="watch_array_state")
        m.d.sync += [last_states.eq(states), last_array.eq(array[:2])]
        for name, changed, value in (
            ("timeline", events.any() | (states != last_states), chunks),
            ("array", array[2] | (array[:2] != last_array), array),
        ):
            valid = Signal(name=f"watch_{name}_valid")
            data = Signal(len(value), name=f"watch_{name}_data")
            m.d.comb += [valid.eq(changed), data.eq(value)]
