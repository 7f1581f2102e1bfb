"""Yosys takes every module of every preset, on every run of the suite."""

import dataclasses
from pathlib import Path

import pytest

from vitforge.rtl import ensure_rtl, load_config
from vitforge_hw.arch.config import PRESETS, get_config
from vitforge_hw.verilog import TOP
from vitforge_sim.synth import yosys

#: maps memories to UltraScale+ RAMs as synth_xilinx does (which would also spend its time on the rest)
XILINX_MEMORIES = (
    "memory_libmap -logic-cost-rom 0.015625 -lib +/xilinx/lutrams_xcu.txt -lib +/xilinx/brams_xc4v.txt "
    "-lib +/xilinx/urams.txt -D HAS_SIZE_36 -D HAS_CASCADE -D HAS_ADDRCE"
)


#: blocks that an earlier preset of this run had too, without the comment that names it
taken: set[str] = set()


def script(files: list[str], again: list[str] = ()) -> list[str]:
    """``again``: only their ports are read."""
    read = [f"read_verilog {'-lib ' * (name in again)}{name}" for name in files]
    check = [f"hierarchy -check -top {TOP}", "proc", "check -assert", "select -assert-none t:$dlatch t:$adlatch"]
    map_memories = ("opt_expr", "opt_clean", "memory_dff", "memory_collect", XILINX_MEMORIES)
    return [*read, *check, "select -set memories t:$mem* %m", *(f"{step} @memories" for step in map_memories)]


PLAIN = dataclasses.replace(get_config("tiny"), name="plain", packed=False)  #: no preset has it, the ULX3S has
TWO_WORDS = load_config(None, Path(__file__).parents[3] / "configs" / "trio_two_words.json")


@pytest.mark.parametrize("config", [*PRESETS.values(), PLAIN, TWO_WORDS], ids=lambda c: c.name)
def test_yosys_takes_every_module(config, tmp_path):
    """Hierarchy complete, nothing driven twice, no loops, no latches; every memory has a form on the part."""
    files = ensure_rtl(config, tmp_path)
    blocks = {name: text.split("\n", 1)[1] for name, text in files.items()}
    log = yosys.run(script(list(files), [n for n, text in blocks.items() if text in taken]), tmp_path / "rtl")
    assert "Found and reported 0 problems." in log
    assert "Warning: " not in log
    taken.update(blocks.values())  # and only what was taken


ROM = """module vitforge_top(input clk, input [6:0] a, output reg [35:0] y);
  (* rom_style = "distributed" *) reg [35:0] rom [0:127];
  integer i;
  initial for (i = 0; i < 128; i = i + 1) rom[i] = i * i * 40503;
  always @(posedge clk) y <= rom[a];
endmodule
"""


@pytest.mark.parametrize(
    "text,error",
    [
        (ROM, "no valid mapping found for memory"),
        ("module vitforge_top(input a, b, output y); assign y = a; assign y = b; endmodule\n", "Found 1 problems"),
        ("module vitforge_top(input a, output y); vf_x x (.a(a), .y(y)); endmodule\n", "vf_x"),
        ("module vitforge_top(input a, b, output reg y); always @* if (a) y = b; endmodule\n", "dlatch"),
    ],
)
def test_the_check_can_fail(text, error, tmp_path):
    (tmp_path / "x.v").write_text(text)
    with pytest.raises(yosys.SynthesisError, match=error):
        yosys.run(script(["x.v"]), tmp_path)
