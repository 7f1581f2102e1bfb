"""The Python driver, from its wheel and unmodified, on the generated RTL: golden logits, every fault as what it is."""

import copy
import subprocess
import sys

import numpy as np
import pytest

from vitforge_sim.run.link import Memory, System


@pytest.fixture
def record(driver, model):
    return driver.Record.load(model.folder)


@pytest.fixture
def machine(driver, link, memory, system, record):
    return driver.Accelerator(link, memory, system, record)


def right(machine, model, images=(0, 1, 2)):
    logits = machine.run([model.pixels[i] for i in images])
    assert np.array_equal(logits, model.stored[list(images)] * machine.record.output["scale"])


def test_wheel_needs_numpy_alone(wheel, wheel_names):
    assert sum(n.endswith(".py") for n in wheel_names) >= 8
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); import vitforge_driver\n"
        "names = {n.split('.')[0] for n in sys.modules}\n"
        "print(sorted(names & {'torch', 'amaranth', 'vitforge', 'vitforge_hw', 'PIL'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_layouts(driver, model, record):
    """The driver's bytes are the compiler's; pixels from files too."""
    for pixels, job in zip(model.pixels, model.jobs):
        assert driver.pack_image(pixels, record) == job
    with pytest.raises(ValueError, match="image: must have shape"):
        driver.pack_image(model.pixels[0][1:], record)
    with pytest.raises(ValueError, match="result: must have"):
        driver.unpack_logits(b"123", record)


def test_golden_logits(machine, model):
    """Three images, twice: a job's slots are used again; statuses, counters and clock."""
    machine.start()
    right(machine, model)
    right(machine, model, (2, 0, 1))
    status = machine.status()
    assert status["completed"] == 6 and status["errors"] == [] and status["done_count"] == 0
    counters = machine.counters()
    assert counters["cycles"] > counters["busy_mat"] > 0
    machine.stop()
    machine.start()
    right(machine, model, (1,))


@pytest.mark.parametrize("section, name, value", [("output", "scale", 0.5), ("output", "zero_point", 3),
                                                  ("input", "scale", 2.0), ("input", "zero_point", -100)])  # fmt: skip
def test_another_record_gives_other_logits(driver, link, memory, system, record, model, section, name, value):
    """The record is all that the driver knows."""
    data = copy.deepcopy(record.data)
    data[section][name] = value
    machine = driver.Accelerator(link, memory, system, driver.Record(data, record.memory_image))
    machine.start()
    logits = machine.run(model.pixels)
    golden = model.stored * record.output["scale"]
    assert not np.allclose(logits, golden)
    if section == "output":
        want = {"scale": model.stored * 0.5, "zero_point": (model.stored - 3) * record.output["scale"]}[name]
        assert np.array_equal(logits, want)


def test_clock(machine, model):
    """Set, read back, and measured against the accelerator's cycle counter."""
    assert machine.set_clock(200) == pytest.approx(187.5)  # 1500 / 8
    machine.start()
    assert machine.measure_clock(1e-4) == pytest.approx(187.5, rel=0.01)
    assert machine.set_clock(100) == 100
    assert machine.measure_clock(1e-4) == pytest.approx(100, rel=0.01)
    right(machine, model, (0,))


# ---- faults


def test_wrong_build_hash(driver, link, memory, system, record):
    """Refused before anything is written."""
    for name, register in (("build_hash", "build_hash"), ("config_hash", "config_hash"), ("version", "version")):
        data = copy.deepcopy(record.data)
        data["hardware"][name] ^= 1
        with pytest.raises(driver.MismatchError, match=rf"hardware: {register} must be 0x"):
            driver.Accelerator(link, memory, system, driver.Record(data, record.memory_image))


def test_wrong_memory_image(driver, machine, model, record):
    """The driver's own checks, then the hardware's on the same images; the next good run is right."""
    good = record.memory_image
    weights = len(good) - len(good) // 3
    for place, driver_says, hardware_says in (
        (1, "memory image: magic", "program"), (6, "memory image: config_hash", "build"),
        (10, "memory image: build_hash", "build"), (7 * 64 + 40, "SHA-256", "checksum"), (weights, "SHA-256", None),
    ):  # fmt: skip
        bad = bytearray(good)
        bad[place] ^= 4
        record.memory_image = bytes(bad)
        with pytest.raises(driver.MismatchError, match=driver_says):
            machine.start()
        if hardware_says:
            with pytest.raises(driver.HardwareError, match="program refused") as caught:
                machine.load(bytes(bad))
            assert caught.value.names == [hardware_says]
        else:  # weights: the job that uses them
            machine.load(bytes(bad))
            machine.submit(model.pixels[:1])
            with pytest.raises(driver.JobError, match="loaded data differ") as caught:
                machine.wait()
            assert caught.value.names == ["checksum"]
        machine.reset()
        record.memory_image = good
        machine.start()
        right(machine, model, (1,))
        machine.stop()


