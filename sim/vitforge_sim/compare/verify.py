"""RTL against golden: every write of every port, the codes, values inside the units, the logits."""

import dataclasses

import numpy as np

from vitforge_hw.arch.isa import Chunk
from vitforge_sw.compiler.layers.batch import EVERY, image_of, of_image, plain
from vitforge_sw.compiler.program.build import Build
from vitforge_sw.golden import Golden
from vitforge_sw.graph.ir import FORMATS, Graph
from vitforge_sw.kinds import Memory
from vitforge_sw.ops import KeyValue, LinearAttention

from ..run.accelerator import AcceleratorRun
from .compare import Mismatch, TensorReport, WriteList, compare_port, port_reports, tensor_report
from .inside import compare_inside
from .layouts import GroupLayout, Layout, ZLayout

#: write ports of the activation buffer
PORTS = {
    "mat": Chunk.MAT, "rmac": Chunk.RMAC, "layernorm": Chunk.LAYERNORM, "shifter": Chunk.SHIFTER,
    "image": Chunk.IMAGE_DMA,
}  # fmt: skip
ELSEWHERE = {"z": Memory.WEIGHT, "ksum": Memory.KSUM}  #: R-MAC's other write ports


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


def _writes(build: Build, chunk: Chunk, memory: Memory = Memory.ACT) -> WriteList:
    """A chunk's writes to a memory."""
    planes = {name: place.planes for name, place in build.places.items()}
    rows = [(w.address, of_image(w.tensor, w.image), w.group, w.block * planes.get(w.tensor, 1) + w.plane)
            for w in build.writes(chunk, memory)]  # fmt: skip
    return _write_list({}, rows)


def layouts_of(graph: Graph, build: Build, golden: dict[str, np.ndarray]) -> dict[str, Layout]:
    """How every golden tensor (of jobs: by_job) lies in activation buffer, weight buffer (Z) or Ksum memory."""
    c, out = build.config, {}
    ends = saturation(graph)
    z = {n.out.name: n.heads for n in graph.nodes if isinstance(n, KeyValue)}
    ksum = {n.ksum.name for n in graph.nodes if isinstance(n, LinearAttention)}
    for key, values in golden.items():
        name = plain(key)
        info = graph.tensors[name]
        planes = FORMATS[info.fmt][2]
        if name in z:
            out[key] = ZLayout(values, ends[name], z[name], c.word, c.width)
        elif planes:
            size, cores = (info.height, info.width), 1 if name in ksum else c.cores
            out[key] = GroupLayout(values, ends[name], cores, c.word, planes == 2, size)
            out[key].first = build.lag if image_of(key) == EVERY else 0
    return out


def by_job(arrays: dict[str, np.ndarray], batch: int, lag: int = 0) -> dict[str, np.ndarray]:
    """Arrays (images, tokens, ...) as (jobs, tokens, ...) for each image of the batch, named by ``of_image``; those of
    one token also with the images side by side as tokens, ``lag`` jobs later (what the first ones hold, nobody asks).
    """
    out = {of_image(name, i): x[i::batch] for name, x in arrays.items() for i in range(batch)}
    if batch > 1 or lag:
        for name, x in arrays.items():
            if x.shape[1] == 1:
                jobs = x.reshape(-1, batch, *x.shape[2:])
                out[of_image(name, EVERY)] = np.concatenate([jobs[:lag], jobs[: len(jobs) - lag]])
    return out


def of_batch(m: Mismatch, batch: int, lag: int = 0) -> Mismatch:
    """A mismatch of a job with the image's number and the model's own names."""
    image, index = image_of(m.layer), m.index
    if image == EVERY:  # (token, channel), or (group, 0, token)
        image, index = (index[0], (0, *index[1:])) if len(index) == 2 else (index[-1] if index[1:] else 0, index)
        image -= lag * batch
    image += m.image * batch
    return dataclasses.replace(m, image=image, layer=plain(m.layer), tensor=plain(m.tensor), index=index)


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
    return found | {node.out.name: node.ends(graph.tensor(node.out).fmt) for node in graph.nodes}


def verify(graph: Graph, build: Build, patches: np.ndarray, run: AcceleratorRun, tensors: bool = True) -> Verdict:
    """Compare a run with the golden model.

    patches: int8 (images, tokens, K), as run (Build.jobs: the last one fills the last job). tensors: compare every
    write (needs the monitors); else logits only.
    """
    taps: dict = {} if tensors and "tile" in run.bench.monitors else None
    images, batch, lag = len(patches), build.batch, build.lag
    jobs = build.jobs(patches)
    golden = golden_tensors(graph, np.concatenate([np.stack(job) for job in jobs]), taps)
    mine = by_job(golden, batch, lag)
    reports: list[TensorReport] = []
    found: list[Mismatch] = []
    if tensors:
        layouts = layouts_of(graph, build, mine)
        lists = {port: _writes(build, chunk) for port, chunk in PORTS.items() if chunk in build.config.chunks}
        if build.config.trio:
            lists |= {port: _writes(build, Chunk.RMAC, memory) for port, memory in ELSEWHERE.items()}
        parts = []
        for port, writes in lists.items():
            part, first = compare_port(port, writes, layouts, run.bench.monitors[port], len(jobs))
            parts.append(part)
            found += [of_batch(first, batch, lag)] if first else []
        reports += port_reports(parts, layouts, plain)
        inside = compare_inside(graph, build, mine, by_job(taps, batch, lag), run, len(jobs)) if taps else ()
        for part, first in inside:
            reports += part
            found += [of_batch(first, batch, lag)] if first else []
    want = golden[graph.output][: (len(jobs) - lag) * batch, 0].astype(np.int64)
    got = np.stack([build.logits(r.tobytes(), i) for r in run.results[lag:] for i in range(batch)])
    wrong = np.argwhere(want != got)
    lowest, highest, _ = FORMATS[graph.tensors[graph.output].fmt]
    reports.append(tensor_report("logits in memory", want, lowest, highest, len(wrong)))
    if len(wrong):
        image, index = (int(v) for v in wrong[0])
        job = image // batch + lag
        cycle = run.image_end[job] if job < len(run.image_end) else run.bench.cycles
        expected, came = int(want[image, index]), int(got[image, index])
        found.append(Mismatch(image, graph.output, "logits in memory", (index,), expected, came, cycle))
    return Verdict(reports, min(found, key=lambda m: m.cycle, default=None), want[:images], got[:images])
