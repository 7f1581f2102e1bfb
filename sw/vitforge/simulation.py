"""Run a compiled model on the generated RTL with real images and compare with the golden model."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np

from vitforge_sim.compare.verify import Verdict, verify
from vitforge_sim.measure.backbone import backbone, has_backbone
from vitforge_sim.measure.monitors import MONITORS, decode
from vitforge_sim.run.accelerator import JOB_CYCLES, AcceleratorRun, MemoryPlan, build_accelerator, run_accelerator
from vitforge_sim.run.build import BENCH
from vitforge_sim.run.cache import locked_path
from vitforge_sim.run.collisions import collide
from vitforge_sim.run.topbench import BenchProgram, MemorySettings
from vitforge_sim.run.watch import Watch
from vitforge_sw.compiler import Build
from vitforge_sw.cycles.estimate import estimate
from vitforge_sw.graph.ir import Graph
from vitforge_sw.graph.serialize import write_atomic
from vitforge_sw.progress import working

from .estimation import above_roof, roofline
from .rtl import ensure_rtl

SCHEMA = "vitforge/simulate/1"
DISTINCT = 64  #: a large int8 tensor with fewer distinct values is called dead (40-verification)
LAST_JOBS = 3  #: whose backbone's utilization simulate.json has, on average
ZEROS, SATURATED = 0.9, 0.05  #: limits of a live tensor


@dataclasses.dataclass
class Simulation:
    """A finished run: ``info`` is simulate.json's content."""

    info: dict
    verdict: Verdict
    run: AcceleratorRun


def utilization(build: Build, cycles: float) -> float:
    """Model MACs / (multipliers x cycles)."""
    return sum(build.macs.values()) / (build.config.multipliers * cycles)


