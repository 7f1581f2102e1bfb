"""Both engines with their shared post-processing on real memories: linear attention, a layer split row by row."""

import numpy as np
import pytest

from vitforge_hw.arch import arith, isa
from vitforge_hw.arch.config import AcceleratorConfig, get_config
from vitforge_hw.compute import Engines
from vitforge_sim.bench.chunkbench import pack_entries
from vitforge_sim.bench.enginebench import packed_op
from vitforge_sim.bench.portbench import PortBench
from vitforge_sim.bench.reuse import reused

SMALL = dict(
    trio=True, width=8, max_k=96, window_rows=64, ksum_rows=32, pool_rows=1024, weight_rows=1024, param_rows=1024,
    ln_param_rows=512, max_channels=128, max_tokens=64, program_rows=1024, masters=1, read_fifo_beats=64,
)  # fmt: skip
#: tiny_hybrid's shape, trio's shape
FOUR = AcceleratorConfig(name="four", cores=4, word=8, post_channels=4, attend_keys=2, code_rows=128, **SMALL)
FIVE = AcceleratorConfig(
    name="five", cores=5, word=16, attention=False, post_channels=16, code_rows=64, **SMALL
)  # fmt: skip

HEADS, WIDTH, HEIGHT, GROUPS, LO, RULE = 2, 7, 3, 2, 6, 1
Q, K, V, Z, KSUM, ATTENDED = 16, 40, 80, 100, 4, 300
X, RESIDUAL, Y, ROWS, KSTEPS, TILES = 400, 500, 600, 4, 2, 3
SUM_PARAMS, Z_PARAMS, SHIFTS, LAYER_PARAMS = 0, HEADS, 2 * HEADS, 3 * HEADS  # in tiles of parameters
Q3 = 40


def instructions(c, divider):
    """Sums of keys, Z and the odd rows of a layer on R-MAC; its even rows on MAT; then Q Z with division on either."""
    beats = c.word * isa.PARAM_BYTES // c.beat_bytes
    zero = {f.name: 0 for f in isa.OP_FIELDS[isa.Chunk.MAT] if f is not isa.W4_FIELD}
    window = dict(in_stride=HEADS, in_groups=GROUPS, width=WIDTH, height=HEIGHT, narrow=1)
    half = zero | dict(
        rows=ROWS // 2, tiles=TILES, ksteps=KSTEPS, groups=GROUPS - 1, skip=1, in_stride=KSTEPS, weight_addr=0,
        param_addr=LAYER_PARAMS * beats, out_stride=TILES, res_mode=1, res_stride=TILES, act=2, act0=Q3, act1=2 * Q3,
    )  # fmt: skip
    row = lambda base, words, n: base + n * GROUPS * words  # noqa: E731
    even, odd = (
        half | dict(in_addr=row(X, KSTEPS, n), out_addr=row(Y, TILES, n), res_addr=row(RESIDUAL, TILES, n))
        for n in range(2)
    )
    rmac = [
        window | dict(kind=isa.TOKEN_SUM, rows=1, in_addr=K, blocks=HEADS, relu=1, dest=1, weight_addr=KSUM,
                      param_addr=SUM_PARAMS * beats),
        window | dict(kind=isa.KEY_VALUE, rows=HEADS, in_addr=K, v_addr=V, blocks=1, weight_addr=Z,
                      param_addr=Z_PARAMS * beats),
        odd | dict(kind=isa.POINTWISE),
    ]  # fmt: skip
    divide = zero | dict(
        rows=HEIGHT, tiles=HEADS, gtiles=1, ksteps=1, in_words=HEADS, groups=GROUPS - 1, in_addr=Q, in_stride=HEADS,
        relu=1, weight_addr=Z, param_addr=SHIFTS * beats, out_addr=ATTENDED, out_stride=HEADS, narrow=1, divide=1,
        act0=LO, act1=KSUM | RULE << 11,
    )  # fmt: skip
    programs = {"mat": [even], "rmac": rmac}
    programs[divider].append(divide | (dict(kind=isa.POINTWISE) if divider == "rmac" else {}))
    return programs


