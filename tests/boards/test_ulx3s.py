"""The ULX3S design: serial port, memory, frames, clock; with the campaign ten digits at its pins."""

import sys
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator

from vitforge import api
from vitforge.shipped import shipped_model
from vitforge_hw.arch.registers import REGISTERS, Error
from vitforge_sw.compiler import CompileOptions, compile_graph

BOARDS = Path(__file__).resolve().parents[2] / "boards"
sys.path.insert(0, str(BOARDS))

from ulx3s import build as design  # noqa: E402
from ulx3s import cli, host, simulate  # noqa: E402
from ulx3s.board import BAUD, divisor  # noqa: E402
from ulx3s.control import Control, Layout  # noqa: E402
from ulx3s.memory import OnChipMemory  # noqa: E402
from ulx3s.pll import Dividers  # noqa: E402
from ulx3s.uart import UartReceiver, UartSender  # noqa: E402


def run(dut, bench):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


# ---- clock
@pytest.mark.parametrize("mhz", [25, 50, 62.5, 75, 100])
def test_pll_dividers_give_the_clock_and_keep_the_oscillator_in_range(mhz):
    d = Dividers.of(mhz)
    assert 25 * d.feedback / d.input == mhz
    assert 400 <= mhz * d.divider <= 800


def test_a_clock_that_the_pll_cannot_make_is_refused():
    with pytest.raises(ValueError, match="not 51.3 MHz"):
        Dividers.of(51.3)


def test_a_clock_that_misses_the_baud_rate_is_refused():
    assert divisor(50) == 50e6 / BAUD
    with pytest.raises(ValueError, match="1000000 baud within 2 %, not 2.6 MHz"):
        divisor(2.6)


# ---- serial port
def _wave(byte, stop=1):
    return [0, *(byte >> i & 1 for i in range(8)), stop]


@pytest.mark.parametrize("period", [7, 8, 9])
def test_receiver_takes_bytes_back_to_back_from_a_clock_that_is_not_its_own(period):
    """8 cycles a bit meant, 7.75 and 8.25 sent."""
    dut = UartReceiver(8)
    data = [0x00, 0xFF, 0xA5, 0x5A, 0x01, 0x80]
    bits = [1, *(b for byte in data for b in _wave(byte)), 1, 1]
    got = []

    async def bench(ctx):
        at = until = 0.0
        for bit in bits:
            ctx.set(dut.line, bit)
            until += 8 + (period - 8) / 4
            while at < until:
                await ctx.tick()
                at += 1
                if ctx.get(dut.valid):
                    got.append(ctx.get(dut.byte))

    run(dut, bench)
    assert got == data


def test_receiver_drops_glitches_and_bytes_without_stop_bit():
    dut = UartReceiver(8)
    got = []

    async def bench(ctx):
        async def send(bits, cycles=8):
            for bit in bits:
                ctx.set(dut.line, bit)
                for _ in range(cycles):
                    await ctx.tick()
                    if ctx.get(dut.valid):
                        got.append(ctx.get(dut.byte))

        await send([0], cycles=2)  # shorter than half a bit
        await send([1] * 12)
        await send([*_wave(0x33, stop=0), 0, 0, 1, 1])  # a break
        await send([*_wave(0xC7), 1, 1])

    run(dut, bench)
    assert got == [0xC7]


def test_sender_writes_what_the_receiver_reads():
    from amaranth import Module

    m = Module()
    m.submodules.tx = tx = UartSender(5)
    m.submodules.rx = rx = UartReceiver(5)
    m.d.comb += rx.line.eq(tx.line)
    data, got = list(range(0, 256, 15)), []

    async def bench(ctx):
        left = list(data)
        for _ in range(len(data) * 51 + 20):
            ctx.set(tx.bytes.valid, bool(left))
            ctx.set(tx.bytes.payload, left[0] if left else 0)
            taken = left and ctx.get(tx.bytes.ready)
            await ctx.tick()
            if taken:
                left.pop(0)
            if ctx.get(rx.valid):
                got.append(ctx.get(rx.byte))

    run(m, bench)
    assert got == data


# ---- memory
def _row(data, i):
    return int.from_bytes(data[16 * i : 16 * i + 16], "little")


