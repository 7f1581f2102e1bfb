"""RTL against golden: every write of every port, the codes, values inside the units, the logits."""

import dataclasses

import numpy as np

from vitforge_hw.arch.isa import Chunk
from vitforge_sim.accelerator import TAP_BITS, AcceleratorRun
from vitforge_sim.compare import Mismatch, TensorReport, WriteList, compare_port, tensor_report
from vitforge_sim.taps import Due, compare_tap
from vitforge_sw.compiler.build import Build
from vitforge_sw.golden import Golden
from vitforge_sw.golden.linear import clipped_ends
from vitforge_sw.graph.ir import FORMATS, Graph, Linear

PORTS = {"mat": Chunk.MAT, "layernorm": Chunk.LAYERNORM, "shifter": Chunk.SHIFTER, "image": Chunk.IMAGE_DMA}
ACC_ELEMENTS = 4_000_000  #: accumulators compared per engine at most (whole layers, the first ones)


@dataclasses.dataclass
class Verdict:
    """Reports per tensor, first mismatch in time (None: bit-exact), integer logits of golden and RTL."""

    tensors: list[TensorReport]
    first: Mismatch | None
    golden_logits: np.ndarray
    rtl_logits: np.ndarray

    @property
    def bit_exact(self) -> bool:
        return self.first is None

    @property
    def mismatches(self) -> int:
        return sum(t.mismatches for t in self.tensors)


def _write_list(build: Build, chunk: Chunk) -> WriteList:
    names: dict[str, int] = {}
    rows = [(w.address, names.setdefault(w.tensor, len(names)), w.group, w.block, w.plane) for w in build.writes(chunk)]
    return WriteList(list(names), *np.array(rows, np.int64).reshape(-1, 5).T)


def golden_tensors(graph: Graph, patches: np.ndarray, taps: dict | None = None) -> dict[str, np.ndarray]:
    """Every tensor (images, tokens, channels) as int64, image by image to bound memory."""
    golden, tensors = Golden(graph), {}
    for i in range(len(patches)):
        inside: dict = {}
        for name, value in golden.run(patches[i : i + 1], inside if taps is not None else None).items():
            tensors.setdefault(name, []).append(value.numpy().astype(np.int16))
        for name, value in inside.items():
            taps.setdefault(name, []).append(value.numpy())
    if taps is not None:
        for name in taps:
            taps[name] = np.concatenate(taps[name])
    for name in graph.constants:  # one copy, the same for every image
        tensors[name] = tensors[name] * (len(patches) if len(tensors[name]) == 1 else 1)
    return {name: np.concatenate(values) for name, values in tensors.items()}


def _formats(graph: Graph) -> dict[str, tuple[int, int, bool]]:
    """Tensor -> (saturates at, and at, two planes). An end that no value can exceed is moved out of reach: values
    there were not clipped and do not count as saturated."""
    found = {n: (*FORMATS[t.fmt][:2], FORMATS[t.fmt][2] == 2) for n, t in graph.tensors.items()}
    for node in graph.nodes:
        if isinstance(node, Linear):
            lowest, highest, wide = found[node.out.name]
            lowest = -highest if node.narrow else lowest
            low, high = clipped_ends(node, graph.tensors[node.out.name].fmt)
            found[node.out.name] = (lowest if low else lowest - 1, highest if high else highest + 1, wide)
    return found


def verify(graph: Graph, build: Build, patches: np.ndarray, run: AcceleratorRun, tensors: bool = True) -> Verdict:
    """Compare a run with the golden model.

    patches: int8 (images, tokens, K), as run. tensors: compare every write (needs the monitors); else logits only.
    """
    taps: dict = {} if tensors and "tile" in run.bench.monitors else None
    golden = golden_tensors(graph, patches, taps)
    images = len(patches)
    reports: list[TensorReport] = []
    found: list[Mismatch] = []
    if tensors:
        formats = _formats(graph)
        for port, chunk in PORTS.items():
            part, first = compare_port(
                port, _write_list(build, chunk), golden, formats, run.bench.monitors[port], images, build.config
            )
            reports += part
            found += [first] if first else []
        inside = [_codes(build, golden, run, images), *(_taps(graph, build, taps, run, images) if taps else ())]
        for part, first in inside:
            reports += part
            found += [first] if first else []
    want = golden[graph.output][:, 0].astype(np.int64)
    got = np.stack([build.logits(r.tobytes()) for r in run.results])
    wrong = np.argwhere(want != got)
    lowest, highest, _ = FORMATS[graph.tensors[graph.output].fmt]
    reports.append(tensor_report("logits in memory", want, lowest, highest, len(wrong)))
    if len(wrong):
        image, index = (int(v) for v in wrong[0])
        cycle = run.image_end[image] if image < len(run.image_end) else run.bench.cycles
        expected, came = int(want[image, index]), int(got[image, index])
        found.append(Mismatch(image, graph.output, "logits in memory", (index,), expected, came, cycle))
    return Verdict(reports, min(found, key=lambda m: m.cycle, default=None), want, got)


