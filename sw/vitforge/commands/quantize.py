"""Post-training quantization to an integer-only model.

Takes a float checkpoint and some images like those that the model will see (a few dozen to a few hundred; no labels).
The scheme decides every scale and rounding; `vitforge` is the most accurate of either family, `p2vit` (ViT, DeiT) and
`trio` (EfficientViT) are as published. The file holds integers only, the graph and the image options. Without
--checkpoint the weights are random, brought to life: useful for cycles and resources, not for accuracy.

example: vitforge quantize deit_tiny_patch16_224 --checkpoint deit.safetensors --calib images -o build/deit.safetensors
"""

from pathlib import Path

from .options import image_options, image_overrides, output_file, positive, say


def arguments(parser) -> None:
    from vitforge_sw.families.efficientvit.schemes import TRIO_SCHEMES
    from vitforge_sw.families.vit.schemes import SCHEMES

    parser.add_argument("model", metavar="MODEL", help="timm name or hub-form JSON")
    parser.add_argument("--checkpoint", metavar="F", help="safetensors or weights-only .pth (default: untrained)")
    parser.add_argument("--calib", metavar="DIR", required=True, help="calibration images, searched recursively")
    names = f"ViT: {', '.join(sorted(SCHEMES))}; EfficientViT: {', '.join(sorted(TRIO_SCHEMES))} (default: %(default)s)"
    parser.add_argument("--scheme", default="vitforge", metavar="NAME", help=names)
    parser.add_argument("--wbits", type=int, metavar="N", help="weight bits, 2 to 8 (default: 8); ViT only")
    parser.add_argument("--limit", type=positive, metavar="N", help="N images, spread over subfolders (default: all)")
    parser.add_argument("-o", "--output", metavar="M.safetensors", required=True, help="the integer model")
    image_options(parser)


def run(args, command: str) -> int:
    from vitforge_sw.families.schemes import known_scheme
    from vitforge_sw.graph.serialize import save_graph

    from .. import api
    from ..progress import bars, working

    options = {} if args.wbits is None else {"wbits": args.wbits}
    known_scheme(args.scheme)
    output_file(args.output)
    model = api.load_float(args.model, args.checkpoint, image_overrides(args))
    if not model.trained:
        print(f"{args.model}: no --checkpoint, so the model is untrained (seeded random weights brought to life)")
    print("image: " + ", ".join(f"{name} {value}" for name, value in model.image.to_dict().items()))
    notes = []
    with working(f"quantizing with scheme {args.scheme}"):
        graph = api.quantize(model, args.calib, args.scheme, limit=args.limit, progress=bars(), notes=notes, **options)
    say(notes)
    graph.meta["checkpoint"] = args.checkpoint
    graph.meta["command"] = command
    digest = save_graph(graph, args.output)
    size = Path(args.output).stat().st_size
    print(
        f"{args.output}: scheme {args.scheme}, {graph.meta['calibration_images']} calibration images, "
        f"{len(graph.nodes)} nodes, {size / 1e6:.2f} MB, hash {digest[:16]}"
    )
    return 0
