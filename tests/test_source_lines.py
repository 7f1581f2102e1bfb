"""`vitforge verilog --source-lines`: the same Verilog, each declaration with the line of Python it comes from."""

import re
from pathlib import Path

import vitforge_hw
from vitforge.cli import main

DECLARED = re.compile(r"^  (?:wire|reg) .*;(?:  // (\S+):(\d+))?$", re.M)


def test_source_lines(tmp_path, capsys):
    (tmp_path / "rtl_source_lines").mkdir()
    (tmp_path / "rtl_source_lines" / "stale.v").write_text("module stale; endmodule")
    assert main(["verilog", "--preset", "tiny", "-o", str(tmp_path), "--source-lines"]) == 0
    assert not (tmp_path / "rtl_source_lines" / "stale.v").exists()
    assert "rtl_source_lines: the same with the line of Python" in capsys.readouterr().out
    named = total = 0
    for path in sorted((tmp_path / "rtl").glob("*.v")):
        text = (tmp_path / "rtl_source_lines" / path.name).read_text()
        assert re.sub(r"(?m)  // \S+:\d+$", "", text) == path.read_text()
        found = DECLARED.findall(text)
        total, named = total + len(found), named + sum(bool(file) for file, _ in found)
    assert named > 0.75 * total > 1000  # not clock, reset, ports of memories
    assert (tmp_path / "rtl_source_lines" / "files.f").read_text() == (tmp_path / "rtl" / "files.f").read_text()
    source, text = Path(vitforge_hw.__file__).parents[1], (tmp_path / "rtl_source_lines" / "vf_job_queue.v").read_text()
    registers = re.findall(r"^  reg (?:\[\d+:0\] )?(\w+) = .*;  // (\S+):(\d+)$", text, re.M)
    assert {"images", "submitted", "completed"} <= {name for name, _, _ in registers}
    for name, file, line in registers:  # its line has its name
        assert name.partition("_")[0] in (source / file).read_text().split("\n")[int(line) - 1], name


def test_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "rtl_source_lines").write_text("")
    assert main(["verilog", "--preset", "tiny", "-o", str(tmp_path), "--source-lines"]) != 0
    assert "rtl_source_lines: must be a folder, but" in capsys.readouterr().err
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert main(["verilog", "--preset", "tiny", "-o", str(tmp_path / "loop")]) != 0
    assert "loop: must be a folder, is a loop of links" in capsys.readouterr().err
    assert not (tmp_path / "rtl").exists()
