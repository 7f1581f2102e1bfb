"""``vitforge estimate``: the cycle model's figures as table, JSON and roofline plot."""

import json
import re
from collections import defaultdict
from pathlib import Path

from vitforge_sw.compiler import Build, compile_graph, load_build, shape_graph
from vitforge_sw.compiler.cycles import estimate
from vitforge_sw.graph.frontend import import_vit
from vitforge_sw.graph.ir import Graph
from vitforge_sw.graph.serialize import write_atomic
from vitforge_sw.models.resolve import build_model, resolve_model

from .rtl import load_config

IMAGES = 4  #: back to back, for the steady state


def model_shapes(model: str) -> Graph:
    """The graph of a model's shapes (zero weights): enough for schedule and cycles."""
    vit = import_vit(build_model(resolve_model(model)))
    first = vit.blocks[0]
    return shape_graph(
        len(vit.blocks), vit.channels, first.heads, first.fc1.weight.shape[0], vit.tokens,
        vit.embed.weight.shape[1], vit.head.weight.shape[0],
    )  # fmt: skip


def estimate_subject(
    subject: str, preset: str | None, config: str | None, bytes_per_cycle: int | None, latency: int, command: str = ""
) -> dict:
    """Estimate a build directory (its own configuration) or a MODEL on a preset or configuration file."""
    folder = Path(subject)
    if folder.is_dir():
        if preset or config:
            raise ValueError(f"estimate {subject}: a build directory has its own configuration, give no --preset")
        build: Build = load_build(folder)
    else:
        if not (preset or config):
            raise ValueError(f"estimate {subject}: no such build directory, and a model needs --preset or --config")
        build = compile_graph(model_shapes(subject), load_config(preset, config))
    ports = build.config.beat_bytes
    info = estimate(build, bytes_per_cycle=min(bytes_per_cycle or 64, ports), latency=latency, images=IMAGES)
    info |= {"command": command, "subject": subject, "multipliers": build.config.multipliers}
    if folder.is_dir():
        write_atomic(folder / "estimate.json", (json.dumps(info, indent=1) + "\n").encode())
        roofline(info, folder / "roofline.png")
    return info


def kinds(info: dict) -> list[dict]:
    """PE array layers summed over blocks and heads (``blocks.3.attn.q.h1`` counts as ``attn.q``)."""
    groups: dict[str, dict] = defaultdict(lambda: defaultdict(float))
    for layer in info["layers"]:
        if layer["chunk"] == "mat":
            name = re.sub(r"^blocks\.\d+\.", "", re.sub(r"\.h\d+$", "", layer["name"]))
            for key in ("cycles", "busy", "macs", "dram_bytes"):
                groups[name][key] += layer[key]
            groups[name]["layers"] += 1
    return [{"name": name, **values} for name, values in groups.items()]


def print_estimate(info: dict) -> None:
    """One screen: layer kinds, chunks, totals."""
    print(f"{'layer':16} {'count':>5} {'cycles':>9} {'waiting':>8} {'util %':>7} {'MACs':>12} {'DRAM kB':>9}")
    for k in kinds(info):
        utilization = 100 * k["macs"] / (info["multipliers"] * k["cycles"]) if k["cycles"] else 0
        print(
            f"{k['name']:16} {k['layers']:5.0f} {k['cycles']:9.0f} {k['cycles'] - k['busy']:8.0f} "
            f"{utilization:7.2f} {k['macs']:12.0f} {k['dram_bytes'] / 1e3:9.1f}"
        )
    columns = ("busy", "waiting_data", "waiting_space", "waiting_weights", "other")
    print(f"\n{'chunk':12} " + " ".join(f"{c:>15}" for c in columns) + "   (cycles an image)")
    for name, chunk in info["chunks"].items():
        print(f"{name:12} " + " ".join(f"{chunk[c]:15}" for c in columns))
    bandwidth = info["dram_bytes"] / info["cycles"]
    shape = f"{info['preset']} ({info['multipliers']} multipliers)"
    print(f"\n{info['subject']} on {shape}, {info['bytes_per_cycle']} bytes a cycle, {info['latency']} cycles latency")
    print(f"steady state {info['cycles']:.0f} cycles an image, first image {info['first_image_cycles']}; "
          f"utilization {100 * info['utilization']:.2f} %")  # fmt: skip
    print(f"DRAM {info['dram_bytes'] / 1e6:.2f} MB an image, {bandwidth:.1f} bytes a cycle")


def roofline(info: dict, path: Path) -> None:
    """MACs a cycle over MACs per DRAM byte, a point per PE array layer, under the roof of multipliers and bandwidth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    points = [l for l in info["layers"] if l["chunk"] == "mat" and l["dram_bytes"] and l["cycles"]]
    x = [l["macs"] / l["dram_bytes"] for l in points]
    y = [l["macs"] / l["cycles"] for l in points]
    figure, axis = plt.subplots(figsize=(7, 4.5))
    grid = [2.0**i for i in range(-2, 11)]
    axis.plot(grid, [min(info["multipliers"], info["bytes_per_cycle"] * g) for g in grid], "k-", label="roof")
    axis.scatter(x, y, s=14, alpha=0.6, label="layers")
    axis.set(xscale="log", yscale="log", xlabel="MACs per DRAM byte", ylabel="MACs a cycle")
    axis.set_title(f"{Path(info['subject']).name} on {info['preset']}: {100 * info['utilization']:.1f} % utilization")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
