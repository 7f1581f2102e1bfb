"""Mutation of the blocks of `tiny_hybrid` against their nearest benches; writes docs/mutation.md.

    .venv/bin/python scripts/mutation.py record tests/hw/host tests/hw/units ...   what the benches do, once
    .venv/bin/python scripts/mutation.py nearest [BLOCK ...]                       beginnings of names
    .venv/bin/python scripts/mutation.py equivalent [BLOCK ...]                    survivors that change nothing
    .venv/bin/python scripts/mutation.py report

Results go to build/mutation/results.json after every block; what is there is not done again.
"""

import argparse
import json
import pickle
import re
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
    """Block -> plays, alone (by its own component's tests), seconds, mutants: list of what, command, nearest (what
    killed it, or null), equivalent (proved to change nothing; null: not tried)."""
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
        pytest.main(["-q", "--continue-on-collection-errors", "-p", "no:cacheprovider", "--timeout=900", *folders])
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
            text, mutations = mutate_block(bench.sources, bench.block, MUTANTS, 1)
            killed = bench.judge(mutations, text)
            mutants = [
                {"what": m.what, "command": m.command, "nearest": killed.get(m.number), "equivalent": None}
                for m in mutations
            ]
            found[block] = {
                "plays": len(bench), "alone": bench.block != block, "seconds": round(time.monotonic() - begin),
                "mutants": mutants,
            }  # fmt: skip
            save(found)
            print(f"{block}: {len(killed)} of {len(mutants)}, {len(bench)} plays", flush=True)


def equivalent_step(chosen):
    from vitforge_sim.mutation.equivalent import equivalent
    from vitforge_sim.mutation.make import Mutation
    from vitforge_sim.mutation.nearest import Nearest

    sources, recordings, found = emit(CONFIG), pickle.loads(RECORDINGS.read_bytes()), results()
    for block, entry in found.items():
        if not any(block.startswith(start) for start in chosen or [""]):
            continue
        bench = Nearest(block, sources, recordings)
        for mutant in entry["mutants"]:
            if mutant["nearest"] is None and mutant["equivalent"] is None:
                mutant["equivalent"] = equivalent(bench.sources, Mutation(0, bench.block, mutant["command"]))
                save(found)
        print(f"{block}: {sum(bool(m['equivalent']) for m in entry['mutants'])} equivalent", flush=True)


def control(block: str) -> bool:
    """Registers, boot, sequencers, DMA, queues and arbiters: 85 % must be killed; of arithmetic 90 %."""
    return not re.search(r"cell|dsp|tree|lane|rsqrt|pack|divis|booth|post|softmax|layernorm|array|ln_|square", block)


def report(_):
    found = results()
    text = (ROOT / "docs" / "mutation.md").read_text()
    head = text[: text.index("## Result")]
    rows, sums = [], {True: [0, 0, 0, 0], False: [0, 0, 0, 0]}
    for block, entry in found.items():
        mutants = entry["mutants"]
        killed, same = sum(m["nearest"] is not None for m in mutants), sum(bool(m["equivalent"]) for m in mutants)
        for i, n in enumerate((1, len(mutants), killed, same)):
            sums[control(block)][i] += n
        kind, judge = ("control" if control(block) else "arithmetic"), ("its own" if entry["alone"] else "larger")
        share = f"{100 * killed / max(1, len(mutants) - same):.0f} %"
        rows.append(
            f"| `{block}` | {kind} | {judge} | {entry['plays']} | {len(mutants)} | {killed} | {same} | {share} |"
        )
    totals = [
        f"| {kind} | {n} | {count} | {killed} | {same} | {100 * killed / max(1, count - same):.1f} % |"
        for kind, (n, count, killed, same) in (("arithmetic", sums[False]), ("control", sums[True]))
    ]
    lines = [
        "## Result", "",
        "| | blocks | mutants | killed | proved equivalent | killed of the others |", "|---|---|---|---|---|---|",
        *totals, "", "| block | kind | plays of | plays | mutants | killed | equivalent | killed of the others |",
        "|---|---|---|---|---|---|---|---|", *rows, "",
        "## Survivors", "", "Name of the net in brackets; those that are proved equivalent are left out.", "",
    ]  # fmt: skip
    for block, entry in found.items():
        left = [m["what"] for m in entry["mutants"] if m["nearest"] is None and not m["equivalent"]]
        lines += [f"- `{block}`: " + "; ".join(f"`{what}`" for what in left)] if left else []
    (ROOT / "docs" / "mutation.md").write_text(head + "\n".join([*lines, ""]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("record", "nearest", "equivalent", "report"))
    parser.add_argument("which", nargs="*", help="folders of tests, or beginnings of blocks' names")
    chosen = parser.parse_args()
    steps = {"record": record, "nearest": nearest_step, "equivalent": equivalent_step, "report": report}
    steps[chosen.step](chosen.which)
