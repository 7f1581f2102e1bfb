"""The cycle model beside the RTL: cycles of every chunk and of the engines' layers, of a run with the timeline."""

from collections import Counter, defaultdict

import numpy as np

from vitforge_hw.arch.isa import Chunk
from vitforge_sim.accelerator import AcceleratorRun
from vitforge_sw.compiler import Build
from vitforge_sw.compiler.simulate import simulate

from .timeline import ENGINES, Attribution, attribute


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
    model = trace.done[Chunk.RESULT_DMA]
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
