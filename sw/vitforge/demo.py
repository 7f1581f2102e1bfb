"""The whole road on the shipped models: named, timed steps; what is still valid by hash is reused.

Another model is another entry of ``MODELS`` and its folder below ``models/``.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vitforge_sw.progress import working

from .commands.options import table, write_json
from .shipped import ShippedModel, shipped_model

SCHEMA = "vitforge/demo/1"
SIMULATOR = "verilator"
STEPS = ("check", "quantize", "evaluate", "compile", "verilog", "accuracy in RTL", "every tensor")


@dataclasses.dataclass(frozen=True)
class DemoModel:
    """A shipped model (its name in ``models/``) and the accelerator that it is shown on."""

    name: str
    preset: str
    scheme: str = "vitforge"


#: one preset with every chunk: one Verilog, one simulation program
MODELS = (DemoModel("digits_vit", preset="tiny_hybrid"), DemoModel("digits_efficientvit", preset="tiny_hybrid"))


def _digest(*parts: object) -> str:
    """SHA-256 of texts and of the contents of files and folders (paths relative to the folder)."""
    digest = hashlib.sha256()
    for part in parts:
        if not isinstance(part, Path):
            digest.update(f"{part!s}\0".encode())
            continue
        files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
        for path in files:
            if path.suffix != ".pyc":
                digest.update(f"{path.relative_to(part.parent)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(*packages) -> str:
    return _digest(*(Path(p.__file__).parent for p in packages))


class Steps:
    """Runs the steps of one model: prints each with its time, remembers in steps.json what its artefact came from."""

    def __init__(self, folder: Path, fresh: bool):
        self.folder, self.path = folder, folder / "steps.json"
        self.done: list[dict] = []
        self.keys: dict[str, str] = {}
        if not fresh:
            with contextlib.suppress(OSError, ValueError):
                known = json.loads(self.path.read_text())
                self.keys = known if isinstance(known, dict) else {}

    @contextlib.contextmanager
    def step(self, tick: bool = True) -> Iterator[dict]:
        """The next step of ``STEPS``; the body fills in ``text`` and ``reused``. tick: its seconds on a terminal."""
        number = len(self.done)
        title, begin = f"[{number + 1}/{len(STEPS)}] {STEPS[number]}", time.monotonic()
        note = {"name": STEPS[number], "text": "", "reused": False}
        with working(title, tick, after=2, keep=False):
            yield note
        note["seconds"] = round(time.monotonic() - begin, 2)
        self.done.append(note)
        print(f"{title}: {note['text']} ({'reused, ' if note['reused'] else ''}{note['seconds']:.1f} s)", flush=True)

    def artefact(self, note: dict, key: str, load: Callable, make: Callable):
        """``load()`` where the artefact is of ``key`` and still valid, else ``make()``."""
        name = note["name"]
        if self.keys.get(name) == key:
            with contextlib.suppress(OSError, ValueError, KeyError):
                value = load()
                note["reused"] = True
                return value
        value = make()
        self.keys[name] = key
        write_json(self.path, self.keys)
        return value


def demo(folder: Path, count: int, command: str, fresh: bool = False, only: str | None = None) -> int:
    """Every shipped model (or the one called ``only``) from checkpoint to bit-exact RTL; writes ``folder/demo.json``.

    count: images with every tensor compared. Returns the exit status: 0 when all is bit-exact and no tensor dead.
    """
    names = [m.name for m in MODELS]
    if only is not None and only not in names:
        raise ValueError(f"demo model {only!r} is unknown; there are {', '.join(names)}")
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    results = [_road(m, folder, count, fresh) for m in MODELS if only in (None, m.name)]
    passed = all(r["bit_exact"] and not r["dead"] for r in results)
    seconds = round(time.monotonic() - begin, 1)
    write_json(
        folder / "demo.json",
        {"schema": SCHEMA, "command": command, "passed": passed, "seconds": seconds, "models": results},
    )
    print("\n" + _summary(results))
    for r in results:
        if not r["bit_exact"]:
            print(f"{r['model']}: MISMATCH: {r['first_mismatch']}")
        if r["dead"]:
            print(f"{r['model']}: dead tensors (their comparison proves little): {', '.join(r['dead'])}")
    print(f"\n{'passed' if passed else 'FAILED'} in {seconds:.0f} s; all figures: {folder}/demo.json")
    return 0 if passed else 1


def _road(model: DemoModel, folder: Path, count: int, fresh: bool) -> dict:
    """All steps of one model; the entry of demo.json."""
    import vitforge_hw
    import vitforge_sw

    from . import api
    from .commands.compile import summary
    from .rtl import ensure_rtl, load_config
    from .simulation import simulate

    paths, config = shipped_model(model.name), load_config(model.preset, None)
    pairs = api.labelled_images(paths.test, paths.labels)
    if not 1 <= count <= len(pairs):
        raise ValueError(f"count must be 1 to {len(pairs)} (held-out images of {model.name}), not {count}")
    build_folder = folder / model.name
    build_folder.mkdir(parents=True, exist_ok=True)
    steps, code = Steps(build_folder, fresh), _sources(vitforge_sw, vitforge_hw)
    print(f"{model.name} on preset {config.name}: {config.multipliers} multipliers, {config.masters} AXI master(s)")

    with steps.step() as note:
        rows = api.check(str(paths.model))
        if missing := [r for r in rows if not r.supported]:
            raise ValueError(f"{model.name}: {missing[0].layer} is not supported: {missing[0].reason}")
        note["text"] = f"{len(rows)} layers, all supported"

    with steps.step() as note:
        graph, digest = _quantized(model, paths, steps, note, folder / f"{model.name}.safetensors", code)

    with steps.step() as note:
        scores = _evaluated(graph, digest, paths, steps, note, build_folder / "evaluate.json", code)
        n = scores["images"]
        note["text"] = (
            f"{n} held-out images: float {scores['float']['top1']}, integer {scores['top1']} right; agreement "
            f"{scores['agreement']:.1f} %, logit SQNR {scores['logit_sqnr_db']:.1f} dB"
        )

    with steps.step() as note:
        build = steps.artefact(
            note, _digest(digest, config.to_json(), code),
            lambda: api.load_compiled(build_folder)[1],
            lambda: api.compile_model(graph, config, build_folder, f"vitforge demo --model {model.name}"),
        )  # fmt: skip
        note["text"] = summary(str(build_folder), build).replace("\n", "; ")

    with steps.step(tick=False) as note:
        files = ensure_rtl(config, build_folder, f"vitforge demo --model {model.name}", progress=True)
        size = sum(map(len, files.values()))
        note["text"] = f"{len(files)} files, {size / 1e6:.2f} MB in {build_folder}/rtl"

    patches = api.load_inputs(graph, [path for path, _ in pairs])
    truth = [label for _, label in pairs]
    again = f"vitforge simulate {build_folder} --images {_relative(paths.test)} --count"
    with steps.step(tick=False) as note:
        whole = simulate(graph, build, patches, build_folder, command=f"{again} {n}", progress=True)
        right = int((whole.verdict.rtl_logits.argmax(1) == truth).sum())
        note["text"] = f"{n} images back to back without reset: {right} right, logits " + _verdict(whole.info)

    with steps.step(tick=False) as note:
        some = simulate(
            graph, build, patches[:count], build_folder, tensors=True, command=f"{again} {count} --tensors",
            progress=True,
        )  # fmt: skip
        elements = sum(t["elements"] for t in some.info["tensors"])
        note["text"] = f"{count} images, {len(some.info['tensors'])} tensors, {elements} values: {_verdict(some.info)}"
    print("\n" + _statistics(graph, some.info["tensors"]))

    names = ("steady_state_cycles", "first_image_cycles", "utilization", "simulated_cycles_per_second", "dead")
    return {
        "model": model.name, "preset": config.name, "scheme": model.scheme, "simulator": SIMULATOR,
        "model_hash": digest, "config_hash": f"{config.hash:08x}", "images": n, "tensor_images": count,
        "float_top1": scores["float"]["top1"], "integer_top1": scores["top1"], "rtl_top1": right,
        "agreement": scores["agreement"], "logit_sqnr_db": scores["logit_sqnr_db"],
        "bit_exact": whole.info["bit_exact"] and some.info["bit_exact"],
        "first_mismatch": some.info["first_mismatch"] or whole.info["first_mismatch"],
        **{k: some.info[k] for k in names}, "values_compared": elements,
        "tensors": some.info["tensors"], "steps": steps.done,
    }  # fmt: skip


def _quantized(model: DemoModel, paths: ShippedModel, steps: Steps, note: dict, path: Path, code: str):
    """(graph, its hash); the text of the step."""
    from vitforge_sw.graph.serialize import graph_hash, load_graph, save_graph

    from . import api

    def make():
        source = api.load_float(str(paths.model), paths.checkpoint)
        graph = api.quantize(source, paths.calib, model.scheme, progress=True)
        graph.meta["checkpoint"] = _relative(paths.checkpoint)
        graph.meta["command"] = f"vitforge demo --model {model.name}"
        save_graph(graph, path)
        return graph

    key = _digest(paths.model, paths.checkpoint, paths.calib, model.scheme, code)
    graph = steps.artefact(note, key, lambda: load_graph(path), make)
    images, nodes = graph.meta["calibration_images"], len(graph.nodes)
    note["text"] = f"scheme {model.scheme}, {images} calibration images, {nodes} nodes, {path}"
    return graph, graph_hash(graph)


def _evaluated(graph, digest: str, paths: ShippedModel, steps: Steps, note: dict, path: Path, code: str) -> dict:
    """The fields of evaluate --json, float model included."""
    from . import api

    def make():
        net = api.float_of(graph, paths.checkpoint)
        result = api.evaluate(graph, paths.test, paths.labels, net, progress=True)
        head = {"schema": "vitforge/evaluate/1", "command": "vitforge demo", "model_hash": digest}
        write_json(path, head | result)
        return result

    return steps.artefact(note, _digest(digest, paths.test, code), lambda: json.loads(path.read_text()), make)


def _relative(path: Path) -> str:
    """As seen from here: what a user can paste, and the same on every machine."""
    return os.path.relpath(path)


def _verdict(info: dict) -> str:
    return "bit-exact" if info["bit_exact"] else f"MISMATCH: {info['first_mismatch']}"


def _statistics(graph, tensors: list[dict]) -> str:
    """A row per stored tensor; values inside the units (and there is one row per head of each) by kind."""
    rows, kinds = [], {}
    for t in tensors:
        row = (t["name"], t["elements"], t["mismatches"], t["distinct"], t["zero_fraction"], t["saturated_fraction"])
        if t["name"] in graph.tensors:
            rows.append(row)
        else:
            kinds.setdefault(t["name"].rpartition(".")[2], []).append(row)
    for kind, found in kinds.items():
        size = sum(r[1] for r in found)
        mean = [sum(r[1] * r[i] for r in found) / size for i in (4, 5)]
        rows.append((f"inside units: {kind} ({len(found)})", size, sum(r[2] for r in found), min(r[3] for r in found),
                     *mean))  # fmt: skip
    shown = [(*r[:4], f"{100 * r[4]:.2f}", f"{100 * r[5]:.2f}") for r in rows]
    return table(shown, ("tensor", "elements", "differ", "distinct", "zeros %", "saturated %"), (1, 2, 3, 4, 5))


def _summary(results: list[dict]) -> str:
    """The last table: a column per model."""

    def share(r: dict, key: str) -> str:
        return f"{r[key]}/{r['images']} = {100 * r[key] / r['images']:.2f} %"

    lines = {
        "preset": lambda r: r["preset"],
        "simulator": lambda r: r["simulator"],
        "float accuracy": lambda r: share(r, "float_top1"),
        "integer accuracy": lambda r: share(r, "integer_top1"),
        "RTL accuracy": lambda r: share(r, "rtl_top1"),
        "cycles per image (steady)": lambda r: f"{r['steady_state_cycles']:.0f}",
        "cycles of the first image": lambda r: r["first_image_cycles"],
        "utilization": lambda r: f"{100 * r['utilization']:.2f} %",
        "values compared": lambda r: f"{r['values_compared']} in {len(r['tensors'])} tensors",
        "of so many images": lambda r: r["tensor_images"],
        "dead tensors": lambda r: ", ".join(r["dead"]) or "none",
        "RTL = integer model": lambda r: "bit-exact" if r["bit_exact"] else "NO",
    }
    rows = [(title, *(value(r) for r in results)) for title, value in lines.items()]
    return table(rows, ("", *(r["model"] for r in results)))
