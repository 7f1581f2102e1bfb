"""The cycle model against the RTL for one build: ``python scripts/model_vs_rtl.py BUILD --images DIR --count 3``.

Runs the images with the timeline's monitors and prints cycles of every chunk and of the engines' layers, those first
where the model is furthest off. The constants are those of vitforge_hw.arch.latency. ``--page FILE`` also writes
the table of all layers with their losses into a Markdown page, between its lines ``<!-- layers -->``.
"""

import argparse
from pathlib import Path

from vitforge import api
from vitforge.simulation import simulate
from vitforge_sim.measure.calibrate import compare, layer_table, lines
from vitforge_sim.run.topbench import MemorySettings

MARK = "<!-- layers -->"


def write_page(path: Path, command: str, total: str, table: list[str]) -> None:
    """Replace what lies between the page's two marks."""
    parts = path.read_text().split(MARK)
    if len(parts) != 3:
        raise ValueError(f"page {path}: must have two lines {MARK}, has {len(parts) - 1}")
    parts[1] = "\n".join(["", "", f"    {command}", "", total, "", *table, "", ""])
    path.write_text(MARK.join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--bytes-per-cycle", type=int, default=64)
    parser.add_argument("--latency", type=int, default=100)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    graph, build = api.load_compiled(args.build)
    patches = api.load_inputs(graph, api.image_files(None, args.images, args.count))
    bandwidth = min(args.bytes_per_cycle, build.config.beat_bytes)
    settings = MemorySettings(bandwidth=bandwidth, latency=args.latency)
    run = simulate(graph, build, patches, args.build, settings=settings, trace=True, progress=True).run
    info = compare(build, run, bandwidth, args.latency)
    print("\n".join(lines(info)))
    if args.page:
        model, rtl = info["first_image"]
        total = f"First image: {rtl:,} cycles in RTL, {model:,} in the model ({100 * (model / rtl - 1):+.2f} %)."
        command = f"python scripts/model_vs_rtl.py {args.build} --images {args.images} --count {args.count}"
        write_page(args.page, f"{command} --page {args.page}", total, layer_table(graph, build, run, info))


if __name__ == "__main__":
    main()
