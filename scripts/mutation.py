"""Mutation of the blocks of `tiny_hybrid` against their nearest benches; writes docs/mutation.md.

    .venv/bin/python scripts/mutation.py record tests/hw/host tests/hw/units ...   what the benches do, once
    .venv/bin/python scripts/mutation.py nearest [BLOCK ...]                       beginnings of names
    .venv/bin/python scripts/mutation.py report

Results go to build/mutation/results.json after every block; what is there is not done again.
"""

import json
import pickle
import sys
import time
from pathlib import Path

from vitforge_hw.arch.config import get_config
from vitforge_hw.verilog import emit
from vitforge_sim.mutation.make import mutate_block

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "mutation"
RESULTS, RECORDINGS = FOLDER / "results.json", FOLDER / "recordings.pickle"
CONFIG = get_config("tiny_hybrid")
MUTANTS = 40  #: of each block


def results() -> dict[str, dict]:
    """Block -> plays, seconds, mutants: list of what, command, nearest (what killed it, or null)."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(found: dict):
    FOLDER.mkdir(parents=True, exist_ok=True)
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(found, indent=1))
    new.replace(RESULTS)


def record(folders):
    """Run tests with `tiny` being `tiny_hybrid`, so that their blocks are those of the mutants.

    Some tests say what only `tiny` has and fail: what they did until then is not kept."""
    import pytest

    import vitforge_hw.arch.config as config
    from vitforge_sim.mutation.nearest import recording

    original = config.get_config
    config.get_config = lambda name: original("tiny_hybrid" if name == "tiny" else name)
    found = pickle.loads(RECORDINGS.read_bytes()) if RECORDINGS.exists() else {}
    with recording(found):
        pytest.main(["-q", "-p", "no:cacheprovider", "--timeout=300", *folders])
    FOLDER.mkdir(parents=True, exist_ok=True)
    RECORDINGS.write_bytes(pickle.dumps(found))


def nearest_step(chosen):
    from vitforge_sim.mutation.nearest import Nearest

    sources, recordings, found = emit(CONFIG), pickle.loads(RECORDINGS.read_bytes()), results()
    for start in chosen or [""]:
        for block in (n.removesuffix(".v") for n in sources if n.startswith(start)):
            if block in found:
                continue
            begin, bench = time.monotonic(), Nearest(block, sources, recordings)
            if not len(bench):
                continue
            text, mutations = mutate_block(sources, block, MUTANTS, 1)
            killed = bench.judge(mutations, text)
            mutants = [{"what": m.what, "command": m.command, "nearest": killed.get(m.number)} for m in mutations]
            found[block] = {"plays": len(bench), "seconds": round(time.monotonic() - begin), "mutants": mutants}
            save(found)
            print(f"{block}: {len(killed)} of {len(mutants)}, {len(bench)} plays", flush=True)


def report(_):
    found = results()
    text = (ROOT / "docs" / "mutation.md").read_text()
    head = text[: text.index("## Result")]
    rows, total, dead = [], 0, 0
    for block, entry in found.items():
        mutants = entry["mutants"]
        killed = sum(m["nearest"] is not None for m in mutants)
        total, dead = total + len(mutants), dead + killed
        share = 100 * killed / len(mutants)
        rows.append(f"| `{block}` | {len(mutants)} | {killed} | {share:.0f} % | {entry['plays']} |")
    lines = [
        "## Result", "",
        f"{len(found)} blocks, {total} mutants, {dead} killed. Equivalent mutants are not taken out.", "",
        "| block | mutants | killed | share | plays |", "|---|---|---|---|---|", *rows, "",
        "## Survivors", "", "Name of the net in brackets.", "",
    ]  # fmt: skip
    for block, entry in found.items():
        left = [m["what"] for m in entry["mutants"] if m["nearest"] is None]
        lines += [f"- `{block}`: " + "; ".join(f"`{what}`" for what in left)] if left else []
    (ROOT / "docs" / "mutation.md").write_text(head + "\n".join([*lines, ""]))


if __name__ == "__main__":
    step, *rest = sys.argv[1:] or ["report"]
    {"record": record, "nearest": nearest_step, "report": report}[step](rest)
