"""The emitted `tiny` RTL with the shipped digits network: job queue, interrupts, bad programs, watchdog."""

import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.registers import Error
from vitforge_sim.run.machine import ACTIVE, BUSY, ENABLE, ERROR, FAILED, IMAGE_DONE, READY, SOFT_RESET, Script

CONFIG = get_config("tiny")
DEPTH = CONFIG.job_depth
HOLD = (1 << CONFIG.watchdog_bits) + 50_000  #: cycles without an answer that the watchdog notices


def test_submit_while_busy_queues(digits):
    """Jobs queued before enabling, and one by one while images run, in another order of images."""
    machine, order = digits.machine, [3, 1, 4, 1, 5, 9, 2, 6]
    s = Script()
    for slot, image in enumerate(order):
        if slot == 2:
            machine.enable(s)
        if slot >= DEPTH:
            s.poll("completed", slot - DEPTH + 1)
        machine.submit(s, image, slot)
    s.read("status").poll("completed", len(order)).read("error_code")
    out = machine.run(s)
    assert out.values["status"] == BUSY | READY | ACTIVE and out.values["error_code"] == 0
    digits.check(out, dict(enumerate(order)))


@pytest.mark.parametrize("enabled", [False, True])
def test_submit_to_a_full_queue(digits, enabled):
    """Code 3 with the refused job's image; the jobs in the queue are done, none is lost, bases do not advance."""
    machine = digits.machine
    s = Script().write("irq_enable", FAILED)
    machine.aim(s, 0, 0)
    if enabled:
        machine.enable(s)
    for _ in range(DEPTH):
        s.write("job_submit", 1)
    s.read("job_free").write("job_submit", 1).interrupt().error("full").read("job_image_lo")
    if not enabled:
        machine.enable(s)
    s.poll("completed", DEPTH).read("irq_status", "irq").write("irq_status", FAILED).interrupt(0).read("status")
    s.write("job_submit", 1).poll("completed", DEPTH + 1).soft_reset()
    digits.good(s, 9, 6)
    out = machine.run(s)
    assert out.values["job_free"] == 0
    assert out.error("full") == (Error.QUEUE_FULL, machine.image[DEPTH], 0)
    assert out.values["job_image_lo"] == machine.image[DEPTH]
    assert out.values["irq"] & FAILED and out.values["status"] & ERROR
    digits.check(out, {i: i for i in range(DEPTH + 1)} | {6: 9})
    assert out.untouched(DEPTH + 1)


def test_strides_of_jobs(digits):
    """Stride 0 repeats an image; strides are unsigned and carry into the upper half; results have their own."""
    machine = digits.machine
    s = machine.aim(machine.enable(Script()), 5, 4)
    s.write("job_image_stride", 0).write("job_submit", 1).write("job_submit", 1).poll("completed", 2)
    machine.aim(s, 2, 6)
    far = 0xFFFF_F000
    s.write("job_image_stride", far).write("job_submit", 1)
    s.read("job_image_lo").read("job_image_hi").read("job_result_lo")
    out = machine.run(s.poll("completed", 3))
    assert out.values["job_image_lo"] | out.values["job_image_hi"] << 32 == machine.image[2] + far
    assert out.values["job_result_lo"] == machine.result[7]
    digits.check(out, {4: 5, 5: 5, 6: 2})


def test_an_interrupt_per_image(digits):
    """Each image raises the line until its bit is cleared with 1; writing 0, or another bit, clears nothing."""
    machine = digits.machine
    s = machine.enable(Script().write("irq_enable", IMAGE_DONE))
    for i in range(3):
        machine.submit(s, i, i).interrupt().read("completed", f"completed{i}").read("irq_status", f"irq{i}")
        s.write("irq_status", 0).write("irq_status", FAILED).interrupt(1).read("irq_status", f"kept{i}")
        s.write("irq_status", IMAGE_DONE).interrupt(0).read("irq_status", f"cleared{i}")
    s.write("irq_enable", 0)
    machine.submit(s, 3, 3).poll("completed", 4).interrupt(0).read("irq_status")
    s.write("irq_enable", IMAGE_DONE).interrupt(1)  # what was pending shows as soon as it is enabled
    out = machine.run(s)
    for i in range(3):
        assert [out.values[f"{n}{i}"] for n in ("completed", "irq", "kept", "cleared")] == [i + 1, 1, 1, 0]
    assert out.values["irq_status"] == IMAGE_DONE
    digits.check(out, {i: i for i in range(4)})


