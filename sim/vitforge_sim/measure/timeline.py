"""The RTL's timeline, by chunk and layer: busy, or waiting and for what; what keeps the engines from their bound.

A chunk's time is cut at the completions of its rows (MAT, R-MAC: at the last step of the engine), so each cycle belongs
to one row, hence to one layer. Kinds of a cycle:

busy     a row is in work (MAT, R-MAC: a step of the engine)
data     the row's wait for what it reads (SHIFTER: also for its codes)
space    its wait for readers of what it overwrites (SOFTMAX: also for room in the code ring)
weights  its wait for weights or parameters
fetch    MAT, R-MAC: the row was started, its words are not there yet
room     MAT, R-MAC: no place for a finished tile
image    between the programs of two images
control  none of these: an instruction change, waits being checked
"""

import dataclasses
from collections import Counter, defaultdict

from vitforge_hw.arch.isa import Chunk
from vitforge_hw.attention.code_ring import ENTRIES
from vitforge_hw.engines.step_issue import ArrayState
from vitforge_sw.compiler import Build
from vitforge_sw.compiler.program.proof import Events
from vitforge_sw.cycles.estimate import ENGINES
from vitforge_sw.cycles.model import Simulator
from vitforge_sw.kinds import kind_of

from ..run.accelerator import AcceleratorRun
from .backbone import backbone
from .monitors import ChunkTimeline, Timeline, decode

KINDS = ("busy", "data", "space", "weights", "fetch", "room", "image", "control")
SCHEMA = "vitforge/timeline/1"


@dataclasses.dataclass(frozen=True)
class Segment:
    """Cycles [begin, end) of a chunk that belong to its row ``row`` (counted over all images); ``awaited``: the layer
    whose row it waited for ("" if none)."""

    begin: int
    end: int
    row: int
    kind: str
    awaited: str = ""


