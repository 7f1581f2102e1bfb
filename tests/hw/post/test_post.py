"""Post-processing alone between two engines that are tables of tiles: every write against arith, exact rate."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth import Shape

from vitforge_hw import compute as engines
from vitforge_hw.arch import arith, isa
from vitforge_hw.arch.config import ACC_BITS, AcceleratorConfig, get_config
from vitforge_hw.arch.latency import CYCLES
from vitforge_hw.interfaces import (
    DEST_BUFFER,
    DEST_KSUM,
    DEST_Z,
    FACTOR_BITS,
    MANTISSA_BITS,
    POST_OP,
    RESULTS,
)
from vitforge_hw.post import post
from vitforge_hw.post.post import PostProcess
from vitforge_sim.bench.chunkbench import pack_entries
from vitforge_sim.bench.enginebench import signed
from vitforge_sim.bench.portbench import PortBench
from vitforge_sim.bench.reuse import reused

HYBRID = get_config("tiny_hybrid")  # a tile in two phases, two beats of parameters each
FAST = dataclasses.replace(HYBRID, name="fast", post_channels=8)  # a tile a cycle
#: Trio-ViT's shape: odd cores, weight rows of half words, no GELU; one phase of two beats
SEVEN = AcceleratorConfig(
    name="seven", cores=5, word=16, width=8, trio=True, attention=False, post_channels=16, max_k=96, code_rows=64,
    pool_rows=1024, weight_rows=1024, param_rows=1024, ln_param_rows=512, max_channels=128, max_tokens=32,
    program_rows=1024,
)  # fmt: skip
SLOW = dataclasses.replace(SEVEN, name="slow", post_channels=4)  # four phases on one beat each two

ROWS = 600  #: of the activation buffer
DIVIDE_AT = 64  #: first tile of parameters for divisions: shifts alone


@dataclasses.dataclass
class Tile:
    """What an engine gives: sums [core][lane]; for a division mantissa and p of each core."""

    acc: list[list[int]]
    factor: list[tuple[int, int]] | None


@dataclasses.dataclass
class Work:
    """An engine's instructions, tiles per row, and what must be written: (port, address, data, mask) per row."""

    ops: list[dict] = dataclasses.field(default_factory=list)
    rows: list[list[Tile]] = dataclasses.field(default_factory=list)
    op_of_row: list[int] = dataclasses.field(default_factory=list)
    events: list[list[tuple]] = dataclasses.field(default_factory=list)


def residual_row(addr):
    """The memory's rows repeat through the address space."""
    return addr % (1 << 16) % ROWS


def random_op(rng, c, n, kind, act):
    """Instruction n of a kind; its results lie in an area of their own."""
    op = dict.fromkeys(POST_OP.members, 0)
    tile_beats = c.word * isa.PARAM_BYTES // c.beat_bytes
    op |= dict(
        tiles=rng.randrange(1, 5), rows=rng.randrange(1, 4), groups=rng.choice((0, 0, 1, 2)), skip=rng.randrange(2),
        param_addr=rng.randrange(20) * tile_beats, out_addr=1000 * n + 17, out_stride=rng.randrange(20),
        narrow=rng.randrange(2), act=act,
    )  # fmt: skip
    q3 = rng.randrange(1 << rng.randrange(4, 12))
    op |= dict(act0=rng.randrange(3, 11)) if op["act"] == 1 else dict(act0=q3, act1=min(4095, 2 * q3))
    if kind == "rows":
        op |= dict(out_wide=rng.randrange(2), res_mode=rng.randrange(3), res_addr=rng.randrange(200),
                   res_stride=rng.randrange(12))  # fmt: skip
    elif kind == "divide":
        op |= dict(divide=1, act=0, narrow=1, param_addr=DIVIDE_AT * tile_beats)
    elif kind == "z":
        parts = rng.choice((1, 2))
        op |= dict(dest=DEST_Z, tiles=parts * rng.choice((1, 2)) * c.width, hold=parts * c.width - 1, groups=0, skip=0,
                   weight_addr=rng.randrange(1 << 12), rows=rng.randrange(1, 3), narrow=1, act=0)  # fmt: skip
    elif kind == "ksum":
        op |= dict(dest=DEST_KSUM, groups=0, rows=1, skip=0, weight_addr=rng.randrange(100), act=0, narrow=1)
    else:
        op |= dict(one_bank=1, bank=rng.randrange(c.cores), groups=0, rows=1, skip=0, out_wide=rng.randrange(2))
    return op


