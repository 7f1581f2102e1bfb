"""Train the shipped small EfficientViT: timm's EfficientVit on scikit-learn's handwritten digits, on CPU.

    .venv/bin/python scripts/train_digits_efficientvit.py [--epochs N] [--out FOLDER]

The digits are 8 x 8 real scans; the image reader (vitforge_sw.models.images) enlarges them to 64 x 64 RGB, in training
as later on the accelerator. Same split and same image files as the digits ViT (scripts/train_digits.py), whose
held-out 400 digits are never seen in training. Writes FOLDER/digits_efficientvit.json (hub form) and
digits_efficientvit.safetensors. Everything is seeded; one thread, a few minutes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from tqdm import tqdm
from train_digits import SEED, augment, split

from vitforge.shipped import shipped_model
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.images import ImageConfig, input_pixels, load_patches, patches_to_float
from vitforge_sw.models.labels import labelled_images
from vitforge_sw.models.resolve import build_model, image_config, resolve_model

NAME = "digits_efficientvit"
SIZE = 64
MEAN, STD = 0.302, 0.35  #: of the enlarged training digits; the mean is 77 / 255, so that padding is a pixel value
HUB = {
    "architecture": "efficientvit_b0",
    "model_args": {
        "widths": [8, 16, 24, 48, 64],
        "depths": [1, 1, 1, 1, 1],
        "head_dim": 8,
        "head_widths": [128, 160],
    },
    "num_classes": 10,
    "label_names": [str(i) for i in range(10)],
    "pretrained_cfg": {
        "input_size": [3, SIZE, SIZE],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "num_classes": 10,
    },
}


def enlarged(pixels: np.ndarray, config: ImageConfig) -> torch.Tensor:
    """8 x 8 scans as the image reader delivers them; gray, float 0..1, (N, 1, 64, 64)."""
    images = [input_pixels(Image.fromarray(p), config)[..., 0] for p in pixels]
    return torch.from_numpy(np.stack(images)).float().div(255)[:, None]


class Average:
    """Exponential moving average of a model's weights and BatchNorm statistics."""

    def __init__(self, model: torch.nn.Module, decay: float):
        self.decay, self.state = decay, {k: v.clone() for k, v in model.state_dict().items()}

    def update(self, model: torch.nn.Module) -> None:
        for k, v in model.state_dict().items():
            if v.is_floating_point():
                self.state[k].lerp_(v, 1 - self.decay)
            else:
                self.state[k].copy_(v)


def train(epochs: int, folder: Path) -> torch.nn.Module:
    """The trained model, in eval mode; deterministic."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    spec = resolve_model(str(folder / f"{NAME}.json"))
    model = build_model(spec, seed=SEED)
    pixels, labels, _, _ = split()
    x, y = enlarged(pixels, image_config(model, spec)), torch.from_numpy(labels)
    model.train()
    batch, steps = 64, epochs * (len(x) // 64)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.15)
    average = Average(model, 0.99)
    bar = tqdm(total=steps, desc="train")
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for i in range(0, len(x) - batch + 1, batch):
            index = order[i : i + batch]
            images = (augment(x[index], generator) - MEAN) / STD
            loss = F.cross_entropy(model(images.expand(-1, 3, -1, -1)), y[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update(model)
            bar.update()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    model.load_state_dict(average.state)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "sw/vitforge/models" / NAME)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{NAME}.json").write_text(json.dumps(HUB, indent=1) + "\n")
    model = train(args.epochs, args.out)
    checkpoint = args.out / f"{NAME}.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, checkpoint)
    # measured from the files just written and the shipped scans, the way a user would
    model, config = load_model(resolve_model(str(args.out / f"{NAME}.json")), checkpoint)
    digits = shipped_model("digits_vit")
    pairs = labelled_images(digits.test, digits.labels)
    x = torch.from_numpy(patches_to_float(load_patches([p for p, _ in pairs], config), config))
    with torch.inference_mode():
        right = int((model(x).argmax(1) == torch.tensor([label for _, label in pairs])).sum())
    parameters = sum(p.numel() for p in model.parameters())
    print(f"held out: {right} of {len(pairs)} right ({100 * right / len(pairs):.2f} %), {parameters} parameters")


if __name__ == "__main__":
    main()
