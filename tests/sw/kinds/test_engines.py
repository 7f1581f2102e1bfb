"""Single instructions of MAT, RMAC and LayerNorm, emulated, against the golden operations.

Tensors lie as arch.memmap says, weights and parameters as compiler.parameters makes them, ops go through the encoder.
Whatever a row does not declare in its accesses is garbage while it reads, and it may write nothing else.
"""

import numpy as np
import pytest
import torch

from vitforge_hw.arch import arith, memmap
from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.isa import DEPTHWISE, KEY_VALUE, TOKEN_SUM, Chunk, Instruction
from vitforge_sw.compiler.program.parameters import depthwise_rows, layernorm_params, post_params, weight_rows
from vitforge_sw.golden.layernorm import LayerNormOp
from vitforge_sw.golden.linear_attention import KeyValueOp, LinearAttentionOp
from vitforge_sw.golden.matmul import MatmulOp
from vitforge_sw.golden.spatial import DepthwiseOp, TokenSumOp
from vitforge_sw.graph.ir import Ref
from vitforge_sw.kinds import Memory, accesses, kind_of
from vitforge_sw.kinds.memories import Memories
from vitforge_sw.ops import Depthwise, KeyValue, LayerNorm, LinearAttention, Matmul, TokenSum

TRIO, TINY, HYBRID = (PRESETS[n] for n in ("trio", "tiny_hybrid", "hybrid"))
ALL = pytest.mark.parametrize("config", [TRIO, TINY, HYBRID], ids=lambda c: c.name)


