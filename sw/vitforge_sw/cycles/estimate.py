"""``estimate``: cycles, utilization and where they go, from the real program; no RTL."""

from collections import Counter, defaultdict

from vitforge_hw.arch.isa import Chunk

from ..compiler.program.build import Build
from ..kinds import kind_of
from .model import CHUNK, DATA, SPACE, WEIGHTS, Trace, simulate

SCHEMA = "vitforge-estimate-1"
ENGINES = (Chunk.MAT, Chunk.RMAC)
HEAD, STAGES = "head.", "stages."  #: names of an EfficientViT's layers behind its backbone, and of its stages
_NAMES = {DATA: "waiting_data", SPACE: "waiting_space", WEIGHTS: "waiting_weights", CHUNK: "other"}


def estimate(
    build: Build,
    bytes_per_cycle: float = 64,
    latency: int = 100,
    images: int = 4,
) -> dict:
    """The cycle model's figures (JSON-able).

    build: of a graph, or of one from shapes alone (`shape_graph`).
    bytes_per_cycle, latency: of the memory. images: queued back to back (batches: jobs of ``batch`` images).

    Keys: batch, deferred (results a job later), cycles (steady state per image), utilization = model MACs /
    (multipliers x cycles), where two MACs with 4-bit weights on one multiplier count as one, first_image_cycles (of the
    first job), total_cycles, done (per job), macs, dram_bytes (per image), chunks {name: busy, waiting_data,
    waiting_space, waiting_weights, other, rows, instructions}, layers [{name, chunk, cycles, busy, utilization, macs,
    multipliers (its own; twice as many with 4-bit weights), dram_bytes, bound_by}]. Chunks and layers are those of one
    image in the steady state, a batch's mean (rows, instructions: of the program). An engine's cycles in a layer
    include its waiting, so that they add up to the image's; its MACs are its share of the layer's, its utilization is
    that of its own multipliers. EfficientViT without a deferred classifier, whose rows would lie between: backbone
    {cycles, first_image_cycles, macs, utilization}, from the stem's first step to the last row of the last stage, in
    the steady state and for an image alone.
    """
    if images < 1:
        raise ValueError(f"estimate: images must be at least 1, not {images}")
    if bytes_per_cycle <= 0:
        raise ValueError(f"estimate: bytes_per_cycle must be positive, not {bytes_per_cycle}")
    batch = build.batch
    trace = simulate(build, bytes_per_cycle, latency, images + build.lag)
    done = [int(x) for x in trace.done[Chunk.RESULT_DMA][batch - 1 :: batch]]
    steady = ((done[-1] - done[0]) / (len(done) - 1) if len(done) > 1 else float(done[0])) / batch
    macs, multipliers = sum(build.macs.values()), build.config.multipliers
    narrow = narrow_layers(build)
    passes = sum(n / 2 if name in narrow else n for name, n in build.macs.items())
    chunks, layers = _attribute(build, trace, max(0, images - 2), narrow)
    info = {
        "schema": SCHEMA,
        "preset": build.config.name,
        "config_hash": f"{build.config.hash:08x}",
        "model_hash": build.model_hash,
        "bytes_per_cycle": bytes_per_cycle,
        "latency": latency,
        "images": images * batch,
        "batch": batch,
        "deferred": bool(build.lag),
        "cycles": steady,
        "utilization": passes / (multipliers * steady),
        "first_image_cycles": done[build.lag],
        "total_cycles": done[-1],
        "done": done,
        "macs": macs,
        "dram_bytes": sum(layer["dram_bytes"] for layer in layers),
        "chunks": chunks,
        "layers": layers,
    }
    if any(name.startswith(STAGES) for name in build.macs) and not build.lag:
        info["backbone"] = backbone(build, trace, max(0, images - 2))
    return info


def backbone(build: Build, trace: Trace, image: int) -> dict:
    """From the first step of the stem to the last write of the last stage, of an image and of the first one (of a
    batch: from the first image's step to the last one's write, divided by their number)."""

    def span(image: int) -> int:
        begin, end = [], []
        for c in ENGINES:
            n = trace.events.totals[c]
            for k in range(n):
                number, _ = trace.events.rows[c][k]
                if not build.labels[c][number].layer.startswith(HEAD):
                    begin.append(int(trace.start[c][image * n + k]))
                    end.append(int(trace.done[c][image * n + k]))
        return max(end) - min(begin)

    macs = sum(n for name, n in build.macs.items() if not name.startswith(HEAD))
    cycles = round(span(image) / build.batch)
    utilization = macs / (build.config.multipliers * cycles)
    return {
        "cycles": cycles,
        "first_image_cycles": round(span(0) / build.batch),
        "macs": macs,
        "utilization": utilization,
    }


