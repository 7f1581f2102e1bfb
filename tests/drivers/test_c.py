"""The C driver, through gcc and unmodified, on the generated RTL: its struct vf_system is the simulation's bus, memory
and time. Golden logits, and every fault as what it is."""

import copy
import ctypes
import shutil
import subprocess
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_double, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path

import numpy as np
import pytest

from vitforge import package
from vitforge.package.model import HEADER, c_model
from vitforge_sim.run.link import Memory, System

DRIVERS = Path(package.__file__).parents[1] / "drivers"

OK, MISMATCH, REFUSED, QUEUE_FULL, JOB_FAILED, TIMEOUT, ARGUMENT = range(7)
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-fPIC")
SECOND = 1_000_000


class CBuffer(Structure):
    _fields_ = [("cpu", c_void_p), ("bus", c_uint64), ("bytes", c_size_t)]


READ = CFUNCTYPE(c_uint32, c_void_p, c_uint32)
WRITE = CFUNCTYPE(None, c_void_p, c_uint32, c_uint32)
SYNC = CFUNCTYPE(None, c_void_p, POINTER(CBuffer))
NOW = CFUNCTYPE(c_uint64, c_void_p)
WAIT = CFUNCTYPE(None, c_void_p, c_uint64)
CLOCK = CFUNCTYPE(c_uint32, c_void_p, c_uint32)


class CSystem(Structure):
    _fields_ = [("context", c_void_p), ("read", READ), ("write", WRITE), ("flush", SYNC), ("invalidate", SYNC),
                ("now_us", NOW), ("wait_us", WAIT), ("set_clock_khz", CLOCK)]  # fmt: skip


