"""The accelerator presets, and what each parameter means.

Without NAME one line each. With NAME a JSON object: every parameter's value, unit, meaning and limits. With -o a
configuration file with the preset's values, to be changed and given to --config of compile, verilog and estimate. Such
a file may also hold only what differs from a preset: {"base": "tiny", "max_tokens": 128}.

example: vitforge presets p2vit -o my_accelerator.json
"""

import dataclasses
import json
from pathlib import Path

from .options import families, output_file, table


def arguments(parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="this preset in full (default: a list)")
    parser.add_argument("-o", "--output", metavar="F.json", help="write a configuration file with its values")


def run(args, command: str) -> int:
    from vitforge_hw.arch.config import PRESETS, get_config

    output_file(args.output)
    if args.name is None:
        if args.output:
            raise ValueError("presets: -o needs the NAME of a preset")
        rows = [(c.name, c.multipliers, " and ".join(families(c)), c.act_rows * c.row_bytes // 1024,
                 c.weight_rows * c.weight_row_bytes // 1024, c.masters) for c in PRESETS.values()]  # fmt: skip
        header = ("preset", "multipliers", "families", "activations KiB", "weights KiB", "AXI masters")
        print(table(rows, header, (1, 3, 4, 5)))
        return 0
    config = get_config(args.name)
    if args.output:
        values = dataclasses.asdict(config) | {"name": f"{config.name}-custom"}
        Path(args.output).write_text(json.dumps(values, indent=1) + "\n")
        print(f"{args.output}: preset {config.name}, {len(values)} parameters")
        return 0
    print(json.dumps(described(config), indent=1))
    return 0


def described(config) -> dict:
    """The preset with every parameter's value, unit, meaning and limits."""
    parameters = {}
    for f in dataclasses.fields(config):
        if f.name != "name":
            limits = "true or false" if isinstance(f.default, bool) else str(f.metadata["limits"])
            parameters[f.name] = {"value": getattr(config, f.name)} | {k: f.metadata[k] for k in ("unit", "meaning")}
            parameters[f.name]["limits"] = limits
    return {
        "schema": "vitforge/preset/1", "name": config.name, "config_hash": f"{config.hash:08x}",
        "families": families(config), "multipliers": config.multipliers, "parameters": parameters,
    }  # fmt: skip