def value_of(c, op, acc, entry, factor, residual):
    """One result by the functions of the contract."""
    if op["divide"]:
        return arith.divide(acc, *factor, entry["s1"])
    shifts = dict(eh=max(entry["e"], 0), er=max(-entry["e"], 0), residual=residual)
    out = dict(out_bits=12 if op["out_wide"] else 8, narrow=bool(op["narrow"]))
    plain = {k: entry[k] for k in ("bias", "s2", "offset")}
    kind = dict(act=op["act"], gelu_exp=op["act0"], q3=op["act0"], q6=op["act1"])
    return arith.postprocess(acc, m1=(1 << 15) + entry["m1"], s1=entry["s1"] + 15, **plain, **kind, **shifts, **out)


def work(c, e, ops, memory, entries, rng):
    """Tiles of random size for the instructions, and the writes that must follow, by loops over what the fields say."""
    w, size = Work(ops), rng.randrange(12, 22)
    for n, op in enumerate(ops):
        count = weights = 0
        gather = []
        stride, wide = op["out_stride"], 1 + op["out_wide"]
        for r in range(op["rows"]):
            tiles, events = [], []
            for g in range(op["groups"] + 1):
                at = (1 + op["skip"]) * r * (op["groups"] + 1) + g
                for t in range(op["tiles"]):
                    tile = Tile(
                        [[rng.randrange(-(1 << size), 1 << size) for _ in range(c.lanes)] for _ in range(c.cores)],
                        [arith.divisor_factor(rng.choice((0, rng.randrange(1 << 20))), rng.randrange(2), 5)
                         for _ in range(c.cores)] if op["divide"] else None,
                    )  # fmt: skip
                    tiles.append(tile)
                    part = t if op["dest"] == DEST_BUFFER else count // (op["hold"] + 1)
                    count += 1
                    first = op["param_addr"] * c.beat_bytes // isa.PARAM_BYTES + part * c.lanes
                    residual = np.zeros((c.cores, c.word), np.int64)
                    if op["res_mode"]:
                        a = op["res_addr"] + at * op["res_stride"] + t * op["res_mode"]
                        residual = signed(memory[residual_row(a)])
                        if op["res_mode"] == 2:
                            low, high = (memory[residual_row(a + plane)] for plane in range(2))
                            residual = low.astype(np.int64) + 256 * signed(high)
                    y = np.array([
                        [value_of(c, op, tile.acc[k][i], entries[(first + i) % len(entries)],
                                  tile.factor and tile.factor[k], int(residual[k, i])) for i in range(c.lanes)]
                        for k in range(c.cores)
                    ])  # fmt: skip
                    if op["one_bank"]:
                        y[op["bank"]] = y[0]
                    planes = [(y & 255).astype(np.uint8), (y >> 8 & 255).astype(np.uint8)][:wide]
                    if op["dest"] == DEST_BUFFER:
                        for p, plane in enumerate(planes):
                            banks = [op["bank"]] if op["one_bank"] else range(c.cores)
                            data = tuple(plane[b].tobytes() for b in banks)
                            a = (op["out_addr"] + at * stride + t * wide + p) % (1 << 16)
                            events.append(("wr", a, data, sum(1 << b for b in banks)))
                    elif op["dest"] == DEST_KSUM:
                        events.append(("ksum", (op["weight_addr"] + t) % (1 << 16), planes[0][0].tobytes(), None))
                    else:
                        gather.append(planes[0][0])
                        if len(gather) == c.width:
                            data = np.stack(gather, axis=1).tobytes()  # [lane][tile]
                            a = (op["weight_addr"] + weights) % (1 << 16)
                            events.append(("z", a, data, (1 << c.beats_per_weight_row) - 1))
                            gather, weights = [], weights + 1
            w.rows.append(tiles)
            w.events.append(events)
            w.op_of_row.append(n)
    return w


