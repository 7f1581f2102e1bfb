"""``vitforge estimate``: the cycle model's figures as table, JSON and roofline plot."""

import dataclasses
import json
import math
import re
from collections import defaultdict
from pathlib import Path

from vitforge_sw.compiler import Build, CompileOptions, compile_graph, load_build
from vitforge_sw.compiler.compile import ROWS, strategy_of
from vitforge_sw.cycles.accounting import MULTIPLIERS, account, published
from vitforge_sw.cycles.estimate import estimate
from vitforge_sw.families.efficientvit.frontend import import_efficientvit
from vitforge_sw.families.efficientvit.shapes import efficientvit_shapes
from vitforge_sw.families.vit.frontend import import_vit
from vitforge_sw.families.vit.shapes import shapes_of
from vitforge_sw.graph.ir import Graph
from vitforge_sw.graph.serialize import load_graph, write_atomic
from vitforge_sw.models.resolve import build_model, image_config, resolve_model

from .rtl import load_config

ENGINES = ("mat", "rmac")
IMAGES = 4  #: back to back, for the steady state


def model_shapes(model: str) -> Graph:
    """The graph of a model's shapes (zero weights): enough for schedule and cycles."""
    spec = resolve_model(model)
    net = build_model(spec, shapes_only=True)
    if type(net).__name__ == "EfficientVit":
        graph = efficientvit_shapes(import_efficientvit(net), image_config(net, spec).side)
        graph.meta["model"] = spec.to_dict()
        return graph
    return shapes_of(import_vit(net))


def estimate_subject(
    subject: str,
    preset: str | None,
    config: str | None,
    bytes_per_cycle: int | None,
    latency: int,
    command: str = "",
    options: CompileOptions | None = None,
) -> dict:
    """Estimate a build directory (its own configuration and schedule) or a MODEL on a preset or configuration file,
    compiled with ``options``."""
    folder = Path(subject)
    if folder.is_dir():
        if preset or config:
            raise ValueError(f"estimate {subject}: a build directory has its own configuration, give no --preset")
        names = [f.name for f in dataclasses.fields(CompileOptions)]
        if chosen := [f"--{n}" for n in names if options and getattr(options, n) != getattr(CompileOptions, n)]:
            raise ValueError(f"estimate {subject}: a build directory has its own schedule, give no {chosen[0]}")
        build: Build = load_build(folder)
        stored = folder / "model.safetensors"
        graph = load_graph(stored) if stored.is_file() else None
    else:
        if not (preset or config):
            raise ValueError(f"estimate {subject}: no such build directory, and a model needs --preset or --config")
        graph = model_shapes(subject)
        build = compile_graph(graph, load_config(preset, config), options)
    ports = build.config.beat_bytes
    info = estimate(build, bytes_per_cycle=min(bytes_per_cycle or 64, ports), latency=latency, images=IMAGES)
    info |= {"command": command, "subject": subject, "multipliers": build.config.multipliers}
    if graph is not None and strategy_of(graph) is ROWS:
        info["accounting"] = accounting(graph)
    if folder.is_dir():
        write_atomic(folder / "estimate.json", (json.dumps(info, indent=1) + "\n").encode())
        roofline(info, folder / "roofline.png")
    return info


def accounting(graph: Graph) -> dict:
    """The authors' account of an EfficientViT, and what they published for it (per cent, or None)."""
    found = account(graph)
    name, size = graph.meta.get("model"), 2 * graph.tensors[graph.input].width
    name = name.get("architecture", "") if isinstance(name, dict) else name
    figure = published(name, size)
    return {
        "multipliers": MULTIPLIERS, "cycles": found.cycles, "macs": found.macs, "utilization": found.utilization,
        "published": None if figure is None else figure / 100,
        "layers": [{"name": n, "cycles": cycles, "macs": macs} for n, cycles, macs in found.layers],
    }  # fmt: skip


