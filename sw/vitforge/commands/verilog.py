"""The accelerator as Verilog.

Writes BUILD/rtl/*.v, the file list files.f, and verilog.json. The hardware depends on the configuration only, not on
the model. The top module is vitforge_top: clock aclk, reset aresetn, AXI4-Lite s_axi_ctrl, AXI4 masters m_axi_gmem0
and on, interrupt. The text is the same byte for byte from run to run; what is up to date is not written again.

example: vitforge verilog --preset tiny -o build/tiny --source-lines
"""

from pathlib import Path

from .options import hardware, output_folder


def arguments(parser) -> None:
    hardware(parser)
    parser.add_argument("-o", "--output", metavar="BUILD", required=True, help="folder for rtl/, made if missing")
    parser.add_argument(
        "--primitives",
        choices=("dsp48e2",),
        help="write the engines' multipliers out as this DSP block with its cascade (Xilinx UltraScale+), instead of "
        "leaving them to the synthesis tool",
    )
    parser.add_argument(
        "--source-lines",
        action="store_true",
        help="write BUILD/rtl_source_lines too: the same Verilog with a comment behind each declaration that names the "
        "line of Python it comes from, where there is one",
    )


def run(args, command: str) -> int:
    from ..rtl import ensure_rtl, load_config

    config = load_config(args.preset, args.config)
    output_folder(args.output)
    lines = Path(args.output) / "rtl_source_lines"
    if args.source_lines:
        output_folder(str(lines))
    files = ensure_rtl(config, Path(args.output), command, progress=True, primitives=args.primitives or "")
    size = sum(map(len, files.values()))
    print(
        f"{args.output}/rtl: preset {config.name} ({config.multipliers} multipliers), {len(files)} files, "
        f"{size / 1e6:.2f} MB, configuration {config.hash:08x}, top vitforge_top"
    )
    if args.source_lines:
        from vitforge_sw.graph.serialize import write_atomic
        from vitforge_sw.progress import working

        from ..source_lines import commented, places

        with working("naming source lines", True, after=5):
            texts = commented(files, places(config, args.primitives or ""))
        lines.mkdir(exist_ok=True)
        for stale in lines.glob("*.v"):
            stale.unlink()
        for name, text in (texts | {"files.f": "".join(f"{name}\n" for name in texts)}).items():
            write_atomic(lines / name, text.encode())
        print(f"{lines}: the same with the line of Python behind each declaration")
    return 0
