"""Verilator's points of a small design, added over runs; waivers that are needed, few, and have a reason."""

import subprocess

import pytest

from vitforge_sim.coverage import waivers
from vitforge_sim.coverage.points import Coverage, Point, modules, raw_points
from vitforge_sim.coverage.waivers import Waiver, shares, waived
from vitforge_sim.run.build import build

UNIT = """
module unit(input clk, input [3:0] x, output reg [3:0] y);
  // counts to {limit}
  always @(posedge clk)
    if (x == 4'd{limit}) y <= 4'd0;
    else y <= x;
endmodule
"""
TOP = """
module top(input clk);
  reg [3:0] n = 0; wire [3:0] y;
  unit unit(clk, n, y);
  always @(posedge clk) begin
    n <= n + 4'd1;
    if (n == 4'd{cycles}) $finish;
  end
endmodule
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Data and program folders of a run of 3 cycles and of one of 12."""
    folder, out = tmp_path_factory.mktemp("coverage"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITFORGE_COVERAGE", str(folder))
        for cycles in (3, 12):
            sources = {"unit.v": UNIT.format(limit=9), "top.v": TOP.format(cycles=cycles)}
            program = build("verilator", "top", sources)
            subprocess.run(program.command, check=True, capture_output=True)
            (data,) = folder.glob(f"{program.folder.name}.*.dat")
            out.append((data, program.folder))
    return out


def reached(coverage, name):
    return [count > 0 for point, count in sorted(coverage.counts.items()) if point.name == name]


def test_points_of_two_runs(runs):
    """The other module does not count; a branch and a bit that only the longer run reaches show after it."""
    coverage = Coverage({"unit.v": UNIT.format(limit=9).replace("// counts", "// written otherwise: counts")})
    assert coverage.add(*runs[0]) > 0
    assert {point.module for point in coverage.counts} == {"unit"}
    assert reached(coverage, "if") == [False] and reached(coverage, "else") == [True]
    assert reached(coverage, "x[3]:0->1") == [False] and reached(coverage, "x[0]:0->1") == [True]
    before = shares(coverage.counts)
    coverage.add(*runs[1])
    assert reached(coverage, "if") == [True] and reached(coverage, "x[3]:0->1") == [True]
    after = shares(coverage.counts)
    assert after["line"][0] > before["line"][0] and after["toggle"][0] > before["toggle"][0]
    assert {kind: total for kind, (_, total) in before.items()} == {kind: total for kind, (_, total) in after.items()}


def test_another_module_of_the_same_name_does_not_count(runs):
    assert Coverage({"unit.v": UNIT.format(limit=8)}).add(*runs[0]) == 0


def test_finished_files_are_taken_once(runs, tmp_path):
    for data, _ in runs:
        (tmp_path / data.name).write_bytes(data.read_bytes())
    (tmp_path / "unfinished.1.part").write_text("")
    coverage = Coverage({"unit.v": UNIT.format(limit=9)})
    assert coverage.absorb(tmp_path, runs[0][1].parent) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished.1.part"]
    assert reached(coverage, "if") == [True]


def test_programs_without_counters_are_others(runs):
    program = build("verilator", "top", {"unit.v": UNIT.format(limit=9), "top.v": TOP.format(cycles=3)})
    assert program.folder not in [folder for _, folder in runs]


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.dat").write_text("not coverage\n")
    with pytest.raises(ValueError, match="must start with '# SystemC::Coverage'"):
        list(raw_points(tmp_path / "a.dat"))


def test_modules_of_a_file():
    text = UNIT.format(limit=1) + UNIT.format(limit=2).replace("module unit", "module other")
    (first, second), (again, _) = modules(text), modules(text.replace("// counts", "/* a\n\n b */ //"))
    assert [first[0], second[0]] == ["unit", "other"] and first[1:3] == (2, 7)
    assert first[3] == again[3] != second[3]


COUNTS = {Point("unit", "toggle", n, f"x[{n}]:0->1"): n % 50 for n in range(100)}  # 0 and 50 are not reached


def test_a_bench_may_call_a_module_otherwise():
    """The file's top and what is called after it; another module in it keeps its name."""
    text = "module vf_a(x);\n  vf_a_part p(x);\n  vf_b b(x);\nendmodule\nmodule vf_a_part(x);\nendmodule\n"
    other = text.replace("vf_a", "dut")
    identities = [[same for *_, same in modules(t)] for t in (text, other, other.replace("vf_b", "vf_c"))]
    assert identities[0] == identities[1] and identities[0][0] != identities[2][0]
    coverage = Coverage({"vf_a.v": text, "vf_d.v": text.replace("vf_a", "vf_d")})
    assert coverage._known == {identities[0][0]: ["vf_a", "vf_d"], identities[0][1]: ["vf_a_part", "vf_d_part"]}


def test_waivers_count_what_they_leave_out():
    found = waived(COUNTS, [Waiver("uni*", "x[0]:*", "the host writes whole words")])
    assert [point.name for point in found] == ["x[0]:0->1"]
    assert shares(COUNTS, found)["toggle"] == (98, 99)


@pytest.mark.parametrize(
    ("waiver", "text"),
    [
        ({"module": "unit", "name": "x[1]:*"}, "no point needs it any more"),  # it is reached
        ({"module": "other", "name": "*"}, "no point needs it any more"),
        ({"module": "unit", "name": "*", "kind": "line"}, "no point needs it any more"),
    ],
)
def test_a_waiver_that_nothing_needs_is_refused(waiver, text):
    with pytest.raises(ValueError, match=text):
        waived(COUNTS, [Waiver(**waiver, reason="some")])


def test_too_many_waivers_are_refused():
    counts = {Point("unit", "toggle", n, "x"): n >= 6 for n in range(100)}
    with pytest.raises(ValueError, match="6 of 100 points, at most 5% may be waived"):
        waived(counts, [Waiver("unit", "x", "some")])


def test_a_waiver_has_a_reason(tmp_path):
    (tmp_path / "waivers.toml").write_text('[[waiver]]\nmodule = "unit"\nname = "x"\nreason = " "\n')
    with pytest.raises(ValueError, match="reason must not be empty"):
        waivers.load(tmp_path / "waivers.toml")
    (tmp_path / "waivers.toml").write_text('[[waiver]]\nmodule = "unit"\nwhy = "x"\n')
    with pytest.raises(ValueError, match="waivers.toml: .*why"):
        waivers.load(tmp_path / "waivers.toml")
