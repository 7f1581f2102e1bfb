"""The cache: its place, its limit, and several processes at once, with the real generator."""

import json
import os
import subprocess
import sys
import time

import pytest

from vitforge.cli import main
from vitforge.rtl import ensure_rtl
from vitforge_hw.arch.config import get_config
from vitforge_sim.run.cache import cache_folder, clean, entries, limit, locked


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITFORGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(cache, name: str, size: int, age: float):
    (cache_folder() / name).mkdir()
    (cache / name / "data").write_bytes(bytes(size))
    os.utime(cache / name, (time.time() - age,) * 2)


def test_place(monkeypatch, tmp_path):
    monkeypatch.delenv("VITFORGE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache_folder() == (tmp_path / "home" / "vitforge").resolve()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITFORGE_CACHE", str(tmp_path / "file" / "x"))
    with pytest.raises(ValueError, match="cannot be made"):
        cache_folder()


def test_limit_takes_the_oldest_first_and_nothing_in_use(cache, monkeypatch):
    for name, age in (("new", 10), ("old", 9000), ("older", 90000), ("oldest", 900000)):
        entry(cache, name, 1000, age)
    monkeypatch.setenv("VITFORGE_CACHE_GB", "2.5e-6")
    with locked("oldest"):  # as a process that builds it would
        assert clean(everything=False) == (2, 2000)
    assert sorted(p.name for p, _, _ in entries()) == ["new", "oldest"]
    monkeypatch.setenv("VITFORGE_CACHE_GB", "0")
    assert clean(everything=False) == (1, 1000)
    assert [p.name for p, _, _ in entries()] == ["new"], "used a moment ago"
    monkeypatch.setenv("VITFORGE_CACHE_GB", "much")
    with pytest.raises(ValueError, match="VITFORGE_CACHE_GB must be a number of at least 0, not 'much'"):
        limit()


def test_command(cache, capsys):
    entry(cache, "one", 3_000_000, 0)
    entry(cache, "two", 2_000_000, 50)
    assert main(["cache", "--list"]) == 0
    out = capsys.readouterr().out
    assert "2 entries, 5.0 MB of at most 8000" in out and out.index("two") < out.index("one")
    assert main(["cache", "--clean"]) == 0
    assert "2 entries removed, 5.0 MB" in capsys.readouterr().out
    assert entries() == []


def test_processes_share_the_emission(cache, tmp_path):
    """Six at once, from an empty cache, into three folders: one emission, all texts whole, nothing left over."""
    code = (
        "import sys, hashlib, pathlib; from vitforge.rtl import ensure_rtl;"
        "from vitforge_hw.arch.config import get_config;"
        "files = ensure_rtl(get_config('tiny'), pathlib.Path(sys.argv[1]));"
        "print(hashlib.sha256(repr(files).encode()).hexdigest(), len(files))"
    )
    folders = [str(tmp_path / f"build{i % 3}") for i in range(6)]
    runs = [subprocess.Popen([sys.executable, "-c", code, f], stdout=subprocess.PIPE, text=True) for f in folders]
    said = {run.communicate()[0] for run in runs}
    assert [run.returncode for run in runs] == [0] * 6 and len(said) == 1
    assert len(entries()) == 1 and not [p for p in cache.iterdir() if p.is_dir() and p.name.startswith(".")]


def test_another_preset_leaves_no_verilog_of_the_first(tmp_path):
    """The files of an emission are exactly those that it lists, whichever was there before; a user's own file stays."""
    rtl = tmp_path / "rtl"
    for name in ("tiny_hybrid", "tiny"):
        files = ensure_rtl(get_config(name), tmp_path)
        assert {p.name for p in rtl.glob("*.v")} == {n for n in files if n.endswith(".v")}
        assert json.loads((rtl / "verilog.json").read_text())["config_hash"] == f"{get_config(name).hash:08x}"
        (rtl / "mine.txt").write_text("a user's file")
    assert (rtl / "mine.txt").exists() and not [n for n in files if "rmac" in n]
    (rtl / next(iter(files))).unlink()
    assert ensure_rtl(get_config("tiny"), tmp_path) == files, "emitted again where a file is missing"


def test_emissions_are_kept_under_the_sources_that_the_process_loaded(cache, tmp_path):
    """Sources that change while a process runs do not give what it emits the name of the new ones."""
    script = (
        "import sys, pathlib, vitforge.rtl as rtl, vitforge_hw.arch.build_hash as h;"
        "from vitforge_hw.arch.config import get_config;"
        "loaded = h.generator_hash().hex()[:16];"
        "h.generator_hash = rtl.generator_hash = lambda: bytes(32);"
        "rtl.ensure_rtl(get_config('tiny'), pathlib.Path(sys.argv[1])); print(loaded)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()[-1]
    assert loaded != bytes(8).hex()
    assert (tmp_path / "rtl" / "generator").read_text() == loaded
    assert [p.name for p in cache.glob("rtl-tiny-*")][0].endswith(loaded)
