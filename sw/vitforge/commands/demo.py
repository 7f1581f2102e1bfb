"""The whole road on the shipped models, a ViT and an EfficientViT, in a few minutes.

check, quantize, evaluate against the float model, compile, emit Verilog, simulate with every tensor compared, and the
accuracy of the RTL itself. Each step is named and timed; a second run reuses what is still valid (by hash of inputs
and sources) but always simulates again. Exit status 0: bit-exact and no tensor dead. Writes DIR/demo.json.

example: vitforge demo --count 20
"""

from pathlib import Path

from .options import output_folder, positive


def arguments(parser) -> None:
    from ..demo import MODELS

    names = ", ".join(m.name for m in MODELS)
    parser.add_argument("-o", "--output", metavar="DIR", default="build/demo", help="(default: %(default)s)")
    text = "images with every tensor compared (default: %(default)s)"
    parser.add_argument("--count", type=positive, default=10, metavar="N", help=text)
    parser.add_argument("--model", metavar="NAME", help=f"only this one of {names} (default: all)")
    parser.add_argument("--fresh", action="store_true", help="redo every step")


def run(args, command: str) -> int:
    from ..demo import demo

    output_folder(args.output)
    return demo(Path(args.output), args.count, command, fresh=args.fresh, only=args.model)