@pytest.mark.parametrize("pattern", [[1], [1, 0], [0, 0, 1, 1, 0]])
def test_memory_answers_bursts_in_order_under_any_readiness(pattern):
    rng = np.random.default_rng(1)
    data = rng.bytes(16 * 40)
    dut = OnChipMemory(data, 64)
    bursts = [(0, 16, 3), (17, 1, 0), (20, 16, 9), (39, 2, 1)]
    got, want = [], []
    for start, n, id_ in bursts:
        want += [(_row(data, start + i) if start + i < 40 else 0, id_, i == n - 1) for i in range(n)]

    async def bench(ctx):
        left = list(bursts)
        for cycle in range(300):
            axi = dut.axi
            ctx.set(axi.arvalid, bool(left))
            if left:
                ctx.set(axi.araddr, left[0][0] * 16)
                ctx.set(axi.arlen, left[0][1] - 1)
                ctx.set(axi.arid, left[0][2])
            ctx.set(axi.rready, pattern[cycle % len(pattern)])
            await ctx.delay(1e-8)
            if ctx.get(axi.rvalid) and ctx.get(axi.rready):
                got.append((ctx.get(axi.rdata), ctx.get(axi.rid), bool(ctx.get(axi.rlast))))
            taken = left and ctx.get(axi.arready)
            await ctx.tick()
            if taken:
                left.pop(0)

    run(dut, bench)
    assert got == want


def test_memory_takes_writes_of_both_ports_and_not_the_strobed_out_ones():
    dut = OnChipMemory(bytes(range(64)), 8)
    got = []

    async def bench(ctx):
        axi = dut.axi
        ctx.set(axi.awvalid, 1)
        ctx.set(axi.awaddr, 4 * 16)
        ctx.set(axi.awid, 5)
        await ctx.tick()
        ctx.set(axi.awvalid, 0)
        ctx.set(axi.wvalid, 1)
        # the controller's write goes first: AXI waits for it
        ctx.set(axi.wdata, 111)
        ctx.set(axi.wstrb, 0xFFFF)
        ctx.set(dut.write, 1)
        ctx.set(dut.write_row, 1)
        ctx.set(dut.write_data, 99)
        await ctx.delay(1e-8)
        assert ctx.get(axi.wready) == 0
        await ctx.tick()
        ctx.set(dut.write, 0)
        await ctx.tick()  # row 4
        ctx.set(axi.wdata, 222)
        ctx.set(axi.wstrb, 0)  # row 5: not written
        await ctx.tick()
        ctx.set(axi.wdata, 333)
        ctx.set(axi.wstrb, 0xFFFF)
        ctx.set(axi.wlast, 1)
        await ctx.tick()  # row 6
        ctx.set(axi.wvalid, 0)
        await ctx.delay(1e-8)
        assert (ctx.get(axi.bvalid), ctx.get(axi.bid)) == (1, 5)
        ctx.set(axi.bready, 1)
        await ctx.tick()
        ctx.set(dut.read, 1)
        for row in (0, 1, 4, 5, 6, 6, 6):
            ctx.set(dut.read_row, row)
            await ctx.tick()
            got.append(ctx.get(dut.read_data))

    run(dut, bench)
    assert got[2:] == [_row(bytes(range(16)), 0), 99, 111, 0, 333]  # three cycles behind its row


def test_memory_refuses_contents_beyond_its_rows():
    with pytest.raises(ValueError, match="at most 32 bytes, not 33"):
        OnChipMemory(bytes(33), 2)


# ---- frames
FRAME = host.Frame(image_bytes=32, result_bytes=16)


def _reply(status=0, errors=0, cycles=1234, result=bytes(range(16))):
    body = bytes([status]) + errors.to_bytes(4, "little") + cycles.to_bytes(4, "little") + result
    return bytes([0x5A]) + body + (sum(body) & 0xFFFF).to_bytes(2, "little")


def test_request_holds_the_image_and_its_sum():
    request = FRAME.request(bytes([255] * 32))
    assert request == bytes([0xA5, *[255] * 32]) + (255 * 32).to_bytes(2, "little")
    assert len(request) == FRAME.request_bytes


def test_reply_is_read_and_errors_have_their_names():
    assert FRAME.reply(_reply()) == host.Reply((), 1234, bytes(range(16)))
    bad = FRAME.reply(_reply(status=1, errors=1 << Error.CHECKSUM | 1 << Error.READ))
    assert bad.errors == ("read", "checksum", "transfer")


