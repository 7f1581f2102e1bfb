"""Where `vitforge package` writes: a new or empty folder, or an earlier package, whole or not at all; it takes away no
file that it did not write."""

import json
import os
import shutil
from pathlib import Path

import pytest

from vitforge.cli import main
from vitforge.package import folder as module
from vitforge.package.folder import PACKAGE, install


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def package(build: Path, folder: Path) -> int:
    return main(["package", str(build), "--board", "zcu104", "-o", str(folder)])


@pytest.fixture
def own(build, tmp_path):
    """A build directory beside which nobody else writes."""
    (tmp_path / "w" / "build").mkdir(parents=True)
    for name in ("build.json", "memory.bin"):
        shutil.copy(build / name, tmp_path / "w" / "build")
    return tmp_path / "w" / "build"


def test_other_folders_are_refused(own, tmp_path, capsys):
    """The build itself, its parent, Verilog of somebody, a file that is called as ours."""
    (tmp_path / "user" / "ip" / "rtl").mkdir(parents=True)
    (tmp_path / "user" / "ip" / "rtl" / "mine.v").write_text("module mine; endmodule\n")
    (tmp_path / "npm").mkdir()
    (tmp_path / "npm" / PACKAGE).write_text('{"name": "x"}')
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / PACKAGE).write_text("[]")
    before = tree(tmp_path)
    for folder in (
        own,
        own.parent,
        tmp_path / "user",
        tmp_path / "user" / "ip" / "rtl",
        tmp_path / "npm",
        tmp_path / "list",
    ):
        assert package(own, folder) == 2
        says = f"output {folder}: must be empty or an earlier package ({PACKAGE}), holds something else"
        assert says in capsys.readouterr().err
        assert tree(tmp_path) == before
    assert package(own, own / "rtl") == 2  # where the Verilog appears meanwhile
    assert not (own / "rtl" / PACKAGE).exists() and "must be empty" in capsys.readouterr().err


def test_empty_and_new_folders(own, packaged, tmp_path):
    """The same bytes as anywhere; readable as the umask says; nothing temporary beside."""
    (tmp_path / "empty").mkdir()
    want = {n: b for n, b in tree(packaged).items() if n != PACKAGE}
    for folder in (tmp_path / "empty", tmp_path / "a" / "b" / "new"):
        assert package(own, folder) == 0
        found = tree(folder)
        info = json.loads(found.pop(PACKAGE))
        assert found == want and info["written"] == sorted([*found, PACKAGE])
        assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []
        fresh = tmp_path / "fresh"
        fresh.mkdir(exist_ok=True)
        assert folder.stat().st_mode == fresh.stat().st_mode


def test_an_earlier_package_is_replaced(own, tmp_path, capsys):
    """Its own files go or are new; a Vivado project, sources and links of the user's stay; a collision is refused."""
    folder = tmp_path / "out"
    assert package(own, folder) == 0
    fresh = tree(folder)
    info = json.loads(fresh[PACKAGE])
    (folder / "ip" / "rtl" / "vf_old.v").write_text("module vf_old; endmodule\n")  # of another configuration
    (folder / "gone").mkdir()
    (folder / "gone" / "old.txt").write_text("")
    old = {"ip/rtl/vf_old.v", "gone/old.txt"}
    (folder / PACKAGE).write_text(json.dumps(info | {"written": [*info["written"], *old]}))
    (folder / "project.tcl").write_text("")
    (folder / "ip" / "component.xml").unlink()
    mine = {"build/x/top.bit": b"bits", "driver/c/main.c": b"int main;", "ip/rtl/mine.v": b"module mine;"}
    for name, data in mine.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "link").symlink_to(tmp_path)
    os.symlink(folder, tmp_path / "other")
    assert package(own, tmp_path / "other") == 0
    assert (tmp_path / "other").is_symlink() and (folder / "link").is_symlink()
    (folder / "link").unlink()
    found = tree(folder)
    assert {n: found.pop(n) for n in mine} == mine
    found.pop(PACKAGE), fresh.pop(PACKAGE)
    assert found == fresh
    info = json.loads((folder / PACKAGE).read_text())
    (folder / PACKAGE).write_text(json.dumps(info | {"written": [n for n in info["written"] if n != "project.tcl"]}))
    before = tree(folder)
    assert package(own, folder) == 2
    assert (
        f"output {folder / 'project.tcl'}: is not of the earlier package, and would be lost" in capsys.readouterr().err
    )
    assert tree(folder) == before


@pytest.mark.parametrize("step", range(1, 5))
def test_all_or_nothing(tmp_path, monkeypatch, step):
    """A disk that fails at any rename leaves the earlier package, the user's files and nothing else."""
    folder, rename, calls = tmp_path / "out", os.rename, []
    record = json.dumps({"schema": module.SCHEMA, "written": ["a/x", PACKAGE]}).encode()
    install(folder, {"a/x": b"1", PACKAGE: record})
    for name in ("a/mine", "mine"):
        (folder / name).write_text(name)
    before = tree(tmp_path)

    def failing(a, b):
        calls.append(a)
        if len(calls) == step:
            raise OSError(28, "No space left on device")
        rename(a, b)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(ValueError, match=r"output .*/out: cannot be written \(No space left on device\)"):
        install(folder, {"a/x": b"2", PACKAGE: record})
    assert tree(tmp_path) == before and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_leaves_no_folders(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match="cannot be written"):
        install(tmp_path / "a" / "b" / "c", {"x": b""})
    assert list(tmp_path.iterdir()) == []