class Bench(PortBench):
    """Engines, memories that they write, sequencers that let the division wait for R-MAC's first rows."""

    def __init__(self, c, memory, weights, params, programs, **options):
        self.c, self.memory, self.weights = c, memory, weights
        self.ksum = np.zeros((32, c.word), np.int8)
        dut = reused(Engines, c)
        super().__init__(dut, **options)
        self.programs = programs
        self.done = dict.fromkeys(self.programs, 0)
        self.accepted = {e: [] for e in self.programs}
        beats = c.param_read_bytes // c.beat_bytes
        number = lambda rows: int.from_bytes(rows.tobytes(), "little")  # noqa: E731

        def parameters(addr):
            assert addr % beats == 0
            first = addr % len(params) // beats * beats
            return sum(p << 8 * c.beat_bytes * i for i, p in enumerate(params[first : first + beats]))

        self.memory_port(dut.params, parameters)
        for e, ops in self.programs.items():
            port = lambda name, e=e: getattr(dut, f"{e}_{name}")  # noqa: E731
            ctl = port("ctl")
            packed = [packed_op(ctl.op, isa.Chunk[e.upper()], op) for op in ops]
            self.add(self.offer, ctl.op, packed, "op", self.accepted[e])
            rows = [(n, r) for n, op in enumerate(ops) for r in range(op["rows"])]
            last = [int(r == ops[n]["rows"] - 1) for n, r in rows]
            self.add(self.offer, ctl.go, last, "go", [], lambda i, e=e, rows=rows: self._may_go(e, rows[i][0]))
            for name in ("rd", "res"):
                self.read_port(port(name), lambda addr: number(self.memory[addr]))
            self.write_port(port("wr"), self._put)
            self.memory_port(port("weights"), lambda addr: number(self.weights[addr % len(self.weights)]))
            self.memory_port(port("ksum"), lambda addr: number(self.ksum[addr % len(self.ksum)]))
        self.write_port(dut.z, self._put_z)
        self.add(self._ksum)

    def _may_go(self, e, n):
        waits = self.programs[e][n].get("divide") and self.done["rmac"] < 1 + HEADS
        return len(self.accepted[e]) > n and not waits

    def _put(self, addr, data, mask):
        c = self.c
        assert mask == (1 << c.cores) - 1
        self.memory[addr] = np.frombuffer(data.to_bytes(c.row_bytes, "little"), np.int8).reshape(c.cores, c.word)

    def _put_z(self, addr, data, mask):
        assert mask == (1 << self.c.beats_per_weight_row) - 1
        self.weights[addr] = np.frombuffer(data.to_bytes(self.c.weight_row_bytes, "little"), np.int8)

    async def _ksum(self, ctx):
        port = self.dut.ksum_wr
        async for _, _, valid, addr, data in ctx.tick().sample(port.valid, port.addr, port.data):
            if valid:
                self.ksum[addr] = np.frombuffer(data.to_bytes(self.c.word, "little"), np.int8)

    def run(self, limit=6000):
        rows = {e: sum(op["rows"] for op in ops) for e, ops in self.programs.items()}

        async def main(ctx):
            for _ in range(limit):
                _, _, *done = await ctx.tick().sample(self.dut.mat_ctl.done, self.dut.rmac_ctl.done)
                for e, d in zip(("mat", "rmac"), done, strict=True):
                    self.done[e] += d
                if self.done == rows:
                    break
            assert self.done == rows
            await ctx.tick()
            _, _, *busy = await ctx.tick().sample(self.dut.mat_busy, self.dut.rmac_busy)
            assert not any(busy)

        self.sim.add_testbench(main)
        self.sim.run()


def post(acc, entry, residual=0, **kind):
    e = entry["e"]
    return arith.postprocess(
        int(acc), bias=entry["bias"], m1=(1 << 15) + entry["m1"], s1=entry["s1"] + 15, eh=max(e, 0), er=max(-e, 0),
        s2=entry["s2"], offset=entry["offset"], residual=int(residual), **kind,
    )  # fmt: skip


def pixels(c, memory, base, words, rows):
    """[row][group][core][channel], padding included."""
    flat = memory[base : base + rows * GROUPS * words].reshape(rows, GROUPS, words, c.cores, c.word)
    return flat.transpose(0, 1, 3, 2, 4).reshape(rows, GROUPS, c.cores, words * c.word).astype(np.int64)


