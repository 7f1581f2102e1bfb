"""Structure-aware fuzzing of every loader: the long campaign.

    .venv/bin/python scripts/fuzz.py --inputs 1000000 --seconds 3600 --json docs/fuzzing.json
    .venv/bin/python scripts/fuzz.py --only commands --inputs 2000

Checkpoints, graphs, configurations, labels, images and builds are changed inside their structure, with hashes and
checksums made again. Every input is taken or refused in one printable line; anything else ends the run with the
family and the seed. `commands` gives the same files to whole commands. The table says how many got past the
container, and which refusals (raise ValueError, need(...)) of the loaders' modules none has reached.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib.util
import io
import json
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load, save

from vitforge.cli import main as vitforge
from vitforge.rtl import load_config
from vitforge_hw.arch.config import get_config
from vitforge_sw.compiler import load_build
from vitforge_sw.compiler.compile import compile_graph
from vitforge_sw.compiler.program.image import seal
from vitforge_sw.compiler.program.store import save_build
from vitforge_sw.families.efficientvit.random import random_efficientvit
from vitforge_sw.families.vit.random import random_graph
from vitforge_sw.graph.serialize import _hash, _header, load_graph, save_graph
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.labels import folder_classes, labelled_images
from vitforge_sw.models.pixels import load_image

ROOT = Path(__file__).resolve().parents[1]
PAST = 0.9  #: of the inputs, whose hashes are made again
ODD = [None, True, -1, 0, 1, 255, 1 << 31, 1 << 64, 1e308, float("nan"), 0.5, "", "x", "\x1b[31m\n", [], {}, [[1]],
       "é" * 99]  # fmt: skip
#: where the refusals of each family are counted
MODULES = {
    "checkpoints": "sw/vitforge_sw/models/checkpoint/*.py",
    "labels": "sw/vitforge_sw/models/labels.py",
    "images": "sw/vitforge_sw/models/pixels.py",
    "graphs": "sw/vitforge_sw/graph/serialize.py sw/vitforge_sw/graph/rules.py sw/vitforge_sw/ops/*.py",
    "configs": "hw/vitforge_hw/arch/config.py hw/vitforge_hw/arch/parameter.py sw/vitforge/rtl.py",
    "builds": "sw/vitforge_sw/compiler/program/store.py sw/vitforge_sw/compiler/program/image.py",
}


def loaders():
    """The generators of the suite's own fuzzing."""
    path = ROOT / "tests" / "sw" / "models" / "test_fuzz_loaders.py"
    spec = importlib.util.spec_from_file_location("test_fuzz_loaders", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(r: random.Random, data: object) -> object:
    """JSON data with one place in it made odd; the place is drawn by walking down."""
    if isinstance(data, dict | list) and data and r.random() < 0.85:
        key = r.choice(list(data)) if isinstance(data, dict) else r.randrange(len(data))
        copy = dict(data) if isinstance(data, dict) else list(data)
        how = r.random()
        if how < 0.08:
            del copy[key]
        elif how < 0.12 and isinstance(copy, dict):
            copy[r.choice(["x", "é", key + "_"])] = copy.pop(key)
        elif how < 0.16 and isinstance(copy, list):
            copy.insert(key, copy[key])
        else:
            copy[key] = changed(r, copy[key])
        return copy
    if isinstance(data, int) and not isinstance(data, bool) and r.random() < 0.6:
        return r.choice([data + 1, data - 1, 2 * data, -data, data // 2, 0, 1 << 16, 1 << 40])
    if isinstance(data, str) and r.random() < 0.5:
        return r.choice([data + "x", data[:-1], data.upper(), "int8", "int12", "log2", "gelu", "embed"])
    return r.choice(ODD)


def array(r: random.Random, value: np.ndarray) -> np.ndarray:
    """An integer array with something odd about it."""
    how = r.randrange(6)
    if how == 0:
        return value.astype(r.choice(["i8", "u1", "i2", "f4", "bool"]))
    if how == 1:
        return r.choice([value.T, value[None], value.ravel(), value[:0], value[:-1], np.concatenate([value, value])])
    out = value.copy()
    if out.size:
        place = tuple(r.randrange(n) for n in out.shape)
        limits = np.iinfo(out.dtype) if out.dtype.kind in "iu" else np.finfo(out.dtype)
        out[place if how < 5 else ...] = r.choice([limits.min, limits.max, 0, 1])
    return out


class Material:
    """What is changed: small valid files of every kind, and the places for the changed ones."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tests = folder, loaders()
        self.samples = self.tests._samples()
        graph, config = random_graph(5), get_config("tiny")
        self.models = []
        for one in (random_efficientvit((8, 16, 24, 48, 64), (1,) * 5, 8, (64, 80), 32, 10), graph):
            save_graph(one, folder / "whole")
            blob = (folder / "whole").read_bytes()
            self.models.append((load(blob), json.loads(_header(blob)["__metadata__"]["vitforge"])))
        save_build(compile_graph(graph, config), folder / "built")
        self.build = json.loads((folder / "built" / "build.json").read_text())
        self.memory, self.config = (folder / "built" / "memory.bin").read_bytes(), config
        for name in ("a.png", "b.png"):
            Image.new("L", (2, 2)).save(folder / name)
        (folder / "b").mkdir()

    # ------------------------------------------------------------ files

    def graph_file(self, r: random.Random) -> Path:
        whole, data = r.choice(self.models)
        arrays = dict(whole)
        for _ in range(r.randrange(1, 3)):
            if r.random() < 0.5:
                data = changed(r, data)
            else:
                name = r.choice(list(arrays))
                arrays[name] = array(r, arrays[name])
                if r.random() < 0.1:
                    arrays[r.choice([name + "x", "constants/x"])] = arrays.pop(name)
        if isinstance(data, dict) and r.random() < PAST:
            with contextlib.suppress(ValueError, TypeError):
                data = data | {"hash": _hash(data, arrays)}
        blob = save({n: np.ascontiguousarray(v) for n, v in arrays.items()}, metadata={"vitforge": json.dumps(data)})
        path = self.folder / "g.safetensors"
        path.write_bytes(blob if r.random() < 0.97 else self.tests.scribbled(r, blob, 300))
        return path

    def config_file(self, r: random.Random) -> Path:
        data: object = json.loads(get_config(r.choice(["tiny", "p2vit", "trio", "hybrid"])).to_json())
        data = {k: v for k, v in data.items() if r.random() < 0.5} | r.choice([{}, {"base": "tiny"}, {"base": "trio"}])
        for _ in range(r.randrange(1, 3)):
            data = changed(r, data)
        text = json.dumps(data)
        path = self.folder / "c.json"
        path.write_text(text if r.random() < 0.95 else text[: r.randrange(len(text) + 1)])
        return path

    def build_folder(self, r: random.Random) -> Path:
        data, memory, folder = self.build, bytearray(self.memory), self.folder / "b"
        if r.random() < 0.6:
            data = changed(r, data)
        if r.random() < 0.5 or data is self.build:
            for _ in range(r.randrange(1, 4)):
                memory[r.randrange(min(len(memory), r.choice([64, 4096, 1 << 20])))] = r.randrange(256)
            if r.random() < PAST:
                with contextlib.suppress(ValueError, IndexError):  # an instruction that is none
                    memory = bytearray(seal(bytes(memory), self.config))
            elif r.random() < 0.5:
                memory = memory[: r.randrange(len(memory))]
        if isinstance(data, dict) and r.random() < PAST:
            data = data | {"memory_sha256": hashlib.sha256(memory).hexdigest()}
        text = json.dumps(data)
        (folder / "build.json").write_text(text if r.random() < 0.97 else text[: r.randrange(len(text))])
        (folder / "memory.bin").write_bytes(memory)
        return folder

    # ------------------------------------------------------------ families

    def checkpoints(self, r: random.Random) -> None:
        path = self.folder / "c"
        path.write_bytes(r.choice([self.tests.pickled, self.tests.safetensors])(r))
        load_model(self.tests.SPEC, path) if r.random() < 0.05 else self.tests.through(path)

    def graphs(self, r: random.Random) -> None:
        load_graph(self.graph_file(r))

    def configs(self, r: random.Random) -> None:
        load_config(None, self.config_file(r))

    def labels(self, r: random.Random) -> None:
        if r.random() < 0.4:
            pool = ["cat", "Cat", "hot dog", "hot_dog", "0", "1", "2", "10", "n01440764", "n00000000", "x", "é"]
            found = sorted({r.choice(pool) for _ in range(r.randrange(1, 6))})
            names = [r.choice(pool) for _ in range(r.randrange(6))]
            folder_classes("here", found, names, r.choice([None, len(names) or None, len(found), 1000]))
            return
        (self.folder / "l.csv").write_bytes(self.tests.label_file(r))
        labelled_images(self.folder, self.folder / "l.csv", r.choice([(), ("a", "é", "ü")]))

    def images(self, r: random.Random) -> None:
        kind, blob = r.choice(self.samples)
        path = self.folder / f"x.{kind.lower()}"
        whole = kind == "PNG" and r.random() < 0.8
        path.write_bytes(self.tests.png(r, blob) if whole else self.tests.scribbled(r, blob, 200))
        load_image(path, r.choice([1, 3]), r.choice(["ignore", "apply"]), r.choice(["ignore", "white", "black"]))

    def builds(self, r: random.Random) -> None:
        load_build(self.build_folder(r))

    def commands(self, r: random.Random) -> None:
        """A whole command; what it says of a refusal is raised again."""
        out = self.folder / "out"
        argv = r.choice([
            lambda: ["compile", self.graph_file(r), "--preset", "tiny", "-o", out],
            lambda: ["compile", self.folder / "whole", "--config", self.config_file(r), "-o", out],
            lambda: ["evaluate", self.graph_file(r), "--images", self.folder, "--json", out],
            lambda: ["presets", "--config", self.config_file(r)],
            lambda: ["estimate", self.build_folder(r)],
            lambda: ["pack", self.build_folder(r), "--image", self.folder / "a.png", "-o", out],
        ])()  # fmt: skip
        said, shown = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
            try:
                status = vitforge([str(a) for a in argv])
            except SystemExit as stop:
                status = stop.code
        made = out.exists()
        if made:
            import shutil

            shutil.rmtree(out) if out.is_dir() else out.unlink()
        if status:
            if made:
                raise AssertionError(f"{argv[0]} has failed and left something at its output")
            lines = [x for x in said.getvalue().splitlines() if x.strip()]
            if status != 2 or len(lines) != 1:
                raise AssertionError(f"{argv[0]}: status {status}, {said.getvalue()!r}")
            raise ValueError(lines[0])


FAMILIES = (*MODULES, "commands")
SHARE = dict(checkpoints=0.2, graphs=0.1, configs=0.25, labels=0.25, images=0.15, builds=0.05, commands=0.002)
#: refusals of the container: what has not been looked into
CONTAINER = ("corrupt or truncated", "content hash must", "not JSON", "must be JSON", "hash must be", "signature of")


def sites(patterns: str) -> dict[tuple[str, int], int]:
    """(file, first line) -> last line of every refusal of the modules."""
    found = {}
    for path in (p for pattern in patterns.split() for p in sorted(ROOT.glob(pattern))):
        for node in ast.walk(ast.parse(path.read_text())):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if name == ("ValueError" if isinstance(node, ast.Raise) else "need"):
                found[str(path.relative_to(ROOT)), node.lineno] = node.end_lineno
    return found


def reached(error: BaseException | None, known: dict[tuple[str, int], int]) -> set[tuple[str, int]]:
    """The refusals that an error came through, those that it replaced included."""
    out = set()
    while error is not None:
        frame = error.__traceback__
        while frame is not None:
            file, line = frame.tb_frame.f_code.co_filename, frame.tb_lineno
            out |= {s for s, last in known.items() if file.endswith(s[0]) and s[1] <= line <= last}
            frame = frame.tb_next
        error = error.__context__
    return out


def campaign(name: str, one: Callable[[random.Random], None], count: int, end: float, first: int = 0) -> dict:
    """``count`` inputs of a family, fewer where the time is over. ``failures``: those that are neither taken nor
    refused in one printable line, by seed; 20 of them end it."""
    known = sites(MODULES.get(name, ""))
    seen, met, begin, n = Counter(), set(), time.monotonic(), 0
    failures: list[str] = []
    for n in range(1, count + 1):
        seed = first + n - 1
        try:
            one(random.Random(f"{name} {seed}"))
            seen["taken"] += 1
        except ValueError as error:
            said = str(error)
            if not (said.isprintable() and 10 < len(said) < 1500):
                failures.append(f"{seed}: says {said[:300]!r}")
            seen["container" if any(x in said for x in CONTAINER) else "refused"] += 1
            if len(met) < len(known):
                met |= reached(error, known)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(f"{seed}: {type(error).__name__}: {error} ({where.filename}:{where.lineno})"[:600])
        if time.monotonic() > end or len(failures) >= 20:
            break
    seconds = time.monotonic() - begin
    missing = sorted(f"{file}:{line}" for file, line in set(known) - met)
    return dict(inputs=n, failures=failures, seconds=round(seconds, 1), rate=round(n / seconds, 1), **seen,
                past_container=round(1 - seen["container"] / n, 3), refusals=len(known), reached=len(met),
                not_reached=missing)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20000, help="in all (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1e9, help="end after so long")
    parser.add_argument("--only", choices=FAMILIES, action="append", help="family; may be given again")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--json", metavar="F", help="write the table")
    args = parser.parse_args()
    chosen = args.only or FAMILIES
    total = sum(SHARE[name] for name in chosen)
    table, now = {}, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        material = Material(Path(folder))
        for i, name in enumerate(chosen):
            left = args.seconds - (time.monotonic() - now)
            end = time.monotonic() + left * SHARE[name] / sum(SHARE[n] for n in chosen[i:])
            count = max(1, round(args.inputs * SHARE[name] / total))
            table[name] = campaign(name, getattr(material, name), count, end, args.first)
            print(name, json.dumps(table[name]), flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    inputs, failed = (sum(n) for n in zip(*((t["inputs"], len(t["failures"])) for t in table.values()), strict=True))
    print(f"{inputs} inputs, {failed} neither taken nor refused in one line; at most {memory} MB")
    if args.json:
        Path(args.json).write_text(json.dumps(table | {"megabytes": memory}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
