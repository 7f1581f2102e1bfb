"""The cycle model against the RTL for one build: ``python scripts/model_vs_rtl.py BUILD --images DIR --count 3``.

Runs the images with the timeline's monitors and prints cycles of every chunk and of the engines' layers, those first
where the model is furthest off. The constants are those of vitforge_sw.compiler.timing.
"""

import argparse

from vitforge import api
from vitforge.calibrate import compare, lines
from vitforge.simulate import simulate
from vitforge_sim.topbench import MemorySettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--bytes-per-cycle", type=int, default=64)
    parser.add_argument("--latency", type=int, default=100)
    args = parser.parse_args()
    graph, build = api.load_compiled(args.build)
    patches = api.load_inputs(graph, api.image_files(None, args.images, args.count))
    bandwidth = min(args.bytes_per_cycle, build.config.beat_bytes)
    settings = MemorySettings(bandwidth=bandwidth, latency=args.latency)
    run = simulate(graph, build, patches, args.build, settings=settings, trace=True, progress=True).run
    print("\n".join(lines(compare(build, run, bandwidth, args.latency))))


if __name__ == "__main__":
    main()
