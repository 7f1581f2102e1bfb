"""From Verilog of two blocks to resources and paths that can be worked out by hand."""

import math

import numpy as np
import pytest

from vitforge_sim.synth.blocks import blocks, instances, key
from vitforge_sim.synth.delays import FanOut, PerNet
from vitforge_sim.synth.design import flatten
from vitforge_sim.synth.mapping import cells
from vitforge_sim.synth.netlist import count, netlist
from vitforge_sim.synth.parts import PARTS, part
from vitforge_sim.synth.report import lines, resources, timing
from vitforge_sim.synth.timing import Timing
from vitforge_sim.synth.yosys import SynthesisError

#: `mix` has a register before its input gate; its output gate ends in the parent
CHILD = """// configuration A
module mix(clk, a, b, through, y, q);
  input clk;
  wire clk;
  input [7:0] a;
  input b;
  input through;
  output y;
  output [7:0] q;
  reg [7:0] held;
  always @(posedge clk) held <= a & {8{b}};
  assign q = held;
  assign y = ^held & through;
endmodule
"""
TOP = """module top(aclk, a, b, c, y, z, bypass, same);
  input aclk;
  input [7:0] a;
  input b;
  input c;
  output [7:0] y;
  output z;
  input bypass;
  output same;
  reg through, z, last;
  wire w;
  wire [7:0] q;
  always @(posedge aclk) through <= c;
  always @(posedge aclk) z <= w ^ last;
  always @(posedge aclk) last <= b;
  assign same = ~bypass & b;
  mix one (
    .clk(aclk), .a(a), .b(last), .through(through), .y(w), .q(y)
  );
endmodule
"""


def built(files, target="xcup", top="top", folder=None):
    found = blocks(files)
    netlists = {n: netlist(n, m, set(found)) for n, m in cells(found, target, folder, workers=1).items()}
    return found, netlists, flatten(netlists, top)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def design(cache):
    return built({"mix.v": CHILD, "top.v": TOP}, folder=cache)


def net(loads: int) -> float:
    return 200 + 60 * math.log2(loads)


def test_resources(design):
    found, netlists, _ = design
    info = resources(netlists, instances(found, "top"))
    assert info["total"]["ff"] == 8 + 3 and info["modules"]["mix"]["ff"] == 8
    assert info["total"]["lut"] == sum(m["instances"] * m["lut"] for m in info["modules"].values())
    assert info["total"]["dsp"] == info["total"]["bram36"] == info["total"]["uram"] == 0


def test_the_longest_path_runs_through_the_border(design):
    """held -> two LUTs of mix -> a LUT of top -> z: each net once, with its loads on both sides of the border."""
    _, _, flat = design
    found = Timing(flat, FanOut())
    path = found.worst(1)[0]
    start, end = flat.name(path.nets[0]), flat.end_name(path.end)
    assert end == ("", "top", "z") and start[0] in ("one", "") and path.levels == 3
    by_hand = 90 + sum(net(flat.loads[n]) for n in path.nets) + 3 * 100 + 50
    assert path.period == pytest.approx(by_hand)
    assert found.period == path.period


def test_loads_are_counted_through_the_border(design):
    """`last` feeds eight gates in mix and one in top."""
    _, _, flat = design
    loads = {flat.name(n)[2]: flat.loads[n] for n in range(len(flat.loads))}
    assert loads["last"] == 9


def test_a_constant_a_net(design):
    """Road A on the same path: the later input of a LUT takes the faster pin; into the register of its slice 50 ps."""
    _, _, flat = design
    slow, slower = Timing(flat, PerNet(148)), Timing(flat, PerNet(250))
    path = slow.worst(1)[0]
    luts = PerNet(148).lut_pins
    least = 77 + len(path.nets[:-1]) * 148 + path.levels * luts[0] + 50 + 25
    assert least <= path.period <= least + path.levels * (luts[-1] - luts[0])
    assert slower.worst(1)[0].period > path.period


def test_ways_from_input_to_output(design):
    info = timing(design[2], {"top": {"z": "a/b.py:7"}})
    assert info["input_to_output"] == [("b", "same"), ("bypass", "same")]
    assert info["worst_paths"][0]["end"] == {"instance": "", "module": "top", "signal": "z", "source": "a/b.py:7"}
    assert info["max_fanout"] == 9
    assert info["fmax_mhz"] == pytest.approx(1000 / info["worst_paths"][0]["ns"], rel=1e-3)
    assert info["fmax_mhz_148"] > info["fmax_mhz_250"]


