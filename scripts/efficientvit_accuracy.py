"""Accuracy of EfficientViT's schemes and the ablation of Trio-ViT, integer-only, on an archive of labelled images.

Prints a Markdown row per scheme and option set as it is finished, and keeps them in a JSON file (finished rows are not
run again). Example, the table of docs/accuracy-efficientvit.md:

    python scripts/efficientvit_accuracy.py efficientvit_b0 --checkpoint B0.safetensors --archive cifar10_jpeg.zip
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from vitforge_sw.evaluate import float_logits, real_logits, sqnr_db
from vitforge_sw.families import quantize_model
from vitforge_sw.families.efficientvit import get_trio_scheme
from vitforge_sw.golden.model import Golden
from vitforge_sw.models.archive import archive_images, archive_patches
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.resolve import resolve_model

UNCORRECTED = dict(bias_correction=False)
PLAIN = UNCORRECTED | dict(migration="none", shifting=False, divisors="exact", attention_scales="layer")
EXACT = dict(divisors="exact")
DIVISORS = [
    dict(divisors="log2", divisor_gain="none"),
    dict(divisors="log2", divisor_gain="8/9"),
    dict(divisors="uniform8"),
    dict(divisors="reciprocal"),
    EXACT,
]
ROWS = {
    "headline": [("trio", {}), ("vitforge", {})],
    "trio": [
        ("trio", PLAIN),
        ("trio", PLAIN | dict(migration="pot")),
        ("trio", PLAIN | dict(shifting=True)),
        ("trio", PLAIN | dict(migration="pot", shifting=True)),
        ("trio", PLAIN | dict(migration="exact", shifting=True)),
        ("trio", PLAIN | dict(migration="channel", shifting=True)),
        ("trio", UNCORRECTED | EXACT),
        ("trio", UNCORRECTED | dict(divisors="uniform8")),
        ("trio", UNCORRECTED | dict(divisor_gain="none")),
        ("trio", UNCORRECTED),
        ("trio", UNCORRECTED | dict(divisors="reciprocal")),
        ("trio", UNCORRECTED | dict(norm_input="int8")),
        ("trio", {}),
    ],
    "vitforge": [
        ("vitforge", {}),
        ("vitforge", dict(divisors="log2")),
        ("vitforge", EXACT),
        ("vitforge", dict(norm_input="int8")),
        ("vitforge", dict(migration="none")),
        ("vitforge", dict(depthwise_zero_point=False)),
        ("vitforge", dict(shifting=False)),
        ("vitforge", dict(pw2_factors=False)),
        ("vitforge", dict(residual_factors=False)),
        ("vitforge", dict(attention_scales="head")),
        ("vitforge", dict(head_zero_points=False)),
        ("vitforge", dict(bias_correction=False)),
        ("vitforge", dict(weight_rounding="nearest")),
    ],
    "reconstruction": [(scheme, dict(reconstruction="block")) for scheme in ("trio", "vitforge")],
    "divisors": [(scheme, options) for scheme in ("vitforge", "trio") for options in DIVISORS],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--archive", required=True, help="zip with train/<class>/* and test/<class>/*")
    parser.add_argument("--rows", choices=ROWS, nargs="+", default=["headline"])
    parser.add_argument("--calib", type=int, default=300, help="calibration images, a seeded choice from train/")
    parser.add_argument("--images", type=int, default=10000, help="test images, the first of a seeded order")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", help="results; rows in it are not run again")
    parser.add_argument("--progress", action="store_true", help="progress of quantization on stderr")
    args = parser.parse_args()
    try:
        run(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(args: argparse.Namespace) -> None:
    spec = resolve_model(args.model)
    model, image = load_model(spec, args.checkpoint, dict(image_size=args.image_size))
    calib = archive_patches(args.archive, [n for n, _ in archive_images(args.archive, "train", args.calib)], image)
    chosen = archive_images(args.archive, "test", args.images)
    test, labels = archive_patches(args.archive, [n for n, _ in chosen], image), torch.tensor([c for _, c in chosen])
    reference = float_logits(model, test, image, args.batch)
    top1 = lambda x: 100 * float((x.argmax(1) == labels).double().mean())  # noqa: E731
    key = f"{args.model} {image.image_size} px, {len(calib)} calibration, {len(test)} test images"
    print(f"{key}: float top-1 {top1(reference):.2f}")
    print("| scheme | options | top-1 | drop | agreement % | SQNR dB |\n|---|---|---|---|---|---|", flush=True)
    done = json.loads(Path(args.json).read_text()) if args.json and Path(args.json).exists() else {}
    for scheme, options in [row for group in args.rows for row in ROWS[group]]:
        text = ", ".join(f"{k} {v}" for k, v in options.items())
        name = f"{key}: {scheme} {text}"
        if name not in done:
            rules = get_trio_scheme(scheme, **options)
            graph = quantize_model(model, spec, image, rules, calib, progress=args.progress)
            got = real_logits(graph, Golden(graph).logits(test, args.batch))
            agreement = 100 * float((got.argmax(1) == reference.argmax(1)).double().mean())
            done[name] = dict(
                top1=top1(got), float_top1=top1(reference), agreement=agreement, sqnr=sqnr_db(reference, got)
            )
            if args.json:
                Path(args.json).write_text(json.dumps(done, indent=1))
        r = done[name]
        drop = r["float_top1"] - r["top1"]
        print(
            f"| {scheme} | {text} | {r['top1']:.2f} | {drop:.2f} | {r['agreement']:.2f} | {r['sqnr']:.2f} |", flush=True
        )


if __name__ == "__main__":
    sys.exit(main())
