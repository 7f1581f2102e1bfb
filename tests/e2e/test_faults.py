"""The emitted `tiny` RTL with the shipped digits network: stalls, AXI errors, resets; then a good run.

Every scenario is one script of register accesses on the simulated chip; afterwards the next image must be right.
"""

import random

import pytest

from vitforge_hw.arch import registers
from vitforge_hw.arch.config import get_config
from vitforge_sim.run.machine import ENABLE, ERROR, FAILED, IMAGE_DONE, READY, SOFT_RESET, Script

CONFIG = get_config("tiny")
IMAGES = 10  #: that the fixture has
SLVERR, DECERR = 2, 3


def test_comparison_can_fail(digits):
    out = digits.machine.run(digits.good(Script(), 0, 0))
    with pytest.raises(AssertionError):
        digits.check(out, {0: 1})
    with pytest.raises(AssertionError):
        digits.check(out, {1: 0})
    assert out.untouched(1) and not out.untouched(0)


STALLS = {
    "all channels": dict(stall_ar=120, stall_r=120, stall_aw=120, stall_w=120, stall_b=120, jitter=50),
    "slow answers": dict(latency=400, jitter=1000, stall_b=250, stall_ar=250),
    "narrow": dict(bandwidth=1, stall_r=60, jitter=9),
    "quick": dict(latency=1, stall_r=200, stall_w=250, stall_aw=250),
}


@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in (2, 3))])
@pytest.mark.parametrize("name", STALLS)
def test_stalls_change_no_result(digits, name, seed):
    s = digits.machine.enable(Script())
    digits.machine.aim(s, 0, 0)
    for _ in range(3):
        s.write("job_submit", 1)
    s.poll("completed", 3).read("error_code")
    out = digits.machine.run(s, seed=seed, **STALLS[name])
    digits.check(out, {i: i for i in range(3)})
    assert out.values["error_code"] == 0


def test_ten_images_without_reset(digits):
    """A burst of jobs that fills the queue, single ones with pauses, then again the first image; strides in steps."""
    machine = digits.machine
    s = machine.aim(machine.enable(Script()), 0, 0)
    for i in range(7):
        if i >= CONFIG.job_depth:
            s.poll("completed", i - CONFIG.job_depth + 1)
        s.write("job_submit", 1)
    s.read("job_image_lo").read("job_result_lo").poll("completed", 7).wait(5000)
    for i in range(7, IMAGES):
        machine.submit(s, i, i).poll("completed", i + 1).poll("status", READY, 15).wait(100 * i)
    machine.submit(s, 0, IMAGES).poll("completed", IMAGES + 1).read("error_code").read("job_free")
    out = machine.run(s)
    digits.check(out, {i: i for i in range(IMAGES)} | {IMAGES: 0})
    assert out.values["job_image_lo"] == machine.image[7] and out.values["job_result_lo"] == machine.result[7]
    assert (out.values["error_code"], out.values["job_free"]) == (0, CONFIG.job_depth)
    assert out.untouched(IMAGES + 1)


# ---- responses other than OKAY

PLACES = {"program": 5 * 64 + 16, "constant": "pos_embed", "params": "embed:params", "weights": "attn.h1:weights"}


@pytest.mark.parametrize("resp", [SLVERR, DECERR])
@pytest.mark.parametrize("place", [*PLACES, "image"])
def test_read_error(digits, place, resp):
    """Code 1 with the beat's address; the machine goes on (a broken program does not run) and recovers."""
    machine, where = digits.machine, PLACES.get(place)
    if place == "image":
        address = machine.image[0] + 48
    else:
        address = where if isinstance(where, int) else digits.piece(where) + 32
    s = Script().write("irq_enable", FAILED)
    machine.submit(s, 0, 0)
    machine.enable(s, ready=False).interrupt()
    if place == "program":
        s.wait(2000)
    else:
        s.poll("completed", 1)
    s.read("status").read("irq_status").error("first").read("completed")
    s.soft_reset().interrupt(0).error("cleared")
    digits.good(s, 3, 1)
    out = machine.run(s, err_addr=address, err_resp=resp, err_write=False, err_count=1)
    assert out.error("first") == (registers.Error.READ, address, resp)
    assert out.values["irq_status"] & FAILED and out.values["status"] & ERROR
    assert out.error("cleared") == (0, 0, 0)
    if place == "program":
        assert not out.values["status"] & READY and out.values["completed"] == 0 and out.untouched(0)
    digits.check(out, {1: 3})


def test_read_error_on_each_beat_of_a_burst(digits):
    base = digits.piece("fc1:weights") // 256 * 256 + 256
    for beat in range(16):
        s = digits.machine.enable(Script())
        digits.machine.submit(s, 1, 0).poll("completed", 1).error("first").soft_reset()
        digits.good(s, 2, 1)
        out = digits.machine.run(s, err_addr=base + 16 * beat, err_resp=DECERR, err_write=False, err_count=1)
        assert out.error("first") == (registers.Error.READ, base + 16 * beat, DECERR)
        digits.check(out, {1: 2})