class Attribution:
    """Segments of every chunk.

    Parameters
    ----------
    build : the compiled model that ran
    timeline : decoded monitors
    start, end : cycles from and up to which time counts; behind a chunk's last row it is between images
    """

    def __init__(self, build: Build, timeline: Timeline, start: int, end: int):
        self.build, self.timeline, self.start, self.end = build, timeline, start, end
        self.events = Events(build.programs, build.labels)
        self.kinds = Simulator(build, 64, 100, 1).kinds
        entry = [-(-i.op["keys"] // build.config.attend_keys) for i in build.programs[Chunk.SOFTMAX]]
        self.entries = min(build.config.code_rows // max(entry, default=1), ENTRIES)
        self.arrays = {Chunk.MAT: (timeline.array, timeline.row_end),
                       Chunk.RMAC: (timeline.rmac_array, timeline.rmac_row_end)}  # fmt: skip
        self.segments = {chunk: self._chunk(chunk, timeline.chunks[chunk]) for chunk in build.config.chunks}

    def layer(self, chunk: Chunk, row: int) -> str:
        """Layer of a row."""
        return self.build.labels[chunk][self.events.at(chunk, row)[2]].layer

    def image(self, chunk: Chunk, row: int) -> int:
        """Image of a row, from 0."""
        return row // self.events.totals[chunk]

    def _chunk(self, chunk: Chunk, t: ChunkTimeline) -> list[Segment]:
        array, ends = self.arrays.get(chunk, (None, t.done))
        out, begin = [], self.start
        for row, end in enumerate(ends.tolist()):
            end += 1
            go = int(t.go[row])
            first = row % self.events.totals[chunk] == 0
            if array is not None:
                for a, b, state in array.cut(begin, end):
                    if state == ArrayState.STEP:
                        out.append(Segment(a, b, row, "busy"))
                    elif state == ArrayState.NO_ROOM:
                        out.append(Segment(a, b, row, "room"))
                    else:
                        out += self._before(chunk, t, row, a, min(b, max(a, go)), first)
                        if b > max(a, go):
                            out.append(Segment(max(a, go), b, row, "fetch"))
            else:
                work = min(end, max(begin, go))
                out += self._before(chunk, t, row, begin, work, first)
                out += self._work(chunk, row, work, end)
            begin = max(begin, end)
        if out and begin < self.end:
            out.append(Segment(begin, self.end, len(ends) - 1, "image"))
        return out

    def _before(self, chunk: Chunk, t: ChunkTimeline, row: int, begin: int, end: int, first: bool) -> list[Segment]:
        """The time before a row's go: its waits, and what lies between them."""
        out = []
        rest = "image" if first else "control"
        for a, b, wait in t.waiting.cut(begin, end):
            if a > begin:
                out.append(Segment(begin, a, row, rest))
            src, count = self.events.thresholds(chunk, row)[wait]
            awaited = self.layer(src, count - 1) if count > 0 else ""
            kind = self.kinds[(chunk, self.events.at(chunk, row)[2], wait)]
            out.append(Segment(a, b, row, kind, awaited))
            begin = b
        if begin < end:
            out.append(Segment(begin, end, row, rest))
        return out

    def _work(self, chunk: Chunk, row: int, begin: int, end: int) -> list[Segment]:
        """The time from a row's go on: softmax and shifter array still wait for each other at the code ring."""
        ready, kind, source = begin, "", row
        if chunk == Chunk.SHIFTER:
            kind, awaited = "data", Chunk.SOFTMAX
        elif chunk == Chunk.SOFTMAX and row >= self.entries:
            kind, awaited, source = "space", Chunk.SHIFTER, row - self.entries
        if kind:
            ready = min(end, max(begin, int(self.timeline.chunks[awaited].done[source])))
        out = [Segment(begin, ready, row, kind, self.layer(awaited, source))] if ready > begin else []
        return out + ([Segment(ready, end, row, "busy")] if end > ready else [])

    def cycles(self, chunk: Chunk, begin: int, end: int) -> dict[str, Counter]:
        """Layer -> cycles by kind inside [begin, end)."""
        out: dict[str, Counter] = defaultdict(Counter)
        for s in self.segments[chunk]:
            n = min(end, s.end) - max(begin, s.begin)
            if n > 0:
                out[self.layer(chunk, s.row)][s.kind] += n
        return out


def attribute(build: Build, run: AcceleratorRun) -> Attribution:
    """Attribution of a run that recorded the timeline's monitors."""
    return Attribution(build, decode(run.bench), run.start_cycle, run.image_end[-1])


def window(run: AcceleratorRun) -> tuple[int, int, int]:
    """(begin, end, jobs) of the steady state: from the first job's end to the last one's; of a single image all."""
    ends = run.image_end
    return (ends[0], ends[-1], len(ends) - 1) if len(ends) > 1 else (run.start_cycle, ends[0], 1)


def losses(build: Build, attribution: Attribution, begin: int, end: int, images: int) -> dict[str, float]:
    """Cycles an image of the engines (mean of both): ideal, roundings, waits; they add up to the cycles of an image.

    ideal: model MACs / multipliers of the engines that the program uses. classifier: layers of one token, whose group
    has ``cores``. token_rounding: tokens to groups, pixels of a map row to groups. key_rounding: keys of a head to
    tiles. channel_rounding: other channels, slots of R-MAC, stride 2, sums (additions are no MACs), and the class
    token's row of the embedding. elsewhere: steps of [begin, end) less those of ``images`` programs (batches: of
    as many jobs; negative for one alone: its last rows, that no logit needs, are computed after its end).
    """
    c = build.config
    out: Counter = Counter()
    engines = [chunk for chunk in ENGINES if build.programs[chunk]]
    for chunk in engines:
        for kinds in attribution.cycles(chunk, begin, end).values():
            out.update(kinds)
    out["elsewhere"] = out.pop("busy", 0)
    steps: Counter = Counter()
    for chunk in engines:
        for instruction, label in zip(build.programs[chunk], build.labels[chunk]):
            row = kind_of(chunk, instruction.op).steps(instruction.op, c)
            steps[(label.layer, label.tensor)] += images * instruction.rows * row
    images *= build.batch
    for (layer, tensor), busy in steps.items():
        out["elsewhere"] -= busy
        ideal = images * build.macs.get(layer, 0) * c.engines / c.multipliers
        out["ideal"] += ideal
        info = build.tensors[tensor]
        if info["tokens"] == 1:
            out["classifier"] += busy - ideal
            continue
        row = info.get("width", 0) or info["tokens"]
        filled = busy * row / (-(-row // c.cores) * c.cores)
        out["token_rounding"] += busy - filled
        out["key_rounding" if ".scores." in layer else "channel_rounding"] += filled - ideal
    first = ("ideal", "token_rounding", "key_rounding", "channel_rounding", "classifier", "elsewhere")
    return {k: out[k] / images / len(engines) for k in (*first, *KINDS[1:])}


def summarise(build: Build, attribution: Attribution, run: AcceleratorRun) -> dict:
    """The content of timeline.json: cycles an image in the steady state."""
    begin, end, jobs = window(run)
    images = jobs * build.batch
    chunks, layers = {}, []
    for chunk in build.config.chunks:
        total: Counter = Counter()
        for layer, kinds in attribution.cycles(chunk, begin, end).items():
            total.update(kinds)
            each = {k: kinds[k] / images for k in KINDS if kinds[k]}
            layers.append({"chunk": chunk.name.lower(), "layer": layer, "cycles": sum(each.values()), **each})
        chunks[chunk.name.lower()] = {k: total[k] / images for k in KINDS}
    waits: Counter = Counter()
    for chunk in ENGINES:
        for s in attribution.segments.get(chunk, ()):
            n = min(end, s.end) - max(begin, s.begin)
            if n > 0 and s.kind != "busy":
                waits[(chunk.name.lower(), s.kind, attribution.layer(chunk, s.row), s.awaited)] += n
    return {
        "schema": SCHEMA,
        "preset": build.config.name,
        "config_hash": f"{build.config.hash:08x}",
        "model_hash": build.model_hash,
        "window": [begin, end],
        "images": images,
        "cycles_per_image": (end - begin) / images,
        "losses": losses(build, attribution, begin, end, jobs),
        "backbone": backbone(build, attribution.timeline, run.start_cycle),
        "chunks": chunks,
        "layers": layers,
        "array_waits": [
            {"engine": engine, "kind": kind, "layer": layer, "awaited": awaited, "cycles": n / images}
            for (engine, kind, layer, awaited), n in waits.most_common()
        ],
    }
