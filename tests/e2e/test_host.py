"""The emitted `tiny` RTL as a real system treats it: memories that outlive aresetn, answers out of order, drivers that
write at the wrong moment; what happened is reported, and the next good run is right.
"""

import random

import numpy as np
import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.registers import Error, field
from vitforge_sim.run.machine import ENABLE, FAILED, IMAGE_DONE, SOFT_RESET, Script

CONFIG = get_config("tiny")
DEPTH = CONFIG.job_depth
SLVERR = 2


def bit(error: Error) -> int:
    return 1 << error


# ---- addresses


@pytest.mark.parametrize("seed", range(2))
def test_anywhere_in_64_bits_of_address(digits, seed):
    """The DRAM begins at a random multiple of 4096, bursts have any attributes: images, and where a read error is."""
    rng = random.Random(seed)
    machine = digits.machine.at(rng.getrandbits(64) & -4096 & ~(1 << 63 >> seed))
    attributes = 0x5AA5 ^ 0xFFFF * seed
    s = machine.enable(Script().write("axi_attributes", attributes))
    for slot, image in enumerate((4, 1)):
        machine.submit(s, image, slot).poll("completed", slot + 1)
    out = machine.run(s.read("errors"), seed=seed, latency=rng.randrange(20, 200))
    assert out.bench.attributes == {"ar": {attributes & 255}, "aw": {attributes >> 8}}
    digits.check(out, {0: 4, 1: 1})
    assert out.values["errors"] == 0 and out.untouched(2)
    bad = machine.image[3] + 16 * rng.randrange(8)
    s = machine.submit(machine.enable(Script()), 3, 0).poll("completed", 1).error("bad")
    assert machine.run(s, err_addr=bad, err_resp=SLVERR, err_write=False).error("bad") == (Error.READ, bad, SLVERR)


# ---- aresetn of the fabric alone


@pytest.mark.parametrize("cycles", [1, 8, 64])
@pytest.mark.parametrize("wait", [30, 900, 2500, 7900, *(pytest.param(w, marks=pytest.mark.slow) for w in (300, 5000))])
@pytest.mark.parametrize("latency", [100, 400])
def test_aresetn_with_reads_in_flight(digits, cycles, wait, latency):
    """The memory answers what was asked before: dropped and reported; the next images are right, soft reset ends."""
    machine = digits.machine
    s = machine.enable(Script(), ready=wait > 400)
    machine.submit(s, 0, 0).wait(wait).reset(cycles)
    machine.enable(s)
    machine.submit(s, 3, 1).poll("completed", 1).read("errors").write("errors", bit(Error.STRAY))
    s.read("errors", "after").soft_reset()
    digits.good(s, 5, 2)
    out = machine.run(s, latency=latency, keep_reset=True)
    digits.check(out, {1: 3, 2: 5})
    assert out.values["errors"] in (0, bit(Error.STRAY)) and out.values["after"] == 0
    if wait < 1000:  # weights are under way
        assert out.values["errors"] == bit(Error.STRAY)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_aresetn_while_results_are_written(digits, cycles, keep, seed):
    """Slow writes, cut at a random beat: the memory gets whole bursts, or forgets them; nothing else is overwritten."""
    machine, rng = digits.machine, random.Random(seed)
    s = machine.enable(Script())
    machine.submit(s, 0, 0).wait(cycles[1] - cycles[0] - 30 + rng.randrange(120)).reset(rng.choice([1, 3, 20]))
    machine.enable(s)
    machine.submit(s, 3, 1).poll("completed", 1)
    out = machine.run(s, seed=seed, keep_reset=keep, stall_aw=200, stall_w=240, stall_b=200)
    digits.check(out, {1: 3})
    assert out.untouched(2)


@pytest.mark.parametrize("seed", range(4))
def test_reads_answered_out_of_order(digits, seed):
    """Beats of both queues in any order."""
    s = digits.machine.aim(digits.machine.enable(Script()), 0, 0)
    for _ in range(3):
        s.write("job_submit", 1)
    s.poll("completed", 3).read("error_code")
    out = digits.machine.run(s, seed=seed, interleave=True, jitter=200, latency=[20, 100][seed % 2], stall_r=60 * seed)
    digits.check(out, {i: i for i in range(3)})
    assert out.values["error_code"] == 0


# ---- addresses


