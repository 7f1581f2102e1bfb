"""Line, toggle and functional coverage of `tiny_hybrid`'s Verilog over the tests; writes docs/coverage.md.

    .venv/bin/python scripts/coverage.py run [TESTS ...] run tests (default: all that simulate) and add their counts
    .venv/bin/python scripts/coverage.py report             docs/coverage.md and docs/coverage-missed.txt; fails < 90 %

Counts lie in build/coverage/counts.json and add up over calls, as long as the Verilog stays the same.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from vitforge_hw.arch.config import get_config
from vitforge_hw.verilog import emit
from vitforge_sim.coverage import waivers
from vitforge_sim.coverage.points import Coverage, Point, modules
from vitforge_sim.run import functional
from vitforge_sim.run.cache import cache_folder

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "coverage"
COUNTS, DATA = FOLDER / "counts.json", FOLDER / "data"
MISSED = ROOT / "docs" / "coverage-missed.txt"  #: a line for each signal or branch of which some point is missed
CONFIG = get_config("tiny_hybrid")
TESTS = ("tests/hw", "tests/sim", "tests/drivers", "tests/e2e")
SAVE_S = 120  #: what an interrupted run loses at most
LEAST = 0.9  #: of the points of each kind that are not waived

#: tests of `tiny` run `tiny_hybrid` instead; what only `tiny` has makes some of them fail, their counts stay good
RUN = """
import sys, pytest
import vitforge_hw.arch.config as config
original = config.get_config
config.get_config = lambda name: original("tiny_hybrid" if name == "tiny" else name)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--timeout=3000", *sys.argv[1:]]))
"""


def design() -> dict[str, str]:
    """The Verilog whose points count: the accelerator's, and its functional points'."""
    return emit(CONFIG) | {f"{functional.MODULE}.v": functional.verilog(CONFIG)}


def by_kind(counts: dict[Point, int]) -> tuple[dict[Point, int], dict[str, int]]:
    """Counts of the accelerator's own points, and those of the functional ones by name."""
    own = {point: count for point, count in counts.items() if point.module != functional.MODULE}
    rises = {p.name.removesuffix(":0->1"): count for p, count in counts.items() if p not in own and "0->1" in p.name}
    return own, {name: rises.get(name, 0) for name in functional.points(CONFIG)}


def loaded(sources: dict[str, str]) -> Coverage:
    """The counts so far, empty if they belong to other Verilog."""
    coverage = Coverage(sources)
    if COUNTS.exists():
        saved = json.loads(COUNTS.read_text())
        same = {name for name, identity in identities(sources).items() if saved["modules"].get(name) == identity}
        coverage.counts = {Point(*point): count for *point, count in saved["counts"] if point[0] in same}
    return coverage


def identities(sources: dict[str, str]) -> dict[str, str]:
    return {name: same for text in sources.values() for name, _, _, same in modules(text)}


def save(coverage: Coverage, sources: dict[str, str]) -> None:
    new = COUNTS.with_suffix(".new")
    points = [[p.module, p.kind, p.line, p.name, count] for p, count in coverage.counts.items()]
    new.write_text(json.dumps({"modules": identities(sources), "counts": points}))
    new.replace(COUNTS)


def run(tests) -> int:
    """Tests in their own process; what they leave is added while they run, and kept every SAVE_S seconds."""
    DATA.mkdir(parents=True, exist_ok=True)
    sources = design()
    coverage, done = loaded(sources), threading.Event()
    tests = subprocess.Popen([sys.executable, "-c", RUN, *tests], env=os.environ | {"VITFORGE_COVERAGE": str(DATA)})

    def absorb():
        saved = time.monotonic()
        while not done.wait(2):
            coverage.absorb(DATA, cache_folder())
            if time.monotonic() - saved > SAVE_S:
                save(coverage, sources)
                saved = time.monotonic()

    worker = threading.Thread(target=absorb)
    worker.start()
    status = tests.wait()
    done.set()
    worker.join()
    coverage.absorb(DATA, cache_folder())
    save(coverage, sources)
    own, wanted = by_kind(coverage.counts)
    for kind, (reached, total) in waivers.shares(own).items():
        print(f"{kind}: {reached} of {total}, {reached / max(total, 1):.1%}")
    print(f"functional: {sum(map(bool, wanted.values()))} of {len(wanted)}")
    return status


