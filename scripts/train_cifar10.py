"""Train an EfficientViT on CIFAR-10 at 64 x 64 pixels: a checkpoint that `vitforge quantize` takes.

Needs the CIFAR-10 images as a zip of JPEG files, train/CLASS/*.jpg and test/CLASS/*.jpg: --archive, or
cifar10_jpeg.zip in the folder that VITFORGE_DATA names. They are enlarged bilinearly from 32 to 64 pixels, as the
image reader does it later. Augmentation: shifts by up to 4 of 32 pixels, mirror images. AdamW, cosine schedule with
warm-up, label smoothing, moving average of the weights. On a GPU where torch sees one (bfloat16), else on the CPU.

Writes to --out:
  NAME.safetensors  the averaged weights
  NAME.json         timm's hub form: architecture, class names, image options
  NAME.state.pt     while it trains: everything that going on needs; the same command goes on from there

Every random choice follows from --seed and the number of the step, so an interrupted run ends with the same weights.

examples:
  scripts/train_cifar10.py --model small --epochs 15             a small variant, about an hour on one CPU core
  scripts/train_cifar10.py --model efficientvit_b0 --epochs 60   on a GPU
  scripts/train_cifar10.py --model small --widths 8 16 24 48 64 --head-widths 128 160 --head-dim 8 --name mine
  scripts/train_cifar10.py --model small --epochs 1 --train-images 1024 --test-images 200      does it run here?
"""

import argparse
import io
import json
import math
import os
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from tqdm import tqdm

from vitforge_sw.models.archive import archive_images, archive_patches
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.images import patches_to_float
from vitforge_sw.models.resolve import ModelSpec, build_model, resolve_model

LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SIZE, SOURCE, SHIFT = 64, 32, 4  #: pixels a side of the input and of the files; largest shift in the files' pixels
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODELS = ("small", "efficientvit_b0", "efficientvit_b1", "efficientvit_b2", "efficientvit_b3")
SMALL = {
    "widths": [8, 16, 32, 48, 64],
    "depths": [1, 2, 2, 1, 1],
    "head_dim": 8,
    "head_widths": [256, 320],
}
DECAY, SMOOTHING, AVERAGE = 0.05, 0.1, 0.999


def hub(model: str, args: dict) -> dict:
    """The JSON beside the checkpoint; ``model`` is a timm name, ``args`` its constructor's arguments."""
    return {
        "architecture": model,
        **({"model_args": args} if args else {}),
        "num_classes": len(LABELS),
        "label_names": LABELS,
        "pretrained_cfg": {
            "input_size": [3, SIZE, SIZE],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": list(MEAN),
            "std": list(STD),
            "num_classes": len(LABELS),
            "first_conv": "stem.in_conv.conv",
            "classifier": "head.classifier.4",
        },
    }


# ---------------------------------------------------------------- images


