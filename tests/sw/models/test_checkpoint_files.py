"""What a checkpoint file is, by its content; what it is not is named, and nothing in it is run."""

import pathlib
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vitforge_sw.models.resolve import build_model


@pytest.mark.parametrize("name", ["c.safetensors", "c.pth", "c.pth.tar", "c.ckpt", "c.bin", "c", "c.txt"])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_by_content_not_by_name(forms, state, want, tmp_path, name, kind):
    if kind == "safetensors":
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=kind == "zip")
    got, notes = forms.loaded(tmp_path / name)
    assert torch.equal(got, want) and notes == []


def test_what_a_file_is_instead(forms, tmp_path):
    path = tmp_path / "c.safetensors"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 22883664\n"
    for content, says in [
        (pointer, "is a Git LFS pointer, not the weights themselves; fetch them with git lfs pull"),
        (b"<!DOCTYPE html><title>Not found</title>", "is a web page, not a checkpoint"),
        (b"\x1f\x8b\x08\x00 and more", "is compressed (gzip); unpack it first"),
        (b"\0" * 257 + b"ustar\0" + b"\0" * 300, "is a tar archive; unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"GGUF\x03\0\0\0", "is a GGUF file"),
        (b'{"weight_map": {}}', "is JSON text, not weights"),
        (b"hello", "is neither safetensors nor a file of torch.save (begins with b'hello')"),
    ]:
        path.write_bytes(content)
        text = forms.refusal(path)
        assert says in text and "corrupt" not in text
    np.savez(tmp_path / "jax.npz", a=np.zeros(2))
    assert "is a NumPy archive (JAX weights)" in forms.refusal(tmp_path / "jax.npz")


def test_damaged_files_are_called_so(forms, state, tmp_path):
    path = tmp_path / "c"
    for kind in ("safetensors", "zip", "legacy"):
        if kind == "safetensors":
            save_file(state, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert "corrupt or truncated" in forms.refusal(path), kind
    assert "no such file" in forms.refusal(tmp_path / ("n" * 300)), "a name that no file can have"
    path.write_bytes(b"")
    assert "corrupt or truncated (the file is empty)" in forms.refusal(path)


def test_torchscript(forms, tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "c.pt")
    assert "is a TorchScript program; save the model's state dict instead" in forms.refusal(tmp_path / "c.pt")


class Meter:
    """Somebody's own class."""


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_that_are_not_read(forms, state, tmp_path, zipped):
    torch.save({"model": state, "meter": Meter()}, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    text = forms.refusal(tmp_path / "c.pth")
    assert re.search(r"holds an object of \S*Meter, and reading it would run its code; save the state dict alone", text)
    torch.save(build_model(forms.SPEC), tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    text = forms.refusal(tmp_path / "c.pth")
    assert "holds a whole pickled model (class timm.models.vision_transformer.VisionTransformer)" in text
    assert "save model.state_dict() instead" in text and "corrupt" not in text


def test_code_is_never_run(forms, tmp_path):
    class Evil:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "touched",))

    class Shell:
        def __reduce__(self):
            import os

            return (os.system, (f"touch {tmp_path / 'touched'}",))

    for thing, says in ((Evil(), "builtins.getattr|getattr"), (Shell(), "posix.system")):
        torch.save({"model": thing}, tmp_path / "c.pth")
        assert re.search(says, forms.refusal(tmp_path / "c.pth"))
    assert not (tmp_path / "touched").exists()


def test_escape_codes_in_names_are_shown(forms, state, tmp_path):
    torch.save(state | {"\x1b[31mred\nline": torch.zeros(1)}, tmp_path / "c.pth")
    assert r"\x1b[31mred\nline" in forms.refusal(tmp_path / "c.pth")