def narrow_layers(build: Build) -> set[str]:
    """Layers whose weights of 4 bits a multiplier takes two at a time."""
    steps = ((i, label) for c in ENGINES for i, label in zip(build.programs[c], build.labels[c]))
    return {label.layer for i, label in steps if i.op.get("w4")}


def _traffic(build: Build) -> Counter:
    """DRAM bytes of each layer in a job: the image's (and constants') belong to the first one, the result's to the
    last."""
    bytes_of = Counter()
    pieces = {p.name: p.layers for p in build.pieces}
    for label in build.labels[Chunk.WEIGHT_DMA]:
        bytes_of.update(pieces[label.layer])
    first = next(build.labels[c][0].layer for c in ENGINES if build.labels[c])
    for i in build.programs[Chunk.IMAGE_DMA]:
        bytes_of[first] += i.rows * i.op["beats"] * build.config.beat_bytes
    bytes_of[build.output] += build.result_bytes
    return bytes_of


def _shares(build: Build) -> dict[tuple[Chunk, str], float]:
    """(engine, layer) -> part of the layer's steps that the engine does."""
    steps: dict[str, Counter] = defaultdict(Counter)
    for c in ENGINES:
        for i, label in zip(build.programs[c], build.labels[c]):
            steps[label.layer][c] += i.rows * kind_of(c, i.op).steps(i.op, build.config)
    total = {layer: max(1, sum(each.values())) for layer, each in steps.items()}  # a changed program may do nothing
    return {(c, layer): n / total[layer] for layer, each in steps.items() for c, n in each.items()}


def _attribute(build: Build, trace: Trace, image: int, narrow: set[str]) -> tuple[dict, list[dict]]:
    """Busy and waiting cycles by chunk and by layer of one job, divided by its images."""
    events, batch = trace.events, build.batch
    traffic, shares = _traffic(build), _shares(build)
    chunks, layers = {}, []
    for c in Chunk:
        n = events.totals[c]
        busy, waits = 0, Counter()
        per_layer: dict[str, Counter] = defaultdict(Counter)
        for k in range(image * n, (image + 1) * n):
            number, _ = events.rows[c][k - image * n]
            name = build.labels[c][number].layer
            worked = int(trace.end[c][k] - trace.start[c][k])
            busy += worked
            per_layer[name]["busy"] += worked
            if trace.idle[c][k]:
                waits[trace.cause[c][k]] += int(trace.idle[c][k])
                per_layer[name][trace.cause[c][k]] += int(trace.idle[c][k])
        chunks[c.name.lower()] = {
            "busy": round(busy / batch),
            **{_NAMES[k]: round(waits[k] / batch) for k in (DATA, SPACE, WEIGHTS, CHUNK)},
            "rows": n,
            "instructions": len(build.programs[c]),
        }
        if c in (*ENGINES, Chunk.SHIFTER, Chunk.LAYERNORM, Chunk.SOFTMAX):
            for name, counts in per_layer.items():
                share = shares.get((c, name), 0.0)
                layers.append(_layer(build, c, name, counts, traffic, share, 1 + (name in narrow)))
    return chunks, layers


def _layer(
    build: Build, chunk: Chunk, name: str, counts: Counter, traffic: Counter, share: float, rate: int
) -> dict:  # fmt: skip
    """``counts`` of a job, ``share`` of the layer's MACs and traffic, ``rate``: products of a multiplier in a cycle."""
    counts = Counter({k: round(v / build.batch) for k, v in counts.items()})
    waiting = {k: v for k, v in counts.items() if k != "busy"}
    cycles = counts["busy"] + (sum(waiting.values()) if chunk in ENGINES else 0)
    macs = build.macs.get(name, 0) * share
    macs = round(macs) if share == 1 else macs
    multipliers = build.config.multipliers // build.config.engines * rate
    cause = max(waiting, key=waiting.get, default=None)
    bound = "compute" if cause is None or waiting[cause] <= counts["busy"] else cause
    if bound == CHUNK:
        bound = "latency"
    return {
        "name": name,
        "chunk": chunk.name.lower(),
        "cycles": cycles,
        "busy": counts["busy"],
        "utilization": macs / (multipliers * cycles) if cycles else 0.0,
        "macs": macs,
        "multipliers": multipliers,
        "dram_bytes": traffic[name] / build.batch * (share if chunk in ENGINES else 1),
        "bound_by": bound,
    }