@pytest.mark.parametrize(
    "config, divider, stall, simulators",
    [
        pytest.param(get_config("tiny_hybrid"), "rmac", 0.0, ("verilator",), marks=pytest.mark.slow),
        pytest.param(get_config("tiny_hybrid"), "mat", 0.2, ("verilator",), marks=pytest.mark.slow),
        pytest.param(FOUR, "mat", 0.4, (), marks=pytest.mark.slow),
        pytest.param(FIVE, "mat", 0.2, (), marks=pytest.mark.slow),
    ],
)
def test_linear_attention_beside_a_split_layer(config, divider, stall, simulators):
    c, rng = config, np.random.default_rng(21)
    memory = rng.integers(-128, 128, (1024, c.cores, c.word)).astype(np.int8)
    memory[V : V + 20] = np.maximum(memory[V : V + 20], -127)
    weights = rng.integers(-127, 128, (256, c.weight_row_bytes)).astype(np.int8)
    draw = lambda lo, hi: int(rng.integers(lo, hi))  # noqa: E731
    entries = [dict(bias=draw(-20, 20), m1=draw(0, 1 << 15), s1=0, e=0, s2=draw(4, 6), offset=0)
               for _ in range(HEADS * c.word)]  # fmt: skip
    entries += [dict(bias=draw(-99, 99), m1=draw(0, 1 << 15), s1=5, e=0, s2=draw(3, 5), offset=0)
                for _ in range(HEADS * c.word)]  # fmt: skip
    entries += [dict(bias=0, m1=0, s1=draw(0, 3), e=0, s2=0, offset=0) for _ in range(HEADS * c.word)]
    entries += [dict(bias=draw(-999, 999), m1=draw(0, 1 << 15), s1=8, e=draw(-6, 1), s2=draw(6, 9),
                     offset=draw(-20, 20)) for _ in range(TILES * c.word)]  # fmt: skip
    params = pack_entries(isa.POST_PARAM_FIELDS, entries, c.beat_bytes)
    before, fixed = memory.copy(), weights.copy()
    bench = Bench(c, memory, weights, params, instructions(c, divider), seed=3, stall=stall, simulators=simulators)
    bench.run()

    # ---- the layer, all rows
    steps = c.word // c.width
    x = pixels(c, before, X, KSTEPS, ROWS)
    matrix = fixed[: TILES * KSTEPS * steps].reshape(TILES, KSTEPS * steps, c.lanes, c.width).transpose(0, 2, 1, 3)
    acc = x @ matrix.reshape(TILES * c.lanes, KSTEPS * c.word).astype(np.int64).T
    residual, got = pixels(c, before, RESIDUAL, TILES, ROWS), pixels(c, memory, Y, TILES, ROWS)
    for at in np.ndindex(got.shape):
        entry = entries[LAYER_PARAMS * c.word + at[-1]]
        assert got[at] == post(acc[at], entry, residual[at], act=2, q3=Q3, q6=2 * Q3), at
    assert len(set(got.ravel())) > 50

    # ---- attention: [pixel][channel] without padding
    q, k, v = (
        pixels(c, before, base, HEADS, HEIGHT).reshape(HEIGHT, -1, HEADS * c.word)[:, :WIDTH].reshape(-1, HEADS, c.word)
        for base in (Q, K, V)
    )
    out = pixels(c, memory, ATTENDED, HEADS, HEIGHT).reshape(HEIGHT, -1, HEADS * c.word)[:, :WIDTH]
    out = out.reshape(-1, HEADS, c.word)
    alive = set()
    for head in range(HEADS):
        entry = lambda what, i, head=head: entries[(what + head) * c.word + i]  # noqa: E731
        keys = k[:, head].T.tolist()
        ksum = [post(arith.key_sum(key), entry(SUM_PARAMS, i), narrow=True) for i, key in enumerate(keys)]
        assert bench.ksum[KSUM + head].tolist() == ksum
        z = [
            [post(arith.key_value(key, v[:, head, e].tolist()), entry(Z_PARAMS, e), narrow=True) for key in keys]
            for e in range(c.word)
        ]
        rows = weights[Z + head * steps : Z + (head + 1) * steps].reshape(steps, c.lanes, c.width)
        assert rows.transpose(1, 0, 2).reshape(c.lanes, c.word).tolist() == z
        for n, query in enumerate(q[:, head].tolist()):
            factor = arith.divisor_factor(arith.query_product(query, ksum), RULE, LO)
            for e in range(c.word):
                dividend = arith.query_product(query, z[e])
                assert out[n, head, e] == arith.divide(dividend, *factor, entry(SHIFTS, e)["s1"]), (n, head, e)
                alive.add(int(out[n, head, e]))
    assert len(alive) > 20


