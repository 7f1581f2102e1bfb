"""Structure-aware fuzzing of every loader: the long campaign, and its page docs/fuzzing.md.

    .venv/bin/python scripts/fuzz.py                                  # a million inputs and 2,000 commands
    .venv/bin/python scripts/fuzz.py --resume                         # goes on where it was ended
    .venv/bin/python scripts/fuzz.py --only commands --count 50 --first 300

Checkpoints, graphs, configurations, labels, images and builds are changed inside their structure, with hashes and
checksums made again. Every input is taken or refused in one printable line, in at most 20 seconds of the processor;
anything else is a failure, which names the family and the seed. `commands` gives the same files to whole commands.
"""

import argparse
import faulthandler
import importlib
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fuzzing.page import write
from fuzzing.refusals import MODULES, Reached, refusals

ROOT = Path(__file__).resolve().parents[1]
COUNTS = dict(checkpoints=55_000, graphs=70_000, configs=382_500, labels=382_500, images=60_000, builds=50_000,
              commands=2_000)  # fmt: skip
SLOW = 20  #: seconds of this process for one input
HUNG = 300  #: seconds after which a traceback is printed and the process ends
PART = 10_000  #: inputs of a family, then the next one's turn and a written table
MEGABYTES = 2_000  #: of this process, its libraries included
#: refusals of the container: what has not been looked into
CONTAINER = ("corrupt or truncated", "content hash must", "not JSON", "must be JSON", "hash must be", "signature of",
             "not readable JSON")  # fmt: skip


def family(name: str, folder: Path) -> Callable[[random.Random], None]:
    """A family's generator, its material in ``folder``."""
    return getattr(importlib.import_module(f"fuzzing.{name}"), name.capitalize())(folder)


def campaign(
    name: str, one: Callable[[random.Random], None], seeds: range, before: dict | None = None, end: float = float("inf")
) -> dict:
    """The inputs of ``seeds``, added to a table ``before``; fewer where ``end`` (time.monotonic) comes first.

    ``failures``: those that are neither taken nor refused in one printable line, by seed; 20 of them end it.
    """
    before = before or {}
    known = refusals(MODULES.get(name, ""))
    met = Reached(known, set(before.get("reached", ())))
    seen = Counter({key: before.get(key, 0) for key in ("inputs", "taken", "refused", "container")})
    failures, slowest = list(before.get("failures", ())), before.get("slowest", [0.0, 0])
    begin = time.process_time()
    for seed in seeds:
        start = time.process_time()
        if len(failures) >= 20 or time.monotonic() > end:
            break
        try:
            one(random.Random(f"{name} {seed}"))
            seen["taken"] += 1
        except ValueError as error:
            said = str(error)
            if not (said.isprintable() and 10 < len(said) < 1500):
                failures.append(f"{seed}: says {said[:300]!r}")
            seen["container" if any(x in said for x in CONTAINER) else "refused"] += 1
            met.enter(error)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            failures.append(f"{seed}: {type(error).__name__}: {error} ({place})"[:600])
        seen["inputs"] += 1
        took = time.process_time() - start
        slowest = max(slowest, [round(took, 3), seed])
        if took > SLOW:
            failures.append(f"{seed}: takes {took:.0f} s")
    return dict(seen) | dict(
        failures=failures, slowest=slowest, seconds=round(before.get("seconds", 0) + time.process_time() - begin, 1),
        refusals=[str(x) for x in known], reached=sorted(map(str, met.met)),
        not_reached={str(x): x.source for x in known if x not in met.met},
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=COUNTS, action="append", help="family; may be given again")
    parser.add_argument("--count", type=int, help="of each family (default: a million in all, 2,000 commands)")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "fuzzing.json", help="the table")
    parser.add_argument("--page", type=Path, help="write the page, the table beside it")
    parser.add_argument("--resume", action="store_true", help="go on from the table")
    args = parser.parse_args()
    table: dict = json.loads(args.json.read_text()) if args.resume and args.json.exists() else {}
    end, todo = time.monotonic() + args.seconds, {n: args.count or COUNTS[n] for n in args.only or COUNTS}
    memory = os.path.isdir("/dev/shm")  # files that are written a million times
    with tempfile.TemporaryDirectory(dir="/dev/shm" if memory else None) as folder:
        made: dict[str, Callable] = {}
        while left := [n for n in todo if table.get(n, {}).get("inputs", 0) < todo[n]]:
            for name in left:
                if name not in made:
                    (Path(folder) / name).mkdir()
                    made[name] = family(name, Path(folder) / name)
                done = table.get(name, {}).get("inputs", 0)
                part = min(PART if name != "commands" else 50, todo[name] - done)
                faulthandler.dump_traceback_later(max(HUNG, part), exit=True)
                seeds = range(args.first + done, args.first + done + part)
                table[name] = campaign(name, made[name], seeds, table.get(name), end)
                faulthandler.cancel_dump_traceback_later()
                table["megabytes"] = max(table.get("megabytes", 0), peak())
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(table, indent=1) + "\n")
                print(name, table[name]["inputs"], f"{table[name]['seconds']} s", *table[name]["failures"], flush=True)
            stopped = any(len(table[n]["failures"]) >= 20 for n in todo if n in table)
            if stopped or time.monotonic() > end:
                break
    if args.page:
        write(table, args.page)
    failed = sum(len(t["failures"]) for n, t in table.items() if n in COUNTS) + (table["megabytes"] > MEGABYTES)
    print(f"{failed} failures; at most {table['megabytes']} MB")
    return 1 if failed else 0


def peak() -> int:
    """Megabytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
