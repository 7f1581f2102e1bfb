"""Fault campaign on `tiny`: the table of vitforge_sim.run.faults, resets in every state of every sequencer, and random
histories; writes docs/faults.md.

    .venv/bin/python scripts/faults.py [--histories N]

A history is replayed by `pytest tests/e2e/test_host.py -m "campaign or not campaign" -k "test_any_history and SEED"`.
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from vitforge.rtl import ensure_rtl
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.config import get_config
from vitforge_sim.run.faults import BOOT_STATES, STATES, Resets, state_monitors, table
from vitforge_sim.run.topbench import build_bench

ROOT = Path(__file__).resolve().parents[1]
CONFIG = get_config("tiny")


def load(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def attempt(run, *arguments):
    try:
        return run(*arguments), True
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {str(error)[:120]}".replace("\n", " "), False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=1000)
    chosen = parser.parse_args()
    begin = time.monotonic()
    lines, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        digits = load("tests/e2e/conftest.py").Digits(Path(folder))
        bench = build_bench(
            "verilator", ensure_rtl(CONFIG, Path(folder)), monitors=state_monitors(CONFIG.chunks), memory_bytes=1 << 24
        )
        cases = table(digits)
        for fault in cases:
            said, right = attempt(fault.run, digits)
            lines.append(f"| {fault.kind} | {fault.name} | {said} |")
            failed += [] if right else [fault.name]
            print(lines[-1], flush=True)
        hits, right = attempt(Resets(digits, bench).run)
        failed += [] if right else [f"resets: {hits}"]
        histories = load("tests/e2e/test_host.py").test_any_history
        bad = []
        for seed in range(chosen.histories):
            said, right = attempt(histories, digits, seed)
            if not right:
                bad.append(seed)
                print(f"history {seed}: {said}", flush=True)
    names = {"boot": BOOT_STATES, "sequencer": STATES}
    command = f".venv/bin/python scripts/faults.py --histories {chosen.histories}"
    text = [
        "# Fault campaign",
        "",
        f"Written by `{command}`: the shipped digits ViT on the Verilog of",
        f"preset `tiny` in Verilator (build hash {build_hash(CONFIG):08x}). Every case must end, report what happened,",
        "and give golden logits afterwards; a poll that never sees its value fails.",
        "",
        f"{len(cases)} cases, {len(failed)} failed" + (f": {', '.join(map(str, failed))}" if failed else "") + ".",
        "",
        f"{chosen.histories} random histories of jobs, stalls, errors, refused submits and resets (seeds 0 to",
        f"{chosen.histories - 1}), each followed by a job whose logits are those of the job alone: {len(bad)} failed"
        + (f" (seeds {bad})" if bad else "") + ".",
        f"Wall time {time.monotonic() - begin:.0f} s.",
        "",
        "## Resets in every state",
        "",
        "The states that a reset met (read from the design in its cycle), then a new image with golden logits.",
        "",
        "| state machine | aresetn in | soft reset in | never met |",
        "|---|---|---|---|",
    ]
    ways = ("aresetn", "soft reset")
    for machine in ("boot", *(c.name.lower() for c in CONFIG.chunks)) if isinstance(hits, list) else ():
        known = names["boot" if machine == "boot" else "sequencer"]
        met = [sorted(h.state for h in hits if (h.machine, h.way) == (machine, way)) for way in ways]
        missing = [name for i, name in enumerate(known) if i not in met[0] + met[1]]
        columns = [", ".join(known[i] for i in states) for states in met]
        text.append(f"| {machine} | {columns[0]} | {columns[1]} | {', '.join(missing) or 'none'} |")
    kinds = Counter(f.kind for f in cases)
    text += ["", "## Cases", "", ", ".join(f"{n} {k}" for k, n in kinds.items()) + ".", ""]
    text += ["| kind | case | reported |", "|---|---|---|", *lines, ""]
    (ROOT / "docs" / "faults.md").write_text("\n".join(text))
    print("\n".join(text[:30]))
    sys.exit(bool(failed or bad))


if __name__ == "__main__":
    main()
