"""The cycle model beside the RTL: cycles of every chunk and of the engines' layers, of a run with the timeline.

``layer_table`` is the page for readers: cycles and utilization of every layer, and what a layer loses.
"""

from collections import Counter, defaultdict

import numpy as np

from vitforge_hw.arch.isa import Chunk
from vitforge_sw.compiler import Build
from vitforge_sw.cycles.model import simulate
from vitforge_sw.graph.ir import Graph
from vitforge_sw.kinds import kind_of

from ..run.accelerator import AcceleratorRun
from .timeline import ENGINES, Attribution, attribute

GOOD = 0.85  #: utilization of a layer that needs no explanation
WORTH = 0.03  #: of a layer's cycles: smaller losses are not named
STRIDE, SLOTS = "half of the cores at stride 2", "slots without channels"
LOSSES = {
    "data": "waits for {}",
    "space": "waits for space",
    "weights": "waits for weights",
    "fetch": "words on their way",
    "room": "post-processing lanes",
    "control": "instruction changes",
    "image": "before the first, behind the last row",
}


def compare(build: Build, run: AcceleratorRun, bytes_per_cycle: float, latency: int) -> dict:
    """What the model and the RTL say about a run of so many images with this memory.

    first_image, steady: cycles of (model, RTL). chunks: name -> (model, RTL) cycles of an image in work. layers:
    (chunk, layer, model, RTL, model's, RTL's): the engine's cycles an image from one row's end to the next one's,
    waiting included, then those in work. rows: largest |difference| of a row's end in the first image, by chunk.
    """
    images = len(run.image_end)
    trace = simulate(build, bytes_per_cycle, latency, images)
    attribution = attribute(build, run)
    ends = np.array(run.image_end) - run.start_cycle
    model = trace.done[Chunk.RESULT_DMA][build.batch - 1 :: build.batch]  # ends of jobs
    steady = [(e[-1] - e[0]) / (images - 1) if images > 1 else float(e[0]) for e in (model, ends)]
    chunks, layers, rows = {}, [], {}
    for chunk in build.config.chunks:
        n = attribution.events.totals[chunk]
        if not n:
            continue
        chunks[chunk.name.lower()] = (
            float((trace.end[chunk] - trace.start[chunk]).sum()) / images,
            _busy(attribution, chunk) / images,
        )
        done = attribution.timeline.chunks[chunk].done
        rtl_end = (attribution.arrays[chunk][1] + 1 if chunk in ENGINES else done).astype(np.int64)
        model_end = trace.end[chunk] if chunk in ENGINES else trace.done[chunk]
        rows[chunk.name.lower()] = int(np.abs((rtl_end - run.start_cycle) - model_end)[:n].max())
        if chunk in ENGINES:
            layers += _layers(attribution, chunk, trace, rtl_end - run.start_cycle, images)
    return {
        "first_image": (int(model[0]), int(ends[0])), "steady": tuple(steady), "chunks": chunks, "layers": layers,
        "rows": rows,
    }  # fmt: skip


def _busy(attribution: Attribution, chunk: Chunk) -> int:
    return sum(s.end - s.begin for s in attribution.segments[chunk] if s.kind == "busy")


def _layers(attribution: Attribution, chunk: Chunk, trace, rtl_end: np.ndarray, images: int) -> list[tuple]:
    """Rows' cycles by layer: (chunk, layer, model, RTL, model's steps, RTL's steps), an image."""
    found: dict[str, Counter] = defaultdict(Counter)
    spans = {"model": np.diff(trace.end[chunk], prepend=0), "rtl": np.diff(rtl_end, prepend=0)}
    work = trace.end[chunk] - trace.start[chunk]
    for row in range(len(work)):
        layer = attribution.layer(chunk, row)
        found[layer]["model"] += int(spans["model"][row])
        found[layer]["rtl"] += int(spans["rtl"][row])
        found[layer]["model_steps"] += int(work[row])
    for s in attribution.segments[chunk]:
        if s.kind == "busy":
            found[attribution.layer(chunk, s.row)]["rtl_steps"] += s.end - s.begin
    keys = ("model", "rtl", "model_steps", "rtl_steps")
    return [(chunk.name.lower(), layer, *(n[k] / images for k in keys)) for layer, n in found.items()]


