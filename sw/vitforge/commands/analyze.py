"""Why a quantized ViT is as good as it is: tables (CSV) and pictures.

ranges: what each channel of each tensor of the float model reaches, massive ones by number. errors: each integer tensor
against the float one, scaled and shifted per channel to fit best: MSE, MAE, noise ratio, SNR of class and patch tokens;
histograms. budget: the logits' SQNR with each kind of rounding switched off, its mean kept, and its share of the noise.
attention: the last block's class token, float and integer. With --sensitivity the logits' SQNR with each layer's
weights, or each tensor, rounded to 8 bits alone.

example: vitforge analyze build/vit.safetensors --images calib --limit 16 --sensitivity -o build/analysis
"""

from pathlib import Path

from .options import output_folder, positive, say


def arguments(parser) -> None:
    parser.add_argument("quantized", metavar="M.safetensors", help="from vitforge quantize")
    parser.add_argument("--images", metavar="DIR", required=True, help="searched recursively")
    parser.add_argument("--limit", type=positive, default=16, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--checkpoint", metavar="F", help="the float weights, where they moved since quantize")
    parser.add_argument("--sensitivity", action="store_true", help="also layer by layer (a run of the model for each)")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder for CSV and PNG files")


def run(args, command: str) -> int:
    output_folder(args.output)
    from vitforge_sw.graph.serialize import load_graph
    from vitforge_sw.models.files import some_images
    from vitforge_sw.progress import working

    from .. import api
    from ..analyze import analyze

    graph = load_graph(args.quantized)
    net = api.float_of(graph, args.checkpoint)
    notes: list[str] = []
    patches = api.load_inputs(graph, some_images(args.images, args.limit, notes))
    with working("analyzing"):
        lines = analyze(graph, net, patches, Path(args.output), args.sensitivity)
    say(notes + lines)
    print(f"{args.output}: {', '.join(sorted(p.name for p in Path(args.output).iterdir()))}")
    return 0
