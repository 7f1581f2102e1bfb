"""Shared by the top-level tests: the shipped digits network on the emitted `tiny` RTL, one build for all."""

import numpy as np
import pytest

from vitforge.shipped import shipped_model
from vitforge.simulation import prepare
from vitforge_hw.arch import registers
from vitforge_hw.arch.config import get_config
from vitforge_sim.run.machine import BUSY, READY, Machine, Script
from vitforge_sw.compiler import compile_graph
from vitforge_sw.families import quantize_model
from vitforge_sw.families.vit import get_scheme
from vitforge_sw.golden import Golden
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.files import list_images
from vitforge_sw.models.images import load_patches
from vitforge_sw.models.resolve import resolve_model

CONFIG = get_config("tiny")
IMAGES, SLOTS = 10, 12


class Digits:
    """The shipped network compiled for `tiny`, golden logits of the images, and the machine that runs it."""

    def __init__(self, folder):
        paths = shipped_model("digits_vit")
        spec = resolve_model(str(paths.model))
        model, image = load_model(spec, paths.checkpoint)
        calib = load_patches(list_images(paths.calib)[:32], image)
        graph = quantize_model(model, spec, image, get_scheme("vitforge"), calib, progress=False)
        self.graph, self.build = graph, compile_graph(graph, CONFIG)
        b = self.build
        self.patches = patches = load_patches(list_images(paths.test)[:IMAGES], image)
        golden = Golden(graph)
        self.want = [golden.run(p[None])[graph.output].numpy()[0, 0] for p in patches]
        bad = [bytearray(b.memory_image) for _ in range(3)]
        bad[0][0] ^= 1  # magic
        bad[1][5] ^= 1  # configuration hash
        bad[2][7 * 64 + 40] ^= 4  # some instruction
        bench = prepare(b, folder, "verilator", SLOTS)
        self.machine = Machine(
            bench, [b.memory_image, *map(bytes, bad), b.memory_image], b.program_beats,
            [b.pack_image(p) for p in patches], b.result_bytes, SLOTS,
        )  # fmt: skip

    def piece(self, end: str) -> int:
        """DRAM address of the first piece of the memory image whose name ends so."""
        beat = next(p.beat for p in self.build.pieces if p.name.endswith(end))
        return self.machine.program[0] + beat * CONFIG.beat_bytes

    def good(self, s: Script, image: int, slot: int) -> Script:
        """After a reset: enable, run one image, no error."""
        self.machine.enable(s)
        self.machine.submit(s, image, slot).poll("completed", 1).poll("status", READY, READY | BUSY)
        return s.read("error_code", f"good{slot}")

    def check(self, out, slots: dict[int, int]):
        """Slot -> image: results equal golden, no AXI rule broken, good runs without an error."""
        assert out.bench.axi_errors == []
        for slot, image in slots.items():
            assert np.array_equal(self.build.logits(out.results[slot].tobytes()), self.want[image]), (slot, image)
            assert out.values.get(f"good{slot}", 0) == 0


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Digits:
    return Digits(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def cycles(digits) -> tuple[int, int]:
    """Cycle at which the program is loaded and the first image is queued, and at which the image is done."""
    s = digits.good(Script(), 0, 0)
    out = digits.machine.run(s)
    digits.check(out, {0: 0})
    submit = next(i for i, c in enumerate(s) if getattr(c, "addr", 0) == registers.REGISTERS["job_submit"].offset)
    return out.bench.events[submit].cycle, out.bench.events[submit + 1].cycle
