"""The command line: a thin shell over api, simulate and demo. ``vitforge COMMAND --help`` teaches each step."""

import argparse
import json
import shlex
import sys
from pathlib import Path

EPILOG = """the road of a model:
  vitforge check deit_tiny_patch16_224
  vitforge quantize MODEL --checkpoint F --calib DIR -o m.safetensors
  vitforge evaluate m.safetensors --images DIR --labels labels.csv --float
  vitforge compile m.safetensors --preset p2vit -o build/m
  vitforge simulate build/m --images DIR --count 4 --tensors
`vitforge demo` goes all of it on the models that the repository ships."""


def _image_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("image options", "override the checkpoint's JSON and timm's data config")
    group.add_argument("--image-size", type=int, metavar="N", help="pixels a side")
    group.add_argument("--crop-pct", type=float, metavar="F", help="centre crop's share of the short side")
    group.add_argument("--interpolation", choices=("nearest", "bilinear", "bicubic"), help="resize filter")
    group.add_argument("--mean", type=float, nargs="+", metavar="F", help="per channel, of pixels in 0..1")
    group.add_argument("--std", type=float, nargs="+", metavar="F", help="per channel, of pixels in 0..1")


def _overrides(args) -> dict:
    names = ("image_size", "crop_pct", "interpolation", "mean", "std")
    chosen = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
    return {n: tuple(v) if isinstance(v, list) else v for n, v in chosen.items()}


def _hardware(parser: argparse.ArgumentParser, required: bool = True) -> None:
    from vitforge_hw.arch.config import PRESETS

    shapes = ", ".join(f"{c.name} ({c.multipliers} multipliers)" for c in PRESETS.values())
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument("--preset", metavar="NAME", help=f"accelerator preset: {shapes}")
    group.add_argument("--config", metavar="F.json", help="accelerator parameters as JSON (docs/memory-map.md)")


def _memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bytes-per-cycle", type=int, metavar="N", help="DRAM bandwidth (default: 64, at most the ports')"
    )
    parser.add_argument("--latency", type=int, default=100, metavar="N", help="DRAM latency in cycles (%(default)s)")


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="vitforge",
        description="Vision Transformer checkpoint -> integer-only model -> FPGA accelerator -> bit-exact proof.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")

    p = add("check", "is this model supported, layer by layer, and what to do where it is not")
    p.add_argument("model", metavar="MODEL", help="timm name, or a JSON in timm's hub form (architecture, model_args)")
    p.add_argument("--json", metavar="F", help="write the table as JSON")

    p = add("quantize", "post-training quantization to an integer-only model in one safetensors file")
    p.add_argument("model", metavar="MODEL", help="timm name or hub-form JSON")
    p.add_argument(
        "--checkpoint", metavar="F", help="safetensors or weights-only .pth; without it the model is untrained"
    )
    p.add_argument("--calib", metavar="DIR", required=True, help="calibration images, searched recursively")
    p.add_argument("--scheme", default="vitforge", help="vitforge (default), p2vit, ...: see docs")
    p.add_argument("--wbits", type=int, metavar="N", help="weight bits (default 8)")
    p.add_argument("--limit", type=int, metavar="N", help="use the first N calibration images only")
    p.add_argument("-o", "--output", metavar="M.safetensors", required=True)
    _image_options(p)

    p = add("evaluate", "accuracy of the integer model, and its agreement with the float model")
    p.add_argument("quantized", metavar="M.safetensors")
    p.add_argument("--images", metavar="DIR", required=True)
    p.add_argument("--labels", metavar="F.csv", help="header file,label; without it one subfolder per class")
    p.add_argument(
        "--float", dest="with_float", action="store_true", help="compare with the float model on the same bytes"
    )
    p.add_argument("--checkpoint", metavar="F", help="the float model's weights, where they moved since quantize")
    p.add_argument("--limit", type=int, metavar="N", help="first N images only")
    p.add_argument("--json", metavar="F")

    p = add("compile", "schedule, program, memory image: a build directory")
    p.add_argument("quantized", metavar="M.safetensors")
    _hardware(p)
    p.add_argument("-o", "--output", metavar="BUILD", required=True)

    p = add("verilog", "the accelerator as Verilog: BUILD/rtl/*.v, file list, sidecar JSON")
    _hardware(p)
    p.add_argument("-o", "--output", metavar="BUILD", required=True)

    p = add("simulate", "run the RTL on real images and compare every byte with the golden model")
    p.add_argument("build", metavar="BUILD")
    p.add_argument("--image", metavar="I.jpg")
    p.add_argument("--images", metavar="DIR")
    p.add_argument("--count", type=int, metavar="N", help="first N images of DIR")
    p.add_argument("--sim", choices=("verilator", "icarus"), default="verilator")
    p.add_argument("--tensors", action="store_true", help="compare every intermediate tensor, not the logits alone")
    p.add_argument(
        "--trace", action="store_true", help="write BUILD/trace: per-unit timeline (JSON, Perfetto, picture)"
    )
    p.add_argument(
        "--timeout", type=float, default=3600, metavar="S", help="seconds before a hang is declared (%(default)s)"
    )
    _memory(p)

    p = add("estimate", "cycles, utilization and DRAM traffic per layer from the real schedule, without RTL")
    p.add_argument("subject", metavar="BUILD|MODEL", help="build directory, timm name or hub-form JSON")
    _hardware(p, required=False)
    _memory(p)
    p.add_argument("--json", metavar="F", help="also write here (a BUILD gets BUILD/estimate.json anyway)")

    p = add("demo", "the whole road on the shipped models, in a few minutes")
    p.add_argument("-o", "--output", metavar="DIR", default="build/demo")
    p.add_argument("--count", type=int, default=10, metavar="N", help="images through the RTL (%(default)s)")
    return parser


