"""Shared by the tests of checkpoints: small models, weights that are all different, what loading them gives."""

import importlib.util
from pathlib import Path

import pytest
import torch

from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.resolve import ModelSpec, build_model

_FILE = Path(__file__).resolve().parents[3] / "scripts" / "fuzzing" / "foreign.py"
_SPEC = importlib.util.spec_from_file_location("foreign", _FILE)
foreign = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(foreign)


class Forms:
    """A small ViT and EfficientViT; ``loaded``, ``refusal``: what becomes of a file."""

    ARGS = dict(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, in_chans=1)
    SPEC = ModelSpec("tiny", "vit_tiny_patch16_224", ARGS, num_classes=5)
    EVIT = ModelSpec(
        "evit",
        "efficientvit_b0",
        dict(widths=[8, 8, 16, 16, 16], depths=[1, 1, 1, 2, 2], head_dim=8, head_widths=[32, 48]),
        5,
    )
    hugging_face, mit = staticmethod(foreign.hugging_face), staticmethod(foreign.mit)

    @staticmethod
    def random_weights(spec, seed=0) -> dict[str, torch.Tensor]:
        """A state dict in which no two tensors are alike, so that a mix-up shows in the logits."""
        g = torch.Generator().manual_seed(seed)
        state = {}
        for name, value in build_model(spec).state_dict().items():
            if value.is_floating_point():
                value = torch.rand(value.shape, generator=g) * 0.5 + (0.5 if name.endswith("var") else -0.25)
            state[name] = value
        return state

    @staticmethod
    @torch.inference_mode()
    def logits(model, size) -> torch.Tensor:
        """Equal for equal weights: in float32 the last bit also depends on where the weights lie in memory."""
        g = torch.Generator().manual_seed(1)
        chans = 1 if hasattr(model, "patch_embed") and model.patch_embed.proj.in_channels == 1 else 3
        return model.eval().double()(torch.randn(2, chans, size, size, generator=g).double()).float()

    @staticmethod
    def reference(spec, state, size=16) -> torch.Tensor:
        model = build_model(spec, num_classes=state[next(n for n in reversed(state) if n.endswith("weight"))].shape[0])
        model.load_state_dict(state)
        return Forms.logits(model, size)

    @staticmethod
    def loaded(path, spec=SPEC, size=16, **options) -> tuple[torch.Tensor, list[str]]:
        """(logits, lines)"""
        notes = []
        model, _ = load_model(spec, path, notes=notes, **options)
        return Forms.logits(model, size), notes

    @staticmethod
    def refusal(path, spec=SPEC, **options) -> str:
        with pytest.raises(ValueError) as caught:
            load_model(spec, path, **options)
        text = str(caught.value)
        assert text.isprintable(), "one line, no escape codes"
        return text


@pytest.fixture(scope="session")
def forms() -> type[Forms]:
    return Forms


@pytest.fixture(scope="session")
def state() -> dict[str, torch.Tensor]:
    return Forms.random_weights(Forms.SPEC)


@pytest.fixture(scope="session")
def want(state) -> torch.Tensor:
    return Forms.reference(Forms.SPEC, state)
