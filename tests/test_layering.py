"""The layers of the project, kept by reading every import; and what must not be written into any file."""

import ast
import functools
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "vitforge_hw": ROOT / "hw" / "vitforge_hw",
    "vitforge_sw": ROOT / "sw" / "vitforge_sw",
    "vitforge_sim": ROOT / "sim" / "vitforge_sim",
    "vitforge": ROOT / "sw" / "vitforge",
}
TORCH = {"torch", "torchvision", "timm"}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(line, full module name) of every import in `path`, also those inside functions; relative ones resolved."""
    found = []
    package = path.parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                top = max(i for i, part in enumerate(package) if part in PACKAGES)
                parents = package[top:-1][: len(package[top:-1]) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append((node.lineno, node.args[0].value))
    return found


def allowed(package: str, module: str) -> bool:
    top = module.split(".")[0]
    if package == "vitforge_hw":
        return top not in TORCH and (top == "vitforge_hw" or top not in PACKAGES)
    if package == "vitforge_sw":
        if top == "vitforge_hw":
            return module.split(".")[1:2] == ["arch"]
        return top not in ("vitforge_sim", "vitforge")
    if package == "vitforge_sim":
        return top != "vitforge"
    return True


@pytest.mark.parametrize("package", PACKAGES)
def test_layers(package):
    bad = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sorted(PACKAGES[package].rglob("*.py"))
        for line, module in imports_of(path)
        if not allowed(package, module)
    ]
    assert not bad, "\n".join(bad)


def test_layer_rules_can_fail(tmp_path):
    folder = tmp_path / "vitforge_sw" / "quant"
    folder.mkdir(parents=True)
    file = folder / "x.py"
    file.write_text("from ..golden import y\nfrom vitforge_hw import chunks\nfrom vitforge_hw.arch import arith\n")
    modules = [module for _, module in imports_of(file)]
    assert modules == ["vitforge_sw.golden.y", "vitforge_hw.chunks", "vitforge_hw.arch.arith"]
    assert [allowed("vitforge_sw", module) for module in modules] == [True, False, True]
    assert not allowed("vitforge_hw", "torch.nn")


# ---------------------------------------------------------------- arrows between folders, circles

#: folder -> what its modules may import when they are imported themselves. Folders of the road and of the machine come
#: in the order in which they may know each other; every package may import ``vitforge_hw.arch``, every file of a folder
#: the others of it. Two files stand higher than their folder: compiler.compile calls the strategies, graph.serialize
#: finds the operations
HW, SW, SIM = "vitforge_hw", "vitforge_sw", "vitforge_sim"
ARROWS = {
    HW: {
        "arch": "",
        "verilog_text": "",
        "emit": "verilog_text",
        "interfaces": "",
        "units": "emit interfaces",
        "memory": "emit interfaces units",
        "engines": "emit interfaces memory units",
        "post": "emit engines interfaces units",
        "attention": "emit interfaces memory units",
        "layernorm": "emit interfaces memory units",
        "control": "emit interfaces memory units",
        "host": "emit interfaces units",
        "compute": "emit engines interfaces post",
        "core": "attention compute control emit host interfaces layernorm memory",
        "top": "core emit host interfaces",
        "verilog": "emit host top verilog_text",
        "sources": "emit top",
    },
    SW: {
        "lazy": "",
        "progress": "",
        "models": "lazy progress",
        "kinds": "",
        "graph": "",
        "ops": "graph",
        "graph.serialize": "graph ops",
        "golden": "graph ops progress",
        "quant": "golden graph ops",
        "threads": "",
        "pool": "models threads",
        "families": "evaluate golden graph graph.serialize lazy models ops pool progress quant threads",
        "compiler": "lazy",
        "compiler.tuning": "",
        "compiler.options": "compiler.tuning",
        "compiler.layers": "graph ops",
        "compiler.memory": "compiler.layers compiler.options compiler.tuning graph ops",
        "compiler.program": "compiler.layers compiler.memory compiler.options graph graph.serialize kinds ops",
        "cycles": "compiler.program graph kinds ops",
        "compiler.schedule": "compiler.layers compiler.memory compiler.options compiler.program compiler.tuning cycles "
        "graph kinds ops",
        "compiler.compile": "compiler.options compiler.program compiler.schedule cycles graph graph.serialize kinds",
        "emulator": "compiler.layers compiler.program kinds",
        "shards": "",
        "evaluate": "golden graph models progress shards",
        "predict": "compiler.compile compiler.options compiler.program cycles families graph ops",
    },
    SIM: {
        "run": "", "bench": "run", "compare": "run", "measure": "run", "synth": "", "formal": "run synth",
        "mutation": "bench run synth",
        "coverage": "",
    },
}
#: imports inside functions, which may point up: an operation runs its golden model, which needs PyTorch
LATE = {("vitforge_sw.ops", "vitforge_sw.golden"), ("vitforge_sw.families", "vitforge_sw.models")}


def modules() -> dict[str, Path]:
    """Full name -> file of every module of the project."""
    found = {}
    for folder in PACKAGES.values():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def late_lines(path: Path) -> set[int]:
    """Lines of the imports inside functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = (n for f in ast.walk(tree(path)) if isinstance(f, functions) for n in ast.walk(f))
    return {n.lineno for n in inside if isinstance(n, ast.Import | ast.ImportFrom | ast.Call)}


