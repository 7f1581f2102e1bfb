"""The command line: a thin shell over api, simulate, estimate and demo. The commands live in ``commands/``."""

import argparse
import os
import re
import shlex
import sys

from . import __version__, commands

EPILOG = """the road of a model:
  vitforge check deit_tiny_patch16_224
  vitforge quantize MODEL --checkpoint F --calib DIR -o m.safetensors
  vitforge evaluate m.safetensors --images DIR --labels labels.csv --float
  vitforge compile m.safetensors --preset p2vit -o build/m
  vitforge simulate build/m --images DIR --count 4 --tensors
`vitforge demo` goes all of it on the models that the repository ships; `vitforge COMMAND --help` teaches each step."""


class Parser(argparse.ArgumentParser):
    """Errors in one line, with the usage left to --help."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> Parser:
    """Every command with its options."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="vitforge",
        description="Vision Transformer checkpoint -> integer-only model -> FPGA accelerator -> bit-exact proof.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"vitforge {__version__}")
    chosen = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands.NAMES:
        module = commands.load(name)
        text = module.__doc__.strip()
        first = text.partition("\n")[0].rstrip(".")
        if not re.match(r"[A-Z]{2}", first):  # an abbreviation keeps its capitals
            first = first[0].lower() + first[1:]
        module.arguments(chosen.add_parser(name, help=first, description=text, formatter_class=raw))
    return parser


def _refusals() -> tuple[type[RuntimeError], ...]:
    """What simulators and synthesis refuse; imported only when something went wrong."""
    from vitforge_sim.run.build import BuildError
    from vitforge_sim.run.toolchain import ToolMissing
    from vitforge_sim.run.topbench import SimulationError
    from vitforge_sim.synth.yosys import SynthesisError

    return BuildError, SimulationError, SynthesisError, ToolMissing


OUTPUTS = ("output", "json", "expected", "plot")
BUILD = ("build.json", "memory.bin", "model.safetensors", "schedule.txt")  #: of a build directory, what compile wrote
SOURCES = ("images", "calib")  #: folders that a command reads and never writes into


def keep_inputs(args: dict) -> None:
    """Refuse an empty path, and an output that is one of the command's own inputs, before it is lost."""
    if empty := next((name for name, value in args.items() if value == ""), None):  # "$UNSET" would be the folder here
        raise ValueError(f"{empty}: must not be empty")
    for output in OUTPUTS:
        if not (path := args.get(output)) or not os.path.exists(path):
            continue
        for name, value in args.items():
            if name in (*OUTPUTS, "command"):
                continue
            for source in value if isinstance(value, list) else [value]:
                if isinstance(source, str) and _reads(name, source, path):
                    raise ValueError(f"output {path}: is read by this command as its {name}; name another place")


def _reads(name: str, source: str, path: str) -> bool:
    """Does an option ``name`` of value ``source`` mean that the existing file or folder ``path`` is read?"""
    if name == "build":
        return any(os.path.exists(f := os.path.join(source, n)) and os.path.samefile(f, path) for n in BUILD)
    read = os.path.exists(source) and (os.path.isfile(source) or name in SOURCES)
    return read and os.path.samefile(source, path)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status. User errors are one line on stderr and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):  # a terminal of few letters shows the others escaped
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    command = shlex.join(["vitforge", *argv])
    try:
        keep_inputs(vars(args))
        return commands.load(args.command).run(args, command)
    except ValueError as error:
        print(f"vitforge {args.command}: {error}", file=sys.stderr)
    except RuntimeError as error:
        if not isinstance(error, _refusals()):
            raise
        print(f"vitforge {args.command}: {error}", file=sys.stderr)
    except BrokenPipeError:  # of `vitforge ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        print(f"vitforge {args.command}: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"vitforge {args.command}: interrupted", file=sys.stderr)
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main())
