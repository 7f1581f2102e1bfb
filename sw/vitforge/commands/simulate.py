"""Run the RTL on real images, compare with the golden model.

Emits and builds what is missing, runs the images back to back without reset, and compares the logits in memory; with
--tensors every intermediate tensor at every write port of the activation buffer, the softmax codes, and values inside
the units. The first mismatch is named by image, layer, tensor, index, expected, got, cycle. Exit status 0: bit-exact.
Writes BUILD/simulate.json; with --trace, BUILD/trace: what every unit did or waited for in each cycle, by layer.

example: vitforge simulate build/digits --images images --count 10 --tensors
"""

from .options import memory, say, seconds, table

#: images simulated where --count does not say how many: seconds to a minute for a DeiT-Tiny
SOME = {"verilator": 10, "icarus": 2}


def arguments(parser) -> None:
    parser.add_argument("build", metavar="BUILD", help="from vitforge compile")
    parser.add_argument("--image", metavar="I.jpg", help="one image")
    parser.add_argument("--images", metavar="DIR", help="or a folder, searched recursively, in sorted order")
    text = "N images, spread over subfolders (default: {verilator}, of icarus {icarus}, or all if fewer)".format(**SOME)
    parser.add_argument("--count", type=int, metavar="N", help=text)
    parser.add_argument("--sim", choices=("verilator", "icarus"), default="verilator", help="(default: %(default)s)")
    parser.add_argument("--tensors", action="store_true", help="compare every tensor, not the logits alone")
    parser.add_argument(
        "--trace", action="store_true", help="write BUILD/trace: per-unit timeline as JSON, Perfetto trace and picture"
    )
    parser.add_argument("--waves", action="store_true", help="write BUILD/waves/trace.vcd: every signal; slow, large")
    parser.add_argument(
        "--primitives",
        choices=("dsp48e2",),
        help="the Verilog of `vitforge verilog --primitives`, on a model of the primitive",
    )
    parser.add_argument(
        "--collisions",
        action="store_true",
        help="memories give noise, not old data, for a row that is read while it is written: may a part's block RAM do "
        "so? (Yosys: -no-rw-check)",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=3600, metavar="S", help="seconds before a hang is declared (%(default)s)"
    )
    memory(parser)


def run(args, command: str) -> int:
    from vitforge_sim.run.topbench import MemorySettings

    from .. import api
    from ..simulation import simulate

    graph, build = api.load_compiled(args.build)
    notes = []
    files = api.image_files(args.image, args.images, args.count, notes)
    if args.images and args.count is None:
        some = min(SOME[args.sim], len(files))
        print(f"{args.images}: {len(files)} images; {some} are taken, --count says otherwise")
        files = api.image_files(args.image, args.images, some, notes)
    patches = api.load_inputs(graph, files, notes)
    say(notes)
    bandwidth = args.bytes_per_cycle or min(64, build.config.beat_bytes)
    result = simulate(
        graph, build, patches, args.build, simulator=args.sim, tensors=args.tensors, trace=args.trace, waves=args.waves,
        settings=MemorySettings(bandwidth=bandwidth, latency=args.latency), timeout=args.timeout, command=command,
        progress=True, primitives=args.primitives or "", collisions=args.collisions,
    )  # fmt: skip
    info = result.info
    units = [(c.name.lower(), info["units"][c.name.lower()]) for c in build.config.chunks]
    print(table([(name, u["busy"], u["stalled"]) for name, u in units],
                ("unit", "busy cycles", "waiting cycles"), (1, 2)))  # fmt: skip
    if args.trace:
        from vitforge_sim.measure.view import lines

        timeline = {"losses": info["losses"], "cycles_per_image": info["steady_state_cycles"]}
        engines = "MAT and R-MAC" if build.config.trio else "PE array"
        print("", table(lines(timeline), (engines, "cycles an image", "share"), (1, 2)), "", sep="\n")
        if b := info["backbone"]:
            shares = ", ".join(f"{n} ({100 * u:.2f} %)" for n, u in zip(b["cycles"], b["utilization"]))
            print(f"backbone, stem's first step to the last stage's last row, cycles a job (utilization): {shares}")
        print(f"{args.build}/trace: timeline.json, timeline.png, roofline.png, perfetto.json (for ui.perfetto.dev)")
        if above := info["above_roof"]:
            print(f"above the roof: {', '.join(above)}: their weights are read while other layers compute")
    if args.tensors:
        elements = sum(t["elements"] for t in info["tensors"])
        print(f"{len(info['tensors'])} tensors, {elements} values compared; dead: {', '.join(info['dead']) or 'none'}")
    print(
        f"{len(files)} images on {build.config.name} in {args.sim}: first {info['first_image_cycles']} cycles, "
        f"steady state {info['steady_state_cycles']:.0f}, utilization {100 * info['utilization']:.2f} % "
        f"({info['simulated_cycles_per_second']:.0f} cycles/s)"
    )
    if info["backbone_utilization"] is not None:
        print(f"backbone: {100 * info['backbone_utilization']:.2f} % of the multipliers")
    if info["runs"]:
        print(f"{args.build}/simulate.json: this run, and {len(info['runs'])} earlier under runs")
    print("bit-exact" if info["bit_exact"] else f"MISMATCH: {info['first_mismatch']}")
    return 0 if info["bit_exact"] else 1
