"""The timeline for eyes: a trace for ui.perfetto.dev or chrome://tracing, and one picture of one image."""

import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from vitforge_hw.arch.isa import Chunk
from vitforge_sw.compiler import Build
from vitforge_sw.graph.serialize import write_atomic

from ..run.accelerator import AcceleratorRun
from .timeline import ENGINES, KINDS, Attribution, Segment, attribute, summarise

BINS = 900  #: columns of the picture
#: colours of the engines' layers and of the kinds of waiting
LAYERS = {
    "embed": "#4e79a7", "k": "#2b6a99", "v": "#3f8fc0", "q": "#66b2d6", "scores": "#59a14f", "proj": "#8cd17d",
    "fc1": "#b6992d", "fc2": "#e6b73c", "head": "#b07aa1", "in_conv": "#4e79a7", "inverted_conv": "#b6992d",
    "depth_conv": "#59a14f", "point_conv": "#e6b73c", "qkv": "#66b2d6", "aggreg": "#2b6a99", "ksum": "#d37295",
    "kv": "#a0cbe8", "attend": "#3f8fc0", "pool": "#d37295", "classifier": "#b07aa1", "busy": "#7a9eb8",
}  # fmt: skip
WAITS = {
    "data": "#e8e8e8", "space": "#f7cfa2", "weights": "#e15759", "fetch": "#9c755f", "room": "#ff9da7",
    "image": "#555555", "control": "#111111",
}  # fmt: skip


def role(layer: str) -> str:
    """Key of LAYERS for a layer's name: its part without block, head and branch."""
    short = re.sub(r"^blocks\.\d+\.|\.h\d+$", "", layer)
    parts = (name.split(".")[-1] for name in (short, re.sub(r"(\.?\d+)+$", "", short)))  # fc1 has a colour, kv3 as kv
    return next((part for part in parts if part in LAYERS), "busy")


def _merged(attribution: Attribution, chunk: Chunk) -> list[tuple[int, Segment]]:
    """(instruction over all images, segment), contiguous segments of the same kind joined."""
    out: list[tuple[int, Segment]] = []
    count = len(attribution.build.programs[chunk])
    for s in attribution.segments[chunk]:
        image, _, n, _ = attribution.events.at(chunk, s.row)
        number = image * count + n
        if out:
            before, last = out[-1]
            if (before, last.end, last.kind, last.awaited) == (number, s.begin, s.kind, s.awaited):
                out[-1] = number, Segment(last.begin, s.end, last.row, s.kind, s.awaited)
                continue
        out.append((number, s))
    return out


def perfetto(attribution: Attribution) -> dict:
    """Chrome trace: a track per chunk, a slice per instruction, waiting slices inside or before it; 1 us = 1 cycle."""
    events: list[dict] = [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "vitforge (1 us = 1 cycle)"}}]

    def add(chunk: Chunk, name: str, category: str, begin: int, end: int, **args):
        events.append({"ph": "X", "pid": 1, "tid": int(chunk) + 1, "ts": begin, "dur": end - begin, "name": name,
                       "cat": category, "args": args})  # fmt: skip

    for chunk in attribution.build.config.chunks:
        name = {"name": chunk.name.lower()}
        events.append({"ph": "M", "pid": 1, "tid": int(chunk) + 1, "name": "thread_name", "args": name})
        events.append({"ph": "M", "pid": 1, "tid": int(chunk) + 1, "name": "thread_sort_index",
                       "args": {"sort_index": int(chunk)}})  # fmt: skip
        by_instruction: dict[int, list[Segment]] = defaultdict(list)
        for number, s in _merged(attribution, chunk):
            by_instruction[number].append(s)
        for segments in by_instruction.values():
            layer, row = attribution.layer(chunk, segments[0].row), segments[0].row
            image = attribution.image(chunk, row)
            busy = [s for s in segments if s.kind == "busy"]
            if busy:
                cycles = sum(s.end - s.begin for s in busy)
                add(chunk, layer, "layer", busy[0].begin, segments[-1].end, image=image, busy_cycles=cycles)
            for s in segments:
                if s.kind != "busy":
                    text = f"{s.kind}: {s.awaited}" if s.awaited else s.kind
                    add(chunk, text, "waiting", s.begin, s.end, image=image, layer=layer)
    return {"displayTimeUnit": "ns", "traceEvents": events}


