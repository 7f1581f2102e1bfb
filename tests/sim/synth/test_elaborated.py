"""Rules that hold for the whole elaborated design: loads of a net, no way from an AXI input to an AXI output."""

import pytest

from vitforge.rtl import ensure_rtl
from vitforge_hw.arch.config import get_config
from vitforge_hw.verilog import TOP
from vitforge_sim.synth.elaborated import crowded, elaborate

MOST = 1000  #: loads of a net; clock, reset tree and its copies have more


SLOW = [pytest.param(preset, marks=pytest.mark.slow) for preset in ("p2vit", "tiny_hybrid")]


@pytest.mark.parametrize("preset", ["tiny", *SLOW])
def test_rules(preset, tmp_path):
    config = get_config(preset)
    design = elaborate(ensure_rtl(config, tmp_path), TOP)
    pins = {name.split("[")[0] for name in [*design.inputs.values(), *design.outputs.values()]}
    assert {"s_axi_ctrl_awvalid", "m_axi_gmem0_rvalid", "m_axi_gmem0_arvalid"} <= pins
    assert design.through() == []
    if not config.trio:  # R-MAC's shadow copies and window buffer have more: docs/silicon.md
        assert crowded(design, MOST) == []


CHILD = """module part(clk, a, d, go, y, q);
  input clk;
  input [2:0] a;
  input d;
  input go;
  output y;
  output reg [{most}:0] q;
  reg held [0:7];
  reg at;
  always @(posedge clk) if (go) held[a] <= d;
  always @(posedge clk) at <= held[a];
  always @(posedge clk) if (go) q <= {{q[{most} - 1:0], d}};
  assign y = {y};
endmodule
"""
WHOLE = """module whole(aclk, a, d, go, y, q);
  input aclk;
  input [2:0] a;
  input d;
  input go;
  output y;
  output [{most}:0] q;
  reg {net};
  always @(posedge aclk) {net} <= go;
  part p (
    .clk(aclk), .a(a), .d(d), .go({net}), .y(y), .q(q)
  );
endmodule
"""


def built(net: str, y: str):
    """Register ``net`` loads ``MOST`` + 1 shifts and a memory inside a child block, whose ``y`` is given."""
    texts = {"part.v": CHILD, "whole.v": WHOLE}
    return elaborate({n: t.format(net=net, y=y, most=MOST) for n, t in texts.items()}, "whole")


def test_a_net_of_many_loads_is_named():
    """1001 shifting registers and a write's enable; a reset is known by its name."""
    loads = MOST + 1 + 1
    assert crowded(built("busy", "at"), MOST) == [(loads, "busy")]
    assert crowded(built("busy", "at"), loads) == []
    assert crowded(built("reset_part", "at"), MOST) == []


@pytest.mark.parametrize("y,ways", [("at", []), ("held[a]", [("a", "y")]), ("at & ~d", [("d", "y")])])
def test_a_way_through_is_named(y, ways):
    """Through a memory read without a register, and through gates of a child."""
    assert built("busy", y).through() == ways
