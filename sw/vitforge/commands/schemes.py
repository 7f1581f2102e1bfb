"""The quantization schemes, and what each of their options means.

Without NAME one line each; those "simulated" are published quantizers to compare with (vitforge compare), which the
hardware cannot run. With NAME a JSON object: every option's value and meaning, by family of models. An option is
changed with --set name=value of quantize, several at once with --scheme F.json, a file that holds what differs from a
named scheme: {"base": "vitforge", "bias_correction": false}.

example: vitforge schemes p2vit
"""

import dataclasses
import json

from .options import table


def arguments(parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="this scheme in full (default: a list)")


def run(args, command: str) -> int:
    from vitforge_sw.families.choices import meanings
    from vitforge_sw.families.schemes import described, known_scheme
    from vitforge_sw.families.vit.simulated.schemes import SIMULATED

    known = described()
    if args.name is None:
        rows = [(n, f, differs(s)) for n, of in known.items() for f, s in of.items()]
        print(table(rows, ("scheme", "family", "differs from the plainest scheme in")))
        print()
        rows = [(n, s.source, s.reason) for n, s in SIMULATED.items()]
        print(table(rows, ("simulated", "source", "not run because")))
        return 0
    if args.name in SIMULATED:
        known = {args.name: {"ViT (simulated)": SIMULATED[args.name]}}
    else:
        known_scheme(args.name)
    found = {}
    for family, scheme in known[args.name].items():
        says = meanings(type(scheme))
        fields = [f.name for f in dataclasses.fields(scheme) if f.name != "name"]
        found[family] = {f: {"value": getattr(scheme, f), "meaning": says[f]} for f in fields}
    print(json.dumps({"schema": "vitforge/scheme/1", "name": args.name, "families": found}, indent=1))
    return 0


def differs(scheme) -> str:
    """The options whose values are not the defaults."""
    changed = [f.name for f in dataclasses.fields(scheme) if f.name != "name" and getattr(scheme, f.name) != f.default]
    return ", ".join(changed) or "nothing"
