"""Mutation of the blocks of `tiny_hybrid` against their nearest benches; writes docs/mutation.md.

    .venv/bin/python scripts/mutation.py record tests/hw/host tests/hw/units ...   what the benches do, once
    .venv/bin/python scripts/mutation.py nearest [BLOCK ...]                       beginnings of names
    .venv/bin/python scripts/mutation.py again [BLOCK ...]                         survivors, on what was recorded since
    .venv/bin/python scripts/mutation.py whole [BLOCK ...]                         survivors in whole runs
    .venv/bin/python scripts/mutation.py system [BLOCK ...]                        what they leave: histories, faults
    .venv/bin/python scripts/mutation.py equivalent [BLOCK ...]                    survivors that change nothing
    .venv/bin/python scripts/mutation.py report

Results go to docs/mutation.json after every block; what is there is not done again, but for blocks whose Verilog has
changed. Why a survivor is none of the tests' business stands in sim/vitforge_sim/mutation/survivors/*.toml; the report
has it, and what has no reason.
"""

import argparse
import hashlib
import json
import pickle
from pathlib import Path
from unittest import mock

from vitforge_hw.arch.config import get_config
from vitforge_hw.emit import Modules
from vitforge_hw.verilog import emit
from vitforge_sim.mutation import reasons
from vitforge_sim.mutation.make import mutate_block
from vitforge_sim.run.cache import locked_path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "mutation"
RESULTS, RECORDINGS = ROOT / "docs" / "mutation.json", FOLDER / "recordings.pickle"
CONFIG = get_config("tiny_hybrid")
MUTANTS = 40  #: of each block
#: beginnings of the modules that compute; the others move, order and watch
ARITHMETIC = (
    "units.", "engines.pe_array", "engines.rmac_array", "layernorm.", "attention.shifter", "attention.softmax",
    "post.op", "post.token", "post.post",
)  # fmt: skip
GROUP = 12  #: blocks whose mutants share a simulation: each mutant slows it
#: beginnings of the modules whose survivors also go through histories of jobs and faults of the system
SYSTEM = ("host.", "top", "core", "control.")


def results() -> dict[str, dict]:
    """Block -> home (its module in the sources), verilog (digest of its text), mutants, killed, equivalent (proved):
    how many; survivors: list of what, command, tried (steps that neither killed nor proved it)."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(found: dict, block: str):
    """Keep one block's entry; processes that work on other blocks do the same."""
    with locked_path(RESULTS):
        new = RESULTS.with_suffix(".new")
        new.write_text(json.dumps(results() | {block: found[block]}, indent=1) + "\n")
        new.replace(RESULTS)


def settle(entry: dict, mutant: dict, how: str):
    """A survivor that is none any more: "killed" or "equivalent"."""
    entry["survivors"].remove(mutant)
    entry[how] += 1


def digest(sources: dict[str, str], block: str) -> str:
    return hashlib.sha256(sources[f"{block}.v"].encode()).hexdigest()[:16]


def record(folders):
    """Run tests with `tiny` being `tiny_hybrid`, so that their blocks are those of the mutants.

    Slow ones and those of the campaign too. Some say what only `tiny` has and fail: what they did is not kept."""
    import pytest

    from vitforge_sim.mutation.nearest import recording

    tiny_is_hybrid()
    found = pickle.loads(RECORDINGS.read_bytes()) if RECORDINGS.exists() else {}
    with recording(found):
        options = "-q --continue-on-collection-errors -p no:cacheprovider --timeout=900".split()
        pytest.main([*options, "-m", "", "--ignore-glob=*test_formal.py", *folders])
    FOLDER.mkdir(parents=True, exist_ok=True)
    RECORDINGS.write_bytes(pickle.dumps(found))


def tiny_is_hybrid():
    """For every module that is loaded from now on."""
    import vitforge_hw.arch.config as config

    original = config.get_config
    config.get_config = lambda name: original("tiny_hybrid" if name == "tiny" else name)


