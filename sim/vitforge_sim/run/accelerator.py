"""A compiled model on the generated accelerator: DRAM contents, register script, monitors, one run."""

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from vitforge_hw.arch import memmap
from vitforge_hw.arch.config import ACC_BITS, ATTEND_ACC_BITS, AcceleratorConfig
from vitforge_hw.arch.isa import Chunk
from vitforge_hw.arch.registers import ERROR_DOCS, REGISTERS, Error
from vitforge_hw.layernorm.stats import s1_bits, s2_bits
from vitforge_hw.memory.activation import writers

from . import functional, script
from .build import Options
from .monitor import Monitor
from .topbench import BenchProgram, BenchResult, MemorySettings, SimulationError, build_bench, run_bench
from .watch import Watch

CORE = "core"  # where Core sits below the top module
ACTIVE = 8  #: status.active
ERROR_INTERRUPT = 2  #: irq_enable.error
CHUNK_BITS = 6  #: per chunk in a timeline record (core._watch_timeline)
UNIT_COUNTERS = tuple(f"{kind}_{c.name.lower()}" for c in Chunk for kind in ("busy", "stall"))
READ_AT_END = ("error_code", *(f"{name}_{half}" for name in UNIT_COUNTERS for half in ("lo", "hi")))


ENGINE_TAPS = ("tile", "rmac_tile", "attend")
_TRIO = {"rmac_tile"}
_ATTENTION = {"attend", "log_sum"}


def tap_bits(config: AcceleratorConfig) -> dict[str, int]:
    """Values inside the units: bits per field; engines have cores * word fields a record, the others one per token."""
    bits = {
        "tile": ACC_BITS,
        "rmac_tile": ACC_BITS,
        "attend": ATTEND_ACC_BITS,
        "log_sum": 12,
        "stats_s1": s1_bits(config),
        "stats_s2": s2_bits(config),
    }
    absent = (set() if config.trio else _TRIO) | (set() if config.attention else _ATTENTION)
    return {name: n for name, n in bits.items() if name not in absent}


def all_monitors(config: AcceleratorConfig) -> tuple[Monitor, ...]:
    """Every activation-buffer write port, ends of images, the timeline, LayerNorm's S1 and S2, the accumulators of each
    engine; with attention the code ring, softmax's L and the shifter array's accumulators; with trio the weight rows of
    Z and the words of Ksum."""

    def watch(name: str, bits: int, addr: bool = False) -> Monitor:
        path = f"{CORE}.watch_{name}"
        return Monitor(
            name, f"{path}_valid", f"${path}_addr" if addr else "1'b0 & $aclk", f"{path}_data", 16 if addr else 1, bits
        )

    found = [watch(name, config.row_bytes * 8, addr=True) for name in writers(config)]
    found += [watch("image_end", len(Chunk)), watch("timeline", CHUNK_BITS * len(Chunk)), watch("array", 3)]
    if config.trio:
        found += [
            watch("rmac_array", 3),
            watch("z", config.weight_row_bytes * 8, addr=True),
            watch("ksum", config.word * 8, addr=True),
        ]
    if config.attention:
        found.append(watch("codes", config.cores * config.attend_keys * 4))
    for name, bits in tap_bits(config).items():
        fields = config.cores * (config.word if name in ENGINE_TAPS else 1)
        found.append(watch(name, bits * fields))
    return tuple(found)