def lines(info: dict) -> list[str]:
    """One screen."""
    out = []
    for name in ("first_image", "steady"):
        model, rtl = info[name]
        out.append(f"{name:24} model {model:9.0f}  RTL {rtl:9.0f}  {100 * (model / rtl - 1):+6.2f} %")
    for name, (model, rtl) in info["chunks"].items():
        gap = info["rows"][name]
        out.append(
            f"{name:24} model {model:9.0f}  RTL {rtl:9.0f}  in work; rows of the first image differ by {gap} at most"
        )
    out.append(f"{'layer':52} {'engine':6} {'model':>9} {'RTL':>9} {'steps':>9} {'RTL':>9}")
    for chunk, layer, *cycles in sorted(info["layers"], key=lambda x: -abs(x[2] - x[3])):
        out.append(f"{layer:52} {chunk:6} " + " ".join(f"{c:9.0f}" for c in cycles))
    return out


def layer_table(graph: Graph, build: Build, run: AcceleratorRun, info: dict) -> list[str]:
    """Markdown: cycles of both engines in each layer, waiting included, in the model and in the RTL, utilization of the
    engines' multipliers in this time, and where it is below GOOD the greatest losses in the RTL, in cycles.

    ``info``: of ``compare``. An image of the run's mean.
    """
    images, per_engine = len(run.image_end), build.config.multipliers // build.config.engines
    cycles: dict[str, Counter] = defaultdict(Counter)
    for chunk, layer, model, rtl, *_ in info["layers"]:
        cycles[layer].update({"model": model, "rtl": rtl})
        cycles[layer][chunk] += 1
    lost = layer_losses(build, attribute(build, run))
    out = [
        "| layer | engines | model | RTL | utilization, model | RTL | below 85 %: cycles lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for layer in (node.name for node in graph.nodes if node.name in cycles):
        n, ideal = cycles[layer], build.macs.get(layer, 0) / per_engine
        engines = " + ".join(name for name in ("mat", "rmac") if n[name]).replace("mat", "MAT").replace("rmac", "R-MAC")
        why = ""
        if ideal < GOOD * n["rtl"]:
            found = [(v / images, k) for k, v in lost[layer].most_common() if v / images >= WORTH * n["rtl"]]
            why = ", ".join(f"{k} {v:,.0f}" for v, k in found[:3])
        shown = [f"{100 * ideal / n[k]:.1f} %" if ideal else "adds only" for k in ("model", "rtl")]
        out.append(f"| {layer} | {engines} | {n['model']:,.0f} | {n['rtl']:,.0f} | {' | '.join(shown)} | {why} |")
    total = {k: sum(n[k] for n in cycles.values()) for k in ("model", "rtl")}
    ideal = sum(build.macs.values()) / per_engine
    shown = " | ".join(f"{100 * ideal / total[k]:.1f} %" for k in ("model", "rtl"))
    out.append(f"| sum | | {total['model']:,.0f} | {total['rtl']:,.0f} | {shown} | |")
    return out


def layer_losses(build: Build, attribution: Attribution) -> dict[str, Counter]:
    """Layer -> cycles of the engines that were no multiplication of the model, by reason, all images together; up to an
    engine's last row."""
    out: dict[str, Counter] = defaultdict(Counter)
    steps: Counter = Counter()
    shapes: dict[str, str] = {}
    images = 1
    for chunk in (c for c in ENGINES if attribution.segments.get(c)):
        segments = attribution.segments[chunk]
        images = attribution.image(chunk, segments[-1].row) + 1
        for s in segments[: -1 if segments[-1].kind == "image" else None]:
            layer = attribution.layer(chunk, s.row)
            if s.kind == "busy":
                steps[layer] += s.end - s.begin
            else:
                out[layer][LOSSES[s.kind].format(s.awaited or "data")] += s.end - s.begin
        for instruction, label in zip(build.programs[chunk], build.labels[chunk]):
            shapes[label.layer] = _shape(build, chunk, instruction.op, label.tensor)
    per_engine = build.config.multipliers // build.config.engines
    for layer, busy in steps.items():
        lost = round(busy - images * build.macs.get(layer, 0) / per_engine)
        if shapes[layer] == SLOTS + STRIDE:
            out[layer][STRIDE] += busy // 2
            out[layer][SLOTS] += lost - busy // 2
        else:
            out[layer][shapes[layer]] += lost
    return out


def _shape(build: Build, chunk: Chunk, op: dict[str, int], tensor: str) -> str:
    """Why an engine takes more steps for a layer than it has MACs a multiplier."""
    info, c = build.tensors.get(tensor, {}), build.config
    kind = kind_of(chunk, op)
    if kind.adds:
        return "additions"
    if info.get("tokens") == 1:
        return f"one pixel, {c.cores} cores"
    if kind.windows:
        return SLOTS + STRIDE if op["stride"] else SLOTS
    width = info.get("width", 0) or info.get("tokens", 1)
    return "map rows of whole groups" if width % c.cores else "channels to whole words"