def kind_of(layer: str) -> str:
    """A layer's name without block, head and branch: ``blocks.3.attn.q.h1`` is ``attn.q``."""
    short = re.sub(r"^blocks\.\d+\.|\.h\d+$", "", layer)
    short = re.sub(r"^stages\.\d+\.blocks\.\d+\.((context|local)_module\.)?|^stem\.res\d+\.", "", short)
    return re.sub(r"(attend|ksum|kv)\d+$", r"\1", short)


def kinds(info: dict) -> list[dict]:
    """The engines' layers summed over blocks, heads and branches, by engine."""
    groups: dict[tuple[str, str], dict] = defaultdict(lambda: defaultdict(float))
    for layer in info["layers"]:
        if layer["chunk"] in ENGINES:
            key = kind_of(layer["name"]), layer["chunk"]
            for what in ("cycles", "busy", "macs", "dram_bytes"):
                groups[key][what] += layer[what]
            groups[key]["layers"] += 1
            groups[key]["passes"] += layer["macs"] / layer["multipliers"]
    return [{"name": name, "engine": engine, **values} for (name, engine), values in groups.items()]


def print_estimate(info: dict) -> None:
    """One screen: layer kinds, chunks, totals."""
    found = kinds(info)
    engines = len({k["engine"] for k in found})
    head = f"{'layer':16} {'engine':6} " if engines > 1 else f"{'layer':16} "
    print(f"{head}{'count':>5} {'cycles':>9} {'waiting':>8} {'util %':>7} {'MACs':>12} {'DRAM kB':>9}")
    for k in sorted(found, key=lambda k: [f["name"] for f in found].index(k["name"])):
        utilization = 100 * k["passes"] / k["cycles"] if k["cycles"] else 0
        title = f"{k['name']:16} {k['engine']:6} " if engines > 1 else f"{k['name']:16} "
        print(
            f"{title}{k['layers']:5.0f} {k['cycles']:9.0f} {k['cycles'] - k['busy']:8.0f} "
            f"{utilization:7.2f} {k['macs']:12.0f} {k['dram_bytes'] / 1e3:9.1f}"
        )
    columns = ("busy", "waiting_data", "waiting_space", "waiting_weights", "other")
    print(f"\n{'chunk':12} " + " ".join(f"{c:>15}" for c in columns) + "   (cycles an image)")
    for name, chunk in info["chunks"].items():
        print(f"{name:12} " + " ".join(f"{chunk[c]:15}" for c in columns))
    bandwidth = info["dram_bytes"] / info["cycles"]
    shape = f"{info['preset']} ({info['multipliers']} multipliers)"
    print(f"\n{info['subject']} on {shape}, {info['bytes_per_cycle']} bytes a cycle, {info['latency']} cycles latency")
    if info["batch"] > 1 or info["deferred"]:
        late = ", whose results come with the next job" if info["deferred"] else ""
        print(f"jobs of {info['batch']} images{late}; the first image's cycles are the first job's")
    print(f"steady state {info['cycles']:.0f} cycles an image, first image {info['first_image_cycles']}; "
          f"utilization {100 * info['utilization']:.2f} %")  # fmt: skip
    print(f"DRAM {info['dram_bytes'] / 1e6:.2f} MB an image, {bandwidth:.1f} bytes a cycle")
    if "backbone" in info:
        b = info["backbone"]
        print(f"backbone, from the stem's first step to the last stage's last row: {b['cycles']} cycles, "
              f"{b['macs'] / 1e6:.1f} M MACs, utilization {100 * b['utilization']:.2f} %")  # fmt: skip
    if "accounting" in info:
        a = info["accounting"]
        theirs = "" if a["published"] is None else f"; published {100 * a['published']:.2f} %"
        print(f"backbone by the authors' account ({a['multipliers']} multipliers): {a['cycles']:.0f} cycles, "
              f"{a['macs'] / 1e6:.1f} M MACs, utilization {100 * a['utilization']:.2f} %{theirs}")  # fmt: skip


