"""Massive activations: found wherever they are, and treated; DeiT-Tiny and ViT-Tiny in the campaign."""

import copy

import pytest
import torch

from vitforge_hw.arch.config import PRESETS
from vitforge_sw.compiler import compile_graph
from vitforge_sw.evaluate import float_logits, real_logits, sqnr_db
from vitforge_sw.families.quantize import quantize_model
from vitforge_sw.families.vit.outliers import outliers, typical
from vitforge_sw.families.vit.schemes import get_scheme
from vitforge_sw.golden.model import Golden
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.files import list_images
from vitforge_sw.models.images import load_patches, patches_to_float
from vitforge_sw.models.resolve import resolve_model

OFF = dict(rotation="none", hidden_steps="tensor", relative_errors=False)
#: dB below the unplanted model at most, dB gained over the treatment switched off at least
LOSS, GAIN = 2.0, 4.0


@torch.inference_mode()
def plant(model, image, patches, seed: int):
    """(another model, what was planted): a unit that fires on a few patches and throws them into one channel.

    Block, unit, channel and factors are drawn from ``seed``. The unit fires on 1 to 2 % of the patches, up to 20 to 60
    times what most units reach, and not on the class token; the channel then reaches 20 to 40 times what most do.
    """
    g = torch.Generator().manual_seed(seed)
    draw = lambda lo, hi: float(lo + (hi - lo) * torch.rand((), generator=g))  # noqa: E731
    model = copy.deepcopy(model)
    index = int(torch.randint(1, len(model.blocks) - 1, (), generator=g))
    mlp = model.blocks[index].mlp
    taken = {}
    hooks = [
        mlp.fc1.register_forward_hook(lambda m, x, y: taken.update(fc1=y)),
        model.blocks[index].register_forward_hook(lambda m, x, y: taken.update(stream=y)),
    ]
    model(torch.from_numpy(patches_to_float(patches, image)))
    for hook in hooks:
        hook.remove()
    x, stream = taken["fc1"], taken["stream"]
    few = torch.quantile(x[:, 1:].flatten(0, 1), 1 - draw(0.01, 0.02), dim=0)  # (F,)
    quiet = torch.nonzero((x[:, 0].amax(0) < few) & (x.amax((0, 1)) > few + 1e-3)).flatten()
    unit = int(quiet[int(torch.randint(len(quiet), (), generator=g))])
    channel = int(torch.randint(stream.shape[-1], (), generator=g))
    peak = float(x[..., unit].max() - few[unit])
    unit_factor, stream_factor = draw(20, 60), draw(20, 40)
    scale = unit_factor * float(typical(torch.nn.functional.gelu(x).amax((0, 1)))) / peak
    mlp.fc1.weight[unit] *= scale
    mlp.fc1.bias[unit] = (mlp.fc1.bias[unit] - few[unit]) * scale
    mlp.fc2.weight[:, unit] /= scale
    top = (stream - stream.mean(-1, keepdim=True)).abs().amax((0, 1))
    mlp.fc2.weight[channel, unit] = stream_factor * float(typical(top)) / (scale * peak)
    return model, dict(block=index, unit=unit, channel=channel, factors=(unit_factor, stream_factor))


def sqnr(model, spec, image, calib, test, **options):
    graph = quantize_model(model, spec, image, get_scheme("vitforge", **options), calib, progress=False)
    return sqnr_db(float_logits(model, test, image), real_logits(graph, Golden(graph).logits(test))), graph


def compared(model, spec, image, calib, test, whole: float, seed: int):
    planted, what = plant(model, image, calib[:40], seed)
    on, graph = sqnr(planted, spec, image, calib, test)
    off, _ = sqnr(planted, spec, image, calib, test, **OFF)
    print(f"{spec.name} seed {seed}: unplanted {whole:.1f} dB, treated {on:.1f}, off {off:.1f}; {what}")
    print("\n".join(graph.meta["treated"]))
    treated = graph.meta["treated"]
    assert any(f"blocks.{what['block']}.mlp.fc1: unit {what['unit']}:" in note for note in treated)
    assert any(f"residual stream: channel {what['channel']}:" in note for note in treated)
    assert on >= whole - LOSS
    assert on >= off + GAIN
    return graph


def test_planted_in_digits(digits):
    calib, test = digits.calib[:40], digits.test[:50]
    whole, plain = sqnr(digits.model, digits.spec, digits.image, calib, test)
    graph = compared(digits.model, digits.spec, digits.image, calib, test, whole, seed=0)
    assert not plain.meta["treated"]
    widths = [max(t.channels for n, t in g.tensors.items() if n.endswith("mlp.fc1")) for g in (plain, graph)]
    assert widths[1] == widths[0] + 16
    compile_graph(graph, PRESETS["tiny_hybrid"])


@pytest.fixture(scope="module", params=["deit_tiny_patch16_224", "vit_tiny_patch16_224"])
def tiny(request, data_folder):
    spec = resolve_model(request.param)
    model, image = load_model(spec, data_folder / f"checkpoints/{request.param}.safetensors")
    calib, test = (load_patches(list_images(data_folder / f"imagenet_cc/{part}"), image) for part in ("calib", "test"))
    calib, test = calib[:40], test[:: len(test) // 40]
    return model, spec, image, calib, test, sqnr(model, spec, image, calib, test)[0]


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(5))
def test_planted(tiny, seed):
    compared(*tiny, seed)


def test_outliers_are_relative_to_most_channels():
    top = torch.ones(100)
    top[[3, 50]] = torch.tensor([3.9, 4.1])
    assert outliers(top).tolist() == [50]
    assert outliers(torch.full((64,), 1000.0)).tolist() == []
