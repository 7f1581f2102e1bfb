"""Writes docs/silicon.json: what `vitforge synth` counts for presets, the table that tests compare with.

    .venv/bin/python scripts/silicon.py tiny p2vit

Prints what changed since the table was last written; docs/silicon.md gets a line of reason for each change. With the
synth.json of an earlier `vitforge synth` in place of a preset, that run's figures are taken.
"""

import argparse
import json
import tempfile
from pathlib import Path

from vitforge_hw.arch.config import get_config
from vitforge_sim.synth.parts import PARTS, part

TABLE = Path(__file__).resolve().parents[1] / "docs" / "silicon.json"
KEPT = (
    "config_hash",
    "tool",
    "target",
    "multipliers",
    "total",
    "fmax_mhz",
    "fmax_mhz_148",
    "fmax_mhz_250",
    "max_fanout",
)
WITH_MODULES = "tiny"  #: the preset whose modules the table holds


def changes(old: dict, new: dict) -> list[str]:
    """One line per resource of the total that differs."""
    before, after = old.get("total", {}), new["total"]
    return [f"{r}: {before.get(r)} -> {n} ({n - before.get(r, 0):+g})" for r, n in after.items() if before.get(r) != n]


def misfits(total: dict) -> dict[str, str]:
    """xcup part -> "fits", or what there is too much of."""
    return {p.name: ", ".join(p.misfits(total)) or "fits" for p in PARTS.values() if p.target == "xcup"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "a preset's name, or the synth.json of an earlier `vitforge synth`"
    parser.add_argument("subjects", metavar="PRESET|FILE.json", nargs="+", help=text)
    subjects = parser.parse_args().subjects
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    for subject in subjects:
        if subject.endswith(".json"):
            info = json.loads(Path(subject).read_text())
        else:
            from vitforge.synth import synthesise

            with tempfile.TemporaryDirectory() as folder:
                info = synthesise(get_config(subject), Path(folder), part(None, "xcup"), progress=print)
        new = {key: info[key] for key in KEPT}
        if info["preset"] == WITH_MODULES:
            new["modules"] = info["modules"]
        for line in changes(table.get(info["preset"], {}), new):
            print(f"{info['preset']}: {line}")
        table[info["preset"]] = new
        print(f"{info['preset']}: {misfits(new['total'])}")
    TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
