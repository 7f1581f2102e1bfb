"""Is this model supported, layer by layer, and what to do if not.

Two families are supported: ViT and DeiT (vit_*, deit_*), and EfficientViT-B (efficientvit_b*). MODEL is a timm name
or a JSON file in timm's hub form ({"architecture": ..., "model_args": {...}}) for a model of your own. No weights
are needed. The last line names the presets that have the units of the family; whether a model fits one of them, its
buffers included, is what `vitforge estimate MODEL --preset NAME` says. Exit status 0: every layer is supported, 1:
some are not.

example: vitforge check deit_tiny_patch16_224
"""

from .options import families, output_file, table, write_json


def arguments(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="timm name or hub-form JSON")
    parser.add_argument("--json", metavar="F", help="write the table as JSON")


def run(args, command: str) -> int:
    from vitforge_hw.arch.config import PRESETS

    from .. import api

    output_file(args.json)
    rows = api.check(args.model)
    shown = [(r.layer, r.kind, "x".join(map(str, r.shape)), "yes" if r.supported else "NO", r.reason) for r in rows]
    print(table(shown, ("layer", "kind", "shape", "supported", "reason")))
    missing = [r for r in rows if not r.supported]
    verdict = f"{len(missing)} not supported" if missing else "all supported"
    print(f"\n{args.model}: {len(rows)} layers, {verdict}")
    if not missing:
        family = api.family(args.model)
        presets = ", ".join(c.name for c in PRESETS.values() if family in families(c))
        print(f"family {family}; presets with its units: {presets}")
    data = {"schema": "vitforge/check/1", "command": command, "model": args.model, "supported": not missing}
    layers = [
        dict(layer=r.layer, kind=r.kind, shape=list(r.shape), supported=r.supported, reason=r.reason) for r in rows
    ]
    write_json(args.json, data | {"layers": layers})
    return 1 if missing else 0