def _codes(build: Build, golden: dict, run: AcceleratorRun, images: int):
    """Words of the code ring: attend_keys x cores codes each."""
    c = build.config
    due, position = {}, 0
    for layer, group in build.codes():
        codes = golden[layer]
        queries, keys = codes.shape[1:]
        rows = min(c.cores, queries - group * c.cores)
        words = -(-keys // c.attend_keys)
        padded = np.full((images, c.cores, words * c.attend_keys), 15, np.int64)
        padded[:, :rows, :keys] = codes[:, group * c.cores : group * c.cores + rows]
        for w in range(words):
            block = padded[:, :, w * c.attend_keys : (w + 1) * c.attend_keys].transpose(0, 2, 1)  # key, token
            due[position] = Due(layer, (group, w), block.reshape(images, -1) if rows == c.cores else block)
            position += 1
    for i, item in list(due.items()):  # a last group with missing tokens: only the first key's valid tokens are due
        if item.values.ndim == 3:
            rows = golden[item.layer].shape[1] - item.place[0] * c.cores
            due[i] = Due(item.layer, item.place, item.values[:, 0, :rows])
    return compare_tap("codes", due, position, run.bench.monitors["codes"], images, 4, c.cores * c.attend_keys, False)


def _taps(graph: Graph, build: Build, taps: dict, run: AcceleratorRun, images: int):
    c = build.config
    monitors = run.bench.monitors

    def per_token(chunk: Chunk, suffix: str):
        due, position = {}, 0
        for instruction, label in zip(build.programs[chunk], build.labels[chunk]):
            values = taps.get(f"{label.layer}.{suffix}")
            for row in range(instruction.rows):
                group = label.first + row
                if values is not None:
                    due[position] = Due(label.layer, (group, 0), values[:, group * c.cores : (group + 1) * c.cores])
                    position += 1
        return due, position

    for tap, chunk, suffix, signed in (
        ("stats_s1", Chunk.LAYERNORM, "S1", True),
        ("stats_s2", Chunk.LAYERNORM, "S2", False),
        ("log_sum", Chunk.SOFTMAX, "L", True),
    ):
        due, count = per_token(chunk, suffix)
        if count:
            yield compare_tap(suffix, due, count, monitors[tap], images, TAP_BITS[tap], c.cores, signed)

    for tap, chunk in (("tile", Chunk.MAT), ("attend", Chunk.SHIFTER)):
        due, position, budget, layers = {}, 0, ACC_ELEMENTS, []
        for instruction, label in zip(build.programs[chunk], build.labels[chunk]):
            values = taps[f"{label.layer}.acc"]
            if label.layer not in layers:
                budget -= values[0].size
                layers.append(label.layer)
            op = instruction.op
            n = op["tiles"] if chunk == Chunk.MAT else op["blocks"]
            first = label.channel // c.word if chunk == Chunk.MAT else 0
            for row in range(instruction.rows):
                for block in range(n):
                    if budget >= 0 or len(layers) == 1:
                        group, channel = label.first + row, (first + block) * c.word
                        part = values[:, group * c.cores : (group + 1) * c.cores, channel : channel + c.word]
                        if part.shape[2] == c.word:
                            due[position] = Due(label.layer, (group, block), part.reshape(images, -1))
                    position += 1
        yield compare_tap("acc", due, position, monitors[tap], images, TAP_BITS[tap], c.cores * c.word, True)
