"""The time left of builds and runs: what the display is told while another process works."""

import threading
import time

import numpy as np

from vitforge.simulation import Expected, prepare
from vitforge_sim.run.accelerator import run_accelerator
from vitforge_sim.run.build import build
from vitforge_sim.run.topbench import MemorySettings
from vitforge_sim.run.watch import Watch


def watched(ask, work) -> list:
    """What ``ask`` says while ``work`` is done."""
    found, over = [], threading.Event()

    def look():
        while not over.wait(0.005):
            found.append(ask())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join()
    return [x for x in found if x is not None]


def test_simulated_cycles(digits, tmp_path):
    """They rise from image to image, to the number that the cycle model expects."""
    b, images, settings = digits.build, 12, MemorySettings()
    bench = prepare(b, tmp_path, "verilator", images)
    watch = Watch()
    expected = Expected(b, settings, images, watch)
    watch.folder = tmp_path
    assert expected.limit() == 20_000_000 * images and expected.cycles > 0  # asks the model beforehand
    runs = []
    data = [b.pack_image(digits.patches[i % len(digits.patches)]) for i in range(images)]

    def work():
        runs.append(
            run_accelerator(bench, b.config, b.memory_image, b.program_beats, data, b.result_bytes, watch=watch,
                            settings=settings, monitor=("image_end",))  # fmt: skip
        )

    seen = watched(expected, work)
    cycles = [done for done, _ in seen]
    assert cycles == sorted(cycles) and len(set(cycles)) >= 6, "an event for each image"
    assert {total for _, total in seen} == {expected.cycles}
    last = runs[0].image_end[-1]
    assert abs(expected.cycles / last - 1) < 0.05, (expected.cycles, last)
    assert cycles[-1] <= runs[0].bench.cycles


def test_a_long_run_is_no_hang(digits):
    """A memory so slow that an image takes more than the usual limit: four times what the cycle model expects."""
    expected = Expected(digits.build, MemorySettings(bandwidth=1, latency=1_000_000), 1, Watch())
    assert expected.cycles > 20_000_000 and expected.limit() == 4 * round(expected.cycles)


def test_monitors_tell_the_cycle(digits, tmp_path):
    """With every tensor compared, the last record counts: it is later than the last finished image."""
    bench = prepare(digits.build, tmp_path, "verilator", 1)
    watch, b = Watch(), digits.build
    run = run_accelerator(bench, b.config, b.memory_image, b.program_beats, [b.pack_image(digits.patches[0])],
                          b.result_bytes, watch=watch, folder=tmp_path / "run")  # fmt: skip
    (tmp_path / "run" / "events.bin").write_bytes(b"")
    last = max(int(r["cycle"][-1]) for r in run.bench.monitors.values() if len(r))
    assert watch.cycle() == last > run.image_end[0] - 100


def test_compiled_files(tmp_path, monkeypatch):
    """A Verilator build counts up to the number of files that make had announced."""
    monkeypatch.setenv("VITFORGE_CACHE", str(tmp_path / "cache"))
    watch = Watch()
    text = f"// {time.time_ns()}: new\nmodule little(input wire clk); always @(posedge clk) $finish; endmodule\n"
    seen = watched(watch.objects, lambda: build("verilator", "little", {"little.v": text}, watch=watch))
    done, totals = np.array(seen).T
    assert len(set(totals.tolist())) == 1 and totals[0] >= 3
    assert done.tolist() == sorted(done.tolist()) and done.max() == totals[0]


def test_nothing_runs():
    assert Watch().objects() is None and Watch().cycle() == 0
