"""Resources of the synthesised Verilog against the committed table docs/silicon.json."""

import importlib.util
import json
from pathlib import Path

import pytest

from vitforge.rtl import ensure_rtl
from vitforge.synth import synthesise
from vitforge_hw.arch.config import get_config
from vitforge_sim.synth.blocks import blocks
from vitforge_sim.synth.mapping import cells
from vitforge_sim.synth.netlist import count, netlist
from vitforge_sim.synth.parts import part

ROOT = Path(__file__).resolve().parents[3]
TABLE = json.loads((ROOT / "docs" / "silicon.json").read_text())
LANES = ("vf_post_lane", "vf_layernorm_lane", "vf_softmax_lane")
RESOURCES = ("dsp", "lut", "ff", "bram36", "uram")
GROWTH = 1.05  #: what a module may grow without a line of reason in docs/silicon.md and a new table


def silicon():
    spec = importlib.util.spec_from_file_location("silicon", ROOT / "scripts" / "silicon.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def grown(before: dict, now: dict) -> list[str]:
    return [f"{r} {before[r]} -> {now[r]}" for r in RESOURCES if now[r] > GROWTH * before[r]]


def test_lanes_have_not_grown(tmp_path):
    """Lanes of `tiny` through Yosys; run `scripts/silicon.py tiny` for a new table."""
    found = blocks(ensure_rtl(get_config("tiny"), tmp_path / "tiny"))
    chosen = {n: b for n, b in found.items() if n.startswith(LANES) and n in TABLE["tiny"]["modules"]}
    assert len(chosen) == len(LANES)
    for child in {c for b in chosen.values() for c in b.children} - set(chosen):
        chosen[child] = found[child]
    for name, module in cells(chosen, "xcup", tmp_path).items():
        before, now = TABLE["tiny"]["modules"][name], count(netlist(name, module, set(found)).cells)
        print(
            f"{name}: {', '.join(f'{r} {before[r]} -> {now[r]}' for r in RESOURCES if before[r] != now[r]) or 'same'}"
        )
        assert not grown(before, now), f"{name} has grown: {grown(before, now)}"


def test_growth_is_seen():
    before = dict(dsp=2, lut=100, ff=0, bram36=0, uram=0)
    assert grown(before, dict(before, lut=105)) == []
    assert grown(before, dict(before, lut=106, ff=1)) == ["lut 100 -> 106", "ff 0 -> 1"]


@pytest.mark.slow
def test_tiny_has_not_grown(tmp_path):
    info = synthesise(get_config("tiny"), tmp_path, part(None, "xcup"))
    print(*silicon().changes(TABLE["tiny"], info), sep="\n")
    assert not grown(TABLE["tiny"]["total"], info["total"])
    assert json.loads((tmp_path / "synth.json").read_text()) == info


@pytest.mark.parametrize("preset", TABLE)
def test_the_page_shows_the_table(preset):
    """docs/silicon.md repeats the totals of docs/silicon.json."""
    page = (ROOT / "docs" / "silicon.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{preset}` |"))
    total = TABLE[preset]["total"]
    for shown in (total["dsp"], total["lut"], total["ff"], total["bram36"], TABLE[preset]["fmax_mhz"]):
        assert f" {shown:,} " in row, (preset, shown, row)


def test_changes_are_summed_up():
    old = {"total": {"lut": 100, "dsp": 2}}
    assert silicon().changes(old, {"total": {"lut": 90, "dsp": 2}}) == ["lut: 100 -> 90 (-10)"]
    assert silicon().misfits(dict(dsp=2000, lut=1000, ff=0, bram36=400, uram=0)) == {
        "zcu102": "fits",
        "zcu104": "dsp 116 %, bram36 128 %",
        "kv260": "dsp 160 %, bram36 278 %",
    }