def load_split(archive: Path, split: str, count: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 (N, 3, 32, 32) and class indices, in a seeded random order."""
    pairs = archive_images(archive, split, count)
    classes = {name.split("/")[1] for name, _ in pairs}
    if unknown := sorted(classes - set(LABELS)):
        raise ValueError(f"image archive {archive}: {split}/{unknown[0]} is not a class of CIFAR-10")
    pixels = np.empty((len(pairs), SOURCE, SOURCE, 3), np.uint8)
    with zipfile.ZipFile(archive) as file:
        for i, (name, _) in enumerate(tqdm(pairs, desc=f"{split} images", disable=not sys.stderr.isatty())):
            with Image.open(io.BytesIO(file.read(name))) as image:
                if image.size != (SOURCE, SOURCE):
                    raise ValueError(f"image archive {archive}: {name} must have {SOURCE} x {SOURCE} pixels")
                pixels[i] = np.asarray(image.convert("RGB"))
    labels = torch.tensor([LABELS.index(name.split("/")[1]) for name, _ in pairs])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels


def enlarge(x: torch.Tensor) -> torch.Tensor:
    """Float 0..255 (B, 3, 32, 32) to normalised (B, 3, 64, 64): what the image reader makes, but for its
    rounding to bytes."""
    x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False) / 255
    mean, std = (torch.tensor(v, device=x.device)[:, None, None] for v in (MEAN, STD))
    return (x - mean) / std


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift each image by up to SHIFT pixels (edges repeated) and mirror half of them; float (B, 3, 32, 32)."""
    n, reach = len(x), 2 * SHIFT + 1
    dy, dx = (torch.randint(reach, (n, 1), generator=generator).to(x.device) for _ in range(2))
    flip = (torch.rand(n, 1, generator=generator) < 0.5).to(x.device)
    x = F.pad(x.float(), [SHIFT] * 4, mode="replicate")
    index = torch.arange(SOURCE, device=x.device)
    rows, columns = dy + index, dx + torch.where(flip, index.flip(0), index)
    first = torch.arange(n, device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[first, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


# ---------------------------------------------------------------- training


def learning_rate(step: int, steps: int, top: float) -> float:
    """Linear warm-up over a twentieth of the steps, then a cosine to 0."""
    warm = max(1, steps // 20)
    if step < warm:
        return top * (step + 1) / warm
    return top * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Training:
    """Model, optimizer, moving average and step number: what a state file holds."""

    def __init__(self, model: torch.nn.Module, settings: dict, device: torch.device):
        self.model, self.settings, self.device, self.step = model.to(device).train(), settings, device, 0
        decay = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings["lr"])
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def save(self, path: Path) -> None:
        """Never leaves half a file."""
        part = path.with_suffix(".part")
        state = {
            "settings": self.settings, "step": self.step, "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(), "average": self.average,
        }  # fmt: skip
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        """Go on from a state file; one of a run with other settings is refused."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            old = state["settings"]
        except Exception as error:
            raise ValueError(f"state {path}: cannot be read ({error}); delete it to begin anew") from None
        for key, value in self.settings.items():
            if old.get(key) != value:
                raise ValueError(
                    f"state {path}: is of a run with {key} {old.get(key)}, not {value}; give the same options, another "
                    "--name, or delete it"
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step = state["average"], state["step"]

    def train_step(self, x: torch.Tensor, y: torch.Tensor, steps: int) -> float:
        """One batch of uint8 images; returns the loss."""
        generator = torch.Generator().manual_seed(self.settings["seed"] << 32 | self.step)
        rate = learning_rate(self.step, steps, self.settings["lr"])
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(self.step)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(enlarge(augment(x, generator)))
        loss = F.cross_entropy(logits.float(), y, label_smoothing=SMOOTHING)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(AVERAGE, self.step / (self.step + 10))  # short runs average over their own length
        for k, v in self.model.state_dict().items():
            if v.is_floating_point():
                self.average[k].lerp_(v, 1 - keep)
            else:
                self.average[k].copy_(v)
        return float(loss.detach())

    @torch.inference_mode()
    def accuracy(self, x: torch.Tensor, y: torch.Tensor, batch: int = 250) -> float:
        """Percent of uint8 images that the averaged weights classify rightly."""
        own = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        right = sum(
            int((self.model(enlarge(x[i : i + batch].float())).argmax(1) == y[i : i + batch]).sum())
            for i in range(0, len(x), batch)
        )
        self.model.load_state_dict(own)
        self.model.train()
        return 100 * right / len(x)


def train(training: Training, data, test, epochs: int, batch: int, state: Path, save_every: int) -> None:
    """To the end of the schedule; a line an epoch, a bar on a terminal, the state file now and then."""
    x, y = data
    per_epoch = len(x) // batch
    steps, begin, first = epochs * per_epoch, time.monotonic(), training.step
    bar = tqdm(total=steps, initial=first, desc="train", disable=not sys.stderr.isatty())
    losses = []
    while training.step < steps:
        epoch, position = divmod(training.step, per_epoch)
        if position == 0 or training.step == first:
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(training.settings["seed"] + epoch))
        index = order[position * batch : (position + 1) * batch].to(x.device)
        losses.append(training.train_step(x[index], y[index], steps))
        bar.update()
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
        if training.step % per_epoch == 0:
            score = training.accuracy(*test)
            seconds = time.monotonic() - begin
            left = seconds / (training.step - first) * (steps - training.step)
            bar.clear()
            print(
                f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.3f}, test images {score:.2f} % right, "
                f"{seconds:.0f} s, {left:.0f} s to go", flush=True,
            )  # fmt: skip
            losses = []
        if training.step % per_epoch == 0 or training.step % save_every == 0:
            training.save(state)
    bar.close()


def write(training: Training, path: Path, description: dict) -> None:
    """Checkpoint and hub-form JSON (``path`` without its end)."""
    weights = {k: v.cpu().contiguous() for k, v in training.average.items()}
    save_file(weights, f"{path}.safetensors")
    Path(f"{path}.json").write_text(json.dumps(description, indent=1) + "\n")


def measure(path: Path, archive: Path, count: int | None, batch: int = 250) -> tuple[int, int]:
    """(right, images) of the files just written, through the image reader, the way a user would."""
    model, image = load_model(resolve_model(f"{path}.json"), f"{path}.safetensors")
    pairs, right = archive_images(archive, "test", count), 0
    for i in tqdm(range(0, len(pairs), batch), desc="test images", disable=not sys.stderr.isatty()):
        part = pairs[i : i + batch]
        x = torch.from_numpy(patches_to_float(archive_patches(archive, [name for name, _ in part], image), image))
        with torch.inference_mode():
            truth = torch.tensor([LABELS.index(name.split("/")[1]) for name, _ in part])
            right += int((model(x).argmax(1) == truth).sum())
    return right, len(pairs)


# ---------------------------------------------------------------- command line


def positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text!r}")
    return value


def parser() -> argparse.ArgumentParser:
    root = Path(os.environ.get("VITFORGE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--model",
        choices=MODELS,
        default="small",
        help="timm's networks, or small (default): sized for preset tiny_hybrid",
    )
    p.add_argument(
        "--archive", type=Path, default=root / "cifar10_jpeg.zip", metavar="ZIP", help="default: %(default)s"
    )
    p.add_argument("--out", type=Path, default=Path("build"), metavar="DIR", help="default: %(default)s")
    p.add_argument("--name", metavar="NAME", help="of the files (default: MODEL_cifar10_r64)")
    shape = p.add_argument_group(
        "shape", "of small, instead of its own; channels best in multiples of the word (8, 16)"
    )
    shape.add_argument("--widths", type=positive, nargs=5, metavar="N", help="stem and four stages")
    shape.add_argument("--depths", type=positive, nargs=5, metavar="N", help="blocks of the same")
    shape.add_argument("--head-dim", type=positive, metavar="N", help="channels of an attention head")
    shape.add_argument("--head-widths", type=positive, nargs=2, metavar="N", help="the classifier's two layers")
    run = p.add_argument_group("training")
    run.add_argument("--epochs", type=positive, default=30, metavar="N", help="default: %(default)s")
    run.add_argument("--batch", type=positive, default=128, metavar="N", help="default: %(default)s")
    run.add_argument("--lr", type=float, default=2e-3, metavar="F", help="highest learning rate (default: %(default)s)")
    run.add_argument("--seed", type=positive, default=1, metavar="N", help="default: %(default)s")
    run.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if torch sees one"
    )
    run.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: torch's choice)")
    run.add_argument("--train-images", type=positive, metavar="N", help="a seeded choice of N (default: all 50,000)")
    run.add_argument("--test-images", type=positive, metavar="N", help="a seeded choice of N (default: all 10,000)")
    run.add_argument("--save-every", type=positive, default=500, metavar="N", help="steps (default: %(default)s)")
    return p


def run(args) -> int:
    arguments = {}
    if args.model == "small":
        arguments = dict(SMALL)
        for key in SMALL:
            if (value := getattr(args, key)) is not None:
                arguments[key] = value
    elif any(getattr(args, key) is not None for key in SMALL):
        raise ValueError(f"--widths, --depths, --head-dim and --head-widths are for --model small, not {args.model}")
    if not args.lr > 0:
        raise ValueError(f"--lr must be positive, not {args.lr}")
    cuda = torch.cuda.is_available()
    if args.device == "cuda" and not cuda:
        raise ValueError("--device cuda: torch sees no GPU")
    device = torch.device("cuda" if cuda and args.device != "cpu" else "cpu")
    if args.threads:
        torch.set_num_threads(args.threads)
    architecture = "efficientvit_b0" if args.model == "small" else args.model
    description = hub(architecture, arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / (args.name or f"{args.model}_cifar10_r64")
    spec = ModelSpec(name=path.name, architecture=architecture, model_args=arguments, num_classes=len(LABELS))
    model = build_model(spec, seed=args.seed)
    data = load_split(args.archive, "train", args.train_images)
    test = load_split(args.archive, "test", args.test_images)
    if args.batch > len(data[0]):
        raise ValueError(f"--batch must be at most the {len(data[0])} training images, not {args.batch}")
    settings = {
        "model": args.model, "arguments": json.dumps(arguments), "epochs": args.epochs, "batch": args.batch,
        "lr": args.lr, "seed": args.seed, "images": len(data[0]),
    }  # fmt: skip
    training, state = Training(model, settings, device), Path(f"{path}.state.pt")
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{args.model}: {parameters} parameters, {len(data[0])} training images, {device}", flush=True)
    if state.exists():
        training.load(state)
        print(f"going on after step {training.step} of {state}", flush=True)
    data, test = (tuple(t.to(device) for t in pair) for pair in (data, test))
    try:
        train(training, data, test, args.epochs, args.batch, state, args.save_every)
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on from {state}" if state.exists() else "\nstopped")
        return 130
    write(training, path, description)
    right, count = measure(path, args.archive, args.test_images)
    state.unlink(missing_ok=True)
    print(f"{path}.safetensors: {right} of {count} test images right ({100 * right / count:.2f} %)")
    print(f"next: vitforge quantize {path}.json --checkpoint {path}.safetensors --calib DIR -o {path}_int8.safetensors")
    return 0


def main() -> int:
    p = parser()
    args = p.parse_args()
    try:
        return run(args)
    except (ValueError, OSError) as error:
        print(f"{p.prog}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
