"""Writes docs/models.md: which timm models vitforge takes, and which preset holds them.

    .venv/bin/python scripts/models_page.py

What `vitforge check NAME` says, for the names below: shapes only, no weights. Names of equal shapes are compiled once.
"""

import sys
import time
from pathlib import Path

from vitforge import api
from vitforge.estimation import model_shapes
from vitforge.fit import Fit, fits
from vitforge_hw.arch.config import PRESETS
from vitforge_sw.graph.serialize import graph_hash

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
NAMES = """
deit_tiny_patch16_224 deit_small_patch16_224 deit_base_patch16_224 deit_base_patch16_384
deit_tiny_distilled_patch16_224 deit_small_distilled_patch16_224 deit_base_distilled_patch16_224
deit3_small_patch16_224 deit3_small_patch16_384 deit3_medium_patch16_224 deit3_base_patch16_224 deit3_large_patch16_224
vit_tiny_patch16_224 vit_tiny_patch16_384 vit_small_patch16_224 vit_small_patch32_224 vit_small_patch32_384
vit_small_patch16_384 vit_base_patch16_224 vit_base_patch32_224 vit_base_patch32_384 vit_base_patch16_384
vit_base_patch8_224 vit_large_patch16_224 vit_large_patch32_384 vit_huge_patch14_224
vit_base_patch16_gap_224 vit_medium_patch16_reg4_gap_256 vit_little_patch16_reg4_gap_256 vit_wee_patch16_reg1_gap_256
vit_base_patch16_clip_224 vit_base_patch16_siglip_gap_224 vit_small_patch14_dinov2 vit_tiny_r_s16_p8_224 test_vit
efficientvit_b0 efficientvit_b1 efficientvit_b2 efficientvit_b3 efficientvit_l1 efficientvit_m0
swin_tiny_patch4_window7_224 beit_base_patch16_224 resnet50
""".split()
HEADER = """# Models of timm: fits or does not

What `vitforge check NAME` says of {names} names, written by one command ({seconds:.0f} s of one core):

    {command}

"Fits" is the compiler's own allocation on the model's shapes (program, activations, weights, widths); nothing here is
simulated. What does not fit a preset may fit a larger one: `vitforge check NAME --preset P -o F.json` writes the
configuration that holds it. "no: " stands before layers that vitforge does not run, layer and reason.

"""
COLUMNS = ("model", "layers", "fits", "in the way where it fits none")
RULE = "|".join(["", *["---"] * len(COLUMNS), ""])


class Table:
    """Rows of the page; remembers the verdicts of shapes."""

    def __init__(self) -> None:
        self.known: dict[str, list[Fit]] = {}

    def row(self, name: str) -> str:
        """One line of the table."""
        layers, verdicts, why = self.verdict(name)
        where = [preset for preset, fits in zip(PRESETS, verdicts) if fits]
        return f"| {' | '.join([f'`{name}`', str(layers), ', '.join(where), why])} |"

    def verdict(self, name: str) -> tuple[int, list[bool], str]:
        """(layers, fits of every preset, what is in the way)."""
        rows = api.check(name)
        if refused := [r for r in rows if not r.supported]:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            return len(rows), [], f"no: {refused[0].layer}: {refused[0].reason}{more}"
        graph = model_shapes(name)
        key = graph_hash(graph)
        if key not in self.known:
            self.known[key] = fits(graph, PRESETS.values())
        found = self.known[key]
        return len(rows), [f.fits for f in found], "" if any(f.fits for f in found) else hindrance(found)


def hindrance(found: list[Fit]) -> str:
    """What the preset with the most memory among those with the model's units lacks, in short."""
    last = max((f for f in found if " needs a preset with " not in f.text), key=lambda f: f.config.act_rows)
    return f"{last.config.name}: {last.text.partition(' (')[0].removeprefix('model: ')}"


def main(path: Path = PAGE, names: list[str] = NAMES) -> None:
    table = Table()
    lines = []
    for name in names:
        lines.append(table.row(name))
        print(f"{time.process_time():5.1f} s {lines[-1]}", flush=True)
    text = HEADER.format(names=len(names), seconds=time.process_time(), command="python scripts/models_page.py")
    path.write_text("\n".join([f"{text}| {' | '.join(COLUMNS)} |", RULE, *lines]) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
