"""MAT with post-processing, the power-of-two family: every write and tile against arch.arith, exact cycles."""

import random

import numpy as np
import pytest

from vitforge_hw import compute as engines
from vitforge_hw.arch import arith, isa
from vitforge_hw.arch.config import AcceleratorConfig, get_config
from vitforge_hw.compute import Engines
from vitforge_hw.emit import convert, emitting
from vitforge_hw.engines import mat
from vitforge_sim.bench.chunkbench import ChunkBench, pack_entries
from vitforge_sim.bench.enginebench import signed, sums, words
from vitforge_sim.bench.replay import USUAL
from vitforge_sim.bench.reuse import reused
from vitforge_sim.run.lint import lint

TINY = get_config("tiny")
#: one word of p2vit's shape on half its cores, short memories
MID = AcceleratorConfig(name="mid", cores=4, masters=4, pool_rows=1024, max_k=128)
BASE = dict(in_offset=0, in_first=0, in_tokens=4095, out_wide=0, narrow=0, res_mode=0, act=0, act0=8)


class MatPath(Engines):
    """The engines, MAT's ports by their short names."""

    ctl, rd, res, wr, weights, busy = (
        property(lambda self, name=name: getattr(self, f"mat_{name}"))
        for name in ("ctl", "rd", "res", "wr", "weights", "busy")
    )


class MatBench(ChunkBench):
    """ChunkBench with an activation buffer that writes change, and ``after``: rows that must be done before an
    instruction's first go."""

    def __init__(self, config, instructions, memory, weights, params, **options):
        self.after = [i.pop("after", 0) if r == 0 else 0 for i in instructions for r in range(i["rows"])]
        self.config, self.memory = config, memory.copy()
        dut = reused(MatPath, config)
        super().__init__(dut, instructions, **options)
        self.rotated_port(dut.rd, self.memory)
        self.read_port(dut.res, lambda addr: int.from_bytes(self.memory[addr].tobytes(), "little"))
        self.write_port(dut.wr, self._put)
        self.memory_port(dut.weights, lambda addr: weights[addr % len(weights)])
        self.memory_port(dut.params, lambda addr: params[addr % len(params)])
        self.watch("tile", dut.mat_tile_valid, dut.mat_tile_acc)
        self.watch("input", dut.rd.valid & dut.rd.ready)

    def may_go(self, row):
        return len(self.record.done) >= self.after[row]

    def _put(self, addr, data, mask):
        c = self.config
        assert mask == (1 << c.cores) - 1
        self.memory[addr] = np.frombuffer(data.to_bytes(c.row_bytes, "little"), np.uint8).reshape(c.cores, c.word)


def by_shifts(entry):
    """A parameter entry as arith.postprocess takes it."""
    return {k: v for k, v in entry.items() if k != "e"} | dict(eh=max(entry["e"], 0), er=max(-entry["e"], 0))


def reference(config, instructions, memory, weights, entries):
    """Writes (address, row bytes), sums of the tiles (lists, token-major), writes of each row: in program order."""
    c = config
    memory, writes, tiles, per_row = memory.copy(), [], [], []
    rows = [np.frombuffer(w.to_bytes(c.weight_row_bytes, "little"), np.int8).astype(np.int64) for w in weights]
    for op in instructions:
        for r in range(op["rows"]):
            x = np.zeros((c.cores, op["ksteps"] * c.word), np.int64)
            for lane in range(c.cores):
                token = (op["in_first"] + r) * c.cores + lane + op["in_offset"]
                if 0 <= token < op["in_tokens"]:
                    group, bank = divmod(lane + op["in_offset"], c.cores)
                    start = op["in_addr"] + (r + group) * op["in_stride"]
                    x[lane] = signed(memory[start : start + op["ksteps"], bank]).reshape(-1)
            for t in range(op["tiles"]):
                at = op["weight_addr"] + t * op["ksteps"]
                w = np.stack([row.reshape(c.lanes, c.width) for row in rows[at : at + op["ksteps"]]])
                acc = np.einsum("tki,kli->tl", x.reshape(c.cores, op["ksteps"], c.word), w)
                tiles.append(acc.reshape(-1).tolist())
                residual = np.zeros((c.cores, c.word), np.int64)
                if op["res_mode"] == 1:
                    residual = signed(memory[op["res_addr"] + r * op["res_stride"] + t])
                elif op["res_mode"] == 2:
                    at = op["res_addr"] + r * op["res_stride"] + 2 * t
                    residual = memory[at].astype(np.int64) + 256 * signed(memory[at + 1])
                y = np.zeros((c.cores, c.word), np.int64)
                for token in range(c.cores):
                    for lane in range(c.lanes):
                        entry = op["param_addr"] * c.beat_bytes // isa.PARAM_BYTES + t * c.lanes + lane
                        y[token, lane] = arith.postprocess(
                            int(acc[token, lane]), residual=int(residual[token, lane]), act=op["act"],
                            gelu_exp=op["act0"], out_bits=12 if op["out_wide"] else 8, narrow=bool(op["narrow"]),
                            **by_shifts(entries[entry]),
                        )  # fmt: skip
                planes = [y & 255, y >> 8 & 255][: 1 + op["out_wide"]]
                for p, plane in enumerate(planes):
                    at = op["out_addr"] + r * op["out_stride"] + len(planes) * t + p
                    memory[at] = plane.astype(np.uint8)
                    writes.append((at, plane.astype(np.uint8).tobytes()))
            per_row.append(op["tiles"] * (1 + op["out_wide"]))
    return writes, tiles, per_row


