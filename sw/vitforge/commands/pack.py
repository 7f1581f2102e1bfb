"""An image as the hardware reads it, and the result that it must write: for a bench or a driver of your own.

Writes the bytes of one job as they lie in DRAM (with a batch, that many images) and, beside them, the golden model's
result bytes: the same functions that `vitforge simulate` uses. BUILD/memory.bin is the third file that a bench needs.

example: vitforge pack build/digits --image scan.png -o image.bin
"""

import os
from pathlib import Path

from .options import output_file, say


def arguments(parser) -> None:
    parser.add_argument("build", metavar="BUILD", help="from vitforge compile")
    parser.add_argument("--image", metavar="I.jpg", action="append", required=True,
                        help="the image; of a build with a batch once for each of its images")  # fmt: skip
    parser.add_argument("-o", "--output", metavar="image.bin", required=True, help="the job's input bytes")
    text = "the result bytes that the golden model expects (default: expected.bin beside the output)"
    parser.add_argument("--expected", metavar="F", help=text)


def run(args, command: str) -> int:
    expected = args.expected or str(Path(args.output).with_name("expected.bin"))
    for path in (args.output, expected):
        output_file(path)
    if os.path.realpath(args.output) == os.path.realpath(expected):
        raise ValueError(f"output {args.output}: is the file of the expected result too; name another")
    from vitforge_sw.graph.serialize import write_atomic

    from .. import api

    graph, build = api.load_compiled(args.build)
    notes = []
    patches = api.load_inputs(graph, [Path(image) for image in args.image], notes)
    say(notes)
    data, result = api.pack(graph, build, patches)
    write_atomic(Path(args.output), data)
    write_atomic(Path(expected), result)
    print(f"{args.output}: {len(data)} bytes, {len(patches)} image(s) for preset {build.config.name}")
    print(f"{expected}: {len(result)} bytes, top-1 {', '.join(map(str, api.unpack(build, result).argmax(1)))}")
    return 0
