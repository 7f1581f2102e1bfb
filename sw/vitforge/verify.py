"""RTL against golden: every write of every port, the codes, values inside the units, the logits."""

import dataclasses

import numpy as np

from vitforge_hw.arch.isa import KEY_VALUE, POINTWISE, TOKEN_SUM, Chunk
from vitforge_sim.accelerator import AcceleratorRun
from vitforge_sim.compare import Mismatch, TensorReport, WriteList, compare_port, port_reports, tensor_report
from vitforge_sim.layouts import GroupLayout, Layout, ZLayout
from vitforge_sw.compiler.build import Build
from vitforge_sw.golden import Golden
from vitforge_sw.golden.linear import clipped_ends
from vitforge_sw.graph.ir import FORMATS, Graph, Linear
from vitforge_sw.graph.ir_trio import KeyValue, LinearAttend, NormAct, Post

from .inside import compare_inside

#: write ports of the activation buffer
PORTS = {
    "mat": Chunk.MAT, "rmac": Chunk.RMAC, "layernorm": Chunk.LAYERNORM, "shifter": Chunk.SHIFTER,
    "image": Chunk.IMAGE_DMA,
}  # fmt: skip


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


def _write_list(names: dict[str, int], rows: list[tuple[int, str, int, int]]) -> WriteList:
    """rows: (address, tensor, group, row of the layout)."""
    table = [(address, names.setdefault(tensor, len(names)), group, row) for address, tensor, group, row in rows]
    return WriteList(list(names), *np.array(table, np.int64).reshape(-1, 4).T)


def _buffer_writes(build: Build, chunk: Chunk) -> WriteList:
    """Activation-buffer writes of a chunk."""
    planes = {name: place.planes for name, place in build.places.items()}
    rows = [(w.address, w.tensor, w.group, w.block * planes[w.tensor] + w.plane) for w in build.writes(chunk)]
    return _write_list({}, rows)


def _z_writes(build: Build, layouts: dict[str, Layout]) -> WriteList:
    """Weight-buffer rows of Z = K^T V, a head a row of the instruction."""
    rows = []
    for i, label in zip(build.programs[Chunk.RMAC], build.labels[Chunk.RMAC]):
        if i.op.get("kind", POINTWISE) == KEY_VALUE:
            count = layouts[label.tensor].valid.shape[1]  # weight rows of a head
            rows += [(i.op["weight_addr"] + n, label.tensor, label.first + n // count, n % count)
                     for n in range(i.rows * count)]  # fmt: skip
    return _write_list({}, rows)


def _ksum_writes(build: Build) -> WriteList:
    """Words of the Ksum memory."""
    rows = []
    for i, label in zip(build.programs[Chunk.RMAC], build.labels[Chunk.RMAC]):
        if i.op.get("kind", POINTWISE) == TOKEN_SUM and i.op.get("dest", 0):
            first = label.channel // build.config.word
            rows += [(i.op["weight_addr"] + n, label.tensor, 0, first + n) for n in range(i.op["blocks"])]
    return _write_list({}, rows)


def layouts_of(graph: Graph, build: Build, golden: dict[str, np.ndarray]) -> dict[str, Layout]:
    """How every golden tensor lies in activation buffer, weight buffer (Z) or Ksum memory."""
    c, out = build.config, {}
    ends = saturation(graph)
    z = {n.out.name: n.heads for n in graph.nodes if isinstance(n, KeyValue)}
    ksum = {n.ksum.name for n in graph.nodes if isinstance(n, LinearAttend)}
    for name, info in graph.tensors.items():
        planes = FORMATS[info.fmt][2]
        if name in z:
            out[name] = ZLayout(golden[name], ends[name], z[name], c.word, c.width)
        elif planes:
            size, cores = (info.height, info.width), 1 if name in ksum else c.cores
            out[name] = GroupLayout(golden[name], ends[name], cores, c.word, planes == 2, size)
    return out


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


def saturation(graph: Graph) -> dict[str, tuple[int, int]]:
    """Tensor -> values that count as saturated. An end that no value can exceed is moved out of reach: values there
    were not clipped."""
    found = {n: FORMATS[t.fmt][:2] for n, t in graph.tensors.items()}
    for node in graph.nodes:
        if isinstance(node, LinearAttend):
            found[node.out.name] = -127, 127
        elif isinstance(node, Linear | Post | NormAct):
            lowest, highest = found[node.out.name]
            lowest = -highest if getattr(node, "narrow", False) else lowest
            ends = clipped_ends if isinstance(node, Linear) else hardswish_ends
            low, high = ends(node, graph.tensors[node.out.name].fmt)
            found[node.out.name] = lowest if low else lowest - 1, highest if high else highest + 1
    return found


def hardswish_ends(node: Post | NormAct, fmt: str) -> tuple[bool, bool]:
    """golden.linear.clipped_ends for the second family: Hardswish has a minimum, p is saturated to 12 bits."""
    norm = isinstance(node, NormAct)
    if not norm and (node.act != "hardswish" or node.residual is not None or node.m2 is not None):
        return True, True
    p = np.arange(-2048, 2048, dtype=np.int64)
    h = p * np.clip(p + node.q3, 0, node.q6)
    ends = np.array([[h.min()], [h.max()]]) << (0 if norm else node.eh.astype(np.int64))
    s2 = np.atleast_1d(node.s2).astype(np.int64)
    y = ((ends + ((1 << s2) >> 1)) >> s2) + node.offset
    lo, hi, _ = FORMATS[fmt]
    return bool(y[0].min() < lo), bool(y[1].max() > hi)


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
        layouts = layouts_of(graph, build, golden)
        lists = {port: _buffer_writes(build, chunk) for port, chunk in PORTS.items() if chunk in build.config.chunks}
        if build.config.trio:
            lists |= {"z": _z_writes(build, layouts), "ksum": _ksum_writes(build)}
        parts = []
        for port, writes in lists.items():
            part, first = compare_port(port, writes, layouts, run.bench.monitors[port], images)
            parts.append(part)
            found += [first] if first else []
        reports += port_reports(parts, layouts)
        for part, first in compare_inside(graph, build, golden, taps, run, images) if taps else ():
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
