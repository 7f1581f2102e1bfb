"""Parameters of an accelerator that do not go together; what changes a configuration's hash."""

import dataclasses

import pytest

from vitforge_hw.arch.config import AcceleratorConfig, get_config
from vitforge_hw.verilog import emit


def test_products_in_multipliers_of_their_own():
    tiny = get_config("tiny")
    plain = AcceleratorConfig.from_dict({"base": "tiny", "name": "plain", "packed": False})
    assert not plain.packed and plain.hash != tiny.hash and plain.multipliers == tiny.multipliers
    assert AcceleratorConfig.from_dict({"base": "tiny", "packed": True}).hash == tiny.hash == 0x9ED22271
    for preset, said in (("tiny_hybrid", "with trio"), ("tiny_w4", "with w4")):
        with pytest.raises(ValueError, match=f"packed must be true {said}"):
            dataclasses.replace(get_config(preset), packed=False)


def test_explicit_form_needs_packed_products():
    with pytest.raises(ValueError, match="primitives dsp48e2: config tiny must have packed true"):
        emit(dataclasses.replace(get_config("tiny"), packed=False), primitives="dsp48e2")