@pytest.mark.parametrize("at", range(1, 28))
def test_a_damaged_or_short_reply_is_refused(at):
    data = bytearray(_reply())
    data[at] ^= 0x10
    with pytest.raises(ValueError, match="sum to"):
        FRAME.reply(bytes(data))
    with pytest.raises(ValueError, match="28 bytes"):
        FRAME.reply(bytes(data[:at]))


def test_an_image_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        FRAME.request(bytes(31))


def test_a_missing_port_is_one_line(tmp_path, capsys):
    pytest.importorskip("serial")
    with pytest.raises(ValueError, match="port .*nowhere"):
        host.Port(str(tmp_path / "nowhere"), FRAME, BAUD)


# ---- controller
def _serve(dut, frames, registers, limit=4000):
    """Play request bytes against a controller whose registers answer from lists; -> (accesses, rows written, reply)."""
    seen, rows, reply = [], {}, []

    async def bench(ctx):
        bus, left = dut.bus, [b for f in frames for b in f]
        answer = None
        ctx.set(dut.reply.ready, 1)
        ctx.set(dut.read_data, int.from_bytes(bytes(range(16)), "little"))
        for cycle in range(limit):
            ctx.set(dut.valid, bool(left) and cycle % 3 == 0)
            if left and cycle % 3 == 0:
                ctx.set(dut.byte, left.pop(0))
            for channel in ("aw", "w", "ar"):
                ctx.set(getattr(bus, f"{channel}ready"), 1)
            ctx.set(bus.bvalid, answer == "write")
            ctx.set(bus.rvalid, isinstance(answer, int))
            ctx.set(bus.rdata, answer if isinstance(answer, int) else 0)
            await ctx.delay(1e-8)
            answer = None
            if ctx.get(bus.awvalid):
                seen.append((names[ctx.get(bus.awaddr)], ctx.get(bus.wdata)))
                answer = "write"
            elif ctx.get(bus.arvalid):
                name = names[ctx.get(bus.araddr)]
                values = registers[name]
                answer = values.pop(0) if len(values) > 1 else values[0]
                seen.append((name, None))
            if ctx.get(dut.write):
                rows[ctx.get(dut.write_row)] = ctx.get(dut.write_data)
            if ctx.get(dut.reply.valid):
                reply.append(ctx.get(dut.reply.payload))
            await ctx.tick()

    names = {r.offset: name for name, r in REGISTERS.items()}
    run(dut, bench)
    return seen, rows, bytes(reply)


LAYOUT = Layout(image_base=64, image_bytes=32, result_base=128, result_bytes=16, program_beats=7)
IMAGE = bytes(range(100, 132))


def test_controller_loads_once_and_runs_each_request():
    registers = {"status": [0, 2], "errors": [0], "done_count": [0, 1, 1], "done_errors": [0], "done_cycles": [77]}
    request = FRAME.request(IMAGE)
    seen, rows, reply = _serve(Control(LAYOUT, 16), [b"\x00\x11", request, bytes(400), request], registers)
    assert rows == {4 + i: _row(IMAGE, i) for i in range(2)}
    size = FRAME.reply_bytes
    assert [FRAME.reply(reply[i : i + size]) for i in (0, size)] == 2 * [host.Reply((), 77, bytes(range(16)))]
    assert len(reply) == 2 * size
    written = [(name, value) for name, value in seen if value is not None]
    load = {"program_beats": 7, "job_image_lo": 64, "job_result_lo": 128, "control": 1}
    assert load.items() <= dict(written[:10]).items() and written[9] == ("control", 1)
    job = [("job_submit", 1), ("done_pop", 1), ("errors", 0xFFFFFFFF)]
    assert written[10:] == 2 * job, "loaded once"