def prepare(
    build: Build, folder: Path, simulator: str, images: int, progress: bool = False, waves: bool = False,
    primitives: str = "", collisions: bool = False,
) -> BenchProgram:
    """Verilog and simulation program of a build, made where missing. Raises BuildError, ToolMissing.

    primitives: "dsp48e2" takes the multipliers in that form, on our model of the primitive; its Verilog lies in
    ``folder/dsp48e2``. collisions: memories give noise where a row is read and written in one cycle.
    """
    sources = ensure_rtl(build.config, folder / primitives, progress=progress, primitives=primitives)
    if primitives:
        sources[f"{primitives}.v"] = (BENCH / f"{primitives}.v").read_text()
    if collisions:
        sources = collide(sources)
    jobs = -(-images // build.batch) + build.lag
    plan = MemoryPlan.of(len(build.memory_image), build.image_bytes, build.result_bytes, jobs)
    # one program for every model and number of images that fits; Icarus fills its memory slowly
    least = 20 if simulator == "icarus" else 24
    memory = 1 << max(least, (plan.total - 1).bit_length())
    watch = Watch()
    with working(f"building the simulation for {simulator}", progress, amount=watch.objects, unit="file"):
        return build_accelerator(build.config, sources, simulator, memory, waves, watch)


def simulate(
    graph: Graph,
    build: Build,
    patches: np.ndarray,
    folder: str | Path,
    *,
    simulator: str = "verilator",
    tensors: bool = False,
    settings: MemorySettings | None = None,
    trace: bool = False,
    waves: bool = False,
    primitives: str = "",
    collisions: bool = False,
    timeout: float = 3600.0,
    command: str = "",
    progress: bool = False,
) -> Simulation:
    """Run ``patches`` (int8, images x tokens x K) back to back without reset and write ``folder/simulate.json``.

    Figures are those of one image; with a batch a job's divided by its images, ``first_image_cycles`` the first job's.

    tensors: also compare every write of every port and values inside the units. settings: DRAM model (default 64 bytes
    a cycle or what the masters can take, 100 cycles latency). trace: the units' timeline in ``folder/trace``. waves:
    every signal in ``folder/waves/trace.vcd``; slow and large. primitives, collisions: as in `prepare`.
    Raises SimulationHang, SimulationError, BuildError.
    """
    folder = Path(folder)
    images, jobs = len(patches), build.jobs(patches)
    if progress and (missing := len(jobs) * build.batch - images):
        late = ", results a job later" if build.lag else ""
        text = f"{images} images are {len(jobs)} jobs of {build.batch}{late}"
        print(f"{text}: the last image is repeated {missing} times")
    settings = settings or MemorySettings(bandwidth=min(64, build.config.beat_bytes))
    bench = prepare(build, folder, simulator, images, progress, waves, primitives, collisions)
    backboned = has_backbone(build)
    timed = trace or backboned
    watched = ("image_end", *(MONITORS[: 2 + build.config.trio] if timed else ()))
    watch = Watch()
    expected = Expected(build, settings, len(jobs), watch)
    with working(f"simulating {images} images", progress, amount=expected, unit="cycle"):
        run = run_accelerator(
            bench, build.config, build.memory_image, build.program_beats, [build.pack_job(job) for job in jobs],
            build.result_bytes, settings=settings, watchdog=expected.limit(), timeout=timeout, trace=waves,
            folder=folder / "waves" if waves else None, monitor=True if tensors else watched, watch=watch,
        )  # fmt: skip
    with working("comparing with the golden model", progress):
        verdict = verify(graph, build, patches, run, tensors)
    info = report(graph, build, run, verdict, images, simulator, settings, command, tensors)
    if trace:
        from vitforge_sim.measure.view import write_timeline

        with working("drawing the timeline", progress):
            timeline = write_timeline(folder / "trace", build, run, command)
        info |= {"losses": timeline["losses"], "backbone": timeline["backbone"]}
        guess = estimate(build, settings.bandwidth, settings.latency, 4) | {"subject": str(folder)}
        guess["multipliers"] = build.config.multipliers
        roofline(guess, folder / "trace" / "roofline.png")
        info["above_roof"] = above_roof(guess)
    found = backbone(build, decode(run.bench), run.start_cycle, LAST_JOBS)["utilization"] if backboned else []
    info["backbone_utilization"] = sum(found) / len(found) if found else None
    info |= {"primitives": primitives, "collisions": collisions}
    write_run(folder / "simulate.json", info)
    return Simulation(info, verdict, run)


class Expected:
    """(cycles simulated, cycles that the cycle model expects) of a run."""

    def __init__(self, build: Build, settings: MemorySettings, jobs: int, watch: Watch):
        self.build, self.settings, self.jobs, self.watch = build, settings, jobs, watch

    @functools.cached_property
    def cycles(self) -> float:
        s = self.settings
        done = estimate(self.build, s.bandwidth, s.latency, min(2, self.jobs))["done"]
        return done[0] + (self.jobs - 1) * (done[-1] - done[0])

    def __call__(self) -> tuple[float, float] | None:
        return (reached, self.cycles) if (reached := self.watch.cycle()) else None

    def limit(self) -> int:
        """Cycles after which the run is a hang: random stalls of the memory included, four times what is expected."""
        return min(max(JOB_CYCLES * self.jobs, 4 * round(self.cycles)), (1 << 32) - 1)


#: two runs with the same values of these are the same experiment: the later one takes the earlier one's place
SAME = (
    "command", "simulator", "images", "compared", "memory", "model_hash", "config_hash", "batch", "deferred",
    "primitives", "collisions",
)  # fmt: skip


def write_run(path: Path, info: dict) -> None:
    """simulate.json: the present run, and under ``runs`` the earlier ones, so that none destroys another's proof."""
    with locked_path(path):
        try:
            earlier = json.loads(path.read_text())
            runs = [earlier, *earlier.pop("runs", [])] if isinstance(earlier, dict) else []
        except (OSError, ValueError):
            runs = []
        info["runs"] = [r for r in runs if isinstance(r, dict) and any(r.get(k, "") != info[k] for k in SAME)]
        write_atomic(path, (json.dumps(info, indent=1) + "\n").encode())


def report(graph, build, run, verdict, images, simulator, settings, command, tensors) -> dict:
    """The content of simulate.json."""
    ends, batch = run.image_end, build.batch
    steady = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else ends[0] - run.start_cycle
    first = ends[build.lag] - run.start_cycle
    each = [b - a for a, b in zip([run.start_cycle, *ends[build.lag :]], ends[build.lag :])]
    if batch > 1:
        steady, each = steady / batch, [cycles / batch for cycles in each]
    info = {
        "schema": SCHEMA,
        "command": command,
        "simulator": simulator,
        "preset": build.config.name,
        "config_hash": f"{build.config.hash:08x}",
        "model_hash": build.model_hash,
        "bit_exact": verdict.bit_exact,
        "images": images,
        "batch": batch,
        "deferred": bool(build.lag),
        "first_image_cycles": first,
        "cycles_per_image": each,
        "steady_state_cycles": steady,
        "utilization": utilization(build, steady),
        "memory": {"bytes_per_cycle": settings.bandwidth, "latency": settings.latency},
        "simulated_cycles": run.bench.cycles,
        "simulated_cycles_per_second": run.bench.cycles / max(run.bench.seconds, 1e-9),
        "dram_read_bytes": 16 * sum(run.bench.read_beats),
        "dram_write_bytes": 16 * sum(run.bench.write_beats),
        "units": run.units,
        "first_mismatch": str(verdict.first) if verdict.first else None,
        "tensors": [dataclasses.asdict(t) for t in verdict.tensors],
        "compared": "every tensor" if tensors else "logits",
    }
    info["dead"] = dead_tensors(graph, info["tensors"])
    return info


def dead_tensors(graph: Graph, tensors: list[dict]) -> list[str]:
    """Stored tensors that prove little: 8-bit ones with few distinct values though they are large, any with over 90 %
    zeros, or over 5 % saturated. Codes, accumulators and other values inside units are not judged."""
    dead = []
    for t in tensors:
        info = graph.tensors.get(t["name"])
        if info is None or info.fmt == "code4" or t["name"] == graph.input:
            continue
        few = info.fmt == "int8" and t["elements"] >= 16 * DISTINCT and t["distinct"] < DISTINCT
        if few or t["zero_fraction"] > ZEROS or t["saturated_fraction"] > SATURATED:
            dead.append(t["name"])
    return dead
