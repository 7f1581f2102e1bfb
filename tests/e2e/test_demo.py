"""The demo on a few held-out images: passes, reuses only what is still valid, fails when something is wrong."""

import json

import pytest

from vitforge import api, demo, simulation


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    whole = api.labelled_images
    monkeypatch.setattr(api, "labelled_images", lambda *a: whole(*a)[:12])


def reused(folder) -> dict[str, bool]:
    steps = json.loads((folder / "demo.json").read_text())["models"][0]["steps"]
    return {step["name"]: step["reused"] for step in steps}


def test_whole_road(folder, capsys):
    """Both families, on one preset: one simulation program."""
    assert demo.demo(folder, 10, "vitforge demo", fresh=True) == 0
    shown = capsys.readouterr().out
    data = json.loads((folder / "demo.json").read_text())
    assert data["passed"] and [r["model"] for r in data["models"]] == ["digits_vit", "digits_efficientvit"]
    assert len({r["config_hash"] for r in data["models"]}) == 1
    for result in data["models"]:
        assert result["bit_exact"] and result["dead"] == []
        assert result["tensor_images"] == 10 and result["images"] == result["rtl_top1"] == 12
        assert all(t["mismatches"] == 0 for t in result["tensors"]) and len(result["tensors"]) > 100
    assert not any(reused(folder).values()) and set(reused(folder)) == set(demo.STEPS)
    for text in ("RTL accuracy", "12/12", "bit-exact", "saturated %", "blocks.0.mlp.fc1", "aggreg.0.0", "passed in"):
        assert text in shown


def test_resume(folder):
    path = folder / "digits_vit.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert demo.demo(folder, 10, "vitforge demo", only="digits_vit") == 0
    assert path.read_bytes() == whole
    # what was cut is made again, and as it is the same again, the rest stays valid
    assert [reused(folder)[name] for name in ("quantize", "evaluate", "compile")] == [False, True, True]


def test_dead_tensor_fails(folder, monkeypatch, capsys):
    monkeypatch.setattr(simulation, "dead_tensors", lambda graph, tensors: ["norm"])
    assert demo.demo(folder, 1, "vitforge demo", only="digits_vit") == 1
    assert "dead tensors (their comparison proves little): norm" in capsys.readouterr().out


def test_unknown_model(folder):
    with pytest.raises(ValueError, match="demo model 'cats' is unknown; there are digits_vit, digits_efficientvit"):
        demo.demo(folder, 1, "vitforge demo", only="cats")