def _table(rows: list[tuple], header: tuple) -> str:
    cells = [tuple(str(c) for c in r) for r in (header, *rows)]
    widths = [max(len(r[i]) for r in cells) for i in range(len(header))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip() for r in cells)


def _write_json(path: str | None, data: dict) -> None:
    if path:
        from vitforge_sw.graph.serialize import write_atomic

        write_atomic(path, (json.dumps(data, indent=1) + "\n").encode())


def _check(args, command: str) -> int:
    from . import api

    rows = api.check(args.model)
    shown = [(r.layer, r.kind, "x".join(map(str, r.shape)), "yes" if r.supported else "NO", r.reason) for r in rows]
    print(_table(shown, ("layer", "kind", "shape", "supported", "reason")))
    missing = [r for r in rows if not r.supported]
    print(
        f"\n{args.model}: {len(rows)} layers, " + ("all supported" if not missing else f"{len(missing)} not supported")
    )
    data = {"schema": "vitforge/check/1", "command": command, "model": args.model, "supported": not missing}
    layers = [
        dict(layer=r.layer, kind=r.kind, shape=list(r.shape), supported=r.supported, reason=r.reason) for r in rows
    ]
    _write_json(args.json, data | {"layers": layers})
    return 0 if not missing else 1


def _quantize(args, command: str) -> int:
    from vitforge_sw.graph.serialize import save_graph

    from . import api

    options = {} if args.wbits is None else {"wbits": args.wbits}
    model = api.load_float(args.model, args.checkpoint, _overrides(args))
    if not model.trained:
        print(f"{args.model}: no --checkpoint, so the model is untrained (seeded random weights brought to life)")
    print(f"image: {model.image}")
    graph = api.quantize(model, args.calib, args.scheme, limit=args.limit, **options)
    graph.meta["checkpoint"] = args.checkpoint
    graph.meta["command"] = command
    digest = save_graph(graph, args.output)
    size = Path(args.output).stat().st_size
    print(f"{args.output}: scheme {args.scheme}, {len(graph.nodes)} nodes, {size / 1e6:.2f} MB, hash {digest[:16]}")
    return 0


def _evaluate(args, command: str) -> int:
    from vitforge_sw.graph.serialize import graph_hash, load_graph

    from . import api

    graph = load_graph(args.quantized)
    net = api.float_of(graph, args.checkpoint) if args.with_float else None
    result = api.evaluate(graph, args.images, args.labels, net, limit=args.limit, progress=True)
    n = result["images"]
    print(f"integer: top-1 {result['top1']}/{n} ({100 * result['top1'] / n:.2f} %), top-5 {result['top5']}/{n}, "
          f"{result['images_per_second']:.1f} images/s")  # fmt: skip
    if net is not None:
        f = result["float"]
        print(f"float:   top-1 {f['top1']}/{n} ({100 * f['top1'] / n:.2f} %), top-5 {f['top5']}/{n}, "
              f"{f['images_per_second']:.1f} images/s")  # fmt: skip
        print(f"agreement {result['agreement']:.2f} %, logit SQNR {result['logit_sqnr_db']:.2f} dB")
    head = {"schema": "vitforge/evaluate/1", "command": command, "model_hash": graph_hash(graph)}
    _write_json(args.json, head | result)
    return 0


