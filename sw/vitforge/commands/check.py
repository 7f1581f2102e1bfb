"""Is this model supported, layer by layer, does it fit, and what to do if not.

Two families are supported: ViT and DeiT (vit_*, deit_*), and EfficientViT-B (efficientvit_b*). MODEL is a timm name
or a JSON file in timm's hub form ({"architecture": ..., "model_args": {...}}) for a model of your own. No weights are
needed. Then, for every preset, or for that of --preset or --config, the compiler's own allocation: does the model fit
the accelerator, or which limit is in the way. If it does not fit, the smallest larger memories with which it does, as a
configuration file with -o. Exit status 0: every layer is supported, and fits where one accelerator was named; else 1.

example: vitforge check deit_tiny_patch16_224
         vitforge check efficientvit_b3 --preset trio -o my_accelerator.json
"""

import json

from .options import hardware, output_file, table, write_json


def arguments(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="timm name or hub-form JSON")
    hardware(parser, required=False)
    text = "if it does not fit: write the configuration (for --config) that holds it"
    parser.add_argument("-o", "--output", metavar="F.json", help=text)
    parser.add_argument("--json", metavar="F", help="write tables and verdicts as JSON")


def run(args, command: str) -> int:
    from ..rtl import load_config

    output_file(args.json)
    output_file(args.output)
    one = load_config(args.preset, args.config) if args.preset or args.config else None
    if args.output and one is None:
        raise ValueError("check: -o needs --preset or --config, what the configuration begins at")
    from .. import api

    rows = api.check(args.model, *([one.word] if one else []))
    shown = [(r.layer, r.kind, "x".join(map(str, r.shape)), "yes" if r.supported else "NO", r.reason) for r in rows]
    print(table(shown, ("layer", "kind", "shape", "supported", "reason")))
    missing = [r for r in rows if not r.supported]
    verdict = f"{len(missing)} not supported" if missing else "all supported"
    print(f"\n{args.model}: {len(rows)} layers, {verdict}")
    layers = [
        dict(layer=r.layer, kind=r.kind, shape=list(r.shape), supported=r.supported, reason=r.reason) for r in rows
    ]
    data = {"schema": "vitforge/check/1", "command": command, "model": args.model, "supported": not missing}
    fits, change = ([], None) if missing else fitting(args.model, one, args.output)
    data |= {"fits": [{"preset": f.config.name, "fits": f.fits, "text": f.text} for f in fits], "change": change}
    write_json(args.json, data | {"layers": layers})
    return 1 if missing or (one and not fits[0].fits) else 0


def fitting(model: str, one, output: str | None) -> tuple[list, dict | None]:
    """Print the verdict for every preset, or for the configuration ``one`` and what would have to change there;
    (verdicts, changed parameters)."""
    from vitforge_hw.arch.config import PRESETS
    from vitforge_sw.progress import working

    from ..estimation import model_shapes
    from ..fit import fits, repaired

    with working("trying the compiler's allocation"):
        graph = model_shapes(model)
        found = fits(graph, [one] if one else PRESETS.values())
    print(table([(f.config.name, "fits" if f.fits else "NO", f.text) for f in found], ("preset", "", "why")))
    if one is None or found[0].fits:
        return found, None
    with working("looking for the memories that it needs"):
        larger, change = repaired(graph, one)
    if not larger.fits:
        print(f"no size of the memories helps: {larger.text}")
        return found, None
    base = {"base": one.name} if PRESETS.get(one.name) == one else json.loads(one.to_json())
    changed = base | {"name": f"{one.name}-larger"} | change
    print(f"it fits with {', '.join(f'{n} {v}' for n, v in change.items())}: {larger.text}")
    if output:
        write_json(output, changed)
        print(f"{output}: that configuration, for --config")
    else:
        print(json.dumps(changed))
    return found, change
