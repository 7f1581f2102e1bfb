"""The digits ViT on a ULX3S 85F: bitstream, simulation at the serial pins, images over the serial port.

example: vitforge compile build/demo/digits_vit.safetensors --config boards/ulx3s/accelerator.json -o build/ulx3s/digits
         python boards/ulx3s simulate build/ulx3s/digits --images sw/vitforge/models/digits_vit/test --count 10
         python boards/ulx3s bitstream build/ulx3s/digits -o build/ulx3s
         python boards/ulx3s run build/ulx3s/digits --port /dev/ttyUSB0 --image scan.png
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from vitforge import api
from vitforge_sim.run.build import BuildError
from vitforge_sw.compiler import Build
from vitforge_sw.progress import working

from . import build as design
from .board import BAUD
from .host import Frame, Port, Reply


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python boards/ulx3s", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("bitstream", help="synthesise, place, route, pack: half an hour or more")
    one.add_argument("-o", "--output", required=True, metavar="DIR", help="gets ulx3s.bit and ulx3s.json")
    one.add_argument("--mhz", type=float, default=design.MHZ, help="clock of the design (default: %(default)s)")
    one.add_argument("--seed", type=int, default=design.SEED, help="of the first try (default: %(default)s)")
    two = commands.add_parser("simulate", help="the design's Verilog, at its serial pins")
    two.add_argument("--simulator", default="verilator", choices=("verilator", "icarus"))
    three = commands.add_parser("run", help="images through the board")
    three.add_argument("--port", required=True, help="e.g. /dev/ttyUSB0")
    for command in (one, two, three):
        command.add_argument("build", metavar="BUILD", help="from vitforge compile with accelerator.json")
    for command in (two, three):
        command.add_argument("--image", metavar="F", help="one image")
        command.add_argument("--images", metavar="DIR", help="a folder of images")
        command.add_argument("--count", type=int, metavar="N", help="so many of them (default: all)")
    return parser


def _show(name: str, reply: Reply, build: Build, expected: bytes, mhz: float) -> bool:
    """Prints one line; True where the logits are the golden model's."""
    if reply.errors:
        print(f"{name}: failed, {', '.join(reply.errors)}")
        return False
    logits, good = api.unpack(build, reply.result)[0], reply.result == expected
    verdict = "logits equal to the golden model's" if good else "logits DIFFER from the golden model's"
    print(f"{name}: class {np.argmax(logits)}, {reply.cycles} cycles = {reply.cycles / mhz:.1f} us, {verdict}")
    return good


def _run(args) -> int:
    graph, build = api.load_compiled(args.build)
    if args.command == "bitstream":
        folder = Path(args.output)
        info = design.bitstream(build, folder, args.mhz, args.seed, lambda line: print(line, flush=True))
        print(json.dumps({k: v for k, v in info.items() if k != "critical_path"}))
        print(f"{folder / 'ulx3s.bit'}: {info['mhz']} MHz reached, {args.mhz:g} MHz asked for")
        return 0 if info["mhz"] >= args.mhz else 1
    frame = Frame(build.image_bytes, build.result_bytes)
    notes: list[str] = []
    files = api.image_files(args.image, args.images, args.count, notes)
    jobs = [api.pack(graph, build, p[None]) for p in api.load_inputs(graph, files, notes)]
    for note in notes:
        print(note)
    if args.command == "simulate":
        from .simulate import exchange, program

        with working("building the simulation"):
            simulation = program(build, args.simulator)
        begin = time.monotonic()
        replies = exchange(simulation, frame, [frame.request(image) for image, _ in jobs])
        print(f"{len(jobs)} images at the serial pins, {args.simulator}: {time.monotonic() - begin:.1f} s")
    else:
        port = Port(args.port, frame, BAUD)
        replies = [port.run(image) for image, _ in jobs]
    good = [
        _show(f.name, r, build, expected, design.MHZ) for f, r, (_, expected) in zip(files, replies, jobs, strict=True)
    ]
    return 0 if all(good) else 1


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: done, every result right; 1: one is not, or the clock was missed; 2: bad input."""
    try:
        return _run(_parser().parse_args(argv))
    except (ValueError, OSError, BuildError) as error:
        print(f"ulx3s: {error}", file=sys.stderr)
        return 2
