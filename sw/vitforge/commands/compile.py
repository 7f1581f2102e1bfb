"""Schedule, program and memory image: a build directory.

For one accelerator: decides the order of work, places every tensor in the activation buffer, proves the order of all
accesses over two images, and writes BUILD/: build.json, memory.bin (weights and program, as they lie in DRAM),
schedule.txt (for reading), model.safetensors. An integer model of the ViT family needs a preset with attention
(softmax, shifter array), an EfficientViT one with trio (R-MAC engine); some presets have both.

example: vitforge compile build/deit.safetensors --preset p2vit -o build/deit
         vitforge compile build/evit.safetensors --preset trio -o build/evit
"""

from vitforge_sw.compiler.options import ENGINES, PIPELINING

from .options import hardware, output_folder


def arguments(parser) -> None:
    parser.add_argument("quantized", metavar="M.safetensors", help="from vitforge quantize")
    hardware(parser)
    parser.add_argument("-o", "--output", metavar="BUILD", required=True, help="build directory, made if missing")
    parser.add_argument(
        "--pipelining",
        choices=PIPELINING,
        default="both",
        help="P2-ViT's ablation: overlap both within and between layers (default), only one of them, or none "
        "(EfficientViT: both or none)",
    )
    parser.add_argument(
        "--engines",
        choices=ENGINES,
        default="both",
        help="Trio-ViT's ablation, of an EfficientViT: both engines (default), everything on R-MAC, or on MAT what it "
        "can (R-MAC the depthwise layers, K^T V and sums, one layer after the other)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="of an EfficientViT: images of a job, at most the preset's cores; the classifier's weights are read once "
        "a job (default: %(default)s)",
    )
    parser.add_argument(
        "--defer",
        action="store_true",
        help="of an EfficientViT: the classifier, bound by its weights, runs beside the next job's first layers; "
        "results come one job later, so a stream ends with one more job (default: each job ends with its own results)",
    )


def run(args, command: str) -> int:
    from vitforge_sw.graph.serialize import load_graph

    from .. import api
    from ..progress import working
    from ..rtl import load_config

    config = load_config(args.preset, args.config)
    output_folder(args.output)
    graph = load_graph(args.quantized)
    with working("compiling"):
        build = api.compile_model(
            graph, config, args.output, command, args.pipelining, args.engines, args.batch, args.defer
        )
    print(summary(args.output, build))
    return 0


def summary(folder: str, build) -> str:
    """What was compiled, in two lines."""
    counts = ", ".join(f"{c.name.lower()} {len(build.programs[c])}" for c in build.config.chunks)
    return (
        f"{folder}: preset {build.config.name}, {sum(map(len, build.programs.values()))} instructions ({counts})\n"
        f"memory image {len(build.memory_image)} bytes; activation rows {build.used} of {build.config.pool_rows} "
        "per pool; order of all accesses proved over two images"
    )
