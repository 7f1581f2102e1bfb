"""The layers of the project, kept by reading every import; and what must not be written into any file."""

import ast
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


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(line, full module name) of every import in `path`, also those inside functions; relative ones resolved."""
    found = []
    package = path.parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
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
