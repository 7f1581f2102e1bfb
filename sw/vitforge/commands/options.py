"""What several commands share: option groups, checks of output paths before the work, tables, JSON files."""

import argparse
import json
import os
from pathlib import Path


def positive(text: str) -> int:
    """argparse type: an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text!r}")
    return value


def finite(text: str) -> float:
    """argparse type: a number, neither infinite nor none."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value - value != 0:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return value


def seconds(text: str) -> float:
    """argparse type: a time above 0, not without an end."""
    try:
        value = finite(text)
    except argparse.ArgumentTypeError:
        value = 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text!r}")
    return value


def image_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "image options", "what becomes of an image; default: the JSON beside the checkpoint, else timm's data config"
    )
    group.add_argument("--image-size", type=positive, metavar="N", help="pixels a side")
    group.add_argument("--crop-pct", type=finite, metavar="F", help="centre crop's share of the short side")
    group.add_argument("--interpolation", choices=("nearest", "bilinear", "bicubic"), help="resize filter")
    group.add_argument("--mean", type=finite, nargs="+", metavar="F", help="per channel, of pixels in 0..1")
    group.add_argument("--std", type=finite, nargs="+", metavar="F", help="per channel, of pixels in 0..1")
    group.add_argument("--exif", choices=("ignore", "apply"), help="orientation tags (default: ignore, as timm)")
    text = "ground of transparent pixels (default: ignore, their own colour, as timm)"
    group.add_argument("--alpha", choices=("ignore", "white", "black"), help=text)


def image_overrides(args) -> dict:
    """The image options that were given."""
    names = ("image_size", "crop_pct", "interpolation", "mean", "std", "exif", "alpha")
    chosen = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
    return {n: tuple(v) if isinstance(v, list) else v for n, v in chosen.items()}


def families(config) -> list[str]:
    """The families of models that an accelerator has the units for."""
    units = {"ViT": config.attention, "EfficientViT": config.trio}
    return [name for name, there in units.items() if there]


def hardware(parser: argparse.ArgumentParser, required: bool = True) -> None:
    from vitforge_hw.arch.config import PRESETS

    shapes = ", ".join(f"{c.name} ({c.multipliers} multipliers, {' and '.join(families(c))})" for c in PRESETS.values())
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument("--preset", metavar="NAME", help=f"accelerator preset: {shapes}")
    text = "JSON object of the parameters that differ from the preset \"base\" (default p2vit); see vitforge presets"
    group.add_argument("--config", metavar="F.json", help=text)


def schedule(parser: argparse.ArgumentParser) -> None:
    from vitforge_sw.compiler.options import ENGINES, PIPELINING

    group = parser.add_argument_group("schedule")
    group.add_argument(
        "--pipelining",
        choices=PIPELINING,
        default="both",
        help="P2-ViT's ablation: overlap both within and between layers (default), only one of them, or none "
        "(EfficientViT: both or none)",
    )
    group.add_argument(
        "--engines",
        choices=ENGINES,
        default="both",
        help="both engines (default); Trio-ViT's ablation: all on R-MAC (EfficientViT), or on MAT what it can "
        "(R-MAC the depthwise layers, K^T V and sums, one layer after the other)",
    )
    group.add_argument(
        "--batch",
        type=positive,
        default=1,
        metavar="N",
        help="of an EfficientViT: images of a job, at most the preset's cores; the classifier's weights are read once "
        "a job (default: %(default)s)",
    )
    group.add_argument(
        "--defer",
        action="store_true",
        help="of an EfficientViT: the classifier, bound by its weights, runs beside the next job's first layers; "
        "results come one job later, so a stream ends with one more job (default: each job ends with its own results)",
    )


def schedule_choices(args):
    """CompileOptions of the options of ``schedule``."""
    from vitforge_sw.compiler.options import CompileOptions

    return CompileOptions(**{name: getattr(args, name) for name in ("pipelining", "engines", "batch", "defer")})


def memory(parser: argparse.ArgumentParser) -> None:
    text = "DRAM bandwidth (default: 64, at most what the ports take)"
    parser.add_argument("--bytes-per-cycle", type=positive, metavar="N", help=text)
    text = "DRAM latency in cycles (default: %(default)s)"
    parser.add_argument("--latency", type=positive, default=100, metavar="N", help=text)


def output_file(path: str | None) -> None:
    """Refuse a file that could not be written, before the work rather than after it."""
    if path is None:
        return
    folder = Path(path).parent
    if Path(path).is_dir():
        raise ValueError(f"output {path}: must be a file, is a folder")
    if not folder.is_dir():
        raise ValueError(f"output {path}: folder {folder} must exist")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"output {path}: folder {folder} must be writable")


def output_folder(path: str) -> None:
    """Refuse a folder that could not be made or written, before the work; makes nothing."""
    folder = Path(path)
    try:
        folder.resolve()
    except (RuntimeError, OSError):  # RuntimeError before Python 3.13
        raise ValueError(f"output {path}: must be a folder, is a loop of links") from None
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"output {path}: must be a folder, but {folder} is a file")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"output {path}: folder {folder} must be writable")


def say(notes: list[str]) -> None:
    """Print what a step had to say."""
    for note in notes:
        print(note)


def table(rows: list[tuple], header: tuple, right: tuple[int, ...] = ()) -> str:
    """Aligned columns; those numbered in ``right`` to the right."""
    cells = [tuple(str(c) for c in r) for r in (header, *rows)]
    widths = [max(len(r[i]) for r in cells) for i in range(len(header))]
    pad = [str.rjust if i in right else str.ljust for i in range(len(header))]
    return "\n".join("  ".join(f(c, w) for f, c, w in zip(pad, r, widths)).rstrip() for r in cells)


def write_json(path: str | Path | None, data: dict) -> None:
    """Atomically; nothing without a path."""
    if path:
        from vitforge_sw.graph.serialize import write_atomic

        write_atomic(path, (json.dumps(data, indent=1) + "\n").encode())
