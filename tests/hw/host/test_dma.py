"""DMA chunks behind the whole system side, against the logical bytes of the memory image."""

from dataclasses import replace

import pytest

from vitforge_hw.arch import isa
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.latency import CYCLES
from vitforge_hw.host.host import Host
from vitforge_sim.bench.axi_model import WriteSink
from vitforge_sim.bench.host_bench import DRAM, IMAGE, JOB, RESULT, HostBench

PRESETS = ["tiny", pytest.param("p2vit", marks=pytest.mark.slow)]
#: rows of 112 bytes in two beats of 64 / of 80 bytes in five beats of 16
TRIO = get_config("trio")
FIVE = replace(get_config("trio"), name="five", cores=5, masters=1, read_fifo_beats=64)
#: two masters, bursts of four, one beat per buffer row, a queue of one job
SMALL = replace(get_config("tiny"), name="small", masters=2, burst_beats=4, read_fifo_beats=16, job_depth=1)


def check_weights(bench, pieces):
    """Every piece's bytes, in order, where they belong."""
    c = bench.config
    size = (c.weight_row_bytes, c.beat_bytes, c.beat_bytes)
    for p in pieces:
        data = bytes(bench.image[p["source"] * c.beat_bytes :][: p["beats"] * c.beat_bytes])
        rows = -(-len(data) // size[p["dest"]])
        got = bench.sinks[p["dest"]].bytes(p["dest_addr"], rows)
        assert got[: len(data)] == data, p


def weight_pieces(bench, lengths, offsets):
    """Random pieces of the given lengths and offsets modulo 16 beats, to disjoint rows of the three memories; of the
    weight buffer whole rows."""
    c = bench.config
    pieces, free = [], [0, 0, 0]
    for length in lengths:
        for offset in offsets:
            dest = bench.rng.randrange(3)
            source = bench.rng.randrange(1, 20) * 16 + offset
            per_row = c.beats_per_weight_row if dest == 0 else 1
            rows = -(-length // per_row)
            pieces.append(dict(rows=1, source=source, beats=rows * per_row, dest=dest, dest_addr=free[dest]))
            free[dest] += rows
    bench.rng.shuffle(pieces)
    return pieces


def expected_result(bench, row, count, bank=0):
    c = bench.config
    data = b"".join(bench.rows[row + i][bank * c.word :][: c.word] for i in range(count))
    return data + bytes(-len(data) % 16)


def image_rows(c, data):
    """DRAM's bytes of whole buffer rows without the padding behind each."""
    size = c.beats_per_row * c.beat_bytes
    return b"".join(data[i : i + c.row_bytes] for i in range(0, len(data), size))


@pytest.mark.parametrize(
    "config",
    [get_config("tiny"), *(pytest.param(c, marks=pytest.mark.slow) for c in (SMALL, get_config("p2vit"), TRIO, FIVE))],
    ids=lambda c: c.name,
)  # fmt: skip
@pytest.mark.parametrize("stall,latency,pause", [(0, (1, 1), 0), (0.4, (1, 60), 0.4)])
def test_all_queues_together(config, stall, latency, pause):
    """Lengths x offsets of weights, images (both sources) and results, all chunks active at once."""
    bench = HostBench(config, seed=7, stall=stall, latency=latency, pause=pause, buffer_stall=stall)
    c = bench.config
    pieces = weight_pieces(bench, [1, 2, 15, 16, 17, 33], [0, 1, 8, 15])
    images = [
        dict(rows=rows, job=job, source=bench.rng.randrange(100), beats=k * c.beats_per_row, out_addr=address)
        for rows, job, k, address in ((3, 1, 1, 0), (1, 0, 7, 50), (5, 1, 3, 100), (2, 0, 9, 200), (4, 1, 4, 300))
    ]
    results, offset = [], 1
    for rows, count in ((1, 1), (1, 3), (1, 40), (2, 33), (1, 16)):
        place = dict(in_addr=bench.rng.randrange(300), offset=offset, bank=len(results) % c.cores)
        results.append(dict(rows=rows, count=count, **place))
        offset += rows * -(-count * c.word // 16) + 1

    async def test(bench):
        await bench.setup()
        for op in pieces:
            bench.weight.add(**op)
        for op in images:
            bench.image_in.add(**op)
        for op in results:
            bench.result.add(**op)
        await bench.finish()
        await bench.world.step(20)
        assert await bench.read("error_code") == 0

    bench.run(test)
    assert [d.done for d in bench.drivers] == [d.wanted for d in bench.drivers]  # not one more
    check_weights(bench, pieces)
    for p in images:
        base = bench.job if p["job"] else bench.image
        size = p["rows"] * p["beats"] * c.beat_bytes
        data = bytes(base[p["source"] * c.beat_bytes :][:size])
        rows = p["rows"] * p["beats"] // c.beats_per_row
        assert len(data) == size and bench.buffer.bytes(p["out_addr"], rows) == image_rows(c, data), p
    assert all(mask == (1 << c.cores) - 1 for _, _, mask in bench.buffer.log)
    touched = bytearray(bench.dram[RESULT:])
    for p in results:
        per_row = -(-p["count"] * c.word // 16) * 16
        for r in range(p["rows"]):
            want = expected_result(bench, p["in_addr"] + r * p["count"], p["count"], p["bank"])
            where = p["offset"] * 16 + r * per_row
            assert bytes(touched[where : where + per_row]) == want, (p, r)
            touched[where : where + per_row] = bytes(per_row)
    assert not any(touched), "written beside the results"
    assert {(master, name) for _, master, name, _, _ in bench.memory.reads} == {
        (m, i) for m in range(c.masters) for i in (0, 1)
    }
    assert {master for _, master, *_ in bench.memory.writes} == {0}


def test_pieces_of_several_rows_follow_each_other():
    bench = HostBench(get_config("tiny"))
    c = bench.config

    async def test(bench):
        await bench.setup()
        bench.weight.add(rows=3, source=5, beats=2 * c.beats_per_weight_row, dest=0, dest_addr=9)
        bench.weight.add(rows=2, source=100, beats=5, dest=1, dest_addr=3)
        bench.weight.add(rows=1, source=40, beats=c.beats_per_weight_row + 1, dest=0, dest_addr=20)  # ends all the same
        await bench.finish()

    bench.run(test)
    check_weights(
        bench,
        [
            dict(source=5, beats=6 * c.beats_per_weight_row, dest=0, dest_addr=9),
            dict(source=100, beats=10, dest=1, dest_addr=3),
        ],
    )


def test_throughput_with_100_cycles_latency():
    """64 bytes a cycle, also with images in between, across pieces: latency shows only in front of the first."""
    bench = HostBench(get_config("p2vit"), stall=0, latency=(100, 100), pause=0, buffer_stall=0)
    c = bench.config

    async def test(bench):
        await bench.setup()
        for i in range(12):
            bench.weight.add(rows=1, source=64 + 128 * i, beats=128, dest=0, dest_addr=32 * i)
        await bench.finish()

    bench.run(test)
    columns = c.beats_per_weight_row
    cycles = [cycle for cycle, _, _ in bench.sinks[0].log]
    assert len(cycles) == 12 * 128 // columns
    assert cycles == list(range(cycles[0], cycles[0] + 12 * 128, columns)), "gaps between beats"
    # go -> AR, 100 cycles of memory, R of the row's last beat -> write, which is one cycle before done
    assert cycles[0] - bench.weight.go_cycles[0] == CYCLES.dma_request + 100 + columns - 1 + CYCLES.dma_return
    assert bench.weight.done_cycles == [cycle + 1 for cycle in cycles[128 // columns - 1 :: 128 // columns]]
    assert c.beat_bytes == 64 and columns == 4


class EverySecond(WriteSink):
    """A weight buffer of two banks, of which R-MAC reads the one and the other in turn."""

    turn = 0

    def drive(self, ctx):
        self.turn ^= 1
        self.ready = (ctx.get(self.port.addr) ^ self.turn) & 1
        ctx.set(self.port.ready, self.ready)


def test_full_speed_beside_an_engine_that_reads():
    """Rows of two beats wait for every second cycle of their bank: still a beat a cycle, every row written once."""
    bench = HostBench(TRIO, stall=0, latency=(20, 20), pause=0, buffer_stall=0)
    c = bench.config
    port = bench.host.weights
    bench.models[bench.models.index(bench.sinks[0])] = EverySecond(port, c.weight_row_bytes, c.beats_per_weight_row)
    bench.sinks[0] = next(model for model in bench.models if isinstance(model, EverySecond))
    pieces = [dict(rows=1, source=64 + 16 * i, beats=16, dest=0, dest_addr=8 * i) for i in range(40)]

    async def test(bench):
        await bench.setup()
        for piece in pieces:
            bench.weight.add(**piece)
        await bench.finish()

    bench.run(test)
    check_weights(bench, pieces)
    cycles = [cycle for cycle, _, _ in bench.sinks[0].log]
    assert c.beats_per_weight_row == 2 and len(cycles) == 320
    assert 638 <= cycles[-1] - cycles[0] <= 639


def test_short_pieces_hide_the_latency():
    """Pieces of 16 beats: 16 requests ahead of the data."""
    bench = HostBench(get_config("p2vit"), stall=0, latency=(100, 100), pause=0, buffer_stall=0)

    async def test(bench):
        await bench.setup()
        for i in range(40):
            bench.weight.add(rows=1, source=16 + 16 * i, beats=16, dest=1, dest_addr=16 * i)
        await bench.finish()

    bench.run(test)
    cycles = [cycle for cycle, _, _ in bench.sinks[1].log]
    assert cycles[-1] - cycles[0] == 40 * 16 - 1


def test_stalled_images_do_not_block_weights():
    """The image buffer accepts nothing: weights go on at full speed."""
    bench = HostBench(get_config("p2vit"), stall=0, latency=(20, 20), pause=0, buffer_stall=0)
    c = bench.config

    async def test(bench):
        await bench.setup()
        bench.buffer.stall = 1
        bench.image_in.add(rows=8, job=1, source=0, beats=32 * c.beats_per_row, out_addr=0)
        await bench.world.step(200)
        for i in range(4):
            bench.weight.add(rows=1, source=64 + 128 * i, beats=128, dest=0, dest_addr=32 * i)
        await bench.world.until(lambda: bench.weight.finished, 700)
        assert bench.image_in.done == 0
        bench.buffer.stall = 0
        await bench.finish()

    bench.run(test)
    assert bench.buffer.bytes(0, 8 * 32) == bench.job[: 8 * 32 * c.row_bytes]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("beat", [0, 39])
@pytest.mark.parametrize("image", [False, True])
def test_read_error_is_latched_with_its_address(preset, beat, image):
    """An error response on one master's beat: code, address, response; the chunk still ends; the next run is right."""
    bench = HostBench(get_config(preset), seed=beat)
    c = bench.config
    master = c.masters - 1
    index = 21 + beat
    offset = (index // 16) * 256 * c.masters + master * 256 + (index % 16) * 16
    address = DRAM + (JOB if image else IMAGE) + offset

    def start(bench):
        if image:
            bench.image_in.add(rows=1, job=1, source=21, beats=20 * c.beats_per_row, out_addr=0)
        else:
            bench.weight.add(rows=1, source=21, beats=40, dest=1, dest_addr=0)

    async def test(bench):
        await bench.setup()
        bench.memory.read_errors[address] = 2
        await bench.write("irq_enable", 2)
        start(bench)
        await bench.finish()
        await bench.world.step(4)
        assert bench.world.ctx.get(bench.host.interrupt)
        assert await bench.read("error_code") == 1
        assert await bench.read64("error_addr") == address
        assert await bench.read("error_resp") == 2
        assert await bench.read("status") & 4
        bench.memory.read_errors = {}
        await bench.soft_reset()
        assert await bench.read("error_code") == 0 and not bench.world.ctx.get(bench.host.interrupt)
        for sink in (*bench.sinks, bench.buffer):
            sink.rows.clear()
        await bench.setup()
        start(bench)
        await bench.finish()
        assert await bench.read("error_code") == 0

    bench.run(test)
    if image:
        assert bench.buffer.bytes(0, 20) == bench.job[21 * c.beat_bytes :][: 20 * c.row_bytes]
    else:
        check_weights(bench, [dict(source=21, beats=40, dest=1, dest_addr=0)])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("what", ["weights", "params", "constant", "image"])
def test_damaged_data_are_reported(preset, what):
    """A wrong checksum, of one row or of several: code 7 and whose data, also where the memory lets the last row wait;
    images of jobs have none."""
    bench = HostBench(get_config(preset), buffer_stall=0.9)
    c = bench.config
    constant = dict(source=31, beats=2 * c.beats_per_row, out_addr=5)

    def load(bench, **checksum):
        if what in ("weights", "params"):
            size = c.beats_per_weight_row if what == "weights" else 3
            bench.weight.add(rows=2, source=40, beats=size, dest=int(what == "params"), dest_addr=3, **checksum)
        else:
            bench.image_in.add(rows=2, job=int(what == "image"), **constant, **checksum)

    async def test(bench):
        await bench.setup()
        load(bench)
        load(bench)
        await bench.finish()
        await bench.world.step(4)
        assert await bench.read("errors") == 0
        load(bench, checksum=0x12345678)
        await bench.finish()
        await bench.world.step(4)
        if what == "image":
            assert await bench.read("errors") == 0
            return
        assert await bench.read("error_code") == 7
        assert await bench.read64("error_addr") == DRAM + IMAGE
        assert await bench.read("error_resp") == (2 if what == "constant" else 1)
        await bench.write("errors", 1 << 7)
        load(bench)
        await bench.finish()
        await bench.world.step(4)
        assert await bench.read("errors") == 0

    bench.run(test)


def test_write_error_is_latched_with_its_address():
    bench = HostBench(get_config("tiny"))
    address = DRAM + RESULT + 512

    async def test(bench):
        await bench.setup()
        bench.memory.write_errors[address] = 3
        bench.result.add(rows=1, in_addr=0, count=100, offset=0)
        await bench.finish()
        assert await bench.read("error_code") == 2
        assert await bench.read64("error_addr") == address
        assert await bench.read("error_resp") == 3

    bench.run(test)


def test_result_is_done_only_after_its_response():
    bench = HostBench(get_config("p2vit"), stall=0, latency=(100, 100), pause=0, buffer_stall=0)

    async def test(bench):
        await bench.setup()
        bench.result.add(rows=1, in_addr=0, count=5, offset=3)
        await bench.finish()

    bench.run(test)
    aw = bench.memory.writes[0][0]
    assert bench.result.done_cycles[0] - aw == 4 + 100 + 1  # last of five beats, memory, done


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("cycles", [3, 20, 150])
def test_soft_reset_in_the_middle(preset, cycles):
    """All queues busy, soft reset: AXI drains (no burst is cut), and the next run is right."""
    bench = HostBench(get_config(preset), seed=cycles, latency=(5, 60), stall=0.3)
    c = bench.config

    async def test(bench):
        await bench.setup(jobs=2)
        for i in range(4):
            bench.weight.add(rows=1, source=64 + 97 * i, beats=97, dest=0, dest_addr=200 * i)
        bench.image_in.add(rows=20, job=1, source=3, beats=3 * c.beats_per_row, out_addr=0)
        bench.result.add(rows=1, in_addr=0, count=120, offset=0)
        await bench.world.step(cycles)
        await bench.soft_reset()
        assert await bench.read("status") == 0
        assert await bench.read("job_free") == c.job_depth
        for sink in (*bench.sinks, bench.buffer):
            sink.rows.clear()
        bench.dram[RESULT:] = bytes(len(bench.dram) - RESULT)
        await bench.setup()
        bench.weight.add(rows=1, source=77, beats=48, dest=0, dest_addr=5)
        bench.image_in.add(rows=2, job=1, source=9, beats=5 * c.beats_per_row, out_addr=7)
        bench.result.add(rows=1, in_addr=11, count=37, offset=2)
        await bench.finish()
        assert await bench.read("error_code") == 0

    bench.run(test)
    check_weights(bench, [dict(source=77, beats=48, dest=0, dest_addr=5)])
    assert bench.buffer.bytes(7, 10) == bench.job[9 * c.beat_bytes :][: 10 * c.row_bytes]
    want = expected_result(bench, 11, 37)
    assert bytes(bench.dram[RESULT + 32 : RESULT + 32 + len(want)]) == want


def test_second_job_uses_its_own_bases():
    """Bases advance by the strides; each reader moves on with its own image_end."""
    bench = HostBench(get_config("tiny"))
    c = bench.config

    async def test(bench):
        await bench.setup(jobs=2)
        bench.image_in.add(rows=1, job=1, source=0, beats=4 * c.beats_per_row, out_addr=0)
        await bench.finish()
        await bench.end_image(isa.Chunk.IMAGE_DMA)
        bench.image_in.add(rows=1, job=1, source=0, beats=4 * c.beats_per_row, out_addr=10)
        bench.result.add(rows=1, in_addr=0, count=4, offset=0)
        await bench.finish()
        await bench.end_image(isa.Chunk.RESULT_DMA)
        bench.result.add(rows=1, in_addr=4, count=4, offset=0)
        await bench.finish()

    bench.run(test)
    assert bench.buffer.bytes(0, 4) == bench.job[: 4 * c.row_bytes]
    assert bench.buffer.bytes(10, 4) == bench.job[0x1000:][: 4 * c.row_bytes]
    for i in range(2):
        want = expected_result(bench, 4 * i, 4)
        where = RESULT + 0x2000 * i
        assert bytes(bench.dram[where : where + len(want)]) == want


@pytest.mark.parametrize("preset", PRESETS)
def test_program_is_loaded_with_its_header(preset):
    bench = HostBench(get_config(preset))
    c = bench.config
    beats = 37 * c.instruction_beats
    bench.seal(37)
    bench.store()

    async def test(bench):
        await bench.setup(program_beats=beats)

    bench.run(test)
    assert bench.program.bytes(0, beats) == bytes(bench.image[: beats * c.beat_bytes])
    assert len(bench.program.log) == beats


def test_ports_have_standard_names():
    host = Host(get_config("p2vit"))
    names = {"__".join(map(str, path)) for path, _, _ in host.signature.flatten(host)}
    wanted = ("awaddr", "wdata", "bresp", "araddr", "arlen", "rdata", "rready")
    assert {f"m_axi_gmem{i}__{n}" for i in range(4) for n in wanted} <= names
    assert {f"s_axi_ctrl__{n}" for n in ("awaddr", "wstrb", "bvalid", "arready", "rdata")} <= names
