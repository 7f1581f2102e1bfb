"""The command line teaches: help of every command, version; README and docs name what exists."""

import re
from pathlib import Path

import pytest

from vitforge import __version__, commands
from vitforge.cli import main

ROOT = Path(__file__).resolve().parents[2]


def shown(capsys, *argv) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_version(capsys):
    assert shown(capsys, "--version") == f"vitforge {__version__}\n"


@pytest.mark.parametrize("name", commands.NAMES)
def test_help(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    text = shown(capsys, name, "--help")
    assert f"example: vitforge {name} " in text
    assert len(text.splitlines()) <= 60, "one screen"
    undocumented = re.findall(r"^  (-\S+(?: [A-Z.]+)?)$(?!\n {10})", text, re.M)
    assert not undocumented, "every option says what it does"


def test_all_commands_are_listed(capsys):
    text = shown(capsys, "--help")
    readme = (ROOT / "README.md").read_text()
    files = {p.stem for p in (ROOT / "sw" / "vitforge" / "commands").glob("*.py")} - {"__init__", "options"}
    assert files == set(commands.NAMES)
    for name in commands.NAMES:
        assert re.search(rf"^    {name} +\S", text, re.M)
        assert f"`vitforge {name}" in readme
    for start in ("package +IP, block design", "compile +schedule, ", "pack +an image"):
        assert re.search(rf"^    {start}", text, re.M)