def shares(attribution: Attribution, chunk: Chunk, begin: int, end: int, bins: int) -> dict[str, np.ndarray]:
    """Colour key -> share of each of ``bins`` equal parts of [begin, end) that the chunk spent so."""
    edges = np.linspace(begin, end, bins + 1)
    spans: dict[str, list[Segment]] = defaultdict(list)
    for s in attribution.segments[chunk]:
        if s.end > begin and s.begin < end:
            if s.kind == "busy":
                spans[role(attribution.layer(chunk, s.row)) if chunk in ENGINES else "busy"].append(s)
            else:
                spans[s.kind].append(s)
    out = {}
    for key, segments in spans.items():
        times = np.array([t for s in segments for t in (s.begin, s.end)], float)
        total = np.cumsum([n for s in segments for n in (0, s.end - s.begin)])
        out[key] = np.diff(np.interp(edges, times, total)) / (edges[1] - edges[0])
    return out


def lanes(build: Build) -> list[Chunk]:
    """The chunks from top to bottom: the engines first."""
    return sorted(build.config.chunks, key=lambda c: c not in ENGINES)


def picture(attribution: Attribution, run: AcceleratorRun, path: Path, title: str):
    """PNG of the last image but one (or the only one): share of time that a chunk worked (on which layer) or waited."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    ends = [run.start_cycle, *run.image_end]
    begin, end = ends[-3:-1] if len(ends) > 2 else ends  # the last image has no next one beside it
    chunks = lanes(attribution.build)
    figure, axes = pyplot.subplots(len(chunks), 1, sharex=True, figsize=(16, 9), layout="constrained")
    x = (np.arange(BINS) + 0.5) * (end - begin) / BINS
    colours = LAYERS | WAITS
    used = set()
    for chunk, axis in zip(chunks, axes):
        found = shares(attribution, chunk, begin, end, BINS)
        keys = [k for k in colours if k in found]
        used |= set(keys)
        if keys:
            axis.stackplot(x, [found[k] for k in keys], colors=[colours[k] for k in keys], step="mid", linewidth=0)
        axis.set(ylim=(0, 1), xlim=(0, end - begin), yticks=[])
        axis.set_ylabel(chunk.name.lower(), rotation=0, ha="right", va="center")
    axes[-1].set_xlabel("cycles since the image before was finished")
    names = {"busy": "busy", "image": "between images", "fetch": "words on their way", "room": "no room for a result"}
    names |= {k: f"waits for {k}" for k in ("data", "space", "weights")}
    handles = [Patch(color=colours[k], label=names.get(k, k)) for k in colours if k in used]
    figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // 2), frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def write_timeline(folder: Path, build: Build, run: AcceleratorRun, command: str = "") -> dict:
    """timeline.json, perfetto.json and timeline.png in ``folder``; returns the first one's content."""
    attribution = attribute(build, run)
    info = {**summarise(build, attribution, run), "command": command}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "timeline.json", (json.dumps(info, indent=1) + "\n").encode())
    write_atomic(folder / "perfetto.json", json.dumps(perfetto(attribution), separators=(",", ":")).encode())
    total = info["cycles_per_image"]
    names = {"mat": "MAT", "rmac": "R-MAC"} if build.config.trio else {"mat": "PE array"}
    busy = ", ".join(f"{n} busy {100 * info['chunks'][c]['busy'] / total:.2f} %" for c, n in names.items())
    title = f"{build.config.name}: {total:.0f} cycles an image, {busy}"
    picture(attribution, run, folder / "timeline.png", title)
    return info


def lines(info: dict) -> list[tuple[str, str, str]]:
    """Rows (what, cycles an image, share) of the table of what the engines' time goes to."""
    names = {
        "ideal": "model MACs / multipliers", "token_rounding": "tokens rounded up to groups",
        "key_rounding": "keys rounded up to tiles", "channel_rounding": "other channels, class token's embedding",
        "classifier": "one token of a group",
        "elsewhere": "others' steps, less own ones after the end",
        "data": "waits for data", "space": "waits for space",
        "weights": "waits for weights", "fetch": "input words on their way", "room": "no room for a result",
        "image": "between images", "control": "instruction changes, checks of waits",
    }  # fmt: skip
    assert set(KINDS[1:]) < set(names)
    total = info["cycles_per_image"]
    rows = [(names[k], f"{n:.0f}", f"{100 * n / total:.2f} %") for k, n in info["losses"].items()]
    return [*rows, ("an image, steady state", f"{total:.0f}", "100 %")]
