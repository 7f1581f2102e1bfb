"""Mixed precision: how many bits each layer's weights get, within a budget.

Coarse to fine as P2-ViT, on the calibration images alone: what fewer bits in each layer do to the logits of held-back
calibration images (every fourth), random assignments, their Pareto front, evolution, the finalists quantized and
measured: the one whose class probabilities diverge least from the float model's wins. The ends keep 8 bits, the other
layers have 8 or one of --widths: by size 4 to 7, which a model's file holds as they are; else 4, which the accelerator
multiplies faster. The work is kept beside the result (F.state.json): a search that was stopped goes on. The same seed
gives the same answer on any number of processes, or of hosts (`dask scheduler`, and `dask worker HOST:PORT --nthreads
1` on each; extra `hosts`). The budget counts bits per weight (size), bits per multiplication (macs) or predicted cycles
of an image (cycles, refused where a preset has no faster 4-bit weights). Use: `vitforge quantize --scheme F.json`.

example: vitforge search deit_tiny_patch16_224 --checkpoint deit.safetensors --calib images --budget 6 -o mixed.json
"""

import hashlib
import json
from pathlib import Path

from .options import finite, image_options, image_overrides, output_file, positive, say, write_json


def arguments(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="timm name or hub-form JSON of a ViT")
    parser.add_argument("--checkpoint", metavar="F", help="safetensors or weights-only .pth (default: untrained)")
    parser.add_argument("--calib", metavar="DIR", required=True, help="calibration images, searched recursively")
    parser.add_argument("--limit", type=positive, metavar="N", help="N images, spread over subfolders (default: all)")
    parser.add_argument("--scheme", default="vitforge", metavar="NAME|F.json", help="base (default: %(default)s)")
    parser.add_argument("--by", choices=("size", "macs", "cycles"), default="size", help="default: %(default)s")
    parser.add_argument("--budget", type=finite, required=True, metavar="X", help="bits on average, or cycles")
    text = "bits beside 8 (default: by size 4 5 6 7, else 4)"
    parser.add_argument("--widths", type=positive, nargs="+", metavar="N", help=text)
    parser.add_argument("--preset", metavar="NAME", help="accelerator whose cycles count (--by cycles)")
    text = "ranks the coarse stage: noise of single layers (default), or Hutchinson's trace"
    parser.add_argument("--rank", choices=("noise", "hessian"), default="noise", help=text)
    parser.add_argument("--finalists", type=positive, default=6, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--processes", type=positive, metavar="N", help="default: the cores, if worth it")
    parser.add_argument("--scheduler", metavar="ADDR", help="Dask's, instead of processes")
    parser.add_argument("--plot", metavar="F.png", help="the Pareto front: bits or cycles against predicted SQNR")
    parser.add_argument("-o", "--output", metavar="F.json", required=True, help="the scheme with the layers' bits")
    image_options(parser)


def run(args, command: str) -> int:
    from vitforge_sw.families.choices import scheme_file
    from vitforge_sw.families.schemes import known_scheme

    base, options = scheme_file(args.scheme) if args.scheme.endswith(".json") else (args.scheme, {})
    known_scheme(base)
    output_file(args.output)
    output_file(args.plot)
    if (args.by == "cycles") != (args.preset is not None):
        raise ValueError("search: --preset goes with --by cycles, and only with it")
    if args.processes and args.scheduler:
        raise ValueError("search: --processes and --scheduler exclude each other")
    from .. import api, precision

    model = api.load_float(args.model, args.checkpoint, image_overrides(args))
    say(model.notes)
    widths = tuple(sorted(set(args.widths or precision.WIDTHS[args.by])))
    if args.by == "cycles" and max(widths) > 4:
        raise ValueError(f"search: --widths must be 4 at most by cycles, not {max(widths)}: it takes as long as 8")
    print(f"widths: {', '.join(map(str, widths))} and 8 bits")
    task = precision.task(model, args.calib, base, options, args.limit, widths)
    cost, verify = precision.cost(args.model, task, args.by, args.preset)
    key = precision.key(task, model)
    path = Path(args.output).with_suffix(".state.json")
    state = json.loads(path.read_text()) if path.is_file() else {}
    if state.get("key") != key:
        state = {"key": key}
    processes = args.processes or precision.worth_while(task)
    with precision.pool(task, processes, args.scheduler) as pool:
        result = precision.run(
            task, cost, args.budget, finalists=args.finalists, rank=args.rank, seed=args.seed, state=state,
            save=lambda: write_json(path, state), say=lambda line: print(line, flush=True), verify=verify, pool=pool,
        )  # fmt: skip
    chosen = {"base": base, **options, "layer_wbits": precision.layer_wbits(result["bits"])}
    write_json(args.output, chosen)
    write_json(path, state | {"result": result, "command": command, "by": args.by, "budget": args.budget})
    if args.plot:
        precision.plot(result, args.by, args.plot)
    digest = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()
    chosen_bits = list(result["bits"].values())
    counts = ", ".join(f"{chosen_bits.count(bits)} at {bits}" for bits in sorted(set(chosen_bits)))
    print(
        f"{args.output}: of {len(chosen_bits)} layers {counts} bits (embedding and classifier at 8), "
        f"{args.by} {result['cost']:.6g} of {args.budget:.6g}, predicted {result['predicted_db']:.2f} dB, "
        f"measured {result['measured_db']:.2f} dB on held-back calibration images (all at 8 bits: "
        f"{result['base_db']:.2f}), divergence {result['divergence']:.4f}, hash {digest[:16]}"
    )
    return 0
