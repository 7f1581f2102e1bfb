"""A table of quantization schemes on one model: top-1, agreement with float, logit SQNR.

ROW is a scheme's name, a scheme file (F.json, as for quantize) or a group of rows: `ablation` (P2-ViT's literal form to
vitforge, an option at a time), `schemes` (published quantizers, simulated in float: the hardware does not run them,
`vitforge schemes` says why), `granularity` (per tensor, group, channel), `calibration` (numbers of calibration images).
Rows that are in the state file are not measured again, so that a stopped table goes on; a row counts as done for the
same weights, images and options.

example: vitforge compare deit_tiny_patch16_224 ablation schemes --checkpoint deit.safetensors --calib calib
         --images val --labels labels.csv --state table.json
"""

import json
from pathlib import Path

from .options import image_options, image_overrides, output_file, positive, say, table, write_json


def arguments(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="timm name or hub-form JSON of a ViT")
    parser.add_argument("rows", metavar="ROW", nargs="+", help="a group of rows, a scheme's name or F.json")
    parser.add_argument("--checkpoint", metavar="F", help="safetensors or weights-only .pth (default: untrained)")
    parser.add_argument("--calib", metavar="DIR", required=True, help="calibration images, searched recursively")
    parser.add_argument("--images", metavar="DIR", required=True, help="test images, searched recursively")
    parser.add_argument("--labels", metavar="F.csv", help="header file,label (default: DIR has a subfolder per class)")
    parser.add_argument("--calib-limit", type=positive, metavar="N", help="N calibration images (default: all)")
    parser.add_argument("--limit", type=positive, metavar="N", help="the first N test images (default: all)")
    parser.add_argument("--state", metavar="F.json", required=True, help="rows that are done; made if it is missing")
    image_options(parser)


def run(args, command: str) -> int:
    output_file(args.state)
    from vitforge_sw.models.checkpoint import label_names
    from vitforge_sw.models.files import some_images
    from vitforge_sw.models.images import load_patches
    from vitforge_sw.models.labels import labelled_images

    from .. import api, compare

    path = Path(args.state)
    state = json.loads(path.read_text()) if path.is_file() else {}
    model = api.load_float(args.model, args.checkpoint, image_overrides(args))
    say(model.notes)
    rows = compare.rows_of(args.rows, model.model)
    names = label_names(model.spec, None, model.model.num_classes, [])
    pairs = labelled_images(args.images, args.labels, names, model.model.num_classes)[: args.limit]
    calib = load_patches(some_images(args.calib, args.calib_limit), model.image)
    test = load_patches([f for f, _ in pairs], model.image)
    comparison = compare.Comparison(model, calib, test, [label for _, label in pairs], state)
    lines, found = [], {}
    for row in rows:
        found = comparison.measure(row)
        write_json(path, state)
        lines.append(compare.line(row, found, model.spec.architecture))
        print("  ".join(lines[-1]).rstrip(), flush=True)
    print()
    print(f"float: {found['float_top1']}/{found['images']}; {len(calib)} calibration images")
    print(table(lines, compare.HEADER, right=(2, 3, 4, 5)))
    return 0