@pytest.mark.parametrize("resp", [SLVERR, DECERR])
def test_write_error(digits, resp):
    """Code 2 with the burst's address; a later error (a full queue) does not replace it."""
    machine = digits.machine
    s = machine.enable(Script().write("irq_enable", IMAGE_DONE | FAILED))
    machine.submit(s, 0, 0).poll("completed", 1).interrupt()
    for _ in range(CONFIG.job_depth + 1):
        s.write("job_submit", 1)
    s.read("irq_status").error("first").soft_reset()
    digits.good(s, 4, 5)
    out = machine.run(s, err_addr=machine.result[0], err_resp=resp, err_read=False, err_count=1)
    assert out.error("first") == (registers.Error.WRITE, machine.result[0], resp)
    assert out.values["irq_status"] == IMAGE_DONE | FAILED
    digits.check(out, {5: 4})


def test_addresses_outside_the_memory(digits):
    """A job that points nowhere: DECERR with the 64-bit address of its first beat."""
    machine, nowhere = digits.machine, 0x7_0000_0000
    s = machine.enable(Script())
    machine.aim(s, 0, 0).write64("job_image", nowhere).write("job_submit", 1).poll("completed", 1).error("image")
    s.soft_reset()
    machine.enable(s)
    machine.aim(s, 0, 0).write64("job_result", nowhere).write("job_submit", 1).poll("completed", 1).error("result")
    s.soft_reset()
    digits.good(s, 5, 1)
    out = machine.run(s)
    assert out.error("image") == (registers.Error.READ, nowhere, DECERR)
    assert out.error("result") == (registers.Error.WRITE, nowhere, DECERR)
    digits.check(out, {1: 5})


# ---- resets in the middle


def halfway(cycles, part: float) -> int:
    """Cycles to wait after a submit to be at this part of an image."""
    return int((cycles[1] - cycles[0]) * part)


@pytest.mark.parametrize("way", ["soft reset", "disable", "aresetn"])
@pytest.mark.parametrize("part", [0.001, 0.03, 0.2, 0.45, 0.7, 0.95, 0.995, 1.3])
def test_reset_in_the_middle(digits, cycles, way, part):
    """Two images queued, the machine taken down at this part of the first; another image afterwards is right."""
    machine = digits.machine
    s = machine.enable(Script())
    machine.submit(s, 0, 0)
    machine.submit(s, 1, 1).wait(halfway(cycles, part))
    if way == "soft reset":
        s.write("control", ENABLE | SOFT_RESET).poll("control", 0)
    elif way == "disable":
        s.disable()
    else:
        s.reset()
    s.read("status").read("job_free").read("completed").read("error_code")
    digits.good(s, 7, 2)
    machine.submit(s, 8, 3).poll("completed", 2)
    out = machine.run(s, jitter=30, stall_r=30)
    assert [out.values[n] for n in ("status", "job_free", "completed", "error_code")] == [0, CONFIG.job_depth, 0, 0]
    digits.check(out, {2: 7, 3: 8})
    assert out.untouched(1) or part > 1


@pytest.mark.parametrize("wait", [0, 3, 40, 300])
def test_soft_reset_while_the_program_loads(digits, wait):
    s = digits.machine.enable(Script(), ready=False).wait(wait).soft_reset()
    digits.good(s, 6, 0)
    out = digits.machine.run(s, latency=200, jitter=50)
    digits.check(out, {0: 6})


SEEDS = [*range(6), *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(6, 150))]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_resets(digits, seed):
    """Jobs, then up to three resets of any kind at any time, with or without jobs between, under random stalls."""
    rng, machine, s = random.Random(seed), digits.machine, Script()
    early = rng.random() < 0.5
    for step in ("jobs", "enable") if early else ("enable", "jobs"):
        if step == "enable":
            machine.enable(s, ready=rng.random() < 0.7)
        else:
            for i in range(rng.randint(1, CONFIG.job_depth)):
                machine.submit(s, i, i)
    for _ in range(rng.randint(1, 3)):
        s.wait(rng.randint(0, rng.choice([100, 3000, 30000])))
        way = rng.choice(["soft", "hard", "disable"])
        if way == "soft":
            s.write("control", rng.choice([0, ENABLE]) | SOFT_RESET).poll("control", 0)
        elif way == "hard":
            s.reset(rng.choice([1, 2, 8]))
        else:
            s.disable()
        if rng.random() < 0.5:
            machine.enable(machine.submit(s, 4, 9), ready=rng.random() < 0.7)
    s.soft_reset()
    images = rng.sample(range(IMAGES), 3)
    machine.enable(s)
    for slot, image in enumerate(images, 5):
        machine.submit(s, image, slot)
    s.poll("completed", 3).read("error_code")
    stalls = {f"stall_{channel}": rng.choice([0, 100, 240]) for channel in ("ar", "r", "aw", "w", "b")}
    timing = dict(latency=rng.choice([1, 20, 100, 400]), jitter=rng.choice([0, 10, 300]), bandwidth=rng.choice([2, 16]))
    out = machine.run(s, seed=seed, **timing, **stalls)
    digits.check(out, dict(enumerate(images, 5)))
    assert out.values["error_code"] == 0