def surroundings(config, seed, rows=512, weight_rows=128, beats=None):
    """Random activation buffer, weight rows, parameter entries that keep results alive."""
    rng, c = np.random.default_rng(seed), config
    memory = rng.integers(0, 256, (rows, c.cores, c.word), dtype=np.uint8)
    memory[121:200:2] = rng.integers(-6, 6, memory[121:200:2].shape).astype(np.int8).view(np.uint8)  # high planes
    w = rng.integers(-127, 128, (weight_rows, c.weight_row_bytes)).astype(np.int8)
    entries = [
        dict(
            bias=int(rng.integers(-20000, 20000)), s1=int(rng.integers(4, 9)), e=int(rng.integers(-3, 4)),
            s2=int(rng.integers(2, 7)), offset=int(rng.integers(-20, 20)),
        )
        for _ in range(512)
    ]  # fmt: skip
    return memory, words(w), entries, pack_entries(isa.POST_PARAM_FIELDS, entries, c.beat_bytes)


def check(config, instructions, seed=1, limit=20000, **options):
    """Runs the instructions, compares every write, tile and ``done``; returns the record."""
    memory, weights, entries, params = surroundings(config, seed)
    instructions = [{**BASE, **i} for i in instructions]
    plain = [{k: v for k, v in i.items() if k != "after"} for i in instructions]
    writes, tiles, per_row = reference(config, plain, memory, weights, entries)
    options = dict(seed=seed, simulators=USUAL if config is TINY else ()) | options
    record = MatBench(config, instructions, memory, weights, params, **options).run(limit)
    got = [(addr, data.to_bytes(config.row_bytes, "little")) for _, addr, data, _ in record.writes]
    assert [a for a, _ in got] == [a for a, _ in writes], "addresses"
    for n, (g, w) in enumerate(zip(got, writes, strict=True)):
        assert g == w, f"write {n} to row {w[0]}"
    assert sums(config, record) == tiles
    ends = np.cumsum(per_row) - 1
    assert record.done == [record.writes[e][0] + engines.WRITE_TO_DONE for e in ends]
    assert len(record.watched["input"]) == sum(i["rows"] * i["ksteps"] for i in plain), "each word is read once a row"
    assert len({b for _, data in writes for b in data}) > 100, "results are alive"
    return record


def op(**fields):
    return dict(rows=2, tiles=3, ksteps=2, in_addr=8, in_stride=4, weight_addr=0, param_addr=0, out_addr=256,
                out_stride=8, res_addr=128, res_stride=8, **fields)  # fmt: skip


MIX = [
    op() | dict(rows=3, tiles=2, ksteps=5, in_stride=5, weight_addr=3, param_addr=8),
    op(res_mode=1, narrow=1, act=1, act0=5) | dict(out_addr=300, weight_addr=20),
    op(res_mode=2, out_wide=1) | dict(out_addr=330, ksteps=4, tiles=4),
    op(out_wide=1, narrow=1, act=1, act0=9) | dict(out_addr=350, rows=1, tiles=1, ksteps=1, param_addr=4),
    op(in_offset=-1, in_tokens=9) | dict(out_addr=360, rows=3),
    op(in_offset=1, in_tokens=9) | dict(out_addr=390, rows=3, tiles=1, ksteps=4),
    op(in_offset=-1, in_first=1, in_tokens=11) | dict(out_addr=420, rows=2, in_addr=12, out_stride=3),
    op(in_offset=-3, res_mode=1) | dict(out_addr=430, tiles=1),
    op(in_offset=7, in_tokens=20, act=1) | dict(out_addr=450, tiles=2, in_addr=16),
    op(in_offset=-8, in_tokens=20, narrow=1) | dict(out_addr=480, tiles=2, rows=3, in_addr=16),
]


@pytest.mark.parametrize("stall, seed", [(0.0, 1), (0.3, 1), (0.7, 2)])
def test_instructions_back_to_back(stall, seed):
    """Formats, residuals, GELU, rotation and masking, random stalls of every port."""
    check(TINY, MIX, seed=seed, stall=stall)