def edges(found: dict[str, Path], late: bool) -> dict[str, set[str]]:
    """Module -> modules of the project that it imports: inside functions (``late``), or with itself."""
    out: dict[str, set[str]] = {}
    for name, path in found.items():
        lines = late_lines(path)
        for line, target in imports_of(path):
            while target and target not in found:
                target = target.rpartition(".")[0]
            if target and target != name and (line in lines) == late:
                out.setdefault(name, set()).add(target)
    return out


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The names along one circle, or nothing."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name not in done:
            for target in sorted(graph.get(name, ())):
                if found := walk(target, [*way, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


def place(module: str) -> str:
    """The entry of ARROWS that a module belongs to, with its package."""
    package, _, rest = module.partition(".")
    parts = rest.split(".")
    for n in (2, 1):
        if ".".join(parts[:n]) in ARROWS.get(package, ()):
            return ".".join([package, *parts[:n]])
    return package if package not in ARROWS else ".".join([package, parts[0]] if rest else [package])


def arrows(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """(place, place) of every import from one place to another, without those of arch and of the user's package."""
    pairs = {(place(a), place(b)) for a, targets in graph.items() for b in targets}
    return {(a, b) for a, b in pairs if a != b and b != "vitforge_hw.arch" and a != "vitforge"}


def test_arrows_between_folders():
    stated = {(f"{p}.{a}", f"{p}.{b}") for p, table in ARROWS.items() for a, to in table.items() for b in to.split()}
    found = modules()
    inside = {pair for pair in arrows(edges(found, late=False)) if pair[0].split(".")[0] == pair[1].split(".")[0]}
    assert not inside - stated, "\n".join(f"{a} imports {b}" for a, b in sorted(inside - stated))
    late = {pair for pair in arrows(edges(found, late=True)) if pair[0].startswith((HW, SW))} - LATE - stated
    assert not late, "\n".join(f"{a} imports {b} in a function" for a, b in sorted(late))
    places = {tuple(p.split(".", 1)) for p in map(place, found) if "." in p and p.split(".")[0] in ARROWS}
    unknown = sorted(f"{package}.{name}" for package, name in places if name not in ARROWS[package])
    assert not unknown, f"places that ARROWS does not state: {', '.join(unknown)}"


def test_no_circles():
    """Neither of modules nor of folders, with what each imports when it is imported itself; the table has none."""
    graph = edges(modules(), late=False)
    assert circle(graph) == []
    folders: dict[str, set[str]] = {}
    for a, b in arrows(graph):
        folders.setdefault(a, set()).add(b)
    assert circle(folders) == []
    for table in ARROWS.values():
        assert circle({a: set(to.split()) for a, to in table.items()}) == []


def test_arrows_and_circles_can_fail(tmp_path):
    folder = tmp_path / "vitforge_sw"
    for name, text in {
        "graph/a.py": "from ..ops import b\n",
        "ops/b.py": "from ..graph import a\n\n\ndef late():\n    from ..golden import c\n",
        "golden/c.py": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    found = {f"vitforge_sw.{p.parent.name}.{p.stem}": p for p in folder.rglob("*.py")}
    now, late = edges(found, late=False), edges(found, late=True)
    assert circle(now) == ["vitforge_sw.graph.a", "vitforge_sw.ops.b", "vitforge_sw.graph.a"]
    assert arrows(now) == {("vitforge_sw.graph", "vitforge_sw.ops"), ("vitforge_sw.ops", "vitforge_sw.graph")}
    assert arrows(late) == {("vitforge_sw.ops", "vitforge_sw.golden")}
    assert "ops" not in ARROWS[SW]["graph"].split()
    assert place("vitforge_sw.compiler.compile") == "vitforge_sw.compiler.compile"
    assert place("vitforge_hw.engines.window.sum") == "vitforge_hw.engines"


# ---------------------------------------------------------------- what must not be written into files


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    files = [ROOT / name for name in listed if name]
    folders = ("hw", "sw", "sim", "tests", "scripts", "docs")
    return files or [path for folder in folders for path in (ROOT / folder).rglob("*")]  # not a git checkout


def test_no_file_names_a_registry_host_or_a_path_of_one_machine():
    # spelled in pieces, so that this file does not name them itself
    hosts = ["py" + "pi.org", "python" + "hosted.org", "py" + "torch.org", "npm" + "js.org", "deb" + "ian.org"]
    pattern = re.compile("|".join([*map(re.escape, hosts), r"(?<![\w.<])/(?:wo" + r"rk|home/\w+|root|Users/\w+)/"]))
    bad = []
    for path in tracked_files():
        if not path.is_file() or path.name == "LICENSE":
            continue
        data = path.read_bytes()
        if b"\0" in data[:4096] or path.suffix in (".safetensors", ".png"):
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if match := pattern.search(line):
                bad.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert not bad, "\n".join(bad)