@pytest.mark.parametrize("what, number", [("image", 0), ("result", 1)])
def test_bases_that_are_not_aligned_are_refused(digits, what, number):
    machine = digits.machine
    s = machine.aim(machine.enable(Script()), 0, 0)
    for i, offset in enumerate((1, 16, 256, 2048)):
        base = (machine.image if what == "image" else machine.result)[0] + offset
        s.write64(f"job_{what}", base).write("job_submit", 1).error(f"odd{i}").read("job_number", f"n{i}")
        s.write("errors", bit(Error.ALIGNMENT)).read("error_code", f"cleared{i}")
    machine.submit(s, 2, 4).poll("completed", 1).read("status").read("errors")
    out = machine.run(s)
    for i, offset in enumerate((1, 16, 256, 2048)):
        base = (machine.image if what == "image" else machine.result)[0] + offset
        assert out.error(f"odd{i}") == (Error.ALIGNMENT, base, number)
        assert out.values[f"n{i}"] == out.values[f"cleared{i}"] == 0
    assert out.values["errors"] == 0 and out.untouched(0)
    digits.check(out, {4: 2})


@pytest.mark.parametrize("what, number", [("image", 2), ("result", 3)])
def test_strides_that_are_not_aligned_are_refused(digits, what, number):
    machine = digits.machine
    s = machine.aim(machine.enable(Script()), 0, 0)
    s.write(f"job_{what}_stride", 4096 + 128).write("job_submit", 1).error("odd")
    s.read("job_image_lo").read("job_number")
    out = machine.run(s)
    assert out.error("odd") == (Error.ALIGNMENT, 4096 + 128, number)
    assert out.values["job_image_lo"] == machine.image[0] and out.values["job_number"] == 0


@pytest.mark.parametrize("offset", [16, 256, 2048])
def test_a_program_that_is_not_aligned_is_refused(digits, offset):
    machine = digits.machine
    s = Script().write64("program", machine.program[0] + offset).write("program_beats", machine.beats)
    s.write("irq_enable", FAILED).write("control", ENABLE).interrupt().error("odd").soft_reset()
    digits.good(s, 1, 0)
    out = machine.run(s)
    assert out.error("odd") == (Error.ALIGNMENT, machine.program[0] + offset, 0)
    digits.check(out, {0: 1})


def test_the_program_may_be_set_while_jobs_run(digits):
    """It is taken over by the next enable."""
    machine = digits.machine
    s = machine.enable(Script())
    machine.submit(s, 0, 0).wait(300).write64("program", 1 << 19).write("program_beats", 1)
    machine.submit(s, 1, 1).poll("completed", 2).read("error_code").disable()
    s.write("control", ENABLE).poll("error_code", Error.PROGRAM).error("next")
    out = machine.run(s)
    assert out.values["error_code"] == 0 and out.error("next") == (Error.PROGRAM, 1 << 19, 0)
    digits.check(out, {0: 0, 1: 1})


# ---- control


@pytest.mark.parametrize("values", [(1,), (0,), (2,), (0, 1), (1, 0, 3)])
def test_soft_reset_runs_to_its_end(digits, values):
    """Whatever is written to control meanwhile; the error that was latched is gone at the end."""
    machine = digits.machine
    s = machine.aim(machine.enable(Script()), 0, 0)
    s.write("job_image_stride", 1).write("job_submit", 1).read("error_code", "latched")
    machine.submit(s, 0, 0)
    machine.submit(s, 1, 1).wait(300).write("control", ENABLE | SOFT_RESET)
    for i, value in enumerate(values):
        s.write("control", value).read("control", f"control{i}").read("status", f"status{i}")
    s.poll("control", 0).read("error_code").read("status").read("job_free")
    digits.good(s, 3, 2)
    out = machine.run(s, latency=300)
    stopping = 1 << field("status", "stopping")[0]
    for i in range(len(values)):
        assert out.values[f"control{i}"] & SOFT_RESET and out.values[f"status{i}"] & stopping
    assert out.values["latched"] == Error.ALIGNMENT
    assert [out.values[n] for n in ("error_code", "status", "job_free")] == [0, 0, DEPTH]
    digits.check(out, {2: 3})


