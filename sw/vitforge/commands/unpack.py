"""Logits from the result bytes that the hardware wrote.

RESULT holds the results of one job or several, one after the other, as they lie in DRAM. Prints the five largest
logits of each image with their class; --json writes all.

example: vitforge unpack build/digits result.bin
"""

from pathlib import Path

from .options import output_file, write_json


def arguments(parser) -> None:
    parser.add_argument("build", metavar="BUILD", help="from vitforge compile")
    parser.add_argument("result", metavar="result.bin", help="what the hardware wrote (or expected.bin of pack)")
    parser.add_argument("--json", metavar="F", help="write the integer logits of every image as JSON")


def run(args, command: str) -> int:
    output_file(args.json)
    from .. import api

    graph, build = api.load_compiled(args.build)
    path = Path(args.result)
    if not path.is_file():
        raise ValueError(f"result {path}: no such file")
    logits = api.unpack(build, path.read_bytes())
    names = graph.meta.get("model", {}).get("label_names") or ()
    for i, row in enumerate(logits):
        best = row.argsort(kind="stable")[::-1][:5]
        shown = ", ".join(f"{names[c] if c < len(names) else c} {row[c]}" for c in best)
        print(f"image {i}: class {best[0]}; largest logits: {shown}")
    write_json(args.json, {"schema": "vitforge/unpack/1", "command": command, "logits": logits.tolist()})
    return 0
