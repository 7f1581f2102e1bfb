"""Schedule, program and memory image: a build directory.

For one accelerator: decides the order of work, places every tensor in the activation buffer, proves the order of all
accesses over two images, and writes BUILD/: build.json, memory.bin (weights and program, as they lie in DRAM),
schedule.txt (for reading), model.safetensors. An integer model of the ViT family needs a preset with attention
(softmax, shifter array), an EfficientViT one with trio (R-MAC engine); some presets have both.

example: vitforge compile build/deit.safetensors --preset p2vit -o build/deit
         vitforge compile build/evit.safetensors --preset trio -o build/evit
"""

from .options import hardware, output_folder, schedule, schedule_choices


def arguments(parser) -> None:
    parser.add_argument("quantized", metavar="M.safetensors", help="from vitforge quantize")
    hardware(parser)
    parser.add_argument("-o", "--output", metavar="BUILD", required=True, help="build directory, made if missing")
    schedule(parser)


def run(args, command: str) -> int:
    from ..rtl import load_config

    config = load_config(args.preset, args.config)
    output_folder(args.output)
    from vitforge_sw.graph.serialize import load_graph
    from vitforge_sw.progress import working

    from .. import api

    graph = load_graph(args.quantized)
    with working("compiling"):
        build = api.compile_model(graph, config, args.output, command, schedule_choices(args))
    print(summary(args.output, build))
    if note := unused_bits(graph, config):
        print(note)
    return 0


def unused_bits(graph, config) -> str:
    """A line where the machine gains nothing from weights of fewer than 8 bits; else empty."""
    from vitforge_sw.ops import Matmul

    few = [n for n in graph.nodes if isinstance(n, Matmul) and n.weight_bits < 8 and not (config.w4 and n.nibbles)]
    if not few:
        return ""
    reason = "has 4 and 8 bits" if config.w4 else "has no w4"
    widths = ", ".join(map(str, sorted({node.weight_bits for node in few})))
    return (
        f"weights of {widths} bits in {len(few)} nodes: preset {config.name} {reason}, so they run and are stored as "
        "8 bits there (same results, no faster; the model's file is smaller, the memory image is not)"
    )


def summary(folder: str, build) -> str:
    """What was compiled, in two lines."""
    counts = ", ".join(f"{c.name.lower()} {len(build.programs[c])}" for c in build.config.chunks)
    return (
        f"{folder}: preset {build.config.name}, {sum(map(len, build.programs.values()))} instructions ({counts})\n"
        f"memory image {len(build.memory_image)} bytes; activation rows {build.used} of {build.config.pool_rows} "
        "per pool; order of all accesses proved over two images"
    )
