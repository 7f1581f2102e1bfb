"""What lies around the weights of a checkpoint: keys, averaged copies, objects of training scripts."""

import argparse
import collections
import pathlib
import sys
import types

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keys", ["model", "state_dict", "model_state_dict", "net", "weights", "state_dict.model", "x"])
def test_nesting(forms, state, want, tmp_path, keys, zipped):
    inner = state
    for key in reversed(keys.split(".")):
        inner = {key: inner}
    beside = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 0.1}]}}
    torch.save(inner | beside, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    got, notes = forms.loaded(tmp_path / "c.pth")
    assert torch.equal(got, want) and notes == []


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema_state_dict", "ema", "ema.module", "ema.0.9998"])
def test_averaged_weights_are_preferred(forms, state, want, tmp_path, key):
    top, _, below = key.partition(".")
    below = 0.9998 if below == "0.9998" else below  # as MIT-Han-Lab writes it
    plain = {"state_dict": forms.random_weights(forms.SPEC, 9)}
    torch.save(plain | {top: {below: state} if below else state}, tmp_path / "c.pth")
    got, notes = forms.loaded(tmp_path / "c.pth")
    assert torch.equal(got, want)
    assert notes == [f"checkpoint: averaged (EMA) weights taken, under {top}, not those under state_dict"]


def test_averaged_weights_by_prefix(forms, state, want, tmp_path):
    """A Lightning module that holds both copies in one state dict."""
    both = {f"model.{n}": v for n, v in forms.random_weights(forms.SPEC, 9).items()} | {
        f"ema_model.{n}": v for n, v in state.items()
    }
    torch.save({"state_dict": both}, tmp_path / "c.ckpt")
    got, notes = forms.loaded(tmp_path / "c.ckpt")
    assert torch.equal(got, want)
    assert notes == ["checkpoint: averaged (EMA) weights taken, named ema_model.*, not the others"]


def test_averaged_weights_that_are_no_state_dict(forms, state, want, tmp_path):
    torch.save({"model": state, "ema": {"shadow_params": list(state.values()), "decay": 0.99}}, tmp_path / "c.pth")
    got, notes = forms.loaded(tmp_path / "c.pth")
    assert torch.equal(got, want)
    assert notes == ["checkpoint: what ema holds is no state dict; the weights under model are taken"]
    torch.save({"model": state, "model_ema": None}, tmp_path / "c.pth")
    assert forms.loaded(tmp_path / "c.pth")[1] == []


@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_objects_beside_the_weights(forms, state, want, tmp_path, zipped):
    """As training scripts save them; their classes are neither imported nor run."""
    counts = collections.defaultdict(int)
    counts["seen"] = 3
    beside = {
        "args": argparse.Namespace(lr=0.1, path=pathlib.Path("/data"), nested=argparse.Namespace(a=[1, 2])),
        "config": types.SimpleNamespace(depth=2),
        "counts": counts,
        "best": np.float64(81.8),
        "history": np.arange(4.0),
    }
    torch.save({"model": state, **beside}, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    got, notes = forms.loaded(tmp_path / "c.pth")
    assert torch.equal(got, want) and notes == []


def test_configuration_of_a_library_that_is_not_installed(forms, state, want, tmp_path):
    modules = {name: types.ModuleType(name) for name in ("omegaconf", "omegaconf.dictconfig")}
    module = modules["omegaconf.dictconfig"]
    module.DictConfig = type("DictConfig", (), {"__module__": "omegaconf.dictconfig"})
    config = module.DictConfig()
    config.content = {"lr": 0.1}
    with pytest.MonkeyPatch.context() as patch:
        for name in modules:
            patch.setitem(sys.modules, name, modules[name])
        torch.save({"model": state, "cfg": config}, tmp_path / "c.pth")
    assert torch.equal(forms.loaded(tmp_path / "c.pth")[0], want)


def test_nothing_that_could_be_weights(forms, state, tmp_path):
    path = tmp_path / "c.pth"
    for content, says in [
        ({"epoch": 3}, "must hold a state dict of tensors, not a mapping with epoch"),
        ([torch.zeros(2)], "must hold a state dict of tensors, not list"),
        (torch.zeros(2), "must hold a state dict of tensors, not Tensor"),
        ({"teacher": state, "student2": state}, "it has several, teacher, student2; keep one"),
    ]:
        torch.save(content, path)
        assert says in forms.refusal(path)