def library(folder, record):
    """The driver with this record as a shared library."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (DRIVERS / "c").iterdir():
        shutil.copy(path, folder)
    (folder / "vitforge_model.c").write_text(c_model(record))
    (folder / "vitforge_model.h").write_text(HEADER)
    sources = ["vitforge.c", "vitforge_layout.c", "vitforge_model.c"]
    command = ["gcc", *FLAGS, "-shared", *sources, "-o", "driver.so"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "driver.so"))


class Board:
    """The C driver on a simulated board."""

    def __init__(self, lib, model, link, memory, system):
        self.lib, self.model, self.link, self.memory, self.system = lib, model, link, memory, system
        self.buffers, self.flushes = {}, True
        calls = (
            READ(lambda _, offset: link.read(offset)), WRITE(lambda _, offset, value: link.write(offset, value)),
            SYNC(self._flush), SYNC(lambda _, b: self.buffers[b.contents.bus].invalidate()),
            NOW(lambda _: int(system.now() * SECOND)), WAIT(lambda _, us: system.wait(us / SECOND)), CLOCK(self._clock),
        )  # fmt: skip
        self.c_system = CSystem(None, *calls)
        self.device = ctypes.create_string_buffer(1 << 14)
        self.c_model = ctypes.addressof(ctypes.c_char.in_dll(lib, "vitforge_model"))
        for name in ("vf_start", "vf_load"):
            getattr(lib, name).argtypes = [c_void_p, POINTER(CBuffer), c_uint64]
        lib.vf_wait.argtypes = [c_void_p, c_void_p, c_uint64, POINTER(c_uint32)]
        lib.vf_buffers.argtypes = [c_void_p, c_uint32, CBuffer, CBuffer]
        for name in ("vf_stop", "vf_reset"):
            getattr(lib, name).argtypes = [c_void_p, c_uint64]
        self.slots = []

    def _flush(self, _, buffer):
        if self.flushes:
            self.buffers[buffer.contents.bus].flush()

    def _clock(self, _, khz):
        self.system.set_clock(khz / 1000)
        return int(self.system.get_clock() * 1000)

    def allocate(self, count):
        buffer = self.memory.allocate(count)
        self.buffers[buffer.device_address] = buffer
        return buffer, CBuffer(buffer.ctypes.data, buffer.device_address, count)

    def open(self):
        code = self.lib.vf_open(self.device, byref(self.c_system), c_void_p(self.c_model))
        if code == OK:
            record = self.model.record
            for i in range(4):
                pair = [self.allocate(record["job"][n]) for n in ("image_bytes", "result_bytes")]
                self.slots.append([b for b, _ in pair])
                assert self.lib.vf_buffers(self.device, i, pair[0][1], pair[1][1]) == OK
            self.image, self.c_image = self.allocate(record["memory"]["bytes"])
        return code

    def start(self, data=None, load=False, timeout=SECOND):
        data = data if data is not None else (self.model.folder / "memory.bin").read_bytes()
        self.image[: len(data)] = np.frombuffer(data, np.uint8)
        return (self.lib.vf_load if load else self.lib.vf_start)(self.device, byref(self.c_image), timeout)

    def submit(self, *images):
        pixels = np.stack([self.model.pixels[i] for i in images])
        return self.lib.vf_submit(self.device, c_void_p(pixels.ctypes.data), None)

    def wait(self, timeout=SECOND):
        """(result, logits, job)."""
        record = self.model.record
        logits, number = (c_double * (record["job"]["images"] * record["output"]["classes"]))(), c_uint32()
        code = self.lib.vf_wait(self.device, logits, timeout, byref(number))
        return code, np.array(logits), number.value

    def text(self, code):
        out = ctypes.create_string_buffer(1000)
        self.lib.vf_describe(self.device, code, out, c_size_t(1000))
        return out.value.decode()

    def right(self, *images):
        for i in images:
            assert self.submit(i) == OK
        for i in images:
            code, logits, _ = self.wait()
            assert code == OK, self.text(code)
            assert np.array_equal(logits, self.model.stored[i] * self.model.record["output"]["scale"])


@pytest.fixture(scope="session")
def libraries(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    return {name: library(folder / name, model.record) for name, model in models.items()}


@pytest.fixture
def board_c(libraries, model, link, memory, system):
    return Board(libraries[model.name], model, link, memory, system)


@pytest.fixture
def started(board_c):
    assert board_c.open() == OK
    assert board_c.start() == OK, board_c.text(REFUSED)
    return board_c


@pytest.mark.parametrize("compiler", [("gcc", *FLAGS), ("gcc", "-std=c99", "-O1", "-fanalyzer", "-Werror"),
                                      ("g++", "-xc++", "-fsyntax-only")])  # fmt: skip
def test_every_file_compiles_without_a_warning(tmp_path, compiler):
    files = sorted((DRIVERS / "c").glob("*.h" if "g++" in compiler else "*.c"))
    assert len(files) >= 3
    for path in files:
        out = [] if "g++" in compiler else ["-c", "-o", tmp_path / "x.o"]
        done = subprocess.run([*compiler, path, *out], capture_output=True, text=True)
        assert (done.returncode, done.stderr.replace(f"{path}:", "")) == (0, ""), path


def test_example_program(libraries, models, tmp_path):
    """vitforge_run links with every file and the model, and says what it lacks."""
    folder = Path(libraries["digits_vit"]._name).parent
    command = ["gcc", *FLAGS, *sorted(folder.glob("vitforge*.c")), "-o", tmp_path / "vitforge_run"]
    subprocess.run(command, check=True)
    run = lambda *argv: subprocess.run([tmp_path / "vitforge_run", *argv], capture_output=True, text=True)  # noqa: E731
    assert (run().returncode, run().stderr[:19]) == (2, "usage: vitforge_run")
    missing = run("/dev/uio_none", "udmabuf_none", "memory.bin", "image.raw")
    assert (missing.returncode, missing.stderr) == (1, "vitforge_run: /dev/uio_none, /dev/udmabuf_none or "
                                                   "/sys/class/u-dma-buf/udmabuf_none: No such file or directory\n")


def test_layouts(libraries, model):
    lib, record = libraries[model.name], model.record
    for pixels, job in zip(model.pixels, model.jobs):
        out = (c_uint8 * record["input"]["image_stride"])()
        address = ctypes.addressof(ctypes.c_char.in_dll(lib, "vitforge_model"))
        lib.vf_pack_image(c_void_p(address), c_void_p(np.ascontiguousarray(pixels).ctypes.data), out)
        assert bytes(out) == job


def test_golden_logits(started):
    started.right(0, 1, 2)
    started.right(2, 0, 1, 2)
    assert started.lib.vf_stop(started.device, SECOND) == OK
    assert started.start() == OK
    started.right(1)


@pytest.mark.parametrize("section, name, value", [("output", "scale", 0.5), ("output", "zero_point", 3),
                                                  ("input", "scale", 2.0)])  # fmt: skip
def test_another_record_gives_other_logits(tmp_path, model, link, memory, system, section, name, value):
    data = copy.deepcopy(model.record)
    data[section][name] = value
    board = Board(library(tmp_path / "c", data), model, link, memory, system)
    assert board.open() == OK and board.start() == OK and board.submit(0) == OK
    code, logits, _ = board.wait()
    golden = model.stored[0] * model.record["output"]["scale"]
    assert code == OK and not np.allclose(logits, golden)
    if section == "output":
        want = {"scale": model.stored[0] * 0.5, "zero_point": golden - 3 * model.record["output"]["scale"]}
        assert np.array_equal(logits, want[name])


def test_clock(board_c):
    assert board_c.open() == OK
    assert board_c.lib.vf_set_clock_khz(board_c.device, 200_000) == 187_500
    assert board_c.start() == OK
    board_c.right(0)


# ---- faults


@pytest.mark.parametrize("name", ["build_hash", "config_hash", "version", "masters"])
def test_wrong_build_hash(tmp_path, model, link, memory, system, name):
    data = copy.deepcopy(model.record)
    data["hardware"][name] ^= 4
    board = Board(library(tmp_path / "c", data), model, link, memory, system)
    assert board.open() == MISMATCH
    assert f"{name}: must be 0x{data['hardware'][name]:08x}, is 0x{model.record['hardware'][name]:08x}" in board.text(1)


def test_wrong_memory_image(started):
    good = (started.model.folder / "memory.bin").read_bytes()
    weights = len(good) - len(good) // 3
    for place, driver_says, hardware_says in (
        (1, "magic", "no program"), (6, "config_hash", "another configuration"),
        (10, "build_hash", "another configuration"), (7 * 64 + 40, "", "loaded data differ"), (weights, "", ""),
    ):  # fmt: skip
        bad = bytearray(good)
        bad[place] ^= 4
        assert started.lib.vf_stop(started.device, SECOND) == OK
        if driver_says:
            assert started.start(bytes(bad)) == MISMATCH
            assert f"memory image's {driver_says}: must be" in started.text(MISMATCH)
        code = started.start(bytes(bad), load=True)
        if hardware_says:
            assert code == REFUSED and hardware_says in started.text(code)
        else:
            assert code == OK and started.submit(0) == OK
            code = started.wait()[0]
            assert code == JOB_FAILED and "loaded data differ" in started.text(code)
        assert started.lib.vf_reset(started.device, SECOND) == OK
        assert started.start() == OK
        started.right(1)


def test_memory_image_of_another_model(models, libraries, link, memory, system, another):
    """The same shape, length and hashes of hardware: the CRC-32 tells them apart."""
    board = Board(libraries["digits_vit"], models["digits_vit"], link, memory, system)
    data = (another / "memory.bin").read_bytes()
    assert board.open() == OK and len(data) == board.model.record["memory"]["bytes"]
    assert board.start(data) == MISMATCH and "memory image's CRC-32: must be" in board.text(MISMATCH)
    assert board.start() == OK
    board.right(0)


@pytest.mark.parametrize("wait", [900, *(pytest.param(w, marks=pytest.mark.slow) for w in (200, 2500))])
def test_aresetn_with_reads_in_flight(models, libraries, slow_link, wait):
    """Late answers to reads from before it keep nobody from starting again."""
    board = Board(libraries["digits_vit"], models["digits_vit"], slow_link, Memory(slow_link), System(slow_link))
    assert board.open() == board.start() == board.submit(0) == OK
    slow_link.wait(wait)
    slow_link.reset(8)
    code = board.start()
    assert code == OK, board.text(code)
    board.right(1, 2)


def test_logits_a_job_later(tmp_path, deferred, link, memory, system):
    board = Board(library(tmp_path / "c", deferred.record), deferred, link, memory, system)
    assert board.open() == board.start() == OK
    golden = deferred.stored * deferred.record["output"]["scale"]
    pairs = ((0, 1), (2, 0), (1, 1))
    assert [board.submit(*pair) for pair in pairs] == [OK] * 3
    for number, pair in enumerate(pairs[:2]):
        code, logits, job = board.wait()
        assert (code, job) == (OK, number) and np.array_equal(logits.reshape(2, -1), golden[list(pair)])
    assert board.wait()[0] == ARGUMENT and "its logits come with the next job: submit one" in board.text(ARGUMENT)
    assert board.submit(0, 0) == OK
    code, logits, job = board.wait()
    assert (code, job) == (OK, 2) and np.array_equal(logits.reshape(2, -1), golden[[1, 1]])
    link.fault(board.slots[0][0].device_address, 1, 2)
    assert [board.submit(i, i) for i in (1, 2, 0)] == [OK] * 3
    code, _, job = board.wait()
    assert (code, job) == (JOB_FAILED, 4)
    code, logits, job = board.wait()
    assert (code, job) == (OK, 5) and np.array_equal(logits.reshape(2, -1), golden[[2, 2]])


def test_start_while_a_program_runs(started):
    """Another buffer is really loaded, jobs that were queued are dropped; nothing is taken before a start."""
    assert started.submit(0) == started.submit(1) == OK
    old, (started.image, started.c_image) = started.image, started.allocate(started.model.record["memory"]["bytes"])
    assert started.start() == OK
    old[:] = 0
    old.flush()
    started.right(2, 1)
    assert started.lib.vf_stop(started.device, SECOND) == OK
    assert started.submit(0) == ARGUMENT and started.text(ARGUMENT) == "not started"
    assert started.start() == OK
    started.right(0)


def test_the_longest_time_out(started):
    assert started.submit(0) == OK and started.wait(timeout=(1 << 64) - 1)[0] == OK


@pytest.mark.parametrize("response", [2, 3])
def test_axi_error(started, response):
    address = started.slots[0][0].device_address
    started.link.fault(address, 1, response)
    assert started.submit(0) == started.submit(2) == OK
    code, _, job = started.wait()
    assert (code, job) == (JOB_FAILED, 0)
    assert "a read was answered with an AXI error" in started.text(code)
    assert f"first at 0x{address:016x}, response {response}" in started.text(code)
    code, logits, _ = started.wait()
    assert code == OK and np.array_equal(logits, started.model.stored[2] * started.model.record["output"]["scale"])
    started.right(0, 1)
    started.link.fault(started.slots[0][1].device_address, 1, response)
    assert started.submit(0) == OK
    code = started.wait()[0]
    assert code == JOB_FAILED and "a write was answered with an AXI error" in started.text(code)
    started.right(2)


def test_hang(started):
    started.link.write(0x074, 2000)  # watchdog
    started.link.hold(30_000)
    assert started.submit(0) == OK
    code = started.wait(timeout=50)[0]
    text = started.text(code)
    assert code == TIMEOUT and "no progress for watchdog cycles" in text and "status: busy ready error" in text
    assert started.lib.vf_reset(started.device, 20) == TIMEOUT
    started.link.wait(30_000)
    assert started.lib.vf_reset(started.device, SECOND) == OK
    assert started.start() == OK
    started.right(0, 1, 2)


def test_full_queue(started):
    assert [started.submit(i % 3) for i in range(5)] == [OK] * 4 + [QUEUE_FULL]
    assert "queue full: 4 jobs" in started.text(QUEUE_FULL)
    for i in range(4):
        code, logits, job = started.wait()
        assert (code, job) == (OK, i)
        assert np.array_equal(logits, started.model.stored[i % 3] * started.model.record["output"]["scale"])
    assert started.wait()[0] == ARGUMENT
    started.right(0)


def test_a_driver_that_does_not_flush_is_seen(started):
    started.right(0, 1, 2, 0)
    started.flushes = False
    assert started.submit(1) == OK
    assert not np.array_equal(started.wait()[1], started.model.stored[1] * started.model.record["output"]["scale"])
