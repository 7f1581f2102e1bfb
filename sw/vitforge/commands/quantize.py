"""Post-training quantization to an integer-only model.

Takes a float checkpoint and some images like those that the model will see (a few dozen to a few hundred; no labels).
The scheme decides every scale and rounding; `vitforge` is the most accurate of either family, `p2vit` (ViT, DeiT) and
`trio` (EfficientViT) are as published. The file holds integers only, the graph and the image options. Without
--checkpoint the weights are random, brought to life: useful for cycles and resources, not for accuracy. At the end:
SQNR of the logits on images that --limit left out, and the layers whose outputs differ most from the float model's.

example: vitforge quantize deit_tiny_patch16_224 --checkpoint deit.safetensors --calib images -o build/deit.safetensors
"""

from pathlib import Path

from .options import image_options, image_overrides, output_file, positive, say, write_json


def arguments(parser) -> None:
    from vitforge_sw.families.efficientvit.schemes import TRIO_SCHEMES
    from vitforge_sw.families.vit.schemes import SCHEMES

    parser.add_argument("model", metavar="MODEL", help="timm name or hub-form JSON")
    parser.add_argument("--checkpoint", metavar="F", help="safetensors or weights-only .pth (default: untrained)")
    parser.add_argument(
        "--map", metavar="F.json", help="renames tensors: a JSON object, name or prefix. -> in the model"
    )
    parser.add_argument("--calib", metavar="DIR", required=True, help="calibration images, searched recursively")
    names = f"ViT: {', '.join(sorted(SCHEMES))}; EfficientViT: {', '.join(sorted(TRIO_SCHEMES))} (default: %(default)s)"
    text = f'{names}; or a JSON file with what differs from one: {{"base": NAME, "option": value}}'
    parser.add_argument("--scheme", default="vitforge", metavar="NAME|F.json", help=text)
    text = "change one option of the scheme (vitforge schemes NAME lists them); may be given again"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=text)
    text = "weight bits, 2 to 8 (default: 8); embedding and head keep 8; ViT only"
    parser.add_argument("--wbits", type=int, metavar="N", help=text)
    parser.add_argument("--limit", type=positive, metavar="N", help="N images, spread over subfolders (default: all)")
    parser.add_argument("-o", "--output", metavar="M.safetensors", required=True, help="the integer model")
    parser.add_argument("--json", metavar="F", help="write logit SQNR and every layer's as JSON")
    image_options(parser)


def run(args, command: str) -> int:
    from vitforge_sw.families.choices import scheme_file, settings
    from vitforge_sw.families.schemes import known_scheme

    scheme, options = scheme_file(args.scheme) if args.scheme.endswith(".json") else (args.scheme, {})
    options |= settings(args.set)
    if args.wbits is not None:
        options["wbits"] = args.wbits
    known_scheme(scheme)
    output_file(args.output)
    output_file(args.json)
    from vitforge_sw.families.vit.bits import average_bits
    from vitforge_sw.graph.serialize import save_graph
    from vitforge_sw.models.checkpoint import read_map
    from vitforge_sw.progress import working

    from .. import api, road
    from ..quality import lines

    names = read_map(args.map) if args.map else None
    model = api.load_float(args.model, args.checkpoint, image_overrides(args), names=names)
    if not model.trained:
        print(f"{args.model}: no --checkpoint, so the model is untrained (seeded random weights brought to life)")
    say(model.notes)
    print("image: " + ", ".join(f"{name} {value}" for name, value in model.image.to_dict().items()))
    notes, quality = [], {}
    with working(f"quantizing with scheme {scheme}"):
        graph = road.quantize(model, args.calib, scheme, limit=args.limit, progress=True, notes=notes, quality=quality,
                              **options)  # fmt: skip
    say(notes)
    graph.meta["checkpoint"] = args.checkpoint
    if names:
        graph.meta["checkpoint_map"] = names
    graph.meta["command"] = command
    if (bits := options.get("wbits", 8)) < 8:
        print(f"weights: {bits} bits; embedding and classifier keep 8 (layer_wbits may name them)")
    for note in graph.meta.get("treated", ()):
        print(f"massive activation: {note}")
    average, layers = average_bits(graph)
    if few := sorted(set(layers) - {8}):
        counts = ", ".join(f"{bits} in {len(layers[bits])} layers" for bits in few)
        kept = ", ".join(layers.get(8, [])) or "none"
        print(f"weights: {average:.2f} bits on average, {counts}; layers that keep 8: {kept}")
    digest = save_graph(graph, args.output)
    size = Path(args.output).stat().st_size
    text = lambda value: f"of {len(value)} entries" if isinstance(value, list | tuple) and len(value) > 4 else value  # noqa: E731
    changed = "".join(f", {name} {text(value)}" for name, value in options.items())
    print(
        f"{args.output}: scheme {scheme}{changed}, {graph.meta['calibration_images']} calibration images, "
        f"{len(graph.nodes)} nodes, {size / 1e6:.2f} MB, hash {digest[:16]}"
    )
    say(lines(quality))
    head = {"schema": "vitforge/quantize/1", "command": command, "model_hash": digest, "scheme": graph.meta["scheme"]}
    write_json(args.json, head | quality)
    return 0
