"""Activation buffer (arbitration, rotator, latency), weight buffer, parameter and Ksum memories against lists."""

import dataclasses
import functools
import random

import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.memory.activation import ActivationBuffer, readers, writers
from vitforge_hw.memory.weights import KsumMemory, ParameterMemory, WeightBuffer
from vitforge_sim.bench.replay import Simulator
from vitforge_sim.bench.reuse import reused

PRESETS = {name: get_config(name) for name in ("tiny", "tiny_hybrid", "trio", "hybrid")}
SEVEN = dataclasses.replace(PRESETS["trio"], name="seven", pool_rows=64)  # 7 banks, small enough for every run
PAIRS = dataclasses.replace(SEVEN, name="pairs", pool_words=2)
TURNED = dataclasses.replace(PRESETS["tiny_hybrid"], name="turned", pool_words=2)  # beside the rotator
CONFIGS = [PRESETS["tiny"], PRESETS["tiny_hybrid"], SEVEN, PAIRS]


def simulate(dut, *processes):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for p in processes:
        sim.add_testbench(p)
    sim.run()


def test_clients():
    """Which ports there are, in order of priority."""
    assert readers(PRESETS["tiny"]) == ("mat_in", "mat_res", "layernorm", "softmax", "shifter", "loader", "result")
    assert writers(PRESETS["tiny"]) == ("mat", "layernorm", "shifter", "image")
    assert readers(PRESETS["trio"]) == ("mat_in", "rmac_in", "mat_res", "rmac_res", "layernorm", "result")
    assert writers(PRESETS["trio"]) == ("mat", "rmac", "layernorm", "image")
    both = ("mat_in", "rmac_in", "mat_res", "rmac_res", "layernorm", "softmax", "shifter", "loader", "result")
    assert readers(PRESETS["hybrid"]) == both
    assert writers(PRESETS["hybrid"]) == ("mat", "rmac", "layernorm", "shifter", "image")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("seed", range(3))