@pytest.mark.parametrize("value", [0, SOFT_RESET])
def test_a_drain_that_does_not_end_is_reported(digits, cycles, value):
    """The memory stops answering: code 11 and the interrupt after the watchdog's period; it ends when it answers."""
    machine = digits.machine
    s = machine.enable(Script().write("watchdog", 3000).write("irq_enable", FAILED))
    machine.submit(s, 0, 0).wait(200).write("control", value).interrupt().error("drain").read("control", "still")
    s.read("status", "stopping").poll("status", 0, 1 << field("status", "stopping")[0]).read("errors").soft_reset()
    digits.good(s, 3, 1)
    hold = cycles[0] + 150
    out = machine.run(s, hold_from=hold, hold_cycles=20_000)
    assert out.error("drain") == (Error.DRAIN, 0, 0) and out.values["still"] == value
    assert out.values["errors"] == (0 if value else bit(Error.DRAIN))
    digits.check(out, {1: 3})


def test_submits_while_stopping_are_refused(digits):
    """None is accepted and dropped."""
    machine = digits.machine
    s = machine.aim(machine.enable(Script()), 0, 0)
    s.write("job_submit", 1).wait(300).write("control", 0)
    for i in range(6):
        s.write("job_submit", 1).read("error_code", f"code{i}").read("errors", f"errors{i}")
    s.error("refused").read("job_image_lo").poll("status", 0, 1 << field("status", "stopping")[0])
    s.write("errors", bit(Error.STOPPED)).read("job_number").read("job_free").write64("job_image", machine.image[1])
    s.write("job_submit", 1).read("job_number", "taken")
    machine.enable(s).poll("completed", 1).read("error_code", "end")
    out = machine.run(s, latency=400)
    for i in range(6):
        assert out.values[f"code{i}"] == Error.STOPPED and out.values[f"errors{i}"] == bit(Error.STOPPED)
    assert out.error("refused") == (Error.STOPPED, machine.image[1], 0)
    assert out.values["job_image_lo"] == machine.image[1]
    assert [out.values[n] for n in ("job_number", "job_free", "taken", "end")] == [0, DEPTH, 1, 0]
    digits.check(out, {1: 1})


def test_watchdog_by_register(digits, cycles):
    machine = digits.machine
    s = machine.enable(Script().write("watchdog", 2000).write("irq_enable", FAILED))
    machine.submit(s, 0, 0).interrupt().error("hang").write("watchdog", 0).write("errors", bit(Error.WATCHDOG))
    s.write("irq_status", FAILED).poll("completed", 1).read("errors").read("done_errors")
    out = machine.run(s, hold_from=cycles[0] + 1000, hold_cycles=30_000)
    assert out.error("hang") == (Error.WATCHDOG, 0, 0)
    assert out.values["errors"] == 0 and out.values["done_errors"] == bit(Error.WATCHDOG)
    digits.check(out, {0: 0})


# ---- status of each job


def test_status_of_each_job(digits):
    """Which image failed, why, and how long each took; a later error raises the interrupt again."""
    machine = digits.machine
    s = machine.aim(machine.enable(Script().write("irq_enable", FAILED)), 0, 0)
    for _ in range(DEPTH):
        s.write("job_submit", 1)
    s.write("job_submit", 1).interrupt().write("irq_status", FAILED).interrupt(0).read("errors", "full")
    s.write("errors", bit(Error.QUEUE_FULL)).read("error_code", "free")
    s.interrupt().error("read").write("errors", bit(Error.READ)).poll("completed", DEPTH).read("done_count")
    for i in range(DEPTH):
        s.read("done_job", f"job{i}").read("done_errors", f"errors{i}").read("done_cycles", f"cycles{i}")
        s.write("done_pop", 1)
    s.read("done_count", "empty").read("done_job", "none").write("done_pop", 1).read("done_count", "still")
    s.read("errors")
    address = machine.image[2] + 64
    out = machine.run(s, err_addr=address, err_resp=SLVERR, err_write=False, err_count=1)
    v = out.values
    assert v["full"] == bit(Error.QUEUE_FULL) and v["free"] == 0
    assert out.error("read") == (Error.READ, address, SLVERR)
    assert [v[f"job{i}"] for i in range(DEPTH)] == list(range(DEPTH))
    assert [v[f"errors{i}"] for i in range(DEPTH)] == [bit(Error.READ) * (i == 2) for i in range(DEPTH)]
    assert v["done_count"] == DEPTH and v["empty"] == v["none"] == v["still"] == v["errors"] == 0
    took = [v[f"cycles{i}"] for i in range(DEPTH)]
    assert took[0] > took[1] > 1000 and abs(took[3] - took[1]) < 200
    digits.check(out, {i: i for i in range(DEPTH) if i != 2})
    want = digits.want[2]
    assert not np.array_equal(digits.build.logits(out.results[2].tobytes()), want), "the fault was seen"


