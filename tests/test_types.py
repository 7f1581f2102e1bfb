"""Types: `make lint` runs mypy on the packages named in pyproject.toml; exceptions are few and give their reason."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
IGNORES = 10  #: at most so many exceptions in all packages


def test_exceptions_are_few_and_give_their_reason():
    found = []
    for folder in ("hw", "sw", "sim"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if "type: ignore" in line:
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert len(found) <= IGNORES, "\n".join(found)
    for line in found:
        assert re.search(r"# type: ignore\[[a-z-]+\]  # \w.{10,}$", line), f"{line}: which error, and why"


def test_named_packages_exist_and_untyped_definitions_are_refused():
    assert SETTINGS["disallow_untyped_defs"] and all((ROOT / f).is_dir() for f in SETTINGS["files"])
    assert not any(o.get("ignore_errors") for o in SETTINGS["overrides"])


def test_an_untyped_definition_and_a_wrong_type_are_found(tmp_path):
    (tmp_path / "x.py").write_text("def f(a):\n    return a\n\n\ndef g(a: int) -> str:\n    return a\n")
    argv = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)]
    done = subprocess.run([*argv, str(tmp_path / "x.py")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "[no-untyped-def]" in done.stdout and "[return-value]" in done.stdout, done.stdout