def test_activation_buffer(config, seed):
    """Random writes by every client (some of few banks), then random reads by all at once: data, order, latency 2."""
    rng = random.Random(seed)
    dut = reused(ActivationBuffer, config)
    rows = [rng.randrange(config.act_rows) for _ in range(40)] + [0, config.pool_rows - 1, config.pool_rows]
    rows = list(dict.fromkeys(rows))
    word = config.word * 8
    content, writers_left, readers_left = {}, [len(writers(config))], [len(readers(config))]

    async def writer(ctx, name, mine):
        port = getattr(dut, f"write_{name}")
        everything = (1 << config.cores) - 1
        for addr, mask in [(a, everything) for a in mine] + [(a, rng.getrandbits(config.cores)) for a in mine]:
            value = rng.getrandbits(config.row_bytes * 8)
            kept = sum(((1 << word) - 1) << b * word for b in range(config.cores) if not mask >> b & 1)
            content[addr] = content.get(addr, 0) & kept | value & ~kept
            ctx.set(port.addr, addr)
            ctx.set(port.data, value)
            ctx.set(port.mask, mask)
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            ctx.set(port.valid, 0)
        writers_left[0] -= 1

    async def reader(ctx, name):
        while writers_left[0]:
            await ctx.tick()
        await ctx.tick().repeat(2)
        port = getattr(dut, f"read_{name}")
        expected, cycle = [], 0
        for _ in range(60):
            addr, offset = rng.choice(rows), 0
            ctx.set(port.addr, addr)
            banks = [addr] * config.cores
            if name == "mat_in" and config.attention:
                offset = rng.randrange(config.cores)
                pool = addr // config.pool_rows
                upper = rng.choice([r for r in rows if r // config.pool_rows == pool])
                mask = rng.getrandbits(config.cores)
                ctx.set(port.addr_upper, upper)
                ctx.set(port.upper, mask)
                ctx.set(port.offset, offset)
                banks = [upper if mask >> b & 1 else addr for b in range(config.cores)]
            want = 0
            for lane in range(config.cores):
                bank = (lane + offset) % config.cores
                want |= (content[banks[bank]] >> bank * word & (1 << word) - 1) << lane * word
            ctx.set(port.valid, rng.random() < 0.7)
            accepted = ctx.get(port.valid & port.ready)
            expected.append((cycle + 2, want) if accepted else (cycle + 2, None))
            _, _, valid, data = await ctx.tick().sample(port.data_valid, port.data)
            if cycle >= 2:
                due, value = expected[cycle - 2]
                assert due == cycle and valid == (value is not None)
                if value is not None:
                    assert data == value, (name, cycle)
            cycle += 1
        ctx.set(port.valid, 0)
        readers_left[0] -= 1

    names = writers(config)
    processes = [functools.partial(writer, name=n, mine=rows[i :: len(names)]) for i, n in enumerate(names)]
    processes += [functools.partial(reader, name=n) for n in readers(config)]
    simulate(dut, *processes)
    assert readers_left == [0]


@pytest.mark.slow
@pytest.mark.parametrize("config", [*CONFIGS, TURNED], ids=lambda c: c.name)
def test_activation_buffer_traffic(config):
    """Every client reads or writes a few rows of each pool at random, all at once: the first in the order has its
    pool, its data two cycles later; what is not valid does nothing."""
    rng = random.Random(1)
    dut = reused(ActivationBuffer, config)
    hot = [p * config.pool_rows + rng.randrange(config.pool_rows) for p in range(config.pools) for _ in range(6)]
    hot += [addr ^ 1 for addr in hot if config.pool_words == 2]
    word, row = config.word * 8, config.row_bytes * 8
    content, written, late = dict.fromkeys(hot, 0), dict.fromkeys(hot, -9), 3

    def request(ctx, port, busy, taken, **more):
        """Random levels at a port; True if it has its pool."""
        addr, valid = rng.choice(hot), rng.random() < busy
        for name, level in {"addr": addr, "valid": valid, **more}.items():
            ctx.set(getattr(port, name), level)
        pool = addr // config.pool_rows
        mine = valid and pool not in taken
        if valid:
            taken.add(pool)
        return addr, mine

    def lanes(addr, upper, mask, offset):
        """The row as the rotator turns it."""
        banks = [(lane + offset) % config.cores for lane in range(config.cores)]
        return sum(
            (content[upper if mask >> b & 1 else addr] >> b * word & (1 << word) - 1) << lane * word
            for lane, b in enumerate(banks)
        )

    async def bench(ctx):
        pipes, checked = {n: [None, None] for n in readers(config)}, 0
        seconds, pairs = [None, None], 0
        for cycle in range(1500):
            busy, taken, granted = rng.choice((0.1, 0.5)), set(), {}
            for name in readers(config):
                port = getattr(dut, f"read_{name}")
                addr, mine = request(ctx, port, busy, taken)
                upper, mask, offset = addr, 0, 0
                if name == "mat_in" and config.attention:
                    upper = rng.choice([r for r in hot if r // config.pool_rows == addr // config.pool_rows])
                    mask, offset = rng.getrandbits(config.cores), rng.randrange(config.cores)
                    for signal, level in ((port.addr_upper, upper), (port.upper, mask), (port.offset, offset)):
                        ctx.set(signal, level)
                if hasattr(port, "pair"):
                    pair = addr % 2 == 0 and rng.random() < 0.5
                    ctx.set(port.pair, pair)
                    known = pair and mine and cycle - written[addr + 1] >= late
                    seconds.append(content[addr + 1] if known else None)
                granted[port] = mine
                known = cycle - max(written[addr], written[upper]) >= late
                pipes[name].append((lanes(addr, upper, mask, offset) if known else None) if mine else False)
            taken, stored = set(), []
            for name in writers(config):
                port, mask, data = getattr(dut, f"write_{name}"), rng.getrandbits(config.cores), rng.getrandbits(row)
                addr, mine = request(ctx, port, busy, taken, mask=mask, data=data)
                granted[port] = mine
                if mine:
                    stored.append((addr, mask, data))
            for port, mine in granted.items():
                assert ctx.get(port.ready) == mine
            for name, pipe in pipes.items():
                port, due = getattr(dut, f"read_{name}"), pipe.pop(0)
                if cycle >= 2:
                    assert ctx.get(port.data_valid) == (due is not False), name
                    if due is not None and due is not False:
                        assert ctx.get(port.data) == due, name
                        checked += 1
                if hasattr(port, "pair") and (second := seconds.pop(0)) is not None and cycle >= 2:
                    assert ctx.get(port.second) == second
                    pairs += 1
            for addr, mask, data in stored:
                kept = sum(((1 << word) - 1) << b * word for b in range(config.cores) if not mask >> b & 1)
                content[addr] = content[addr] & kept | data & ~kept
                written[addr] = cycle
            await ctx.tick()
        assert checked > 1000 and (pairs > 50) == (config.pool_words == 2)

    simulate(dut, bench)


def test_priority():
    """All read one pool: each cycle the first in the order is served."""
    config = PRESETS["hybrid"]
    dut = ActivationBuffer(dataclasses.replace(config, pool_rows=64))

    async def bench(ctx):
        ports = [getattr(dut, f"read_{n}") for n in readers(config)]
        for n in range(len(ports)):
            for i, port in enumerate(ports):
                ctx.set(port.addr, 64 + i)
                ctx.set(port.valid, i >= n)
            assert [ctx.get(p.ready & p.valid) for p in ports] == [i == n for i in range(len(ports))]
            await ctx.tick()

    simulate(dut, bench)


@pytest.mark.parametrize("name", PRESETS)
def test_weight_buffer(name):
    """Beats by DMA, slices by the loader and rows of Z, all at once: loader, whose rows are written a cycle later,
    before Z before DMA; every engine reads the same rows, two cycles later. Without a loader two engines share a
    memory: what lies in the bank that R-MAC reads waits."""
    config = dataclasses.replace(PRESETS[name], weight_rows=64)
    dut = WeightBuffer(config)
    rng = random.Random(1)
    row_bits = config.weight_row_bytes * 8
    columns = {"dma": config.beats_per_weight_row}
    if config.trio:
        columns = {"z": config.beats_per_weight_row} | columns
    if config.attention:
        columns = {"loader": config.weight_row_bytes // config.row_bytes} | columns
    ports = {n: getattr(dut, n) for n in columns}
    reads = [getattr(dut, f"read_{e}") for e in config.engine_names]
    content = [0] * config.weight_rows
    shared = config.trio and not config.attention

    async def bench(ctx):
        pipe, won, lost, waited, behind = [None, None], 0, 0, 0, None
        for _ in range(600):
            taken, coming = behind is not None, None
            addrs = [rng.randrange(config.weight_rows) for _ in reads]
            for read, addr in zip(reads, addrs):
                ctx.set(read.addr, addr)
            wanted = [True] * len(reads)
            if config.trio:
                wanted[1] = rng.random() < 0.6
                ctx.set(reads[1].en, wanted[1])
            written = []
            for n, port in ports.items():
                valid = rng.random() < 0.5
                count = columns[n]
                mask = ((1 << count) - 1) * valid if n == "z" else 1 << rng.randrange(count)
                addr, value = rng.randrange(config.weight_rows), rng.getrandbits(row_bits)
                for signal, level in ((port.valid, valid), (port.addr, addr), (port.mask, mask), (port.data, value)):
                    ctx.set(signal, level)
                busy = shared and wanted[1] and (addrs[1] ^ addr) & 1 == 0
                size = row_bits // count
                keep = sum(((1 << size) - 1) << i * size for i in range(count) if not mask >> i & 1)
                if n == "loader":
                    coming, won = (addr, keep, value) if valid else None, won + valid
                    assert ctx.get(port.ready)
                    continue
                if valid and not taken and not busy:
                    written.append((addr, keep, value))
                if valid:
                    won, lost, waited = won + (not taken), lost + taken, waited + busy
                    assert ctx.get(port.ready) == (not taken and not busy), n
                taken = taken or valid
            pipe.append([content[a] if w else None for a, w in zip(addrs, wanted)])
            for addr, keep, value in [*([behind] if behind else []), *written]:
                content[addr] = content[addr] & keep | value & ~keep
            behind, due = coming, pipe.pop(0)
            if due is not None:
                assert [ctx.get(r.data) if d is not None else None for r, d in zip(reads, due)] == due
            await ctx.tick()
        assert won > 200 and (lost > 100 or len(ports) == 1) and (waited > 100) == shared

    simulate(dut, bench)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("of", ["post", pytest.param("layernorm", marks=pytest.mark.slow)])
def test_parameter_memory(name, of):
    """Beats in, if valid and chosen; all beats of an entry out, the address in beats; a read in a write's cycle is
    old."""
    config = PRESETS[name]
    rows, size = config.param_rows, config.param_read_bytes
    if of == "layernorm":
        rows, size = config.ln_param_rows, config.beat_bytes
    dut = ParameterMemory(config, rows, size)
    rng = random.Random(2)
    beat, per_read = config.beat_bytes * 8, size // config.beat_bytes
    content, written = [0] * rows, [0]

    async def bench(ctx):
        pipe = [None, None]
        for _ in range(800):
            addr = rng.choice(written) ^ rng.randrange(per_read) if rng.random() < 0.9 else rng.randrange(rows)
            ctx.set(dut.read.addr, addr)
            first = addr - addr % per_read
            pipe.append(sum(content[first + j] << j * beat for j in range(per_read)))
            valid, mask = rng.random() < 0.8, rng.random() < 0.8
            to, data = rng.choice((addr, rng.randrange(rows))), rng.getrandbits(beat)
            for port, level in (
                (dut.write.valid, valid), (dut.write.mask, mask), (dut.write.addr, to), (dut.write.data, data)
            ):  # fmt: skip
                ctx.set(port, level)
            if valid and mask:
                content[to] = data
                written.append(to)
            if (due := pipe.pop(0)) is not None:
                assert ctx.get(dut.read.data) == due
            assert ctx.get(dut.write.ready)
            await ctx.tick()

    simulate(dut, bench)
    assert config.param_read_bytes >= 8 * config.post_channels


@pytest.mark.parametrize("name", [n for n, c in PRESETS.items() if c.trio])
def test_ksum_memory(name):
    """Words written at random, read by both engines at different addresses; a read in the write's cycle is old."""
    config = PRESETS[name]
    dut = KsumMemory(config)
    rng = random.Random(3)
    content = [0] * config.ksum_rows

    async def bench(ctx):
        pipe = [None, None]
        for _ in range(500):
            reads = [rng.randrange(config.ksum_rows) for _ in config.engine_names]
            for e, addr in zip(config.engine_names, reads):
                ctx.set(getattr(dut, f"read_{e}").addr, addr)
            pipe.append([content[a] for a in reads])
            addr, value, valid = rng.randrange(config.ksum_rows), rng.getrandbits(config.word * 8), rng.random() < 0.6
            ctx.set(dut.write.valid, valid)
            ctx.set(dut.write.addr, addr)
            ctx.set(dut.write.data, value)
            if valid:
                content[addr] = value
            if (due := pipe.pop(0)) is not None:
                assert [ctx.get(getattr(dut, f"read_{e}").data) for e in config.engine_names] == due
            await ctx.tick()

    simulate(dut, bench)
