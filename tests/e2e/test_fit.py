"""`check` says if a model fits an accelerator: the verdict is the compiler's, the change that it names enough and
needed."""

import dataclasses
import json
import re

import pytest

from vitforge.cli import main
from vitforge.estimation import model_shapes
from vitforge.fit import fit, memory_bytes, repaired
from vitforge.rtl import load_config
from vitforge.shipped import shipped_model
from vitforge_hw.arch.config import PRESETS, get_config
from vitforge_sw.compiler.compile import compile_graph

DIGITS, EVIT = (str(shipped_model(name).model) for name in ("digits_vit", "digits_efficientvit"))
NAMES = ("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224", "deit3_small_patch16_224",
         "vit_tiny_patch16_224", "vit_base_patch16_224", "vit_base_patch32_224", "vit_large_patch16_224",
         "efficientvit_b0", "efficientvit_b1", "efficientvit_b2", "efficientvit_b3")  # fmt: skip


def compiled(graph, config) -> tuple[bool, str]:
    """Whether compile_graph takes it, with its proof and choice of schedule, and what it says if not."""
    try:
        compile_graph(graph, config)
    except ValueError as error:
        return False, str(error)
    return True, ""


def agrees(model: str, preset: str) -> None:
    graph, config = model_shapes(model), get_config(preset)
    verdict, (fits, text) = fit(graph, config), compiled(graph, config)
    assert verdict.fits == fits, verdict
    assert fits or text.removesuffix(f" (preset {preset})") == verdict.text


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("model", NAMES)
def test_verdict_is_that_of_compile_for_timm_names(model, preset):
    agrees(model, preset)


def test_refusals_of_a_large_model_in_no_time():
    graph = model_shapes("vit_large_patch16_224")
    assert fit(graph, get_config("tiny")).text == "model: at most max_tokens = 64 tokens, not 197"
    assert "K must be at most max_k = 3072, not 4096" in fit(graph, get_config("p2vit")).text
    assert "needs a preset with attention" in fit(graph, get_config("trio")).text


#: a preset whose limits and memories are each too small for the model, and the sizes that it needs
SMALL = {
    DIGITS: ("tiny", dict(max_tokens=8, max_k=48, max_channels=40, pool_rows=64, program_rows=64)),
    EVIT: ("tiny_hybrid", dict(window_rows=8, max_k=64, max_channels=64, pool_rows=128, program_rows=256)),
}


@pytest.mark.parametrize("model", SMALL, ids=["digits_vit", "digits_efficientvit"])
def test_repaired_configuration_fits_and_no_parameter_is_grown_in_vain(model):
    preset, small = SMALL[model]
    config, graph = dataclasses.replace(get_config(preset), **small), model_shapes(model)
    assert not fit(graph, config).fits
    found, changed = repaired(graph, config)
    assert found.fits and compiled(graph, found.config) == (True, "")
    assert set(changed) <= {*small, "code_rows"} and found.config == dataclasses.replace(config, **changed)
    assert memory_bytes(config) < memory_bytes(found.config) <= memory_bytes(get_config(preset))
    for name, value in changed.items():  # one step back in any of them, and it does not fit
        limits = type(config).__dataclass_fields__[name].metadata["limits"]
        back = value // 2 if limits.power_of_two else value - config.word
        assert not fit(graph, dataclasses.replace(found.config, **{name: back})).fits, name


def test_without_time_what_fits_is_larger_and_right():
    preset, small = SMALL[DIGITS]
    config, graph = dataclasses.replace(get_config(preset), **small), model_shapes(DIGITS)
    (least, _), (found, changed) = repaired(graph, config), repaired(graph, config, seconds=0)
    assert found.fits and found.config == dataclasses.replace(config, **changed)
    assert memory_bytes(found.config) >= memory_bytes(least.config)


def test_what_no_memory_mends():
    found, changed = repaired(model_shapes(DIGITS), get_config("trio"))
    assert not found.fits and changed == {} and "needs a preset with attention" in found.text


def test_command_names_every_preset(capsys):
    assert main(["check", DIGITS]) == 0
    lines = {x.split()[0]: x for x in capsys.readouterr().out.splitlines() if x.split()[:1] and x.split()[0] in PRESETS}
    assert set(lines) == set(PRESETS)
    assert " fits " in lines["tiny"] and "of 1024 rows per pool" in lines["tiny"]
    assert " NO " in lines["trio"] and "needs a preset with attention" in lines["trio"]


def test_command_writes_the_configuration_that_fits(tmp_path, capsys):
    small, larger, verdict = (tmp_path / f"{n}.json" for n in ("small", "larger", "verdict"))
    small.write_text(json.dumps({"base": "tiny", "name": "small", "pool_rows": 64}))
    argv = ["check", DIGITS, "--config", str(small)]
    assert main([*argv, "-o", str(larger), "--json", str(verdict)]) == 1
    out = capsys.readouterr().out
    assert re.search("^small +NO +activation buffer: ", out, re.M) and "it fits with pool_rows 128:" in out
    data = json.loads(verdict.read_text())
    assert data["change"] == {"pool_rows": 128} and data["fits"][0]["fits"] is False
    assert load_config(None, larger) == dataclasses.replace(get_config("tiny"), name="small-larger", pool_rows=128)
    assert main(["check", DIGITS, "--config", str(larger)]) == 0
    assert re.search("^small-larger +fits ", capsys.readouterr().out, re.M)
    assert main(["check", DIGITS, "-o", str(larger)]) == 2


@pytest.mark.slow
def test_a_preset_is_the_base_of_what_is_written(tmp_path, capsys):
    """DeiT-Tiny needs more tokens than tiny has: the file says what differs from the preset, no more."""
    larger = tmp_path / "larger.json"
    assert main(["check", "deit_tiny_patch16_224", "--preset", "tiny", "-o", str(larger)]) == 1
    data = json.loads(larger.read_text())
    assert data["base"] == "tiny" and data["max_tokens"] == 197 and data["max_channels"] == 192
    assert set(data) == {
        "base",
        "name",
        "max_tokens",
        "max_k",
        "max_channels",
        "pool_rows",
        "program_rows",
        "code_rows",
    }