def layer(x, matrix, entries, residual):
    """A layer of one tile: x [group][core][input], matrix [lane][input], residual [group][core][lane]."""
    acc = x.astype(np.int64) @ matrix.astype(np.int64).T
    out = np.empty_like(acc)
    for at in np.ndindex(acc.shape):
        out[at] = post(acc[at], entries[at[-1]], residual[at])
    return out


@pytest.mark.slow
def test_many_rows_and_groups_at_any_address():
    """Both engines at once, rows of 40 groups, 303 rows of one, few: counters and addresses of many bits end rightly.

    Five steps a tile: post-processing, of two cycles for each engine, has gaps of odd length."""
    c, rng = get_config("tiny_hybrid"), np.random.default_rng(4)
    size, steps, tile = 1 << 16, 5, c.word * isa.PARAM_BYTES // c.beat_bytes
    memory = rng.integers(-128, 128, (size, c.cores, c.word)).astype(np.int8)
    weights = rng.integers(-127, 128, (size, c.weight_row_bytes)).astype(np.int8)
    draw = lambda lo, hi: int(rng.integers(lo, hi))  # noqa: E731
    entries = [dict(bias=draw(-999, 999), m1=draw(0, 1 << 15), s1=5, e=draw(-6, 1), s2=draw(4, 7), offset=draw(-20, 20))
               for _ in range(256 * c.word)]  # fmt: skip
    params = pack_entries(isa.POST_PARAM_FIELDS, entries, c.beat_bytes)
    before = memory.copy()
    programs, taken = {"mat": [], "rmac": []}, np.zeros(size, bool)

    def free(span):
        """Address of so many rows that no other instruction has."""
        while True:
            place = slice(at := draw(0, size - span), at + span)
            if not taken[place].any():
                taken[place] = True
                return at

    for rows, groups in ((2, 40), (303, 1), (3, 2)):
        for engine, ops in programs.items():
            stride = draw(steps, 9)
            op = {f.name: 0 for f in isa.OP_FIELDS[isa.Chunk.MAT] if f is not isa.W4_FIELD} | dict(
                rows=rows, tiles=1, ksteps=steps, groups=groups - 1,
                in_addr=free(rows * groups * stride), in_stride=stride,
                weight_addr=draw(0, size - steps), param_addr=draw(0, size // tile) * tile, res_mode=1,
                out_addr=free(rows * groups), out_stride=1, res_addr=free(rows * groups), res_stride=1,
            )  # fmt: skip
            ops.append(op | (dict(kind=isa.POINTWISE) if engine == "rmac" else {}))
    bench = Bench(c, memory, weights, params, programs, seed=4, stall=0.1, simulators=("verilator",))
    bench.run(20_000)
    for engine, ops in programs.items():
        for op in ops:
            groups = op["rows"] * (op["groups"] + 1)
            at = lambda name, step=1, op=op, n=groups: op[f"{name}_addr"] + np.arange(n) * step  # noqa: E731
            words, rows = at("in", op["in_stride"])[:, None] + np.arange(steps), op["weight_addr"] + np.arange(steps)
            x = before[words].transpose(0, 2, 1, 3).reshape(groups, c.cores, -1)
            matrix = weights[rows].reshape(steps, c.lanes, c.width).transpose(1, 0, 2).reshape(c.lanes, -1)
            want = layer(x, matrix, entries[op["param_addr"] // tile % 256 * c.word :], before[at("res")])
            assert np.array_equal(memory[at("out")], want), (engine, op)
