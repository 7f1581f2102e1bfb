"""docs/fuzzing.md from the campaign's table: counts, what was refused, which refusals no input can reach, and why."""

import json
from pathlib import Path

from .refusals import MODULES

#: refusals that no file can reach: (file, words of the source) -> who can
UNREACHABLE = {
    ("ops/registry.py", "is declared twice"): "two operations of this package under one name, when it is imported",
    ("ops/registry.py", "unknown node type"): "a graph made in Python with a node of another package's",
    ("ops/entries.py", "m1 must be 1.."): "the compiler's parameters, given constants of no checked graph",
    ("arch/config.py", "weight_row_bytes} bytes must be whole beats"): "no choice of word, width and masters",
}

WHOLE = 1_000_000  #: inputs of a run of all families, the commands not counted
_TEXT = """# Fuzzing: every loader, with files changed inside their structure

Written by `scripts/fuzz.py --page docs/fuzzing.md`; `--resume` goes on. Checkpoints, integer models, configurations,
labels, images and builds are changed where a rule could break (names, shapes, kinds of numbers, references, chunks,
instructions); lengths, checksums and hashes are made again, so that the code behind the container is reached. Each
input must be taken or refused in one printable line, within 20 CPU seconds; what is taken is checked as well (the
classes that the folders' names say, weights equal to the file's, the same model or configuration when it is written and
read again). A refusal is a place of the loaders' source: what is raised there, a call of a rule, a text of a table.

| family | inputs | taken | past the container | refusals reached | ms an input | longest, s | failures |
|---|---|---|---|---|---|---|---|
"""


def reason(place: str, source: str) -> str:
    """Why no input reaches a refusal; empty if none is known."""
    file = place.rpartition(":")[0]
    return next((why for (end, words), why in UNREACHABLE.items() if file.endswith(end) and words in source), "")


def missing(table: dict) -> dict[str, str]:
    """Refusals that were not reached though some input can: place -> source."""
    rows = (table.get(name, {}).get("not_reached", {}) for name in MODULES)
    return {place: source for row in rows for place, source in row.items() if not reason(place, source)}


def page(table: dict) -> str:
    """The whole page."""
    text, why, total = _TEXT, [], 0
    for name in (*MODULES, "commands"):
        if name not in table:
            continue
        t = table[name]
        n, known, open_ = t["inputs"], len(t["refusals"]), t["not_reached"]
        can = known - sum(bool(reason(*item)) for item in open_.items())
        reached = f"{len(t['reached'])} of {can}" if known else ""
        total += n * (name != "commands")
        text += (f"| {name} | {n:,} | {t['taken']:,} | {100 * (1 - t['container'] / n):.1f} % | "
                 f"{reached} | {1000 * t['seconds'] / n:.2f} | "
                 f"{t['slowest'][0]:.2f} | {len(t['failures'])} |\n")  # fmt: skip
        why += [f"- `{place.rpartition('/')[2].rpartition(':')[0]}`, `{_short(source)}`: {reason(place, source)}"
                for place, source in open_.items() if reason(place, source)]  # fmt: skip
    text += f"\n{total:,} inputs, at most {table['megabytes']:,} MB of a process (PyTorch and timm included)."
    text += "\n" if total >= WHOLE else f" A whole run takes {WHOLE:,}: this one was ended before.\n"
    if left := missing(table):
        text += "\nNot reached by this run:\n\n" + "".join(f"- `{p}`: `{_short(s)}`\n" for p, s in left.items())
    if why:
        text += "\nRefusals that no file can reach, not counted above, and who can:\n\n" + "\n".join(why) + "\n"
    return text


def _short(source: str) -> str:
    source = source.replace("`", "'")
    return source if len(source) <= 90 else source[:87] + "..."


def write(table: dict, path: Path) -> None:
    """The page, and the table beside it."""
    path.write_text(page(table))
    kept = {n: {k: v for k, v in t.items() if k not in ("reached", "refusals")} if isinstance(t, dict) else t
            for n, t in table.items()}  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")