@pytest.mark.parametrize("stalled", [("rd",), ("wr",), ("go",), ("op",)])
def test_one_port_stalls(stalled):
    check(TINY, MIX[:4], stall=0.85, stalled=stalled)


def test_random_programs():
    rng = random.Random(11)
    program = []
    for n in range(14):
        wide, ksteps, tiles, rows = rng.randrange(2), rng.randrange(1, 9), rng.randrange(1, 5), rng.randrange(1, 4)
        program.append(
            dict(
                rows=rows, tiles=tiles, ksteps=ksteps, in_addr=rng.randrange(40, 80),
                in_stride=rng.randrange(ksteps, 12),
                in_offset=rng.randrange(-4, 5), in_first=rng.randrange(3), in_tokens=rng.randrange(8, 30),
                weight_addr=rng.randrange(60), param_addr=rng.randrange(100), out_addr=256 + 16 * n, out_stride=8,
                out_wide=wide, narrow=rng.randrange(2), res_mode=rng.randrange(3), res_addr=rng.randrange(120, 180),
                res_stride=rng.randrange(12), act=rng.randrange(2), act0=rng.randrange(3, 11),
            )
        )  # fmt: skip
    check(TINY, program, stall=0.2)


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_residual_in_place(stall):
    """The residual stream is updated where it lies; the next instruction reads the result once its rows are done."""
    stream = dict(res_mode=2, out_wide=1, res_addr=128, out_addr=128, res_stride=8, out_stride=8)
    check(
        TINY,
        [
            {**op(), **stream, "tiles": 4, "rows": 3},
            {**op(), **stream, "tiles": 4, "rows": 3, "after": 3, "weight_addr": 30},
            {**op(), "in_addr": 128, "in_stride": 8, "ksteps": 8, "rows": 3, "after": 6},
        ],
        stall=stall,
    )


def spacing(record):
    cycles = [cycle for cycle, _ in record.watched["tile"]]
    return cycles[0], [b - a for a, b in zip(cycles, cycles[1:], strict=False)]


@pytest.mark.parametrize("ksteps", [1, pytest.param(4, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("res_mode, out_wide", [(0, 0), (1, 0), (0, 1), (2, 1)])
def test_no_gaps(ksteps, res_mode, out_wide):
    """One tile in max(ksteps, word / post_channels) cycles, across tiles, rows and instructions; exact latencies."""
    c, phases = TINY, TINY.word // TINY.post_channels
    one = dict(rows=3, tiles=4, ksteps=ksteps, in_stride=8, out_wide=out_wide, res_mode=res_mode)
    record = check(c, [op() | one, op() | one | dict(out_addr=300, weight_addr=50)])
    first, steps = spacing(record)
    rate = max(ksteps, phases)
    if ksteps >= phases:
        assert set(steps) == {ksteps}
    assert record.writes[-1][0] - record.writes[out_wide][0] == rate * len(steps), "one tile after the other"
    reads = [cycle for (cycle,) in record.watched["input"]]
    assert reads[0] == record.goes[0] + mat.GO_TO_READ
    assert reads[:ksteps] == list(range(reads[0], reads[0] + ksteps))
    assert first == reads[0] + mat.READ_TO_STEP + ksteps - 1 + mat.STEP_TO_RESULT
    assert record.writes[0][0] == first + engines.RESULT_TO_PHASE + phases - 1 + engines.phase_to_write(c)
    assert record.done[0] == record.goes[0] + engines.row_latency(c, 4, ksteps, out_wide)


@pytest.mark.parametrize("shape", [dict(ksteps=4, tiles=5, rows=3), dict(ksteps=6, res_mode=2, out_wide=1, act=1)])
def test_wide_words(shape):
    """p2vit's word, lanes and parameter beats: QK^T's pace of a tile in 4 cycles, and a wide residual."""
    record = check(MID, [op(in_offset=-1, in_tokens=10) | shape, op() | shape | dict(out_addr=300, narrow=1)])
    assert set(spacing(record)[1]) == {shape["ksteps"]}


@pytest.mark.slow  # sim/synth/test_presets.py has every module of p2vit read and mapped on every run
def test_verilog_of_p2vit(tmp_path):
    """Every block is emitted once, all names are readable, and Verilator's lint has nothing to say."""
    with emitting() as modules:
        text = convert(Engines(get_config("p2vit")), "vf_engines")
    modules = {**modules, "vf_engines": text}
    assert sum(m.startswith("vf_pe_cell") for m in modules) == sum(m.startswith("vf_post_lane") for m in modules) == 1
    for name, body in modules.items():
        assert body.count("\nmodule ") <= 4 and "$signal" not in body, name
    assert lint(modules, "vf_engines", tmp_path) == ""