def test_a_report(design):
    found, netlists, flat = design
    info = {**resources(netlists, instances(found, "top")), **timing(flat, {}), "misfits": []}
    text = "\n".join(lines(info, PARTS["zcu102"]))
    assert "fits zcu102" in text and f"{info['fmax_mhz']} MHz" in text and "bypass -> same" in text


def test_the_cache_is_by_content(design, cache):
    """Comments are not content; a child's inside is not its parent's; a child's port is."""
    found = design[0]
    other = blocks({"mix.v": CHILD.replace("configuration A", "configuration B"), "top.v": TOP})
    assert [key(found[n], found) for n in found] == [key(other[n], other) for n in other]
    inside = blocks({"mix.v": CHILD.replace("^held", "&held"), "top.v": TOP})
    assert key(inside["mix"], inside) != key(found["mix"], found)
    assert key(inside["top"], inside) == key(found["top"], found)
    port = blocks({"mix.v": CHILD.replace("input [7:0] a", "input [6:0] a"), "top.v": TOP})
    assert key(port["top"], port) != key(found["top"], found)
    ran = []
    cells(found, "xcup", cache, workers=1, done=lambda names, left: ran.append(names))
    assert ran == []
    cells(inside, "xcup", cache, workers=1, done=lambda names, left: ran.append(names))
    assert ran == [["mix"]]


def test_a_loop_is_named(tmp_path):
    text = TOP.replace("wire w;", "wire w, u, v;\n  assign u = v ^ c, v = u & b;\n  assign l = u;").replace(
        "output same;", "output same;\n  output l;"
    )
    _, _, flat = built({"mix.v": CHILD, "top.v": text.replace("same);", "same, l);")}, folder=tmp_path)
    with pytest.raises(ValueError, match="combinational loop"):
        Timing(flat, FanOut())


def test_yosys_refusals_name_the_block(tmp_path):
    with pytest.raises(SynthesisError, match="bad for xcup: Yosys: "):
        cells(blocks({"bad.v": "module bad(a);\n  input a;\n  nothing;\nendmodule\n"}), "xcup", tmp_path)


def test_counts_and_parts():
    kinds = {"LUT6": 3, "INV": 1, "RAM32M16": 2, "SRL16E": 5, "FDRE": 7, "DSP48E2": 2, "RAMB36E2": 1, "RAMB18E2": 1}
    assert count(kinds) == dict(dsp=2, lut=3 + 1 + 16 + 5, lutram=16, srl=5, ff=7, bram36=1.5, uram=0)
    kv260 = PARTS["kv260"]
    total = dict(dsp=1248, lut=117_121, ff=0, bram36=288, uram=65)
    assert kv260.misfits(total) == ["lut 100 %", "bram36 200 %", "uram 102 %"]
    assert PARTS["zcu102"].misfits(dict(total, uram=1))[-1] == "uram 1 of 0"
    assert part(None, "ecp5").name == "ecp5-85" and part("KV260", "xcup") is kv260
    with pytest.raises(ValueError, match="part: must be one of ecp5-45, ecp5-85 for ecp5, not 'kv260'"):
        part("kv260", "ecp5")


def test_dsp_registers():
    """A multiplier without registers is one long arc; with A, M and P its pins end and start at registers."""

    def cell(**registers):
        given = {f"{r}REG": f"{n:032b}" for r, n in registers.items()}
        return {
            "type": "DSP48E2",
            "parameters": {f"{r}REG": f"{0:032b}" for r in ("A", "B", "C", "M", "P", "OPMODE")} | given,
            "port_directions": {"A": "input", "B": "input", "C": "input", "CLK": "input", "P": "output"},
            "connections": {"A": [2, 3], "B": [4], "C": [5], "CLK": [6], "P": [7, 8]},
        }

    def of(**registers):
        flat = flatten({"x": netlist("x", wrapped(cell(**registers)), set())}, "x")
        return flat, Timing(flat, FanOut())

    def wrapped(dsp):
        ports = {"clk": ("input", [6]), "a": ("input", [2, 3]), "b": ("input", [4]), "c": ("input", [5])}
        ports |= {"p": ("output", [7, 8])}
        return {
            "ports": {n: {"direction": d, "bits": b} for n, (d, b) in ports.items()},
            "cells": {"dsp": dsp},
            "netnames": {n: b for n, (_, b) in ports.items()},
        }

    flat, bare = of()
    assert bare.period == 200 + 2400 + 200 and len(flat.arcs) == 8
    flat, full = of(A=1, B=1, C=1, M=1, P=1)
    assert len(flat.arcs) == 0
    assert full.period == 1290  # its own: pins to registers take 500, P to the port 550
    assert np.max(full.required) == 350 + 200
    assert of(A=1, B=1, P=1, C=1)[1].period == 1840