@pytest.mark.parametrize("where", ["job", "load", "hang"])
def test_controller_reports_errors_and_loads_again(where):
    bad = {"job": 1 << Error.CHECKSUM, "load": 1 << Error.BUILD, "hang": 1 << Error.WATCHDOG}[where]
    registers = {
        "status": [0, 2] if where == "load" else [2],
        "errors": {"job": [0], "load": [bad, 0], "hang": [bad, 0]}[where],
        "done_count": [0, 1] if where == "hang" else [1],
        "done_errors": [bad, 0] if where == "job" else [0],
        "done_cycles": [77],
        "control": [2, 0],
    }
    request = FRAME.request(IMAGE)
    seen, _, reply = _serve(Control(LAYOUT, 16), [request, bytes(400), request], registers)
    size = FRAME.reply_bytes
    first, second = (FRAME.reply(reply[i : i + size]) for i in (0, size))
    assert first.errors == ({"job": "checksum", "load": "build", "hang": "watchdog"}[where],)
    assert second.errors == () and second.cycles == 77
    assert seen.count(("control", 2)) == 1 and seen.count(("control", 1)) == 2, "reset once, loaded again"


def test_controller_refuses_a_damaged_request_without_running_it():
    damaged = bytearray(FRAME.request(IMAGE))
    damaged[9] ^= 1
    seen, _, reply = _serve(Control(LAYOUT, 16), [bytes(damaged)], {})
    assert FRAME.reply(reply).errors == ("transfer",) and seen == []


# ---- the whole design
@pytest.fixture(scope="module")
def digits():
    """(graph, build for the board, ten scans packed, their golden results)."""
    shipped = shipped_model("digits_vit")
    net = api.load_float(str(shipped.model), shipped.checkpoint)
    graph = api.quantize(net, shipped.calib, "vitforge", progress=False)
    build = compile_graph(graph, design.config(), CompileOptions())
    scans = [path for path, _ in api.labelled_images(shipped.test, shipped.labels)[:10]]
    jobs = [api.pack(graph, build, p[None]) for p in api.load_inputs(graph, scans)]
    return graph, build, jobs


def test_the_design_fits_its_memory_and_names_its_ports(digits):
    _, build, _ = digits
    where = design.layout(build)
    assert where.image_base >= len(build.memory_image) and where.image_base % 4096 == 0
    assert where.result_base >= where.image_base + where.image_bytes
    text = design.sources(build)[f"{design.TOP}.v"]
    assert "module ulx3s_board(" in text and "vitforge_top accelerator" in text.replace("\\", "")


@pytest.mark.campaign
@pytest.mark.parametrize("collisions", [False, True])
def test_ten_digits_at_the_serial_pins_twice_without_reset(digits, collisions):
    """Also where block RAM gives noise for a row that is written: synthesis is told that nobody minds."""
    _, build, jobs = digits
    frame = host.Frame(build.image_bytes, build.result_bytes)
    requests = [frame.request(image) for image, _ in jobs]
    replies = simulate.exchange(simulate.program(build, collisions=collisions), frame, requests * 2)
    for reply, (_, expected) in zip(replies, jobs * 2, strict=True):
        assert reply.errors == () and reply.result == expected
    cycles = [r.cycles for r in replies]
    assert max(cycles) - min(cycles) < 200 and min(cycles) > 5_000


@pytest.mark.campaign
def test_damage_on_the_way_is_reported_and_the_next_digit_is_right(digits):
    _, build, jobs = digits
    frame = host.Frame(build.image_bytes, build.result_bytes)
    good = frame.request(jobs[0][0])
    damaged = bytearray(good)
    damaged[20] ^= 4
    bad, then = simulate.exchange(simulate.program(build), frame, [bytes(damaged), good])
    assert bad.errors == ("transfer",) and bad.cycles == 0
    assert then.errors == () and then.result == jobs[0][1]


@pytest.mark.campaign
def test_a_flipped_weight_byte_fails_every_digit(digits):
    _, build, jobs = digits
    frame = host.Frame(build.image_bytes, build.result_bytes)
    memory = bytearray(build.memory_image)
    head = next(p for p in build.pieces if p.name == "head:weights")
    memory[head.beat * 16] ^= 0x40
    replies = simulate.exchange(
        simulate.program(build, memory=bytes(memory)), frame, [frame.request(image) for image, _ in jobs[:3]]
    )
    assert [r.errors for r in replies] == [("checksum",)] * 3
    assert all(r.result != expected for r, (_, expected) in zip(replies, jobs, strict=False))


def test_a_build_that_is_none_is_one_line(tmp_path, capsys):
    assert cli.main(["simulate", str(tmp_path), "--image", "x.png"]) == 2
    assert "vitforge compile first" in capsys.readouterr().err