# ---- programs


BAD = ["magic", "hash", "instruction", "truncated", "header only", "too short", "too long", "nothing there"]


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_program_does_not_run(digits, fault):
    """An error with the program's address, no job starts; after a soft reset the good program runs."""
    machine = digits.machine
    program = {"magic": 1, "hash": 2, "instruction": 3}.get(fault, 0)
    code = {"hash": Error.BUILD} | dict.fromkeys(("instruction", "header only"), Error.CHECKSUM)
    instruction = CONFIG.instruction_beats
    beats = {
        "truncated": machine.beats - 1, "header only": instruction, "too short": instruction - 1,
        "too long": CONFIG.program_rows + 1,
    }.get(fault, machine.beats)  # fmt: skip
    s = Script().write("irq_enable", FAILED)
    machine.submit(s, 0, 0)
    machine.enable(s, program, beats, ready=False)
    if fault == "nothing there":  # empty memory: no magic
        s.disable().write64("program", 1 << 19)
        machine.submit(s, 0, 0).write("control", ENABLE)
    s.interrupt().error("bad").read("status").wait(3000).read("completed")
    s.write("snapshot", 1).read("busy_mat_lo").soft_reset()
    digits.good(s, 8, 1)
    out = machine.run(s)
    address = 1 << 19 if fault == "nothing there" else machine.program[program]
    assert out.error("bad") == (code.get(fault, Error.PROGRAM), address, 0)
    assert not out.values["status"] & READY and out.values["status"] & ERROR
    assert out.values["completed"] == out.values["busy_mat_lo"] == 0 and out.untouched(0)
    digits.check(out, {1: 8})


def test_another_program_after_disabling(digits):
    """Disable, then a bad program, then the good one again, without soft reset in between: the error stays latched."""
    machine = digits.machine
    s = digits.good(Script(), 0, 0)
    s.disable()
    machine.enable(s, program=1, ready=False).poll("error_code", Error.PROGRAM)
    s.write("control", 0)
    machine.submit(machine.enable(s), 1, 1).poll("completed", 1).error("still")
    out = machine.run(s)
    assert out.error("still") == (Error.PROGRAM, machine.program[1], 0)
    digits.check(out, {0: 0, 1: 1})


# ---- watchdog


@pytest.mark.parametrize("part", ["load", 0.5, *(pytest.param(p, marks=pytest.mark.slow) for p in (0.02, 0.99))])
def test_watchdog(digits, cycles, part):
    """A memory that answers nothing for longer than the watchdog: code 5 and the interrupt, and a soft reset that ends
    as soon as the memory has answered what is outstanding; then a good run."""
    machine = digits.machine
    s = Script().write("irq_enable", FAILED)
    machine.submit(s, 0, 0)
    machine.enable(s, ready=False).interrupt().error("hang")
    s.write("control", ENABLE | SOFT_RESET).read("control").poll("control", 0)
    ready = len(s) - 1
    digits.good(s, 2, 1)
    start, end = cycles
    at = start // 2 if part == "load" else int(start + (end - start) * part)
    out = machine.run(s, hold_from=at, hold_cycles=HOLD)
    assert out.error("hang") == (Error.WATCHDOG, 0, 0)
    assert out.values["control"] == ENABLE | SOFT_RESET and out.bench.events[ready].cycle > at + HOLD
    digits.check(out, {1: 2})


def test_watchdog_lets_a_slow_memory_work(digits, cycles):
    """Shorter pauses than the watchdog are no error."""
    s = digits.good(Script(), 1, 0)
    out = digits.machine.run(s, hold_from=cycles[0] + 100, hold_cycles=HOLD - 150_000)
    assert out.bench.cycles > HOLD - 150_000
    digits.check(out, {0: 1})