def test_damaged_weights_are_reported_with_their_job(digits):
    """A weight that DRAM has lost: its job says so. (tests of the data themselves: test_negative_controls.py)"""
    machine = digits.machine
    address = digits.piece("fc1:weights")
    kept = machine.memory[address]
    machine.memory[address] ^= 0x10
    try:
        s = machine.enable(Script())
        machine.submit(s, 0, 0).poll("completed", 1).error("bad").read("done_errors")
        out = machine.run(s)
    finally:
        machine.memory[address] = kept
    assert out.error("bad") == (Error.CHECKSUM, machine.program[0], 1)
    assert out.values["done_errors"] == bit(Error.CHECKSUM)


def test_counters_at_one_moment(digits):
    """Cycles and busy counters of one snapshot fit together; 64 bits."""
    s = digits.machine.enable(Script())
    digits.machine.submit(s, 0, 0).wait(2000)
    for i in range(2):
        s.write("snapshot", 1)
        for name in ("cycles", "busy_mat", "stall_mat"):
            s.read(f"{name}_lo", f"{name}{i}").read(f"{name}_hi", f"{name}_hi{i}")
    out = digits.machine.run(s.poll("completed", 1))
    v = out.values
    between = out.bench.events[s.labels["cycles0"] - 1].cycle, out.bench.events[s.labels["cycles1"] - 1].cycle
    assert v["cycles1"] - v["cycles0"] == between[1] - between[0]
    assert 0 < v["busy_mat0"] <= v["busy_mat1"] < v["cycles1"]
    assert v["cycles_hi0"] == v["busy_mat_hi1"] == 0


HISTORIES = [*range(20), *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(20, 1000))]


@pytest.mark.parametrize("seed", HISTORIES)
def test_any_history(digits, seed):
    """Jobs, stalls, errors, refused submits, disables and resets of all kinds; then job(x) equals job(x) alone."""
    rng, machine, s = random.Random(seed), digits.machine, Script()
    keep = rng.random() < 0.5
    s.write("watchdog", rng.choice([500, 5000, 1 << 20])).write("irq_enable", rng.randrange(4))
    for _ in range(rng.randint(1, 4)):
        machine.enable(s, ready=rng.random() < 0.7)
        for i in range(rng.randint(0, DEPTH + 1)):
            machine.submit(s, rng.randrange(8), i)
        if rng.random() < 0.2:
            machine.aim(s, 0, 5).write64("job_image", machine.image[0] + 32).write("job_submit", 1)
        s.wait(rng.choice([1, rng.randrange(100), rng.randrange(3000), rng.randrange(12000)]))
        if rng.random() < 0.3:
            s.write("errors", rng.getrandbits(12)).write("irq_status", 3).write("done_pop", 1)
        way = rng.choice(["soft", "soft, disturbed", "disable", "aresetn", "aresetn"])
        if way == "soft":
            s.soft_reset()
        elif way == "soft, disturbed":
            s.write("control", SOFT_RESET).write("control", rng.randrange(2)).poll("control", 0)
        elif way == "disable":
            s.disable()
        else:
            s.reset(rng.choice([1, 2, 8, 64]))
            if rng.random() < 0.3:
                s.wait(rng.randrange(20)).reset(1)
    s.soft_reset().write("watchdog", 0)
    image = rng.choice([8, 9])
    digits.good(s, image, 9).read("done_errors").read("irq_status")
    stalls = {f"stall_{channel}": rng.choice([0, 100, 240]) for channel in ("ar", "r", "aw", "w", "b")}
    place = rng.choice([None, machine.image[rng.randrange(8)] + 64, machine.result[0]])
    out = machine.run(
        s, seed=seed, keep_reset=keep, interleave=rng.random() < 0.5, latency=rng.choice([1, 20, 100, 400]),
        jitter=rng.choice([0, 10, 300]), err_addr=place, err_resp=rng.choice([2, 3]), err_count=1, **stalls,
    )  # fmt: skip
    assert out.values["done_errors"] == 0 and out.values["irq_status"] & IMAGE_DONE
    if keep and out.values["good9"] == Error.STRAY:  # an answer of the time before aresetn came that late
        out.values["good9"] = 0
    digits.check(out, {9: image})
