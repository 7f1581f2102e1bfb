"""What people's ViTs differ in, on one emitted `tiny` RTL: every tensor equal to the golden model.

Small networks with live weights: distillation token and second head, register tokens, no class token, averages over
tokens before and behind the last LayerNorm, LayerNorm on queries and keys, ReLU.
"""

import numpy as np
import pytest

from vitforge.simulation import prepare
from vitforge_hw.arch.config import get_config
from vitforge_sim.compare.verify import verify
from vitforge_sim.run.accelerator import run_accelerator
from vitforge_sim.run.topbench import BenchProgram, MemorySettings
from vitforge_sw.compiler import compile_graph
from vitforge_sw.families import quantize_model, scheme_for
from vitforge_sw.families.vit.alive import bring_to_life, probe_patches
from vitforge_sw.models.resolve import ModelSpec, build_model, image_config

CONFIG = get_config("tiny")
IMAGES = 2
SMALL = dict(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=7, mlp_ratio=2)
DISTILLED = "deit_tiny_distilled_patch16_224"

#: name -> (scheme, architecture, arguments, nodes by which the kind shows)
KINDS = {
    "relu": ("vitforge", "", dict(act_layer="relu"), "blocks.1.mlp.fc1"),
    "registers": ("p2vit", "", dict(reg_tokens=4), "embed"),
    "distilled": ("vitforge", DISTILLED, {}, "head_dist"),
    "average, fc_norm": ("vitforge", "", dict(global_pool="avg"), "pool.attend.h1"),
    "no class token": ("p2vit", "", dict(global_pool="avg", class_token=False, reg_tokens=2), "pool.attend.h0"),
    "average behind the norm": ("vitforge", "", dict(global_pool="avg", fc_norm=False), "pool.softmax.h0"),
    "norm of queries and keys": ("vitforge", "", dict(qk_norm=True), "blocks.1.attn.k_norm.h1"),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> BenchProgram:
    _, build, _ = made("relu")
    return prepare(build, tmp_path_factory.mktemp("rtl"), "verilator", IMAGES)


def made(kind: str):
    """(graph, build, input bytes) of a live network."""
    scheme, architecture, args, _ = KINDS[kind]
    spec = ModelSpec(kind, architecture or "vit_tiny_patch16_224", SMALL | args)
    model = build_model(spec)
    image = image_config(model, spec)
    patches = probe_patches(image, 16)
    bring_to_life(model, image, patches)
    graph = quantize_model(
        model, spec, image, scheme_for(model, scheme), patches, trained=False, progress=False
    )  # fmt: skip
    return graph, compile_graph(graph, CONFIG), patches[:IMAGES]


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor(kind, bench):
    graph, build, patches = made(kind)
    assert any(n.name == KINDS[kind][3] for n in graph.nodes)
    run = run_accelerator(
        bench, CONFIG, build.memory_image, build.program_beats, [build.pack_image(p) for p in patches],
        build.result_bytes, settings=MemorySettings(bandwidth=CONFIG.beat_bytes), watchdog=300_000,
    )  # fmt: skip
    verdict = verify(graph, build, patches, run)
    assert verdict.bit_exact, verdict.first
    found = {t.name: t for t in verdict.tensors}
    for tensor, info in graph.tensors.items():
        if info.fmt != "code4":  # the codes' ring: a tap, not a port
            assert found[tensor].elements == IMAGES * info.tokens * info.channels, tensor
            if tensor not in graph.constants:
                assert found[tensor].distinct > 2 * info.channels**0.5 and found[tensor].zero_fraction < 0.9, tensor
    assert (verdict.rtl_logits[0] != verdict.rtl_logits[1]).any() and np.ptp(verdict.rtl_logits) > 200
