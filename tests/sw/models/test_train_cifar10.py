"""scripts/train_cifar10.py on a small archive made here: its pieces, learning, going on after an interruption."""

import importlib.util
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.images import input_pixels
from vitforge_sw.models.resolve import image_config, resolve_model

ROOT = Path(__file__).resolve().parents[3]
SHAPE = "--widths 8 8 8 8 8 --depths 1 1 1 1 1 --head-dim 8 --head-widths 16 16 --threads 1 --device cpu".split()


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_cifar10", ROOT / "scripts" / "train_cifar10.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def archive(tmp_path_factory, script):
    """Classes told apart by colour and noise: 6 training and 2 test images each."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("cifar") / "cifar.zip"
    with zipfile.ZipFile(path, "w") as file:
        for number, label in enumerate(script.LABELS):
            colour = np.array([number % 3, number // 3 % 3, number // 9]) * 100 + 25
            for split, count in (("train", 6), ("test", 2)):
                for i in range(count):
                    pixels = np.clip(colour + rng.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
                    data = io.BytesIO()
                    Image.fromarray(pixels).save(data, "PNG")
                    file.writestr(f"{split}/{label}/{i:04d}.png", data.getvalue())
    return path


@pytest.fixture
def call(script, archive):
    def run(out, *options):
        words = ["--archive", str(archive), "--out", str(out), "--batch", "20", *SHAPE, *options]
        return script.run(script.parser().parse_args(words))

    return run


def test_enlarged_as_by_the_image_reader(script, archive, tmp_path):
    x, y = script.load_split(archive, "train", None)
    assert x.shape == (60, 3, 32, 32) and sorted(y.tolist()) == sorted(list(range(10)) * 6)
    (tmp_path / "b0.json").write_text(json.dumps(script.hub("efficientvit_b0", {})))
    spec = resolve_model(str(tmp_path / "b0.json"))
    image = image_config(torch.nn.Module(), spec)
    mean, std = torch.tensor(script.MEAN)[:, None, None], torch.tensor(script.STD)[:, None, None]
    for own, pixels in zip(script.enlarge(x[:5].float()), x[:5]):
        read = input_pixels(Image.fromarray(pixels.permute(1, 2, 0).numpy()), image)
        difference = (own * std + mean) * 255 - torch.tensor(read).permute(2, 0, 1)
        assert difference.abs().max() < 1.01  # the reader rounds to bytes, once per direction


def test_augment(script):
    """Every image is one of the 9 x 9 x 2 shifts and mirror images, and they differ."""
    x = torch.randint(0, 256, (20, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    out = script.augment(x, torch.Generator().manual_seed(2))
    assert torch.equal(out, script.augment(x, torch.Generator().manual_seed(2)))
    padded = torch.nn.functional.pad(x.float(), [script.SHIFT] * 4, mode="replicate")
    places = []
    for image, big in zip(out, padded):
        found = [
            (dy, dx, flip)
            for dy in range(9)
            for dx in range(9)
            for flip in (False, True)
            if torch.equal(image.flip(2) if flip else image, big[:, dy : dy + 32, dx : dx + 32])
        ]
        assert len(found) == 1
        places.append(found[0])
    assert len(set(places)) > 15 and len({p[2] for p in places}) == 2


def test_learning_rate(script):
    rates = [script.learning_rate(i, 200, 0.5) for i in range(200)]
    assert rates[9] == rates[10] == 0.5 and max(rates) == 0.5 and rates[0] == 0.05 and 0 < rates[-1] < 1e-3


def test_learns_and_writes(call, script, tmp_path, capsys):
    assert call(tmp_path, "--name", "n", "--epochs", "25", "--lr", "1e-2") == 0
    said = capsys.readouterr().out
    assert "epoch 25 of 25" in said and "n.safetensors" in said
    right = int(said.split("n.safetensors: ")[1].split(" of 20")[0])
    assert right >= 15  # 2 by chance
    assert not (tmp_path / "n.state.pt").exists()
    hub = json.loads((tmp_path / "n.json").read_text())
    assert hub["label_names"] == script.LABELS and hub["model_args"]["widths"] == [8] * 5
    model, image = load_model(resolve_model(str(tmp_path / "n.json")), tmp_path / "n.safetensors")
    assert type(model).__name__ == "EfficientVit" and image.image_size == 64 and image.crop_mode == "squash"


def test_goes_on_after_an_interruption(call, script, tmp_path, capsys, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call(whole, "--epochs", "2") == 0
    train_step = script.Training.train_step

    def interrupted(self, *args):
        if self.step == 4:
            raise KeyboardInterrupt
        return train_step(self, *args)

    monkeypatch.setattr(script.Training, "train_step", interrupted)
    assert call(parts, "--epochs", "2", "--save-every", "2") == 130
    monkeypatch.undo()
    with pytest.raises(ValueError, match="a run with lr 0.002, not 0.01"):
        call(parts, "--epochs", "2", "--lr", "0.01")
    capsys.readouterr()
    assert call(parts, "--epochs", "2") == 0
    assert "going on after step 4" in capsys.readouterr().out
    name = "small_cifar10_r64.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    "options, says",
    [
        (("--batch", "61"), "--batch must be at most the 60 training images, not 61"),
        (("--lr", "0"), "--lr must be positive"),
        (("--model", "efficientvit_b1"), "are for --model small"),
    ],
)
def test_refused(call, tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        call(tmp_path, *options)


def test_broken_state(call, tmp_path):
    (tmp_path / "small_cifar10_r64.state.pt").write_bytes(b"no state")
    with pytest.raises(ValueError, match="small_cifar10_r64.state.pt: cannot be read"):
        call(tmp_path)
