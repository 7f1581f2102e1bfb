"""Configurations for parts with UltraRAM: what they are, and that their memories become UltraRAM."""

from pathlib import Path

import pytest

from vitforge.rtl import load_config
from vitforge_hw.arch.config import get_config
from vitforge_hw.emit import emitting
from vitforge_hw.memory.activation import Pool
from vitforge_hw.memory.weights import WeightBuffer
from vitforge_sim.synth.blocks import blocks, instances
from vitforge_sim.synth.mapping import cells
from vitforge_sim.synth.netlist import count, netlist

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.mark.parametrize("name, cores", [("kv260", 4), ("zcu104", 8)])
def test_configurations(name, cores):
    config = load_config(None, CONFIGS / f"{name}.json")
    assert (config.name, config.cores, config.ultraram) == (name, cores, True)
    assert not get_config("p2vit").ultraram


def test_buffers_become_ultraram(tmp_path):
    """A pool is 2 blocks of 72 bits a bank; the weights 8 a column of 512 bits; without ``ultraram`` none."""
    config = load_config(None, CONFIGS / "kv260.json")
    with emitting() as modules:
        modules.add(Pool(config), "pool")
        modules.add(WeightBuffer(config), "weights")
    found = blocks({f"{name}.v": text for name, text in modules.items()})
    netlists = cells(found, "xcup", tmp_path)
    totals = {name: count(netlist(name, module, set(found)).cells) for name, module in netlists.items()}
    for top, uram in (("pool", 2 * config.cores), ("weights", 8 * config.beats_per_weight_row)):
        parts = instances({n: b for n, b in found.items()}, top)
        assert sum(totals[n]["uram"] * parts[n] for n in parts) == uram, totals
    assert not any(t["bram36"] for t in totals.values())