class Bench(PortBench):
    """PostProcess, memories that stall at random, and engines that give their tiles with random gaps.

    gaps: probability that an engine gives nothing in a cycle; late: that a factor does not come; shut: cycles in which
    no result is taken, at the beginning; alone: an instruction comes when all before it are done; options: PortBench's.
    """

    def __init__(self, c, works, memory, params, *, gaps=0.0, late=0.0, shut=0, alone=False, **options):
        dut = reused(PostProcess, c)
        super().__init__(dut, **options)
        self.c, self.works, self.params = c, works, params
        self.gaps, self.late = gaps, late
        self.shut = shut * (len(works) + ("rmac" in works))  # of each port
        self.done = {e: [] for e in works}
        self.pops = {e: [] for e in works}
        self.tiles = {e: [] for e in works}
        self.accepted = {e: [] for e in works}
        self.written = {(e, "wr"): [] for e in works}
        for e in works:
            may = lambda n, e=e: not alone or len(self.done[e]) >= sum(op < n for op in works[e].op_of_row)  # noqa: E731
            self.add(self.offer, getattr(dut, e).op, works[e].ops, "op", self.accepted[e], may)
            self.add(self._engine, e)
            row = lambda addr: int.from_bytes(memory[residual_row(addr)].tobytes(), "little")  # noqa: E731
            self.read_port(getattr(dut, f"{e}_res"), row)
            self.write_port(getattr(dut, f"{e}_wr"), log=self.written[e, "wr"])
        if "rmac" in works:
            self.write_port(dut.z, log=self.written.setdefault(("rmac", "z"), []))
            self.watch("ksum", dut.ksum_wr.valid, dut.ksum_wr.addr, dut.ksum_wr.data)
        self.memory_port(dut.params, self._params)

    def free(self, what):
        if what == "wr" and self.shut:
            self.shut -= 1
            return False
        return self.rng.random() >= (self.gaps if what == "op" else self.stall)

    def _params(self, addr):
        """A beat address, rounded down to whole reads, as memory.weights.ParameterMemory has it."""
        c, beats = self.c, self.c.param_read_bytes // self.c.beat_bytes
        first = addr % len(self.params) // beats * beats
        return sum(self.params[first + i] << 8 * c.beat_bytes * i for i in range(beats))

    async def _engine(self, ctx, e):
        port, w = getattr(self.dut, e), self.works[e]
        went = getattr(self.dut, f"{e}_went")
        tiles = [(r, t) for r, row in enumerate(w.rows) for t in row]
        factors = [(i, t.factor) for i, (_, t) in enumerate(tiles) if t.factor]
        rows = sent = factored = cycle = 0
        credit = RESULTS
        while True:
            go = rows < len(w.rows) and w.op_of_row[rows] < len(self.accepted[e]) and self.rng.random() >= self.gaps
            give = sent < len(tiles) and tiles[sent][0] < rows and credit > 0 and self.rng.random() >= self.gaps
            ctx.set(went, go)
            ctx.set(port.tile_valid, give)
            if give:
                flat = [a & (1 << ACC_BITS) - 1 for core in tiles[sent][1].acc for a in core]
                ctx.set(port.tile_acc, sum(a << ACC_BITS * i for i, a in enumerate(flat)))
                self.tiles[e].append(cycle)
            ahead = factored < len(factors) and factors[factored][0] < sent + RESULTS
            factor = ahead and self.rng.random() >= self.late
            ctx.set(port.factor_valid, factor)
            if factor:
                value = [m | p << MANTISSA_BITS for m, p in factors[factored][1]]
                ctx.set(port.factor, sum(v << FACTOR_BITS * i for i, v in enumerate(value)))
            _, _, popped, done = await ctx.tick().sample(port.popped, port.done)
            rows, sent, factored = rows + go, sent + give, factored + factor
            credit += popped - give
            if popped:
                self.pops[e].append(cycle)
            if done:
                self.done[e].append(cycle)
            cycle += 1

    @property
    def events(self):
        """Writes of each engine: (cycle, port, address, data, mask), a port's in order."""
        c, events = self.c, {e: [] for e in self.works}
        for (e, name), writes in self.written.items():
            for cycle, addr, data, mask in writes:
                if name == "wr":
                    raw = data.to_bytes(c.row_bytes, "little")
                    value = tuple(raw[i * c.word : (i + 1) * c.word] for i in range(c.cores) if mask >> i & 1)
                else:
                    value = data.to_bytes(c.weight_row_bytes, "little")
                events[e].append((cycle, name, addr, value, mask))
        for cycle, addr, data in self.record.watched.get("ksum", []):
            events["rmac"].append((cycle, "ksum", addr, data.to_bytes(c.word, "little"), None))
        return events

    def run(self, limit=20000):
        async def main(ctx):
            for _ in range(limit):
                if all(len(self.done[e]) >= len(w.rows) for e, w in self.works.items()):
                    break
                await ctx.tick()
            else:
                raise TimeoutError(f"rows done: { {e: len(d) for e, d in self.done.items()} }")
            await ctx.tick().repeat(30)

        self.sim.add_testbench(main)
        self.sim.run()
        return self