def design() -> tuple[dict[str, str], dict[str, str]]:
    """The Verilog of CONFIG, and block -> the module of the sources that describes it."""
    found: dict[str, str] = {}
    add = Modules.add

    def noted(self, component, name, ports=None):
        found[name] = type(component).__module__.removeprefix("vitforge_hw.")
        return add(self, component, name, ports)

    with mock.patch.object(Modules, "add", noted):
        return emit(CONFIG), found


def is_control(home: str) -> bool:
    """Registers, boot, sequencers, DMA, memories, queues and arbiters, of which 85 % must be killed; not ARITHMETIC."""
    return not home.startswith(ARITHMETIC)


def nearest_step(chosen, again: bool = False):
    """Plays to all mutants of new blocks; ``again``: to the survivors of those that are done."""
    from vitforge_sim.mutation.nearest import Nearest

    (sources, home), recordings, found = design(), pickle.loads(RECORDINGS.read_bytes()), results()
    for start in chosen or [""]:
        for block in (n.removesuffix(".v") for n in sources if n.startswith(start)):
            known = found.get(block, {}).get("verilog") == digest(sources, block)
            if known != again:
                continue
            bench = Nearest(block, sources, recordings)
            text, mutations = mutate_block(sources, block, MUTANTS, 1)
            if not again:
                found[block] = {
                    "home": home[block], "verilog": digest(sources, block), "mutants": len(mutations), "killed": 0,
                    "equivalent": 0,
                    "survivors": [{"what": m.what, "command": m.command, "tried": []} for m in mutations],
                }  # fmt: skip
            entry = found[block]
            left = {m["what"]: m for m in entry["survivors"]}
            killed = bench.judge([m for m in mutations if m.what in left], text)
            for mutation in mutations:
                if mutation.number in killed:
                    settle(entry, left[mutation.what], "killed")
            save(found, block)
            print(f"{block}: {len(killed)} killed, {len(entry['survivors'])} left, {len(bench)} plays, "
                  f"{bench.alone} of its own component", flush=True)  # fmt: skip


def again_step(chosen):
    nearest_step(chosen, again=True)


def whole_step(chosen, step: str = "whole"):
    """Survivors in the top level, those of GROUP blocks in one simulation: demo models, or (``step`` "system", blocks
    of SYSTEM) histories and faults."""
    import mutation_judges

    from vitforge_sim.mutation import whole

    def waiting(block: str) -> list[dict]:
        if step == "system" and not found[block]["home"].startswith(SYSTEM):
            return []
        return [m for m in found[block]["survivors"] if step not in m["tried"]]

    sources, found = emit(CONFIG), results()
    blocks = [b for b in found if any(b.startswith(start) for start in chosen or [""]) and waiting(b)]
    tiny_is_hybrid()
    for first in range(0, len(blocks), GROUP):
        mutated, numbers = {}, []
        for block in blocks[first : first + GROUP]:
            mutated[block], mutations = mutate_block(sources, block, MUTANTS, 1 + len(numbers))
            entry = {m["what"]: m for m in waiting(block)}
            numbers += [(m.number, block, entry.get(m.what)) for m in mutations]
        bench = whole.build(CONFIG, sources, mutated, 1 << 24)
        judges = getattr(mutation_judges, "system_runs" if step == "system" else "model_runs")(CONFIG, bench)
        if said := whole.judge(bench, judges, 0):
            raise SystemExit(f"mutation: the design without a mutant fails: {said}")
        for number, block, mutant in numbers:
            if mutant is not None:
                killed_by = whole.judge(bench, judges, number)
                if killed_by:
                    settle(found[block], mutant, "killed")
                else:
                    mutant["tried"].append(step)
                save(found, block)
                print(f"{block} {mutant['what']}: {killed_by or 'survives'}", flush=True)


def system_step(chosen):
    whole_step(chosen, "system")