def build_accelerator(
    config: AcceleratorConfig, sources: Mapping[str, str], simulator: str, memory_bytes: int, waves: bool = False,
    watch: Watch | None = None, cflags: str = Options.cflags,
) -> BenchProgram:  # fmt: skip
    """Build (or take from the cache) the bench around the generated Verilog. Raises BuildError, ToolMissing.

    cflags: of the C++ compiler (build.Options).
    """
    return build_bench(
        simulator,
        sources,
        monitors=all_monitors(config),
        memory_bytes=memory_bytes,
        trace=waves,
        watch=watch,
        cflags=cflags,
        points=functional.verilog(config) if os.environ.get("VITFORGE_COVERAGE") else "",
    )


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Where a run's data lie in DRAM, in bytes."""

    image_base: int
    image_stride: int
    result_base: int
    result_stride: int
    total: int

    @classmethod
    def of(cls, memory_image: int, image_bytes: int, result_bytes: int, images: int) -> "MemoryPlan":
        up = lambda n: -(-n // memmap.BASE_ALIGNMENT) * memmap.BASE_ALIGNMENT  # noqa: E731
        image_base, image_stride, result_stride = up(memory_image), up(image_bytes), up(result_bytes)
        result_base = image_base + images * image_stride
        return cls(image_base, image_stride, result_base, result_stride, result_base + images * result_stride)


@dataclasses.dataclass
class AcceleratorRun:
    """What a run gave: raw result bytes (images, result_bytes), cycle of the first submit and of each image's end,
    the hardware's own counters per chunk (busy: cycles with a row in work, stall: cycles a row waited), the bench."""

    results: np.ndarray
    start_cycle: int
    image_end: list[int]
    units: dict[str, dict[str, int]]
    bench: BenchResult


def job_script(config: AcceleratorConfig, plan: MemoryPlan, program_beats: int, images: int) -> list[script.Command]:
    """Load the program, queue every image as soon as there is room, wait for the last, read the error register.

    An error (its interrupt) ends every wait: a program that is refused never gets ready, nor completes an image.
    """
    reg = {name: r.offset for name, r in REGISTERS.items()}

    def wait(name: str, value: int, mask: int = 0xFFFFFFFF) -> script.Poll:
        return script.Poll(reg[name], value, mask, or_interrupt=True)

    commands: list[script.Command] = [
        script.Write(reg["program_lo"], 0),
        script.Write(reg["program_hi"], 0),
        script.Write(reg["program_beats"], program_beats),
        script.Write(reg["job_image_lo"], plan.image_base),
        script.Write(reg["job_image_hi"], 0),
        script.Write(reg["job_image_stride"], plan.image_stride),
        script.Write(reg["job_result_lo"], plan.result_base),
        script.Write(reg["job_result_hi"], 0),
        script.Write(reg["job_result_stride"], plan.result_stride),
        script.Write(reg["irq_enable"], ERROR_INTERRUPT),
        script.Write(reg["control"], 1),
        wait("status", 2, 2),
    ]
    for i in range(images):
        if i >= config.job_depth:
            commands.append(wait("completed", i - config.job_depth + 1))
        commands.append(script.Write(reg["job_submit"], 1))
    for i in range(max(1, images - config.job_depth + 1), images + 1):  # one by one: each says that an image is done
        commands.append(wait("completed", i))
    commands.append(wait("status", 0, ACTIVE))  # work that no result needs still runs: it is compared too
    commands.append(script.Write(reg["snapshot"], 1))
    return commands + [script.Read(reg[name]) for name in READ_AT_END]


def place_images(plan: MemoryPlan, memory_image: bytes, images: Sequence[bytes]) -> np.ndarray:
    """DRAM contents: the memory image at 0, each image at its place."""
    dram = np.zeros(plan.total, np.uint8)
    dram[: len(memory_image)] = np.frombuffer(memory_image, np.uint8)
    for i, image in enumerate(images):
        at = plan.image_base + i * plan.image_stride
        dram[at : at + len(image)] = np.frombuffer(image, np.uint8)
    return dram


JOB_CYCLES = 20_000_000  #: of a hang, where nobody knows better


def run_accelerator(
    bench: BenchProgram,
    config: AcceleratorConfig,
    memory_image: bytes,
    program_beats: int,
    images: Sequence[bytes],
    result_bytes: int,
    *,
    settings: MemorySettings | None = None,
    watchdog: int | None = None,
    timeout: float = 3600.0,
    folder: Path | None = None,
    trace: bool = False,
    monitor: bool | Collection[str] = True,
    watch: Watch | None = None,
) -> AcceleratorRun:
    """Run ``images`` (DRAM bytes each, equal lengths) back to back through the simulated accelerator.

    watchdog : cycles after which the run is a hang, JOB_CYCLES for each image if None; timeout : seconds

    Raises SimulationHang, SimulationError (also when the hardware latched an error or broke an AXI rule).
    """
    plan = MemoryPlan.of(len(memory_image), len(images[0]), result_bytes, len(images))
    dram = place_images(plan, memory_image, images)
    commands = job_script(config, plan, program_beats, len(images))
    result = run_bench(
        bench, commands, memory=dram, dump=(plan.result_base, len(images) * plan.result_stride), settings=settings,
        watchdog=watchdog or JOB_CYCLES * len(images), timeout=timeout, folder=folder, trace=trace, monitor=monitor,
        watch=watch,
    )  # fmt: skip
    if result.axi_errors:
        raise SimulationError(f"AXI rule broken: {result.axi_errors[0]}", result)
    values = dict(zip(READ_AT_END, (e.value for e in result.events[-len(READ_AT_END) :]), strict=True))
    if code := values["error_code"]:
        error = Error(code)
        raise SimulationError(f"accelerator latched error {error.name.lower()}: {ERROR_DOCS[error]}", result)
    ends = result.monitors.get("image_end")
    mask = 1 << Chunk.RESULT_DMA
    image_end = [] if ends is None else [int(r["cycle"]) for r in ends if int(r["data"][0]) & mask]
    submit = REGISTERS["job_submit"].offset
    start = next(e.cycle for e, c in zip(result.events, commands) if isinstance(c, script.Write) and c.addr == submit)
    rows = result.memory.reshape(len(images), plan.result_stride)[:, :result_bytes]
    count = {name: values[f"{name}_lo"] | values[f"{name}_hi"] << 32 for name in UNIT_COUNTERS}
    units = {n: {"busy": count[f"busy_{n}"], "stalled": count[f"stall_{n}"]} for n in (c.name.lower() for c in Chunk)}
    return AcceleratorRun(rows, start, image_end, units, result)