def surroundings(c, seed):
    """Random residual rows; parameter entries that keep results alive, those of divisions shifts alone."""
    rng = random.Random(seed)
    memory = np.random.default_rng(seed).integers(0, 256, (ROWS, c.cores, c.word), dtype=np.uint8)
    entries = [
        dict(bias=rng.randrange(-2000, 2000), m1=rng.randrange(1 << 15), s1=rng.randrange(4, 10),
             e=rng.randrange(-4, 8), s2=rng.randrange(2, 16), offset=rng.randrange(-60, 60))
        for _ in range(DIVIDE_AT * c.word)
    ]  # fmt: skip
    entries += [dict(bias=0, m1=0, s1=rng.randrange(4, 12), e=0, s2=0, offset=0) for _ in range(8 * c.word)]
    params = pack_entries(isa.POST_PARAM_FIELDS, entries, c.beat_bytes)
    return memory, entries, params + [0] * (-len(params) % 8)


def check(c, programs, seed=1, **options):
    """Runs the engines' instructions; compares every write, its row's ``done``, the number of tiles taken."""
    memory, entries, params = surroundings(c, seed)
    works = {e: work(c, e, ops, memory, entries, random.Random(seed)) for e, ops in programs.items()}
    bench = Bench(c, works, memory, params, seed=seed, **options).run()
    for e, w in works.items():
        want = [event for row in w.events for event in row]
        got = [event[1:] for event in sorted(bench.events[e], key=lambda event: event[0])]
        assert [g[:2] for g in got] == [x[:2] for x in want], f"{e}: ports and addresses"
        for n, (g, x) in enumerate(zip(got, want, strict=True)):
            assert g == x, f"{e}: write {n}, {x[:2]}"
        ends = np.cumsum([len(row) for row in w.events]) - 1
        cycles = sorted(event[0] for event in bench.events[e])
        assert bench.done[e] == [cycles[i] + engines.WRITE_TO_DONE for i in ends]
        assert len(bench.pops[e]) == sum(len(row) for row in w.rows)
    return bench


def programs(c, seed, count):
    """Instructions of every kind and activation, shuffled; plain rows most often."""
    rng, out = random.Random(seed), {}
    for e in c.engine_names:
        kinds = [("rows", act) for act in ((0, 1, 2) if c.attention else (0, 2))] + [("divide", 0)]
        kinds += [("z", 0), ("ksum", 0), ("pool", 2)] if e == "rmac" else []
        kinds += rng.choices(kinds, k=count - len(kinds))
        rng.shuffle(kinds)
        out[e] = [random_op(rng, c, n, *kind) for n, kind in enumerate(kinds)]
    return out


@pytest.mark.parametrize("seed, options", [
    (1, {}),
    (2, dict(gaps=0.3, stall=0.3, late=0.5)),
    pytest.param(3, dict(gaps=0.1, stall=0.8), marks=pytest.mark.slow),
    pytest.param(4, dict(gaps=0.8, stall=0.1, late=0.9), marks=pytest.mark.slow),
])  # fmt: skip
def test_every_kind_of_instruction(seed, options):
    """All destinations, formats and activations of two engines at once."""
    check(HYBRID, programs(HYBRID, seed, 10), seed=seed, **options)