def equivalent_step(chosen):
    from vitforge_sim.mutation.equivalent import equivalent
    from vitforge_sim.mutation.make import Mutation

    sources, found = emit(CONFIG), results()
    for block, entry in sorted(found.items(), key=lambda item: len(sources[f"{item[0]}.v"])):
        if not any(block.startswith(start) for start in chosen or [""]):
            continue
        before = entry["equivalent"]
        for mutant in [m for m in entry["survivors"] if "equivalent" not in m["tried"]]:
            if equivalent(sources, Mutation(0, block, mutant["command"])):
                settle(entry, mutant, "equivalent")
            else:
                mutant["tried"].append("equivalent")
            save(found, block)
        print(f"{block}: {entry['equivalent'] - before} more equivalent", flush=True)


def report(_):
    """Of the blocks that the design has; says which have changed since they were judged."""
    sources, _ = design()
    found, known = {b: entry for b, entry in results().items() if f"{b}.v" in sources}, reasons.load()
    stale = [b for b, entry in found.items() if entry["verilog"] != digest(sources, b)]
    text = (ROOT / "docs" / "mutation.md").read_text()
    head = text[: text.index("## Result")]
    rows, sums = [], {True: [0] * 5, False: [0] * 5}
    for block, entry in found.items():
        why = sum(any(reason.covers(block, m["what"]) for reason in known) for m in entry["survivors"])
        counts = (entry["mutants"], entry["killed"], entry["equivalent"], why)
        for i, n in enumerate((1, *counts)):
            sums[is_control(entry["home"])][i] += n
        kind = "control" if is_control(entry["home"]) else "arithmetic"
        rows.append(f"| `{block}` | {kind} | {' | '.join(map(str, counts))} | {score(*counts[:3])} |")
    totals = [
        f"| {kind} | {' | '.join(map(str, counts))} | {score(*counts[1:4])} |"
        for kind, counts in (("arithmetic", sums[False]), ("control", sums[True]))
    ]
    titles = "mutants | killed | proved equivalent | explained | killed of those not equivalent |"
    lines = [
        "## Result", "",
        *([f"Judged on earlier Verilog, to be judged again: {', '.join(stale)}.", ""] if stale else []),
        f"| | blocks | {titles}", "|---|---|---|---|---|---|---|", *totals, "",
        f"| block | kind | {titles}", "|---|---|---|---|---|---|---|", *rows, "",
        *survivors([(block, m["what"]) for block, entry in found.items() for m in entry["survivors"]]),
    ]  # fmt: skip
    (ROOT / "docs" / "mutation.md").write_text(head + "\n".join([*lines, ""]))
    print("\n".join(totals))


def survivors(left: list[tuple[str, str]]) -> list[str]:
    """Lines of the report on (block, what), by reason."""
    by_reason, without = reasons.explained(reasons.load(), left)

    def listed(these: list[tuple[str, str]]) -> str:
        by_block: dict[str, list[str]] = {}
        for block, what in these:
            by_block.setdefault(block, []).append(f"`{what}`")
        return "; ".join(f"`{block}`: {', '.join(whats)}" for block, whats in by_block.items())

    return [
        "## Survivors", "",
        "Name of the net in brackets; what is proved equivalent is left out. "
        f"{len(left) - len(without)} are explained, {len(without)} are not.", "",
        *(f"- {reason.why} ({len(these)}) {listed(these)}" for reason, these in by_reason.items()),
        *([f"- Not explained ({len(without)}): {listed(without)}"] if without else []),
    ]  # fmt: skip


def score(mutants: int, killed: int, same: int) -> str:
    return f"{100 * killed / max(1, mutants - same):.1f} %"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("record", "nearest", "again", "whole", "system", "equivalent", "report"))
    parser.add_argument("which", nargs="*", help="folders of tests, or beginnings of blocks' names")
    chosen = parser.parse_args()
    steps = {
        "record": record, "nearest": nearest_step, "again": again_step, "whole": whole_step, "system": system_step,
        "equivalent": equivalent_step, "report": report,
    }  # fmt: skip
    steps[chosen.step](chosen.which)
