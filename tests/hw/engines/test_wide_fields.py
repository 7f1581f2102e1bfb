"""Both engines over their instructions' whole fields: addresses of 16 bits, long strides, wide maps, many groups, tiles
and words; tests of single properties use small ones."""

import random
import runpy
from pathlib import Path

import pytest

from vitforge_hw.arch import arith, isa
from vitforge_hw.arch.config import get_config

MAT, RMAC = (runpy.run_path(str(Path(__file__).with_name(f"test_{name}.py"))) for name in ("mat", "rmac"))
CONFIG = get_config("tiny_hybrid")
WORDS = CONFIG.max_k // CONFIG.word  #: of the longest reduction
ROWS = 1 << 16  #: of every memory
STALLED = ("rd", "go", "op", "post_op", "pop")
REPLAYED = ("verilator",)
LARGE = dict(simulators=REPLAYED, rows=ROWS, ksum_rows=2048)


def size(rng, most):
    """1..most, small ones as often as large ones."""
    return int((most + 1) ** rng.random())


def address(rng, span):
    """Of ``span`` rows that lie in the memory."""
    return rng.randrange(ROWS - span)


def pointwise(c, rng, cost, rotate):
    """A pointwise instruction of at most ``cost`` steps and as many reads."""
    while True:
        rows, groups, ksteps, inputs = size(rng, 150), size(rng, 128), size(rng, WORDS), rng.choice((1, 1, 2, 3, 6))
        gtiles = rng.randrange(1, 16) if inputs > 1 else rng.choice((0, 0, 3))
        tiles, words = gtiles * inputs or size(rng, 200), ksteps * inputs
        if words <= WORDS and rows * groups * max(tiles * ksteps, words) <= cost:
            break
    skip, stride = rng.randrange(2), rng.randrange(min(words, 1023), 1024)
    many = (rows << skip) * groups  # groups from the first to the last
    stride = max(words, min(stride, ROWS // (many + 6)))
    fields = dict(
        rows=rows, groups=groups - 1, skip=skip, tiles=tiles, ksteps=ksteps, gtiles=gtiles,
        in_words=words if gtiles else rng.choice((0, ksteps)), in_stride=stride,
        in_addr=2 * stride + address(rng, stride * (many + 5)), weight_addr=address(rng, tiles * ksteps),
        param_addr=rng.getrandbits(16), out_addr=rng.getrandbits(16), out_stride=rng.getrandbits(10),
        res_addr=rng.getrandbits(16), res_stride=rng.getrandbits(10), act=rng.randrange(3), act0=rng.getrandbits(12),
        act1=rng.getrandbits(12), narrow=rng.randrange(2), res_mode=rng.randrange(3),
    )  # fmt: skip
    if rng.random() < 0.6:
        tokens = rng.randrange(1, 4096)  # the map ends somewhere among the groups
        first = min(max(tokens // c.cores - rng.randrange(many + 1), 0), 1023)
        fields |= dict(in_tokens=tokens, in_first=first, in_offset=rng.randrange(-8, 8) if rotate else 0)
    if rng.random() < 0.5:
        rule = rng.choice((arith.DIV_LOG2, arith.DIV_RECIPROCAL))
        fields |= dict(relu=1, divide=1, act0=rng.randrange(17), act1=rule << 11 | rng.randrange(2048 - words))
    return fields


def mapped(c, rng, kind):
    """An instruction of another kind; its map lies within the memory."""
    while True:
        width, height, blocks = size(rng, 508), size(rng, 511), size(rng, 128)
        groups, k, stride = RMAC["cdiv"](width, c.cores), rng.choice((3, 3, 5, 7)), rng.randrange(1, 3)
        heads = size(rng, 5)
        if kind == isa.DEPTHWISE:
            rows = groups if blocks > 1 or stride > 1 else RMAC["cdiv"](groups, c.width)
            rows *= RMAC["cdiv"](blocks, c.width)
            cost = groups * blocks * (k + 2) if rows * (k + stride) <= c.window_rows else ROWS
        elif kind == isa.KEY_VALUE:
            cost = heads * blocks * max(groups * height, c.width) * c.width if blocks <= c.width // 2 else ROWS
            cost = cost if groups * height <= c.window_rows else ROWS
        else:
            cost, heads = groups * height * blocks, 1
        words = heads * blocks
        if cost <= 800 and groups * height * words <= 4000:
            break
    step = max(words, min(rng.randrange(1024), ROWS // (groups * height + 1)))
    span = groups * height * step
    base = dict(
        in_addr=address(rng, span), in_stride=step, weight_addr=address(rng, max(blocks * k * k, 600)),
        param_addr=rng.getrandbits(16), out_addr=rng.getrandbits(16), out_stride=rng.getrandbits(10),
        act=rng.choice((0, 2)), act0=rng.getrandbits(12), act1=rng.getrandbits(12), narrow=rng.randrange(2),
    )  # fmt: skip
    if kind == isa.KEY_VALUE:
        return RMAC["key_value"](c, heads, width, height, blocks, v_addr=address(rng, span), **base)
    if kind == isa.TOKEN_SUM:
        return RMAC["token_sum"](
            c, width, height, blocks, relu=rng.randrange(2), dest=rng.randrange(2), bank=rng.randrange(c.cores), **base
        )
    out = arith.conv_size(height, stride)
    rows = min(size(rng, 6), out)
    first = rng.choice((0, out - rows, rng.randrange(out - rows + 1)))
    return RMAC["depthwise"](c, width, height, blocks, k, stride, rng.randrange(-128, 128), first, rows, **base)


def seeds(*numbers, fast):
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow) for n in numbers]


@pytest.mark.parametrize("seed", seeds(1, 2, 3, 4, fast=()))
def test_mat(seed):
    rng = random.Random(seed)
    program = [pointwise(CONFIG, rng, 250, rotate=True) for _ in range(10)]
    around = MAT["surroundings"](CONFIG, seed, ROWS, ROWS, 4096)
    stall = (0.0, 0.2, 0.6)[seed % 3]
    MAT["check"](CONFIG, program, seed, around=around, stall=stall, stalled=STALLED, simulators=REPLAYED)


@pytest.mark.parametrize("seed", seeds(1, 2, 3, 4, 5, fast=()))
def test_rmac(seed):
    """All kinds, and each after itself."""
    rng, program = random.Random(seed), []
    for _ in range(14):
        kind = rng.randrange(4)
        made = mapped(CONFIG, rng, kind) if kind else RMAC["pointwise"](**pointwise(CONFIG, rng, 150, rotate=False))
        program.append(made)
    options = dict(stall=(0.0, 0.2, 0.6)[seed % 3], stalled=STALLED, pace=1 + seed % 2)
    RMAC["check"](CONFIG, program, seed, 40000, **LARGE, **options)


def far_rows(c, rng, count):
    """Depthwise instructions that begin far down their maps: one address of each is a product of three fields."""
    program = []
    while len(program) < count:
        width, height, blocks = size(rng, 120), rng.randrange(20, 512), rng.choice((1, 1, 2, 3))
        groups, k, stride = RMAC["cdiv"](width, c.cores), rng.choice((3, 5, 7)), rng.randrange(1, 3)
        step = rng.randrange(blocks, 1024)
        if groups * height * step > ROWS or groups * height > 2000 or groups * (k + stride) > c.window_rows:
            continue
        first = rng.randrange(arith.conv_size(height, stride))
        program.append(RMAC["depthwise"](
            c, width, height, blocks, k, stride, rng.randrange(-128, 128), first, 1, in_stride=step,
            in_addr=address(rng, groups * height * step), weight_addr=address(rng, 99),
        ))  # fmt: skip
    return program


@pytest.mark.slow
def test_rmac_corners():
    """Rows far down a map, the largest heads, maps of one row and of many, the longest rows in the narrow mapping."""
    c = CONFIG
    program = [
        *far_rows(c, random.Random(7), 14),
        RMAC["key_value"](c, 1, 20, 3, c.width // 2, v_addr=2000),
        RMAC["key_value"](c, 3, 4 * 17, 1, 1),
        RMAC["token_sum"](c, 4, 200, 1),
        RMAC["depthwise"](c, 66, 3, 1, 7, pad=-128),
        RMAC["depthwise"](c, 20, 4, 1, 3, pad=5),
        RMAC["pointwise"](relu=1, divide=1, act0=6, act1=700 | arith.DIV_RECIPROCAL << 11, ksteps=3, groups=2),
    ]
    RMAC["check"](c, program, 3, 40000, **LARGE)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["mat", "rmac"])
def test_instructions_ahead(engine):
    """As many instructions as the engine takes are there before the first row may begin."""
    if engine == "mat":
        MAT["check"](CONFIG, MAT["GROUPS"] + MAT["DIVIDED"], 5, simulators=REPLAYED, first_go=150)
    else:
        program = RMAC["mixed"](CONFIG)
        RMAC["check"](CONFIG, program + program[::-1], 5, simulators=REPLAYED, first_go=250)
