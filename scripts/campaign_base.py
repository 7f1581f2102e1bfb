"""What the steps of the campaign share: quantized models, builds, runs on the generated Verilog, their figures."""

import os
import time
from pathlib import Path

from vitforge import api
from vitforge.rtl import get_config
from vitforge.simulation import prepare, simulate
from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_sim.run.topbench import MemorySettings
from vitforge_sw.compiler import CompileOptions, compile_graph
from vitforge_sw.cycles.estimate import estimate
from vitforge_sw.graph.serialize import graph_hash, load_graph, save_graph

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("VITFORGE_DATA", ROOT.parent / "shared" / "data"))
WORK = ROOT / "build" / "campaign"
CALIB, TEST = DATA / "imagenet_cc" / "calib", DATA / "imagenet_cc" / "test"
P2VIT = get_config("p2vit")


def need(condition: bool, text: str) -> None:
    """A bound of the campaign."""
    if not condition:
        raise AssertionError(text)


def quantized(
    model: str,
    scheme: str,
    checkpoint: Path | None = None,
    limit: int | None = None,
    calib: Path = CALIB,
    size: int | None = None,
    tag: str = "",
    **options,
) -> tuple:
    """The quantized model (kept between runs) and the seconds that quantizing took. ``size``: of the images, where it
    is not the model's own; ``options``: of the scheme, which the file's name says by ``tag``."""
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / f"{Path(model).stem}_{scheme}{tag}.safetensors"
    seconds = path.with_suffix(".seconds")
    if not (path.exists() and seconds.exists()):
        start = time.monotonic()
        net = api.load_float(model, checkpoint, {"image_size": size} if size else None)
        graph = api.quantize(net, calib, scheme, limit=limit, **options)
        graph.meta["checkpoint"] = None
        save_graph(graph, path)
        seconds.write_text(f"{time.monotonic() - start:.1f}")
    return load_graph(path), float(seconds.read_text())


def compiled(graph, name: str, config: AcceleratorConfig = P2VIT, **options):
    """Compile for a preset, and the directory of the run below build/campaign."""
    build = compile_graph(graph, config, CompileOptions(**options))
    build.model_hash = graph_hash(graph)
    return build, WORK / name


def inputs(graph, count: int, folder: Path = TEST):
    return api.load_inputs(graph, api.list_images(folder)[:count])


def simulated(
    graph,
    build,
    folder: Path,
    count: int,
    tensors: bool,
    images: Path = TEST,
    dead: int = 0,
    primitives: str = "",
    collisions: bool = False,
    **memory,
) -> dict:
    """Simulate, insist on bit-exactness and live tensors (all but ``dead`` of them), return the figures."""
    settings = MemorySettings(**memory) if memory else None
    begin = time.monotonic()
    how = dict(primitives=primitives, collisions=collisions)
    prepare(build, folder, "verilator", count, **how)  # emission and build are not part of the run
    built = time.monotonic()
    result = simulate(graph, build, inputs(graph, count, images), folder, tensors=tensors, settings=settings, **how)
    info = result.info
    need(info["bit_exact"], f"not bit-exact: {info['first_mismatch']}")
    need(len(info["dead"]) <= dead, f"dead tensors: {', '.join(info['dead'])}")
    cycles = sum(info["cycles_per_image"]) * build.batch
    return {
        "preset": build.config.name,
        "simulator": "verilator",
        **({"primitives": primitives} if primitives else {}),
        "images": count,
        "tensors_compared": len(info["tensors"]),
        "values_compared": sum(t["elements"] for t in info["tensors"]),
        **({"dead": info["dead"]} if dead else {}),
        "first_image_cycles": info["first_image_cycles"],
        "steady_state_cycles": info["steady_state_cycles"],
        "run_cycles": cycles,
        "utilization": round(info["utilization"], 5),
        **({"backbone_utilization": round(backbone, 5)} if (backbone := info["backbone_utilization"]) else {}),
        # with a deferred classifier one more job reads behind the last result
        **({} if build.lag else {"dram_read_bytes_per_cycle": round(info["dram_read_bytes"] / cycles, 2)}),
        "cycles_per_second": round(info["simulated_cycles_per_second"]),
        "build_seconds": round(built - begin, 1),
        "run_seconds": round(time.monotonic() - built, 1),
    }


def against_estimate(build, figures: dict, bounds: dict[str, float]) -> dict:
    """The cycle model beside the simulated cycles: steady state, the whole run, its first image (bounds: fractions)."""
    images = figures["images"]
    run = estimate(build, images=images)
    predicted = {
        "steady_state_cycles": run["cycles"],
        "run_cycles": run["total_cycles"],
        "first_image_cycles": run["first_image_cycles"],
    }
    out = {}
    for what, bound in bounds.items():
        error = predicted[what] / figures[what] - 1
        out[what.replace("cycles", "estimate")] = round(predicted[what])
        out[what.replace("cycles", "error_percent")] = round(100 * error, 3)
        text = f"{what}: estimate {predicted[what]:.0f} is {100 * error:.2f} % off {figures[what]:.0f}"
        need(abs(error) <= bound, text)
    return out