def far(rng, ops):
    """The same instructions at any addresses, with any strides: every bit of each set and clear."""
    beats = DIVIDE_AT * HYBRID.word * isa.PARAM_BYTES // HYBRID.beat_bytes * 9 // 8  # of all parameters
    other = {}
    for op in ops:
        residual = ("res_addr", "res_stride") if op["res_mode"] else ()
        for name in ("out_addr", "out_stride", "weight_addr", *residual):
            bits = Shape.cast(POST_OP.members[name]).width
            if name in other:
                op[name] = other.pop(name)
            else:
                op[name] = rng.getrandbits(bits)
                other[name] = ~op[name] & (1 << bits) - 1
        op["param_addr"] += beats * rng.randrange((1 << 16) // beats - 1)
    return ops


def test_far_addresses():
    """Every kind of instruction anywhere in the memories; addresses go on behind the last at 0."""
    ops = {e: far(random.Random(e), ops) for e, ops in programs(HYBRID, 6, 14).items()}
    check(HYBRID, ops, seed=6, gaps=0.1, stall=0.1)


@pytest.mark.slow
def test_everything_waits():
    """No result is taken until results, factors, residual rows, sums and instructions wait in every place; then all
    come through, in order."""
    c = HYBRID
    few = [stream_op(c, n, tiles=1, rows=1, groups=0, res_mode=n % 3, narrow=1) for n in range(3, 14)]
    divide = stream_op(c, 0, tiles=6, rows=1, groups=11, divide=1, res_mode=0, narrow=1,
                       param_addr=DIVIDE_AT * c.word * isa.PARAM_BYTES // c.beat_bytes)  # fmt: skip
    residual = stream_op(c, 1, tiles=70, rows=1, groups=0, res_mode=2, out_wide=1)
    bench = check(c, {"mat": [residual, *few], "rmac": [divide, *few]}, seed=7, shut=220)
    assert all(len(bench.tiles[e]) > 2 * RESULTS for e in bench.works)


@pytest.mark.slow
def test_one_instruction_after_the_other():
    """Each finds empty queues, and itself in them."""
    check(HYBRID, programs(HYBRID, 9, 9), seed=9, gaps=0.1, alone=True)


@pytest.mark.slow
def test_long_instructions():
    """As many tiles, groups, rows and shared parameters as their counters hold."""
    c = HYBRID
    shapes = [(40, 2, 1), (1, 1, 120), (1, 298, 0), (1030, 1, 0)]
    ops = [stream_op(c, n, tiles=t, rows=r, groups=g, res_mode=n % 3, narrow=1) for n, (t, r, g) in enumerate(shapes)]
    z = stream_op(c, 4, dest=DEST_Z, tiles=32 * c.width, hold=255, rows=1, groups=0, res_mode=0, narrow=1)
    check(c, {"mat": ops, "rmac": [z, *ops]}, seed=8, gaps=0.6, stall=0.1)


@pytest.mark.parametrize(
    "config", [FAST, *(pytest.param(c, marks=pytest.mark.slow) for c in (SEVEN, SLOW))], ids=lambda c: c.name
)
def test_other_shapes(config):
    """A tile a cycle; odd cores and no GELU, parameters of two beats at once, or of a beat for two phases."""
    check(config, programs(config, 5, 8), seed=5, gaps=0.2, stall=0.3, late=0.3, simulators=())


def stream_op(c, n, **fields):
    tile_beats = c.word * isa.PARAM_BYTES // c.beat_bytes
    return dict.fromkeys(POST_OP.members, 0) | dict(
        tiles=8, rows=4, groups=1, param_addr=n * tile_beats, out_addr=1000 * n, out_stride=8, res_addr=8 * n,
        res_stride=8, res_mode=1,
    ) | fields  # fmt: skip


@pytest.mark.parametrize(
    "config, names",
    [
        pytest.param(c, names, id=f"{'-'.join(names)}-{c.name}", marks=alone)
        for c in (HYBRID, FAST) for names in (("mat", "rmac"), ("rmac",), ("mat",))
        for alone in [pytest.mark.slow if c is FAST or names == ("mat",) else ()]  # the same as the others
    ],
)  # fmt: skip
def test_rate(config, names):
    """A tile in word / post_channels cycles whoever offers it, both engines in turn; the stated latency."""
    c, every = config, config.word // config.post_channels
    residual = int(len(names) > 1)  # its fetch of one engine pauses a cycle between rows
    work = {e: [stream_op(c, n, res_mode=residual) for n in range(3) if e in names] for e in c.engine_names}
    bench = check(c, work, simulators=())
    first = bench.tiles[names[0]][0]
    pops = sorted(cycle for e in names for cycle in bench.pops[e])
    steady = pops[2 * RESULTS :]
    assert len(pops) == 3 * 64 * len(names) and set(np.diff(steady[:-RESULTS])) == {every}
    if len(names) == 2:
        for e in names:
            assert set(np.diff(bench.pops[e][RESULTS:-RESULTS])) == {2 * every}, "in turn"
    writes = sorted(event[0] for e in names for event in bench.events[e])
    assert writes[-1] - writes[2 * RESULTS] == every * (len(writes) - 1 - 2 * RESULTS)
    if len(names) == 1:
        start = bench.pops[names[0]][0] - post.FETCH  # the last phase
        assert start >= first + engines.RESULT_TO_PHASE + every - 1
        assert writes[0] == start + engines.phase_to_write(c)


def test_latency():
    """A tile that meets idle lanes."""
    c = HYBRID
    bench = check(c, {"mat": [stream_op(c, 0, res_mode=0, tiles=1, rows=1, groups=0)], "rmac": []}, simulators=())
    phases, constant = c.word // c.post_channels, CYCLES.mat_phase_to_write + CYCLES.trio_lanes
    assert bench.events["mat"][0][0] == bench.tiles["mat"][0] + engines.RESULT_TO_PHASE + phases - 1 + constant