def dots(info: dict) -> dict[str, tuple[float, float]]:
    """Layer kind -> (MACs per DRAM byte, MACs a cycle) of its layers together, over the cycles of the longer engine."""
    layers: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for layer in info["layers"]:
        if layer["chunk"] in ENGINES:
            p = layers[layer["name"]]
            layers[layer["name"]] = [p[0] + layer["macs"], p[1] + layer["dram_bytes"], max(p[2], layer["cycles"])]
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for name, values in layers.items():
        sums[kind_of(name)] = [a + b for a, b in zip(sums[kind_of(name)], values)]
    return {kind: (m / size, m / cycles) for kind, (m, size, cycles) in sums.items() if m and size and cycles}


def ceiling(info: dict) -> int:
    """MACs a cycle that the multipliers reach; twice their number where layers have weights of 4 bits."""
    return max([info["multipliers"], *(layer["multipliers"] for layer in info["layers"])])


def above_roof(info: dict) -> list[str]:
    """Layer kinds with more MACs a cycle than bandwidth alone allows: their weights come while others compute."""
    roof = lambda x: min(ceiling(info), info["bytes_per_cycle"] * x)  # noqa: E731
    return [kind for kind, (x, y) in dots(info).items() if y > 1.001 * roof(x)]


def roofline(info: dict, path: Path) -> None:
    """MACs a cycle over MACs per DRAM byte, a labelled dot per layer kind, under the roof of multipliers and bandwidth;
    what reads nothing from DRAM has no dot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown, above = dots(info), above_roof(info)
    figure, axis = plt.subplots(figsize=(8.5, 6), layout="constrained")
    low = min([x for x, _ in shown.values()] + [0.5]) / 2
    high = max([x for x, _ in shown.values()] + [4 * info["multipliers"] / info["bytes_per_cycle"]]) * 2
    knee = info["multipliers"] / info["bytes_per_cycle"]
    axis.plot([low, knee, high], [low * info["bytes_per_cycle"], info["multipliers"], info["multipliers"]], "k-")
    axis.annotate(f"{info['multipliers']} multipliers", (high, info["multipliers"]), xytext=(-4, 4),
                  textcoords="offset points", ha="right", va="bottom")  # fmt: skip
    if (top := ceiling(info)) > info["multipliers"]:
        axis.plot([knee, top / info["bytes_per_cycle"], high], [info["multipliers"], top, top], "k--")
        axis.annotate("with weights of 4 bits", (high, top), xytext=(-4, 4), textcoords="offset points", ha="right",
                      va="bottom")  # fmt: skip
    labels: dict[tuple[int, int], list[str]] = defaultdict(list)  # dots that lie on each other share a label
    for kind, (x, y) in shown.items():
        axis.plot(x, y, "o", color="#e15759" if kind in above else "#4e79a7")
        labels[round(6 * math.log10(x)), round(6 * math.log10(y))].append(kind)
    for kinds_here in labels.values():
        x, y = shown[kinds_here[0]]
        edge = x > low * (high / low) ** 0.75  # elsewhere to the right, away from the slanted roof
        axis.annotate("\n".join(kinds_here), (x, y), xytext=(-7 if edge else 7, -5), textcoords="offset points",
                      fontsize=8, va="top", ha="right" if edge else "left")  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel=f"MACs per DRAM byte ({info['bytes_per_cycle']} bytes a cycle)",
             ylabel="MACs a cycle", xlim=(low, high))  # fmt: skip
    axis.set_title(f"{Path(info['subject']).name} on {info['preset']}: {100 * info['utilization']:.1f} % utilization")
    if above:
        axis.set_xlabel(axis.get_xlabel() + f"\nred, above the roof: {', '.join(above)}: their weights are read while "
                        "other layers compute", fontsize=9)  # fmt: skip
    figure.savefig(path, dpi=120)
    plt.close(figure)