def cdiv(a, b):
    return -(-a // b)


class Bench:
    """Memories filled by hand, instructions run row by row."""

    def __init__(self, config, seed=1):
        self.c, self.rng = config, np.random.default_rng(seed)
        self.m = Memories(config, bytes(config.beat_bytes), self.rng)

    def put(self, x, height, width, address, stride=None, wide=False):
        """A tensor (pixels, channels) at a buffer address, padding full of garbage; the stride."""
        fill = int(self.rng.integers(-128, 128))
        rows = memmap.to_map_rows(np.asarray(x), height, width, self.c.cores, self.c.word, wide, fill)
        stride = stride or rows.shape[1]
        for g, words in enumerate(rows):
            self.m.act[address + g * stride : address + g * stride + len(words)] = words
        return stride

    def get(self, address, stride, height, width, channels, wide=False):
        groups = height * cdiv(width, self.c.cores)
        n = cdiv(channels, self.c.word) * (1 + wide)
        rows = self.m.act[address + np.arange(groups)[:, None] * stride + np.arange(n)]
        return memmap.from_map_rows(rows, height, width, channels, self.c.cores, self.c.word, wide)

    def load(self, memory, at, data):
        data = data.reshape(-1, memory.shape[1])
        memory[at : at + len(data)] = data

    def run(self, chunk, rows, **op):
        i = Instruction(chunk, rows, op)
        i = Instruction.decode(chunk, i.encode())
        items = accesses(chunk, rows, op, self.c)
        values = []
        for row in range(rows):
            memories = self.m.arrays()
            saved = [a.copy() for a in memories]
            for n, a in enumerate(memories):
                read = np.zeros(len(a), dtype=bool)
                for x in items:
                    if x.memory == n and not x.write:
                        read[x.row(row)] = True
                a[~read] = self.rng.integers(0, 256, a[~read].shape, dtype=np.uint8)
            operands = kind_of(chunk, i.op).read(self.m, i.op, row)
            for a, s in zip(memories, saved):
                a[:] = s
            values.append(kind_of(chunk, i.op).write(self.m, i.op, row, operands))
            for n, (a, s) in enumerate(zip(memories, saved)):
                changed = set(np.flatnonzero((a != s).any(axis=1)).tolist())
                assert changed <= {y for x in items if x.memory == n and x.write for y in x.row(row).tolist()}
        return values


def advance(chunk, op, rows, config):
    return kind_of(chunk, op).advance(op, rows, config)


def int8(rng, *shape, low=-128):
    x = rng.integers(low, 128, shape)
    x.flat[0], x.flat[-1] = low, 127
    return x.astype(np.int8)


def constants(rng, n, act="identity", gain=0, residual=None, narrow=False):
    """Random dyadic constants whose p is about 2^-gain of the sum."""
    m1 = rng.integers(1, 1 << 16, n) >> rng.integers(0, 12, n)
    m1 = np.maximum(m1, 1)
    s1 = np.floor(np.log2(m1)).astype(int) + gain + rng.integers(0, 3, n)
    hard = act == "hardswish"
    extra = 10 if hard else 2
    values = dict(
        bias=rng.integers(-4000, 4000, n), m1=m1, s1=np.minimum(s1, 47), eh=rng.integers(0, 3, n),
        er=rng.integers(0, 3, n), s2=rng.integers(extra, extra + 4, n), offset=rng.integers(-30, 30, n),
    )  # fmt: skip
    return {k: v.astype(np.int32) for k, v in values.items()} | dict(
        act=act, q3=341 if hard else 0, q6=682 if hard else 0, residual=residual, narrow=narrow
    )


def batch(x):
    return torch.from_numpy(np.asarray(x))[None]


def equal(got, want):
    want = want[0].numpy().astype(np.int64)
    assert got.shape == want.shape and len(np.unique(want)) > 4  # the case says something
    assert np.array_equal(got, want), np.argwhere(got != want)[0]


def act_fields(node):
    hard = node.act == "hardswish"
    return dict(act=arith.ACT_HARDSWISH if hard else 0, act0=node.q3, act1=node.q6, narrow=int(node.narrow))


# ---------------------------------------------------------------- pointwise


@ALL
@pytest.mark.parametrize(
    ("n", "k", "groups", "kw"),
    [
        (24, 11, 1, {}),
        (32, 40, 1, dict(act="hardswish", out="int12")),
        (32, 40, 1, dict(residual=1, narrow=True)),
        (48, 16, 1, dict(residual=2, out="int12")),
        (96, 144, 3, dict(act="hardswish")),
        (32, 32, 2, dict(residual=1)),
    ],
)
def test_pointwise(config, n, k, groups, kw):
    rng = np.random.default_rng(n * k)
    b, height, width = Bench(config), 3, 2 * config.cores + 2
    g, out = cdiv(width, config.cores), kw.get("out", "int8")
    res = kw.get("residual", 0)
    weight = rng.integers(-127, 128, (n, k // groups)).astype(np.int8)
    values = constants(rng, n, kw.get("act", "identity"), 7, Ref("r") if res else None, kw.get("narrow", False))
    node = Matmul(name="n", out=Ref("y"), x=Ref("x"), groups=groups, weight=weight, **values)
    x = int8(rng, height * width, k)
    r = int8(rng, height * width, n) if res == 1 else rng.integers(-2048, 2048, (height * width, n)).astype(np.int16)
    stride = b.put(x, height, width, 5)
    b.load(b.m.weight, 9, weight_rows(node.weight, config, groups))
    b.load(b.m.param, 4, post_params(node, n, config))
    tiles, words = cdiv(n, config.lanes), cdiv(k, config.word)
    op = dict(
        tiles=tiles, ksteps=words // groups, groups=g - 1, in_addr=5, in_stride=stride, weight_addr=9, param_addr=4,
        out_addr=400, out_stride=2 * tiles + 1, out_wide=int(out == "int12"), **act_fields(node),
    )  # fmt: skip
    if groups > 1:
        op |= dict(in_words=words, gtiles=tiles // groups)
    if res:
        op |= dict(res_mode=res, res_addr=800, res_stride=b.put(r, height, width, 800, wide=res == 2))
    # rows 0 and 2 on MAT, row 1 on the other engine
    b.run(Chunk.MAT, 2, **op, skip=1)
    b.run(Chunk.RMAC, 1, **advance(Chunk.RMAC, op, 1, config))
    want = MatmulOp(node, out, height * width)(batch(x), batch(r) if res else None)
    equal(b.get(400, 2 * tiles + 1, height, width, n, out == "int12"), want)
    # the same in two instructions: what is written is written again
    before = b.m.act.copy()
    b.m.act[400 : 400 + (2 * tiles + 1) * g * height] = 99
    b.run(Chunk.RMAC, 1, **op)
    b.run(Chunk.MAT, 2, **advance(Chunk.MAT, op, 1, config))
    equal(b.get(400, 2 * tiles + 1, height, width, n, out == "int12"), want)
    assert not np.array_equal(before[400], np.full(config.row_bytes, 99))


@ALL
def test_masked_tokens(config):
    """DeiT's patch embedding on several groups a row: shifted by one token, tokens outside the input are 0."""
    rng = np.random.default_rng(3)
    b, tokens, k, n = Bench(config), 3 * config.cores + 1, 24, 16
    node = Matmul(name="n", out=Ref("y"), x=Ref("x"), weight=rng.integers(-127, 128, (n, k)).astype(np.int8),
                  **constants(rng, n, gain=7))  # fmt: skip
    x = int8(rng, tokens - 1, k)
    stride = b.put(x, tokens - 1, 0, 5)
    b.load(b.m.weight, 0, weight_rows(node.weight, config))
    b.load(b.m.param, 0, post_params(node, n, config))
    tiles = cdiv(n, config.lanes)
    op = dict(tiles=tiles, ksteps=stride, groups=1, in_addr=5, in_stride=stride, in_offset=-1, in_tokens=tokens - 1,
              out_addr=200, out_stride=tiles)  # fmt: skip
    b.run(Chunk.MAT, 1, **op)
    b.run(Chunk.MAT, 1, **advance(Chunk.MAT, op, 1, config))
    rows = b.m.act[200 + np.arange(4)[:, None] * tiles + np.arange(tiles)]
    got = memmap.from_rows(rows, tokens, n, config.cores, config.word)
    equal(got, MatmulOp(node, "int8", tokens)(batch(np.vstack([np.zeros((1, k), np.int8), x]))))


# ---------------------------------------------------------------- depthwise


@ALL
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("blocks", "height", "wide"), [(1, 6, 3.5), (3, 7, 2), (11, 5, 0.8), (2, 1, 1.4)])
def test_depthwise(config, kernel, stride, blocks, height, wide):
    rng = np.random.default_rng(kernel + stride)
    c, width = blocks * config.word - 3, int(wide * config.cores)
    oh, ow = arith.conv_size(height, stride), arith.conv_size(width, stride)
    b, g, og = Bench(config), cdiv(width, config.cores), cdiv(ow, config.cores)
    node = Depthwise(name="n", out=Ref("y"), x=Ref("x"), weight=rng.integers(-127, 128, (c, kernel**2)).astype(np.int8),
                     kernel=kernel, stride=stride, pad=-77, **constants(rng, c, "hardswish", 7))  # fmt: skip
    x = int8(rng, height * width, c)
    b.put(x, height, width, 3, blocks + 1)
    b.load(b.m.weight, 2, depthwise_rows(node.weight, config, stride))
    b.load(b.m.param, 6, post_params(node, c, config))
    narrow = blocks == 1 and stride == 1
    op = dict(
        kind=DEPTHWISE, in_addr=3, in_stride=blocks + 1, in_groups=g, width=width, height=height, blocks=blocks,
        weight_addr=2, param_addr=6, out_addr=512, out_stride=blocks, out_groups=og, kernel=kernel, stride=stride - 1,
        pad=-77, window_stride=cdiv(g, config.width) if narrow else g * cdiv(blocks, config.width), **act_fields(node),
    )  # fmt: skip
    if min(height, kernel + stride) * op["window_stride"] > config.window_rows:
        with pytest.raises(ValueError, match="map rows exceed window_rows"):
            b.run(Chunk.RMAC, oh, **op)
        return
    want = DepthwiseOp(node, "int8", height, width)(batch(x))
    b.run(Chunk.RMAC, oh, **op)
    equal(b.get(512, blocks, oh, ow, c), want)
    reads = np.concatenate(
        [a.index.ravel() for a in accesses(Chunk.RMAC, oh, op, config) if not a.write and a.memory == Memory.ACT]
    )
    assert len(reads) == len(set(reads.tolist())) == blocks * g * min(height, (oh - 1) * stride + kernel // 2 + 1)
    if oh > 1:  # cut: the second part reads its own halo
        b.m.act[512 : 512 + blocks * og * oh] = 99
        b.run(Chunk.RMAC, 1, **op)
        b.run(Chunk.RMAC, oh - 1, **advance(Chunk.RMAC, op, 1, config))
        equal(b.get(512, blocks, oh, ow, c), want)


def test_window_rows_must_not_overlap():
    b = Bench(TINY)
    op = dict(
        kind=DEPTHWISE, in_stride=1, in_groups=2, width=8, height=4, blocks=2, kernel=3, out_groups=2, out_stride=2
    )
    with pytest.raises(ValueError, match="a map row takes 2 window rows, not 1"):
        b.run(Chunk.RMAC, 1, **op, window_stride=1)


def test_parameters_must_be_aligned():
    op = dict(tiles=1, ksteps=1, in_stride=1, out_addr=9, out_stride=1)
    Bench(TRIO).run(Chunk.MAT, 1, **op, param_addr=2)
    with pytest.raises(ValueError, match="parameters must begin at a multiple of 2 beats, not at 3"):
        Bench(TRIO).run(Chunk.MAT, 1, **op, param_addr=3)


# ---------------------------------------------------------------- linear attention


def test_key_value_must_fit_the_window_buffer():
    op = dict(kind=KEY_VALUE, in_stride=1, in_groups=3, width=12, height=11, blocks=1, v_addr=200)
    with pytest.raises(ValueError, match="more than window_rows / 2 = 32 groups"):
        Bench(TINY).run(Chunk.RMAC, 1, **op)


@ALL
@pytest.mark.parametrize("rule", ["reciprocal", "log2"])
@pytest.mark.parametrize(("heads", "blocks", "cut"), [(3, 1, 1), (2, 2, 0)])
def test_linear_attention(config, rule, heads, blocks, cut):
    rng = np.random.default_rng(5)
    dim = blocks * config.word
    c, height, width = heads * dim, 3, config.cores + 2
    b, g = Bench(config), cdiv(width, config.cores)
    qkv = int8(rng, height * width, 3 * c, low=-127)
    qkv[0, :c] = -1  # a divisor 0
    q, k, v = (qkv[:, i * c : (i + 1) * c] for i in range(3))
    words = 3 * heads * blocks
    b.put(qkv, height, width, 8, words)
    lo = 3
    key_value = KeyValue(name="z", out=Ref("z"), k=Ref("qkv", c, c), v=Ref("qkv", 2 * c, c), heads=heads,
                         **constants(rng, c, gain=8, narrow=True))  # fmt: skip
    key_sum = TokenSum(name="s", out=Ref("s"), x=Ref("qkv", c, c), keys=True, **constants(rng, c, gain=2, narrow=True))
    key_sum.bias[:], key_sum.offset[:] = 0, 0
    attend = LinearAttention(name="a", out=Ref("y"), q=Ref("qkv", 0, c), z=Ref("z"), ksum=Ref("s"), heads=heads,
                             rule=rule, lo=lo, shift=rng.integers(1, 5, c))  # fmt: skip
    h = config.word // config.width
    zrows, at = blocks * blocks * h, 20
    tile_beats = config.lanes * 8 // config.beat_bytes
    where = {}
    for i, node in enumerate((key_value, key_sum, attend)):
        where[node.name] = 4 + i * heads * blocks * tile_beats
        b.load(b.m.param, where[node.name], post_params(node, c, config))
    op = dict(kind=KEY_VALUE, in_addr=8 + heads * blocks, v_addr=8 + 2 * heads * blocks, in_stride=words, in_groups=g,
              width=width, height=height, blocks=blocks, weight_addr=at, param_addr=where["z"], narrow=1)  # fmt: skip
    if cut:
        values = b.run(Chunk.RMAC, cut, **op)
        values += b.run(Chunk.RMAC, heads - cut, **advance(Chunk.RMAC, op, cut, config))
    else:
        values = b.run(Chunk.RMAC, heads, **op)
    z = KeyValueOp(key_value, "int8", height * width)(batch(k), batch(v))
    equal(np.concatenate(values, axis=1), z)
    # Z lies as the weights of a grouped layer
    grouped = z[0].numpy().T  # row: output channel, columns: its head's keys
    assert np.array_equal(b.m.weight[at : at + heads * zrows], weight_rows(grouped, config, heads))
    b.run(Chunk.RMAC, 1, kind=TOKEN_SUM, in_addr=8 + heads * blocks, in_stride=words, in_groups=g, width=width,
          height=height, blocks=heads * blocks, relu=1, weight_addr=5, param_addr=where["s"], dest=1,
          narrow=1)  # fmt: skip
    ksum = TokenSumOp(key_sum, "int8")(batch(k))
    equal(b.m.ksum[5 : 5 + heads * blocks].view(np.int8).reshape(1, -1).astype(np.int64), ksum)
    rule_bit = arith.DIV_RECIPROCAL if rule == "reciprocal" else arith.DIV_LOG2
    op = dict(
        tiles=heads * blocks, ksteps=blocks, gtiles=blocks, in_words=heads * blocks, groups=g - 1, in_addr=8,
        in_stride=words, relu=1, weight_addr=at, param_addr=where["a"], out_addr=600, out_stride=heads * blocks,
        narrow=1, divide=1, act0=lo, act1=5 | rule_bit << 11,
    )  # fmt: skip
    b.run(Chunk.MAT, height, **op)
    want = LinearAttentionOp(attend, c)(batch(q), z, ksum)
    equal(b.get(600, heads * blocks, height, width, c), want)
    assert (want[0, 0] == 0).all()


# ---------------------------------------------------------------- pooling and the classifier's LayerNorm


@ALL
@pytest.mark.parametrize("bank", [0, 3])
def test_pool(config, bank):
    rng = np.random.default_rng(6)
    c, height, width = 3 * config.word, 3, config.cores + 1
    b, g = Bench(config), cdiv(width, config.cores)
    x = int8(rng, height * width, c)
    x[:, : c // 2] |= 64
    node = TokenSum(name="p", out=Ref("y"), x=Ref("x"), **constants(rng, c, gain=2))
    b.put(x, height, width, 8)
    b.load(b.m.param, 0, post_params(node, c, config))
    before = b.m.act[300:303].reshape(3, config.cores, config.word).copy()
    b.run(Chunk.RMAC, 1, kind=TOKEN_SUM, in_addr=8, in_stride=3, in_groups=g, width=width, height=height, blocks=3,
          out_addr=300, bank=bank)  # fmt: skip
    after = b.m.act[300:303].reshape(3, config.cores, config.word)
    equal(after[:, bank].view(np.int8).reshape(1, -1).astype(np.int64), TokenSumOp(node, "int8")(batch(x)))
    others = np.arange(config.cores) != bank
    assert (before[:, others] == after[:, others]).all()


@ALL
@pytest.mark.parametrize("wide", [0, 1])
def test_norm_act(config, wide):
    rng = np.random.default_rng(7)
    c, groups = 5 * config.word, 2
    tokens = groups * config.cores
    b = Bench(config)
    x = rng.integers(-2048, 2048, (tokens, c)).astype(np.int16) if wide else int8(rng, tokens, c)
    node = LayerNorm(name="n", out=Ref("y"), x=Ref("x"), act="hardswish", gamma=rng.integers(-900, 900, c),
                     beta=rng.integers(-90000, 90000, c), shift=rng.integers(9, 12, c), q3=341, q6=682,
                     s2=12, offset=-20)  # fmt: skip
    stride = b.put(x, tokens, 0, 8, wide=bool(wide))
    b.load(b.m.ln_param, 3, layernorm_params(node))
    b.run(Chunk.LAYERNORM, groups, in_addr=8, in_stride=stride, in_wide=wide, blocks=5, param_addr=3, out_addr=200,
          out_stride=5, act=1, q3=341, q6=682, s2=12, offset=-20)  # fmt: skip
    rows = b.m.act[200 : 200 + groups * 5].reshape(groups, 5, -1)
    equal(memmap.from_rows(rows, tokens, c, config.cores, config.word), LayerNormOp(node, tokens)(batch(x)))
