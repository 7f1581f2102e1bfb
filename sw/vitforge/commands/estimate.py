"""Cycles, utilization, DRAM traffic per layer, without RTL.

SUBJECT is a build directory, or a model (timm name or hub-form JSON) with --preset or --config: then only its shapes
count and no weights are needed. Takes seconds. A build directory gets estimate.json. For an EfficientViT, the backbone
alone and Trio-ViT's own account of its cycles follow.

example: vitforge estimate deit_tiny_patch16_224 --preset p2vit
         vitforge estimate efficientvit_b1 --preset trio --batch 7 --defer
"""

from .options import hardware, memory, output_file, schedule, schedule_choices, write_json


def arguments(parser) -> None:
    parser.add_argument("subject", metavar="BUILD|MODEL", help="build directory, timm name or hub-form JSON")
    hardware(parser, required=False)
    schedule(parser)
    memory(parser)
    parser.add_argument("--json", metavar="F", help="also write here (a BUILD gets BUILD/estimate.json anyway)")


def run(args, command: str) -> int:
    from ..rtl import load_config

    output_file(args.json)
    if args.preset or args.config:
        load_config(args.preset, args.config)  # refused before the rest is imported
    from ..estimation import estimate_subject, print_estimate

    info = estimate_subject(
        args.subject, args.preset, args.config, args.bytes_per_cycle, args.latency, command, schedule_choices(args)
    )
    write_json(args.json, info)
    print_estimate(info)
    return 0