@pytest.mark.parametrize("response", [2, 3])
def test_axi_error(driver, machine, model, link, response):
    """A read of the image is answered with an error: that job fails, with the address; the next two are right."""
    machine.start()
    machine.submit([model.pixels[0]])
    address = machine._slots[0]["image"].device_address
    machine.wait()
    for _ in range(machine.depth - 1):  # until the first slot is the next one
        machine.submit([model.pixels[1]])
        machine.wait()
    link.fault(address, 1, response)
    first = machine.submit([model.pixels[0]])
    second = machine.submit([model.pixels[2]])
    with pytest.raises(driver.JobError, match=f"job {first.number} failed: read .*AXI error") as caught:
        machine.wait()
    assert (caught.value.names, caught.value.address, caught.value.response) == (["read"], address, response)
    assert machine.wait() is second
    assert np.array_equal(second.logits[0], model.stored[2] * machine.record.output["scale"])
    right(machine, model, (0,))
    link.fault(machine._slots[0]["result"].device_address, 1, response)
    with pytest.raises(driver.JobError, match="write .*AXI error"):
        machine.run([model.pixels[0]] * machine.depth)
    right(machine, model, (1, 0))  # of that call nothing is left
    machine.reset()
    machine.start()
    right(machine, model, (2,))


def test_start_while_another_program_runs(driver, link, memory, system, models, another):
    """Another model's program is really loaded, whoever runs; jobs that were queued are dropped."""
    model = models["digits_vit"]
    first, second = (driver.Record.load(folder) for folder in (model.folder, another))
    machine = driver.Accelerator(link, memory, system, first)
    with pytest.raises(ValueError, match=r"submit: the accelerator must be started \(start\), and is not"):
        machine.submit(model.pixels[:1])
    machine.start()
    right(machine, model)
    machine.submit(model.pixels[:1])
    other = driver.Accelerator(link, memory, system, second)
    other.start()
    assert not np.array_equal(other.run(model.pixels), model.stored * first.output["scale"])
    machine.start()
    right(machine, model)
    for i in range(3):
        machine.submit([model.pixels[i]])
    machine.stop()
    with pytest.raises(ValueError, match="wait: no job was submitted"):
        machine.wait()
    with pytest.raises(ValueError, match="must be started"):
        machine.submit(model.pixels[:1])
    machine.start()
    right(machine, model, (1,))


def test_hang(driver, machine, model, link):
    """The memory stops answering: a time-out with the state decoded, the watchdog among it; a reset recovers."""
    machine.start()
    machine.write("watchdog", 2000)
    link.hold(30_000)
    machine.submit([model.pixels[0]])
    with pytest.raises(driver.TimeoutWithStatus, match="job 0 is not done; busy 1, ready 1") as caught:
        machine.wait(timeout=5e-5)
    assert caught.value.names == ["watchdog"] and "errors ['watchdog']" in str(caught.value)
    with pytest.raises(driver.TimeoutWithStatus, match="soft reset does not end"):
        machine.reset(timeout=2e-5)
    link.wait(30_000)
    machine.reset()
    machine.start()
    right(machine, model)


@pytest.mark.parametrize("wait", [900, *(pytest.param(w, marks=pytest.mark.slow) for w in (200, 2500))])
def test_aresetn_with_reads_in_flight(driver, models, slow_link, wait):
    """Late answers to reads from before it (error stray) keep nobody from starting again."""
    model = models["digits_vit"]
    machine = driver.Accelerator(slow_link, Memory(slow_link), System(slow_link), driver.Record.load(model.folder))
    machine.start()
    machine.submit([model.pixels[0]])
    slow_link.wait(wait)
    slow_link.reset(8)
    machine.start()
    right(machine, model, (1, 2))
    assert machine.status()["errors"] == []


def test_logits_a_job_later(driver, link, memory, system, deferred):
    """Each job with its own logits, in order; what is owed is said; a failed job takes the one before with it."""
    machine = driver.Accelerator(link, memory, system, driver.Record.load(deferred.folder))
    machine.start()
    right(machine, deferred, (0, 1, 2))
    golden, pixels = deferred.stored * machine.record.output["scale"], deferred.pixels
    pairs = ((0, 1), (2, 0), (1, 1))
    jobs = [machine.submit([pixels[i] for i in pair]) for pair in pairs]
    for job, pair in zip(jobs[:2], pairs):
        assert machine.wait() is job and np.array_equal(job.logits, golden[list(pair)])
    with pytest.raises(ValueError, match=rf"logits of job {jobs[2].number} come with the next job: submit one"):
        machine.wait()
    last = machine.submit([pixels[0]] * 2)
    assert machine.wait() is jobs[2] and np.array_equal(jobs[2].logits, golden[[1, 1]])
    link.fault(machine._slots[machine._free[0]]["image"].device_address, 1, 2)
    failing, after, end = (machine.submit([pixels[i]] * 2) for i in (1, 2, 0))
    with pytest.raises(driver.JobError, match=f"job {failing.number} failed"):
        machine.wait()
    assert machine.wait() is after and np.array_equal(after.logits, golden[[2, 2]])
    assert last.logits is failing.logits is end.logits is None


def test_full_queue(driver, machine, model):
    """One job more than there are slots is refused, and changes nothing."""
    machine.start()
    jobs = [machine.submit([model.pixels[i % 3]]) for i in range(machine.depth)]
    with pytest.raises(driver.QueueFullError, match=f"queue full: {machine.depth} jobs"):
        machine.submit([model.pixels[0]])
    for i, job in enumerate(jobs):
        assert machine.wait() is job
        assert np.array_equal(job.logits[0], model.stored[i % 3] * machine.record.output["scale"])
    right(machine, model)


def test_a_driver_that_does_not_flush_is_seen(driver, machine, model, monkeypatch):
    """The bench's caches are real: without the flush the accelerator computes something else."""
    machine.start()
    right(machine, model, (0,))
    for slot in machine._slots:
        slot["image"].flush = lambda: None
    assert not np.array_equal(machine.run([model.pixels[1]]), model.stored[[1]] * machine.record.output["scale"])
