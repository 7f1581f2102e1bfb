"""The ULX3S design on its way into the part: seeds tried, a router stopped, what the netlist is spared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.verilog import emit

BOARDS = Path(__file__).resolve().parents[2] / "boards"
sys.path.insert(0, str(BOARDS))

from ulx3s import build as design  # noqa: E402
from ulx3s.identity import apart  # noqa: E402


class Tools:
    """Scripted estimates {seed: MHz} and routings {(placement, routing): MHz or None} for an hour of nextpnr."""

    def __init__(self, estimates, routed):
        self.estimates, self.routed, self.calls, self.kept = estimates, routed, [], []

    def place(self, seed):
        self.placed = seed
        self.calls.append(seed)
        return self.estimates[seed]

    def route(self, seed):
        self.calls.append((self.placed, seed))
        mhz = self.routed[self.placed, seed]
        return mhz and {"mhz": mhz}

    def fastest(self):
        return design.fastest(self.place, self.route, lambda: self.kept.append(self.calls[-1]), 50, 5)


@pytest.mark.parametrize(
    "estimates, routed, calls, best",
    [
        ({5: 55}, {(5, 4): 51}, [5, (5, 4)], (5, 4)),
        ({5: 45, 6: 52}, {(6, 4): 48, (6, 5): 50}, [5, 6, (6, 4), (6, 5)], (6, 5)),
        ({5: 45, 6: 44, 7: 43}, {(7, 4): 41, (7, 5): 42, (7, 6): 40}, [5, 6, 7, (7, 4), (7, 5), (7, 6)], (7, 5)),
        ({5: 55}, {(5, 4): None, (5, 5): 54}, [5, (5, 4), (5, 5)], (5, 5)),
        (
            {5: 55, 6: 53},
            {(5, 4): None, (5, 5): None, (5, 6): None, (6, 4): 54},
            [5, (5, 4), (5, 5), (5, 6), 6, (6, 4)],
            (6, 4),
        ),
        ({5: 55, 6: 45, 7: 45}, {(5, 4): 49, (5, 5): 48, (5, 6): 47}, [5, (5, 4), (5, 5), (5, 6), 6, 7], (5, 4)),
    ],
)
def test_places_and_routes_until_the_clock_is_reached(estimates, routed, calls, best):
    tools = Tools(estimates, routed)
    found = tools.fastest()
    assert tools.calls == calls and tuple(found["seeds"]) == best and found["mhz"] == routed[best]
    assert tools.kept[-1] == best, "the bitstream is that of the fastest"


def test_placements_that_cannot_be_routed_are_one_line():
    tools = Tools({5: 55, 6: 45, 7: 45}, {(placed, own): None for placed in (5, 7) for own in (4, 5, 6)})
    with pytest.raises(ValueError, match="^ulx3s: none of 3 placements could be routed; another --seed may do$"):
        tools.fastest()


def test_a_router_that_comes_no_further_is_stopped(tmp_path):
    """Iterations as nextpnr's log has them: of a placement without end, and of one that took 75."""
    endless = [63868, 18696, 9440, 4598, 3959, 3570, 3693, 3805, 3838, 3981, 4003, 4488, 4500, 4600]
    good = [61746, 11025, 2804, 838, 276, 150, *[20] * 30, 5, *[1] * 20]
    assert [design.stuck(endless[:n]) for n in (4, 8, 13, 14)] == [False, False, False, True]
    assert not any(design.stuck(good[:n]) for n in range(len(good)))
    assert [design.stuck([9, 3, *[1] * n]) for n in (60, 61)] == [False, True]
    assert design.overused(tmp_path) == []
    line = "Info:     iter={} wires=943532 overused={} overuse=78602 archfail=NA\n"
    (tmp_path / "routing.tim").write_text(line.format(1, 63868) + line.format(2, 12)[:-16])
    assert design.overused(tmp_path) == [63868, 12]
    said = "Info: Max frequency for clock '$glbnet$a': 55.64 MHz (PASS at 50.00 MHz)\n"
    (tmp_path / "placement.tim").write_text(said + said.replace("55.64", "41.4"))
    assert design.estimated(tmp_path) == 41.4


