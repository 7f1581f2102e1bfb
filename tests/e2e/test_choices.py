"""Presets, configurations and schemes as users meet them: listed with meaning and limits, changed by file or option,
faults named all at once with the nearest known name."""

import dataclasses
import json

import pytest

from vitforge.cli import main
from vitforge.rtl import load_config
from vitforge.shipped import shipped_model
from vitforge_hw.arch.config import PRESETS, AcceleratorConfig, get_config
from vitforge_hw.arch.parameter import Limits
from vitforge_sw.families.choices import meanings, settings
from vitforge_sw.families.efficientvit.schemes import TRIO_SCHEMES, TrioScheme
from vitforge_sw.families.schemes import scheme_for
from vitforge_sw.families.vit.schemes import SCHEMES, Scheme
from vitforge_sw.graph.serialize import load_graph

DIGITS = shipped_model("digits_vit")
PARAMETERS = [f for f in dataclasses.fields(AcceleratorConfig) if f.name != "name"]


def refused(capsys, *argv) -> str:
    assert main([str(a) for a in argv]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    return err


# ---------------------------------------------------------------- presets and configurations


def test_presets_are_listed(capsys):
    assert main(["presets"]) == 0
    text = capsys.readouterr().out
    for config in PRESETS.values():
        line = next(x for x in text.splitlines() if x.startswith(f"{config.name} "))
        assert f" {config.multipliers} " in line


@pytest.mark.parametrize("name", PRESETS)
def test_preset_in_full(capsys, name):
    assert main(["presets", name]) == 0
    info = json.loads(capsys.readouterr().out)
    config = get_config(name)
    assert info["config_hash"] == f"{config.hash:08x}" and info["multipliers"] == config.multipliers
    assert {n: p["value"] for n, p in info["parameters"].items()} == {
        f.name: getattr(config, f.name) for f in PARAMETERS
    }
    for parameter in info["parameters"].values():
        assert len(parameter["meaning"]) > 8 and parameter["limits"]
        assert parameter["unit"] or parameter["limits"] == "true or false"


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda f: f.name)
def test_stated_limits_are_the_checked_ones(parameter):
    """Just outside of a parameter's stated limits it is refused by name; the limits hold every preset."""
    limits = parameter.metadata["limits"]
    if limits is None:
        with pytest.raises(ValueError, match=f"{parameter.name} must be true or false, not 1"):
            AcceleratorConfig(**{parameter.name: 1})
        return
    assert isinstance(limits, Limits)
    assert all(limits.fault(parameter.name, getattr(c, parameter.name)) is None for c in PRESETS.values())
    outside = [limits.least - 1, 7] if limits.choices else [limits.least - 1, limits.most + 1]
    for value in [*outside, *([3] if limits.power_of_two else [])]:
        with pytest.raises(ValueError, match=f"{parameter.name} must be .*, not {value}"):
            AcceleratorConfig(**{parameter.name: value})


def test_written_configuration_is_the_preset(tmp_path, capsys):
    path = tmp_path / "mine.json"
    assert main(["presets", "trio", "-o", str(path)]) == 0
    assert load_config(None, path).hash == get_config("trio").hash
    assert "-o needs the NAME" in refused(capsys, "presets", "-o", path)


def test_configuration_from_a_base(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"base": "tiny", "max_tokens": 48}))
    config = load_config(None, path)
    assert config == dataclasses.replace(get_config("tiny"), name="custom", max_tokens=48)
    path.write_text(json.dumps({"masters": 2}))
    assert load_config(None, path) == AcceleratorConfig(masters=2), "without base: p2vit's"


def test_all_faults_of_a_configuration_at_once(tmp_path, capsys):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"base": "tiny", "word": 9, "watchdog_bits": 41, "max_tokns": 4, "zzz": 1}))
    err = refused(capsys, "verilog", "--config", path, "-o", tmp_path / "b")
    for text in ("word must be 8 or 16, not 9", "watchdog_bits must be 1 to 31, not 41",
                 "unknown parameter 'max_tokns' (did you mean max_tokens?)", "unknown parameter 'zzz'"):  # fmt: skip
        assert text in err, err
    path.write_text(json.dumps({"base": "tiny", "code_rows": 32, "max_k": 100}))
    err = refused(capsys, "verilog", "--config", path, "-o", tmp_path / "b")
    assert "max_k must be a multiple of word = 8, not 100; code_rows must hold two rows of max_tokens = 64" in err
    path.write_text(json.dumps({"base": "tniy"}))
    err = refused(capsys, "verilog", "--config", path, "-o", tmp_path / "b")
    assert "preset 'tniy' is unknown (did you mean tiny?)" in err
    assert "(did you mean p2vit?)" in refused(capsys, "presets", "p2vitt")


