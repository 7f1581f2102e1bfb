"""Open synthesis: resources per module, longest paths, estimated clock.

Every module of the generated Verilog goes through Yosys once (netlists are cached by content), on all cores. DSP, LUT,
FF, block RAM and UltraRAM are counted per module and in total against a part. For xcup and xc7 the whole design is
timed through the borders of its modules: a model whose nets slow down with their loads, and beside it published cell
delays with 148 and with 250 ps a net. Both are estimates before placement; no vendor's tool has seen the design.
Writes BUILD/synth.json.

example: vitforge synth --preset p2vit -o build/p2vit
         vitforge synth build/digits --target xc7 --part kintex7-325t
"""

from pathlib import Path

from .options import hardware, output_folder


def arguments(parser) -> None:
    from vitforge_sim.synth.parts import DEFAULT, PARTS, TARGETS

    parser.add_argument("build", metavar="BUILD", nargs="?", help="from vitforge compile; or --preset or --config")
    hardware(parser, required=False)
    parser.add_argument(
        "--target", choices=TARGETS, default="xcup", help="UltraScale+, 7-series or ECP5 (default: %(default)s)"
    )
    names = "; ".join(f"{t}: {', '.join(p.name for p in PARTS.values() if p.target == t)}" for t in TARGETS)
    defaults = ", ".join(DEFAULT.values())
    parser.add_argument("--part", metavar="NAME", help=f"what it must fit: {names} (default: {defaults})")
    parser.add_argument("-o", "--output", metavar="BUILD", help="folder for rtl/ and synth.json (default: BUILD)")


def run(args, command: str) -> int:
    from vitforge_sim.synth.parts import part
    from vitforge_sim.synth.report import lines

    from ..rtl import load_config
    from ..synth import synthesise

    chosen = part(args.part, args.target)
    if args.build is not None:
        from vitforge_sw.compiler import load_build

        if args.preset or args.config:
            raise ValueError(f"synth {args.build}: a build directory has its own configuration, give no --preset")
        config = load_build(args.build).config
    else:
        config = load_config(args.preset, args.config)
    output = args.output or args.build
    if output is None:
        raise ValueError("synth: needs -o BUILD, the folder for synth.json")
    output_folder(output)
    info = synthesise(config, Path(output), chosen, command, lambda line: print(line, flush=True))
    print(*lines(info, chosen), sep="\n")
    print(f"{output}/synth.json: preset {config.name}, {info['tool']}, {args.target}")
    return 0