def test_another_build_hash_is_another_table_in_the_same_netlist(tmp_path):
    """Nothing for a placer to see: the loader's netlist for two hashes, by the tool that `make board` uses."""
    config = design.config()
    sources, own = emit(config), build_hash(config)
    netlists = []
    for value in (own, own ^ 0xFFFFFFFF):
        texts = apart({n: t.replace(f"32'd{own}", f"32'd{value}") for n, t in sources.items()}, value)
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        script = f"read_verilog {' '.join(texts)}; synth_ecp5 -top vf_boot -json boot.json"
        tool = design._tools()["YOSYS"]
        subprocess.run([tool, "-q", "-p", script], cwd=tmp_path, check=True, capture_output=True)
        netlists.append(json.loads((tmp_path / "boot.json").read_text())["modules"]["vf_boot"])
    cells = [{name: cell | {"parameters": 0} for name, cell in n["cells"].items()} for n in netlists]
    assert cells[0] == cells[1] and netlists[0]["netnames"] == netlists[1]["netnames"]
    changed = [name for name, cell in netlists[0]["cells"].items() if cell != netlists[1]["cells"][name]]
    assert len(changed) == 32 and all("ulx3s_identity" in name for name in changed)
    tables = [
        [int(n["cells"][f"ulx3s_identity__i.bit{i}"]["parameters"]["INIT"], 2) for i in range(32)] for n in netlists
    ]
    assert [sum((t == 0xFFFF) << i for i, t in enumerate(table)) for table in tables] == [own, own ^ 0xFFFFFFFF]


MEMORIES = """
module memories(input clk, input we, input [3:0] wa, input [3:0] ra, input [3:0] di,
                output [3:0] d2, output [3:0] d8, output [3:0] d16);
  reg [3:0] m2[1:0]; reg [3:0] m8[7:0]; reg [3:0] m16[15:0];
  always @(posedge clk) if (we) begin m2[wa[0]] <= di; m8[wa[2:0]] <= di; m16[wa] <= di; end
  assign d2 = m2[ra[0]]; assign d8 = m8[ra[2:0]]; assign d16 = m16[ra];
endmodule
"""
MEMORY_BENCH = """
module TRELLIS_DPR16X4(input [3:0] DI, WAD, RAD, input WRE, WCK, output [3:0] DO);  // as Yosys' cells_sim.v
  parameter WCKMUX = "WCK", WREMUX = "WRE", INITVAL = 64'bx;
  reg [3:0] mem[15:0];
  always @(posedge WCK) if (WRE) mem[WAD] <= DI;
  assign DO = mem[RAD];
endmodule
module bench;
  reg clk = 0, we = 0; reg [3:0] wa = 0, ra = 0, di = 0;
  wire [3:0] a2, a8, a16, b2, b8, b16;
  memories gold(clk, we, wa, ra, di, a2, a8, a16);
  mapped gate(clk, we, wa, ra, di, b2, b8, b16);
  integer i, wrong = 0;
  initial begin
    for (i = 0; i < 1000; i = i + 1) begin
      we = i < 16 ? 1 : $random; wa = i < 16 ? i : $random; di = $random; ra = $random;
      #1 clk = 1; #1 clk = 0; #1
      if (i >= 16 && {a2, a8, a16} !== {b2, b8, b16}) wrong = wrong + 1;
    end
    $display("wrong %0d", wrong); $finish;
  end
endmodule
"""


@pytest.mark.parametrize("broken", [False, True])
def test_small_memories_keep_no_constant_address(tmp_path, broken):
    """Mapped by lutram.v: no address bit is constant, and every row that was written is read (Icarus); a map that
    changes the written address alone is found out."""
    text = (BOARDS / "ulx3s" / "lutram.v").read_text()
    (tmp_path / "map.v").write_text(
        text.replace("assign read[i] = RAD[ZEROS[i] ? TOP : i]", "assign read[i] = RAD[i]") if broken else text
    )
    (tmp_path / "memories.v").write_text(MEMORIES)
    (tmp_path / "bench.v").write_text(MEMORY_BENCH)
    script = "read_verilog memories.v; synth_ecp5 -top memories; techmap -map map.v; opt_clean; write_json mapped.json"
    script += "; rename memories mapped; write_verilog -noattr mapped.v"
    subprocess.run([design._tools()["YOSYS"], "-q", "-p", script], cwd=tmp_path, check=True, capture_output=True)
    cells = json.loads((tmp_path / "mapped.json").read_text())["modules"]["memories"]["cells"].values()
    memories = [c["connections"] for c in cells if c["type"] == "TRELLIS_DPR16X4"]
    assert len(memories) == 3
    assert broken or not any("0" in map(str, c[port]) for c in memories for port in ("RAD", "WAD"))
    subprocess.run(["iverilog", "-g2012", "-o", "bench", "bench.v", "memories.v", "mapped.v"], cwd=tmp_path, check=True)
    out = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert ("wrong 0" in out.split("\n")) != broken, out


def test_a_hash_that_is_not_found_is_refused():
    with pytest.raises(ValueError, match="no source has the build hash as 32'd123"):
        apart({"a.v": "module a(q);\n  assign q = 32'd1234;\nendmodule\n"}, 123)