# ---------------------------------------------------------------- schemes


def test_schemes_are_listed(capsys):
    assert main(["schemes"]) == 0
    text = capsys.readouterr().out
    for name in {*SCHEMES, *TRIO_SCHEMES}:
        assert f"\n{name} " in text


@pytest.mark.parametrize("name", sorted({*SCHEMES, *TRIO_SCHEMES}))
def test_scheme_in_full(capsys, name):
    assert main(["schemes", name]) == 0
    families = json.loads(capsys.readouterr().out)["families"]
    for family, known in (("ViT", SCHEMES), ("EfficientViT", TRIO_SCHEMES)):
        assert (family in families) == (name in known)
        for option, entry in families.get(family, {}).items():
            assert entry["value"] == json.loads(json.dumps(getattr(known[name], option)))
            assert len(entry["meaning"]) > 10, f"{option}: every option says what it is"


def test_meanings_are_those_of_the_source():
    assert meanings(Scheme)["wbits"] == "bits of a weight, 2 to 8; below 8 embedding and classifier keep 8"
    assert meanings(TrioScheme)["divisors"].startswith("log2: 4-bit codes")
    assert meanings(TrioScheme)["shifting"].endswith("which follows a Hardswish, too")  # two lines before it


def test_settings():
    found = settings(["a=1", "b=true", "c=0.5", "d=8/9", "e=[0.25, 0.5]", "f=null", "g=x=y"])
    assert found == {"a": 1, "b": True, "c": 0.5, "d": "8/9", "e": [0.25, 0.5], "f": None, "g": "x=y"}


@pytest.mark.parametrize(
    "options, says",
    [
        ({"bias_corection": True}, "unknown option 'bias_corection' (did you mean bias_correction?)"),
        ({"bias_correction": 1}, "bias_correction must be true or false, not 1"),
        ({"wbits": "x"}, "wbits must be an integer, not 'x'"),
        ({"wbits": 9}, "wbits must be in 2..8, not 9"),
        ({"smoothing": 0.5}, "smoothing must be a list, not 0.5"),
        ({"class_share": "much"}, "class_share must be a number or null, not 'much'"),
        ({"rule": "log3"}, "rule must be maxrel or log2, not 'log3'"),
        ({"wbits": 8.0, "rowfactor": 1}, "wbits must be an integer, not 8.0; unknown option 'rowfactor'"),
    ],
)
def test_options_that_are_refused(options, says):
    with pytest.raises(ValueError) as refusal:
        scheme_for(None, "vitforge", **options)
    assert says in str(refusal.value)


def test_scheme_from_a_file_and_options(tmp_path, capsys):
    """What a file and --set say is in the model's metadata; --set wins."""
    path, output = tmp_path / "scheme.json", tmp_path / "m.safetensors"
    path.write_text(json.dumps({"base": "p2vit", "bias_correction": True, "smoothing": [0.5], "wbits": 6}))
    quantize = ["quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "--calib", DIGITS.calib, "--limit", 8]
    argv = [*quantize, "--scheme", path, "--set", "wbits=7", "--set", "center_keys=true", "-o", output]
    assert main([str(a) for a in argv]) == 0
    assert "scheme p2vit, bias_correction True, smoothing [0.5], wbits 7, center_keys True" in capsys.readouterr().out
    scheme = load_graph(output).meta["scheme"]
    wanted = {"name": "p2vit", "bias_correction": True, "smoothing": [0.5], "wbits": 7, "center_keys": True}
    assert {k: scheme[k] for k in wanted} == wanted and scheme["rule"] == "log2"
    assert "did you mean center_keys" in refused(capsys, *quantize, "--set", "center_key=true", "-o", output)
    assert "must be name=value, not 'wbits'" in refused(capsys, *quantize, "--set", "wbits", "-o", output)
    for text, says in (
        ("[", "must be JSON"),
        ("[]", "must be a JSON object, not list"),
        ('{"base": 1}', "base must be"),
    ):
        path.write_text(text)
        assert says in refused(capsys, *quantize, "--scheme", path, "-o", output)
    assert "cannot be read" in refused(capsys, *quantize, "--scheme", tmp_path / "none.json", "-o", output)