def _compile(args, command: str) -> int:
    from vitforge_sw.graph.serialize import load_graph

    from . import api
    from .rtl import load_config

    graph, config = load_graph(args.quantized), load_config(args.preset, args.config)
    build = api.compile_model(graph, config, args.output, command)
    counts = ", ".join(f"{c.name.lower()} {len(p)}" for c, p in build.programs.items())
    print(f"{args.output}: preset {config.name}, {sum(map(len, build.programs.values()))} instructions ({counts})")
    print(f"memory image {len(build.memory_image)} bytes; activation rows {build.used} of {config.pool_rows} per pool; "
          "order of all accesses proved over two images")  # fmt: skip
    return 0


def _verilog(args, command: str) -> int:
    from .rtl import ensure_rtl, load_config

    config = load_config(args.preset, args.config)
    print(f"emitting {config.name} ({config.multipliers} multipliers), about half a minute ...", flush=True)
    files = ensure_rtl(config, Path(args.output), command)
    size = sum(map(len, files.values()))
    print(
        f"{args.output}/rtl: {len(files)} files, {size / 1e6:.2f} MB, configuration {config.hash:08x}, top vitforge_top"
    )
    return 0


def _simulate(args, command: str) -> int:
    from vitforge_sim.topbench import MemorySettings

    from . import api
    from .simulate import simulate

    graph, build = api.load_compiled(args.build)
    files = api.image_files(args.image, args.images, args.count)
    patches = api.load_inputs(graph, files)
    bandwidth = args.bytes_per_cycle or min(64, build.config.beat_bytes)
    print(
        f"{len(files)} images on {build.config.name} in {args.sim} (first use emits and builds the RTL) ...", flush=True
    )
    result = simulate(
        graph, build, patches, args.build, simulator=args.sim, tensors=args.tensors, trace=args.trace,
        settings=MemorySettings(bandwidth=bandwidth, latency=args.latency), timeout=args.timeout, command=command,
    )  # fmt: skip
    info = result.info
    rows = [(name, u["busy"], u["stalled"]) for name, u in info["units"].items()]
    print(_table(rows, ("unit", "busy cycles", "waiting cycles")))
    if args.tensors:
        elements = sum(t["elements"] for t in info["tensors"])
        print(f"{len(info['tensors'])} tensors, {elements} values compared; dead: {', '.join(info['dead']) or 'none'}")
    print(f"first image {info['first_image_cycles']} cycles, steady state {info['steady_state_cycles']:.0f}, "
          f"utilization {100 * info['utilization']:.2f} %, {info['simulated_cycles_per_second']:.0f} cycles/s")  # fmt: skip
    print("bit-exact" if info["bit_exact"] else f"MISMATCH: {info['first_mismatch']}")
    return 0 if info["bit_exact"] else 1


def _estimate(args, command: str) -> int:
    from .estimate import estimate_subject, print_estimate

    info = estimate_subject(args.subject, args.preset, args.config, args.bytes_per_cycle, args.latency, command)
    _write_json(args.json, info)
    print_estimate(info)
    return 0


def _demo(args, command: str) -> int:
    from .demo import demo

    return demo(Path(args.output), args.count, command)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status. User errors are one line on stderr and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser().parse_args(argv)
    command = shlex.join(["vitforge", *argv])
    run = globals()[f"_{args.command}"]
    from vitforge_sim.build import BuildError
    from vitforge_sim.toolchain import ToolMissing
    from vitforge_sim.topbench import SimulationError

    try:
        return run(args, command)
    except (ValueError, BuildError, ToolMissing, SimulationError) as error:
        print(f"vitforge {args.command}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"vitforge {args.command}: {error.filename or 'file'}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"vitforge {args.command}: interrupted", file=sys.stderr)
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main())
