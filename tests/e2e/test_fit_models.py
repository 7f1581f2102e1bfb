"""`check` against `compile`: twelve models of every kind, near the presets' limits, on every preset."""

import json
import time
from collections import Counter

import pytest

from vitforge.estimation import model_shapes
from vitforge.fit import fit, fits
from vitforge.shipped import shipped_model
from vitforge_hw.arch.config import PRESETS
from vitforge_sw.compiler.compile import compile_graph

VIT, DEIT = "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"
SMALL = dict(img_size=32, patch_size=8, embed_dim=64, depth=1, num_heads=2)
EVIT = dict(widths=[8, 16, 24, 48, 64], depths=[1, 1, 1, 1, 1], head_dim=8, head_widths=[128, 160])
MODELS = {
    "digits_vit": str(shipped_model("digits_vit").model),
    "digits_efficientvit": str(shipped_model("digits_efficientvit").model),
    "tiny_block": (VIT, dict(depth=1), 224),
    "base_block": (VIT, dict(depth=1, embed_dim=768, num_heads=12), 224),
    "large_block": (VIT, dict(depth=1, embed_dim=1024, num_heads=16), 224),
    "small": (VIT, SMALL, 32),
    "64_tokens": (VIT, SMALL | dict(img_size=64, no_embed_class=False, class_token=False, global_pool="avg"), 64),
    "65_tokens": (VIT, SMALL | dict(img_size=64), 64),
    "registers": (VIT, SMALL | dict(reg_tokens=4), 32),
    "distilled": (DEIT, SMALL, 32),
    "narrow_efficientvit": ("efficientvit_b0", EVIT, 64),
    "wide_efficientvit": ("efficientvit_b0", EVIT | dict(widths=[16, 32, 64, 128, 128], head_dim=16), 96),
}


def shapes(tmp_path, name):
    model = MODELS[name]
    if isinstance(model, tuple):
        architecture, args, side = model
        path = tmp_path / f"{name}.json"
        size = {"pretrained_cfg": {"input_size": [3, side, side]}}
        path.write_text(json.dumps(dict(architecture=architecture, model_args=args, num_classes=10) | size))
        model = str(path)
    return model_shapes(model)


@pytest.mark.parametrize("name", MODELS)
def test_verdict_is_that_of_compile(tmp_path, name):
    graph = shapes(tmp_path, name)
    verdicts = fits(graph, PRESETS.values())
    for verdict, config in zip(verdicts, PRESETS.values(), strict=True):
        try:
            compile_graph(graph, config)
            said = ""
        except ValueError as error:
            said = str(error).removesuffix(f" (preset {config.name})")
        assert (verdict.fits, "" if verdict.fits else verdict.text) == (not said, said), config.name
    count = Counter(v.fits for v in verdicts)
    print(name, [v.config.name for v in verdicts if v.fits])
    assert count[False], "no model has the units of every preset"


def test_a_large_model_takes_a_second_or_two():
    graph = model_shapes("vit_large_patch16_224")
    begin = time.process_time()
    found = fits(graph, PRESETS.values())
    seconds = time.process_time() - begin
    assert [f.fits for f in found] == [False] * len(PRESETS) and seconds < 4, seconds
    assert fit(graph, PRESETS["p2vit"]) == found[list(PRESETS).index("p2vit")]
