"""Accuracy of the integer model, beside the float model.

Runs the golden integer model, the one that the hardware is compared with, on labelled images: top-1 and top-5. With
--float also the float model on the same bytes: agreement of the arg-max and signal to noise of the logits.
Without --labels the subfolders of DIR say the class: by name where the names are the model's labels or ImageNet wnids,
else in alphabetical order, and then there must be as many as the model has classes. Hidden ones and those without
images are left out. A line says how it was decided.
Large evaluations run on all cores, a process each; `torchrun --nproc-per-node N --no-python vitforge evaluate ...` on
several hosts too. The figures do not depend on it.

example: vitforge evaluate build/deit.safetensors --images val --labels val/labels.csv --float
"""

import shlex

from .options import output_file, positive, say, write_json


def arguments(parser) -> None:
    parser.add_argument("quantized", metavar="M.safetensors", help="from vitforge quantize")
    parser.add_argument("--images", metavar="DIR", required=True, help="searched recursively, in sorted order")
    parser.add_argument(
        "--labels", metavar="F.csv", help="header file,label (default: DIR has one subfolder per class)"
    )
    parser.add_argument("--float", dest="with_float", action="store_true", help="compare with the float model")
    parser.add_argument("--checkpoint", metavar="F", help="the float weights, where they moved since quantize")
    parser.add_argument("--limit", type=positive, metavar="N", help="N images, spread over the classes (default: all)")
    parser.add_argument("--processes", type=positive, metavar="N", help="default: the cores, where it is worth it")
    parser.add_argument("--json", metavar="F", help="write the figures as JSON")


def run(args, command: str) -> int:
    from vitforge_sw.evaluate import evaluate
    from vitforge_sw.graph.serialize import graph_hash, load_graph
    from vitforge_sw.progress import working

    from .. import api, workers

    output_file(args.json)
    graph = load_graph(args.quantized)
    net = api.float_of(graph, args.checkpoint) if args.with_float else None
    notes = []
    pairs = api.labelled(graph, args.images, args.labels, args.limit, notes)
    files, classes = [f for f, _ in pairs], [c for _, c in pairs]
    processes = args.processes or workers.worth_while(graph, len(files))
    with working("evaluating"), workers.shards(shlex.split(command)[1:], processes) as shard:
        result = evaluate(graph, files, classes, net, progress=True, shard=shard, notes=notes)
    if not result:
        return 0  # another process has it
    say(notes)
    n = result["images"]
    for name, r in (("integer", result), ("float", result.get("float"))):
        if r is not None:
            print(
                f"{name + ':':9}top-1 {r['top1']}/{n} ({100 * r['top1'] / n:.2f} %), top-5 {r['top5']}/{n} "
                f"({100 * r['top5'] / n:.2f} %), {r['images_per_second']:.1f} images/s"
            )
    if net is not None:
        print(f"agreement {result['agreement']:.2f} %, logit SQNR {result['logit_sqnr_db']:.2f} dB")
    head = {"schema": "vitforge/evaluate/1", "command": command, "model_hash": graph_hash(graph)}
    write_json(args.json, head | result)
    return 0
