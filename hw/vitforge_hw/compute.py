"""The engines with their shared post-processing: everything between the activation buffer's rows and their results."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .arch.config import ACC_BITS, AcceleratorConfig
from .arch.isa import Chunk
from .arch.latency import CYCLES
from .emit import block
from .engines.mat import GO_TO_READ, READ_TO_STEP, Mat, step_to_result
from .engines.step_issue import word_steps
from .interfaces import BufferRead, BufferWrite, ChunkControl, KsumWrite, MemoryRead, WeightWrite
from .post import post
from .post.post import PostProcess, tag
from .post.queue import phases

RESULT_TO_PHASE, WRITE_TO_DONE = CYCLES.mat_result_to_phase, CYCLES.mat_write_to_done
PUSH_TO_WRITE = 2


def phase_to_write(config: AcceleratorConfig) -> int:
    """Tile's last phase -> write request of the (low) row (19, trio: 23)."""
    cycles = post.latency(config) + PUSH_TO_WRITE
    assert cycles == CYCLES.mat_phase_to_write + CYCLES.trio_lanes * config.trio
    return cycles


def tile_cycles(config: AcceleratorConfig, ksteps: int, wide: int) -> int:
    """Cycles of a tile of MAT in a stream of tiles: the slowest of array, post-processing (if not shared), writes."""
    return max(ksteps * word_steps(config), phases(config), 1 + wide)


def row_cycles(config: AcceleratorConfig, tiles: int, ksteps: int, wide: int, groups: int = 1) -> int:
    """Cycles that a row of MAT takes in a stream of rows."""
    return groups * tiles * tile_cycles(config, ksteps, wide)


def row_latency(config: AcceleratorConfig, tiles: int, ksteps: int, wide: int, groups: int = 1) -> int:
    """Cycles from a row's ``go`` to its ``done`` when MAT is idle before and nothing stalls."""
    first = GO_TO_READ + READ_TO_STEP + ksteps * word_steps(config) - 1 + step_to_result(config) + RESULT_TO_PHASE
    last = phases(config) - 1 + phase_to_write(config) + wide + WRITE_TO_DONE
    return first + (groups * tiles - 1) * tile_cycles(config, ksteps, wide) + last


class Engines(wiring.Component):
    """MAT and, with ``trio``, R-MAC, each with residual rows and writer of its own; one set of post-processing lanes.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    For each engine <e> of config.engine_names:

    <e>_ctl : ChunkControl
    <e>_rd : input groups, through the rotator; <e>_res : residual rows; <e>_wr : results
    <e>_weights : weight rows; <e>_ksum : Ksum words (trio)
    <e>_busy : a row has its go and is not done
    <e>_array : ArrayState (2 bits) and the end of a row's steps (monitor)
    <e>_tile_valid, <e>_tile_acc : a finished tile enters the result FIFO, element ``token * lanes + lane``

    params : parameter memory, param_read_bytes from a beat address aligned to them
    z : a weight row of Z = K^T V; ksum_wr : a word of Ksum (trio, both written by R-MAC's instructions)

    Latency and throughput: those of Mat, RMac and PostProcess. On p2vit an idle MAT has a row of tiles x ksteps steps
    done tiles * ksteps + 39 (wide: + 40) cycles after its go (``row_latency``).
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        members = {"params": Out(MemoryRead(c.param_read_bytes * 8))}
        for e in c.engine_names:
            members |= {
                f"{e}_ctl": In(ChunkControl(Chunk[e.upper()], c.w4)),
                f"{e}_rd": Out(BufferRead(c, rotate=True, pair=e == "rmac")),
                f"{e}_res": Out(BufferRead(c)),
                f"{e}_wr": Out(BufferWrite(c)),
                f"{e}_weights": Out(MemoryRead(c.weight_row_bytes * 8, enable=e == "rmac")),
                f"{e}_busy": Out(1),
                f"{e}_array": Out(3),
                f"{e}_tile_valid": Out(1),
                f"{e}_tile_acc": Out(c.cores * c.lanes * ACC_BITS),
            }
            if c.trio:
                members[f"{e}_ksum"] = Out(MemoryRead(c.word * 8))
        if c.trio:
            members["z"] = Out(WeightWrite(c.weight_row_bytes * 8, c.beats_per_weight_row))
            members["ksum_wr"] = Out(KsumWrite(c))
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        engines = {"mat": block(Mat(c), f"vf_mat_{tag(c)}")}
        if c.trio:
            from .engines.rmac import RMac

            engines["rmac"] = block(RMac(c), f"vf_rmac_{tag(c)}")
        lanes = PostProcess(c)
        m.submodules.post = lanes = block(lanes, lanes.module_name)
        for e, engine in engines.items():
            m.submodules[e] = engine
            own = lambda name, e=e: getattr(self, f"{e}_{name}")  # noqa: E731
            for name in ("ctl", "weights") + ("ksum",) * c.trio:
                connect(m, getattr(engine, name), flipped(own(name)))
            if e == "mat":
                connect(m, engine.rd, flipped(own("rd")))
            else:  # whole groups: nothing to rotate
                inner, outer, two = engine.rd, own("rd"), c.pool_words == 2
                asked, given = ("valid", "addr", *["pair"] * two), ("ready", "data_valid", "data", *["second"] * two)
                m.d.comb += [getattr(outer, name).eq(getattr(inner, name)) for name in asked]
                m.d.comb += [getattr(inner, name).eq(getattr(outer, name)) for name in given]
            for name in ("res", "wr"):
                connect(m, getattr(lanes, f"{e}_{name}"), flipped(own(name)))
            connect(m, engine.out, getattr(lanes, e))
            m.d.comb += [
                getattr(lanes, f"{e}_went").eq(own("ctl").go.valid & own("ctl").go.ready),
                own("busy").eq(engine.busy),
                own("array").eq(engine.array),
                own("tile_valid").eq(engine.out.tile_valid),
                own("tile_acc").eq(engine.out.tile_acc),
            ]
        for name in ("params",) + ("z", "ksum_wr") * c.trio:
            connect(m, getattr(lanes, name), flipped(getattr(self, name)))
        return m