def report() -> int:
    own, wanted = by_kind(loaded(design()).counts)
    if not own:
        raise SystemExit("coverage: no counts of this Verilog: scripts/coverage.py run first")
    left_out = waivers.waived(own, waivers.load())
    whole, plain = waivers.shares(own, left_out), waivers.shares(own)
    missed = sorted(point for point, count in own.items() if not count and point not in left_out)
    never = [name for name, count in wanted.items() if not count]
    heading = "# module, kind, signal or branch (line of the module): missed of all points"
    MISSED.write_text("\n".join([heading, *signals(own, missed), ""]))
    by_module = collections.defaultdict(dict)
    for point, count in own.items():
        by_module[point.module][point] = count
    unseen = sorted(set(identities(emit(CONFIG))) - set(by_module))
    rows = []
    for module, counts in sorted(by_module.items()):
        cells = [f"{r} of {t} ({r / t:.1%})" if t else "-" for r, t in waivers.shares(counts, left_out).values()]
        rows.append(f"| `{module}` | {cells[0]} | {cells[1]} |")
    reasons = collections.Counter((w.module, w.name, w.reason) for w in left_out.values())
    lines = [
        *(
            f"- {kind}: {reached} of {total} points, {reached / total:.1%} "
            f"(with the waived ones {plain[kind][0] / plain[kind][1]:.1%} of {plain[kind][1]})"
            for kind, (reached, total) in whole.items()
        ),
        f"- functional: {len(wanted) - len(never)} of {len(wanted)} points, {1 - len(never) / len(wanted):.1%}",
        f"- waived: {len(left_out)} of {len(own)} points, {len(left_out) / len(own):.1%}",
        *([f"- in no simulated module: {', '.join(unseen)}"] if unseen else []),
        "",
        "| module | line | toggle |", "|---|---|---|", *rows,
        "", "## Waived", "", "| module | name | points | reason |", "|---|---|---|---|",
        *(f"| `{m}` | `{n}` | {count} | {why} |" for (m, n, why), count in sorted(reasons.items())),
        "", "## Functional points that no test reaches", "", *(f"- `{name}`" for name in never),
        "", "## Signals with the most missed points", "", *most(missed), "",
    ]  # fmt: skip
    (ROOT / "docs" / "coverage.md").write_text(INTRODUCTION + "\n".join(lines))
    print("\n".join(lines[:5]))
    whole["functional"] = (len(wanted) - len(never), len(wanted))
    return 0 if all(reached >= LEAST * total for reached, total in whole.values()) and not unseen else 1


def signals(own: dict[Point, int], missed: list[Point]) -> list[str]:
    """What is missed, by signal (toggle) or by place (line)."""

    def named(p: Point) -> str:
        what = p.name.split("[")[0].split(":")[0] if p.kind == "toggle" else f"{p.name} ({p.line})"
        return f"{p.module} {p.kind} {what}"

    every, these = collections.Counter(map(named, own)), collections.Counter(map(named, missed))
    return [f"{name}: {count} of {every[name]}" for name, count in sorted(these.items())]


def most(missed) -> list[str]:
    """The 60 signals (or branches of a module) with the most missed points."""
    count = collections.Counter((p.module, p.kind, p.name.split("[")[0].split(":")[0]) for p in missed)
    return [f"- `{module}` {kind} `{name}`: {n}" for (module, kind, name), n in count.most_common(60)]


INTRODUCTION = """\
# Coverage

What the tests make the Verilog of `tiny_hybrid` do, counted by Verilator: branches of its `always` blocks (line) and
every bit of every signal of at most 256 bits that rises, and that falls (toggle). Instances of a module add up, and a
module counts where any bench simulates the same Verilog. Functional points (sim/vitforge_sim/run/functional.py) are
instructions and their fields, waits, stalls, errors and extreme codes of the whole accelerator. Made by
`make coverage` (`scripts/coverage.py`); what may stay unreached, and why, is in
sim/vitforge_sim/coverage/waivers.toml (at most 5 % of the points; a waiver that nothing needs is an error).
Every signal and branch with a miss: docs/coverage-missed.txt.

"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("run", "report"))
    parser.add_argument("tests", nargs="*", help="files, folders, pytest options after --")
    chosen = parser.parse_args()
    sys.exit(run(chosen.tests or TESTS) if chosen.step == "run" else report())


if __name__ == "__main__":
    main()
