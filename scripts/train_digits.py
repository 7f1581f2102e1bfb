"""Train the shipped digits model: a small timm ViT on scikit-learn's handwritten digits (8 x 8 real scans), on CPU.

    .venv/bin/python scripts/train_digits.py [--epochs N] [--out FOLDER]

Writes FOLDER/digits_vit.json (hub form), digits_vit.safetensors, and PNG folders: ``test`` (held out, 400 digits,
``labels.csv``; never seen in training) and ``calib`` (100 training digits). Everything is seeded.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn import functional as F
from tqdm import tqdm

from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.images import load_patches, patches_to_float
from vitforge_sw.models.labels import labelled_images
from vitforge_sw.models.resolve import build_model, resolve_model

SEED = 20240517
TEST = 400
CALIB = 100
HUB = {
    "architecture": "vit_tiny_patch16_224",
    "model_args": {
        "img_size": 8,
        "patch_size": 2,
        "in_chans": 1,
        "embed_dim": 48,
        "depth": 4,
        "num_heads": 3,
        "mlp_ratio": 2,
    },
    "num_classes": 10,
    "label_names": [str(i) for i in range(10)],
    "pretrained_cfg": {
        "input_size": [1, 8, 8],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [0.3],
        "std": [0.37],
        "num_classes": 10,
    },
}


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train and held-out images (uint8, 0..255) and labels; the split depends on SEED alone."""
    data = load_digits()
    pixels = np.round(data.images * 255 / 16).astype(np.uint8)
    order = np.random.default_rng(SEED).permutation(len(pixels))
    test, train = order[:TEST], order[TEST:]
    return pixels[train], data.target[train], pixels[test], data.target[test]


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random small rotation, scale, shear and shift, bilinear; (B, 1, 8, 8) in 0..1."""
    n = len(x)
    r = lambda s: (torch.rand(n, generator=generator) * 2 - 1) * s  # noqa: E731
    angle, sx, sy, shear = r(0.2), 1 + r(0.12), 1 + r(0.12), r(0.15)
    theta = torch.stack(
        [
            torch.stack([sx * angle.cos(), -angle.sin() + shear, r(0.22)], 1),
            torch.stack([angle.sin(), sy * angle.cos(), r(0.22)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False)
    x = x * (1 + r(0.15)).view(-1, 1, 1, 1) + torch.randn(x.shape, generator=generator) * 0.03
    return x.clamp(0, 1)


def train(epochs: int, folder: Path) -> torch.nn.Module:
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    pixels, labels, _, _ = split()
    x, y = torch.from_numpy(pixels).float().div(255)[:, None], torch.from_numpy(labels)
    mean, std = HUB["pretrained_cfg"]["mean"][0], HUB["pretrained_cfg"]["std"][0]
    model = build_model(resolve_model(str(folder / "digits_vit.json")), seed=SEED).train()
    batch, steps = 64, epochs * (len(x) // 64)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0}], lr=2e-3
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    bar = tqdm(total=steps, desc="train")
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for i in range(0, len(x) - batch + 1, batch):
            index = order[i : i + batch]
            logits = model((augment(x[index], generator) - mean) / std)
            loss = F.cross_entropy(logits, y[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 0.005)
            bar.update()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    model.load_state_dict(average)
    return model.eval()


def write_images(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "label"])
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            Image.fromarray(image).save(folder / f"{i:03d}.png", optimize=True)
            rows.writerow([f"{i:03d}.png", int(label)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=220)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "sw/vitforge/models/digits_vit")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "digits_vit.json").write_text(json.dumps(HUB, indent=1) + "\n")
    train_x, train_y, test_x, test_y = split()
    write_images(args.out / "test", test_x, test_y)
    write_images(args.out / "calib", train_x[:CALIB], train_y[:CALIB])
    model = train(args.epochs, args.out)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, args.out / "digits_vit.safetensors")
    # measured from the files just written, the way a user would
    model, config = load_model(resolve_model(str(args.out / "digits_vit.json")), args.out / "digits_vit.safetensors")
    pairs = labelled_images(args.out / "test", args.out / "test/labels.csv")
    x = torch.from_numpy(patches_to_float(load_patches([p for p, _ in pairs], config), config))
    with torch.inference_mode():
        right = int((model(x).argmax(1) == torch.tensor([label for _, label in pairs])).sum())
    parameters = sum(p.numel() for p in model.parameters())
    print(f"held out: {right} of {len(pairs)} right ({100 * right / len(pairs):.2f} %), {parameters} parameters")


if __name__ == "__main__":
    main()
