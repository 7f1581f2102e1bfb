"""Instruction formats: declared once, read by the RTL decoder, encoder, emulator, disassembler and docs.

Every chunk runs its own in-order queue of 64-byte instructions. An instruction is a loop over ``rows`` groups
of tokens; before each row it waits until up to six progress counters have reached a threshold, and after each
row its own counter rises by one.

A progress counter is 32 bits: image number in the upper half, rows completed in this image in the lower half.
When a chunk has finished its program for image ``i`` its counter becomes ``(i + 1) << 16``, so the base of an
image is the same for all chunks. A wait of row ``r`` of image ``i`` is satisfied when, modulo 2^32 and signed,

    counter[src] >= (i << 16) + base + min(((r + 1) * a + b) >> s, cap)

Waits on the previous image have a base lowered by 2^16.
"""

import dataclasses
import enum

from .enums import Dest, Kind

INSTRUCTION_BYTES = 64
WAITS = 6
IMAGE_SHIFT = 16  #: counters: image number above this bit, rows below


class Chunk(enum.IntEnum):
    """Chunks in the order of their progress counters."""

    MAT = 0  #: PE array / MAT engine with post-processing
    SHIFTER = 1  #: attention x value
    LAYERNORM = 2
    SOFTMAX = 3
    LOADER = 4  #: copies keys into the weight buffer
    WEIGHT_DMA = 5  #: weights and parameters, DRAM to their buffers
    IMAGE_DMA = 6  #: images and constant tensors, DRAM to activation buffer
    RESULT_DMA = 7  #: logits, activation buffer to DRAM
    RMAC = 8  #: R-MAC engine: what MAT does, depthwise, K^T V, sums over tokens


#: what an RMAC instruction does (field ``kind``); POINTWISE is a MAT instruction, the others have WINDOW_FIELDS
POINTWISE, DEPTHWISE, KEY_VALUE, TOKEN_SUM = (int(k) for k in Kind)


@dataclasses.dataclass(frozen=True)
class Field:
    """One bit field; ``signed`` fields are two's complement."""

    name: str
    bits: int
    doc: str
    signed: bool = False

    @property
    def range(self) -> tuple[int, int]:
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)


WAIT_FIELDS = (
    Field("enable", 1, "0: always satisfied"),
    Field("src", 4, "chunk whose counter is compared"),
    Field("a", 3, "rows of the producer per own row (slope)"),
    Field("b", 8, "offset inside the slope", signed=True),
    Field("s", 2, "right shift of the slope (stride 2: slope 1/2)"),
    Field("cap", 12, "upper bound of the sloped part"),
    Field("base", 18, "threshold's constant part, relative to the own image's base", signed=True),
)
WAIT_BITS = sum(f.bits for f in WAIT_FIELDS)
assert WAIT_BITS == 48

ROWS_FIELD = Field("rows", 12, "groups of tokens in this instruction")
OP_OFFSET = WAITS * WAIT_BITS + ROWS_FIELD.bits
OP_BITS = INSTRUCTION_BYTES * 8 - OP_OFFSET

_ACT = 16  # row addresses of all memories
_STRIDE = 10
_ENGINE_FIELDS = (
    Field("tiles", 10, "output tiles of `lanes` channels"),
    Field("ksteps", 9, "input words that a tile reduces (K / word)"),
    Field("in_words", 9, "input words fetched per token group; 0: ksteps (grouped layers: those of all groups)"),
    Field("gtiles", 4, "grouped layers: tiles that share ksteps words, the next gtiles take the next; 0: all"),
    Field("groups", 7, "token groups in a row of this instruction, minus 1"),
    Field("skip", 1, "1: every second row is skipped (the other engine takes it)"),
    Field("in_addr", _ACT, "input row of the instruction's first group, word 0"),
    Field("in_stride", _STRIDE, "buffer rows from one group to the next"),
    Field("relu", 1, "negative inputs read as 0 (q of linear attention)"),
    Field("in_offset", 4, "token offset: token t of the output reads token t + in_offset (rotator)", signed=True),
    Field("in_first", 12, "number of the first group (output token = (in_first + row) * cores + lane): masks tokens"),
    Field(
        "in_tokens", 12, "tokens of the input tensor; tokens outside 0..in_tokens-1 read as zero; 0: nothing is masked"
    ),
    Field(
        "weight_addr",
        16,
        "first weight row; tile t, step k at weight_addr + t * steps + k",
    ),
    Field("param_addr", 16, "first beat of parameters; one entry of 8 bytes per output channel"),
    Field("out_addr", _ACT, "output row of the instruction's first group, tile 0"),
    Field("out_stride", _STRIDE, "buffer rows from one group to the next"),
    Field("out_wide", 1, "0: int8, one row per tile; 1: 12 bits in two byte planes (low, high), two rows per tile"),
    Field("narrow", 1, "saturate to -127 instead of -128 (keys)"),
    Field("res_mode", 2, "residual: 0 none, 1 int8, 2 two byte planes (16 bits)"),
    Field("res_addr", _ACT, "residual row of the instruction's first group, tile 0"),
    Field("res_stride", _STRIDE, "buffer rows from one group to the next"),
    Field("act", 2, "activation: 0 identity, 1 GELU, 2 Hardswish"),
    Field("act0", 12, "GELU: fraction bits of p (3..10); Hardswish: q3, 3 in steps of p; division: lo"),
    Field("act1", 12, "Hardswish: q6; division: bits 10:0 first Ksum word, bit 11 the rule (1 reciprocal)"),
    Field("divide", 1, "1: results are dividends, divided by relu(q) Ksum of their token and head (linear attention)"),
)

#: ``act1`` of an instruction with ``divide``
KSUM_FIELDS = (Field("ksum_addr", 11, "first Ksum word"), Field("rule", 1, "enums.DivisionRule"))
KSUM_BITS = KSUM_FIELDS[0].bits

#: RMAC instructions other than POINTWISE; ``kind`` comes first in both formats
WINDOW_FIELDS = (
    Field("kind", 2, "1 depthwise, 2 K^T V, 3 sums over tokens"),
    Field("in_addr", _ACT, "input row of the tensor's first group, word 0 (K^T V: k of the first head)"),
    Field("in_stride", _STRIDE, "buffer rows from one group to the next"),
    Field("in_groups", 7, "token groups in a row of the input map"),
    Field("width", 9, "pixels in a row of the input map; pixels beyond are padding"),
    Field("height", 9, "rows of the input map"),
    Field("blocks", 8, "depthwise, sums: words per token; K^T V: words per head"),
    Field("relu", 1, "sums: negative inputs count as 0"),
    Field("weight_addr", 16, "depthwise: first weight row; K^T V: where Z begins; sums of keys: first Ksum word"),
    Field("param_addr", 16, "first beat of parameters; one entry of 8 bytes per output channel"),
    Field("out_addr", _ACT, "output row of the instruction's first group, block 0"),
    Field("out_stride", _STRIDE, "buffer rows from one group to the next"),
    Field("out_groups", 7, "token groups in a row of the output map"),
    Field("narrow", 1, "saturate to -127 instead of -128"),
    Field("act", 2, "activation: 0 identity, 2 Hardswish"),
    Field("act0", 12, "Hardswish: q3, 3 in steps of p"),
    Field("act1", 12, "Hardswish: q6, 6 in steps of p"),
    Field("kernel", 3, "depthwise: 3, 5 or 7"),
    Field("stride", 1, "depthwise: stride minus 1"),
    Field("pad", 8, "depthwise: value of taps outside the map (the input's zero-point)", signed=True),
    Field("first", 9, "depthwise: first output row"),
    Field("window_stride", 7, "depthwise: window-buffer rows that hold one row of the input map"),
    Field("v_addr", _ACT, "K^T V: v of the first head"),
    Field("dest", 1, "sums: 0 activation buffer, 1 Ksum memory"),
    Field("bank", 4, "sums: the token (bank) that is written"),
)

#: MAT's alone, only where the configuration has w4
W4_FIELD = Field("w4", 1, "1: weights of 4 bits, a weight row holds two tiles (t even: low nibbles, t + 1: high ones)")

OP_FIELDS: dict[Chunk, tuple[Field, ...]] = {
    Chunk.MAT: (*_ENGINE_FIELDS, W4_FIELD),
    Chunk.SHIFTER: (
        Field("v_addr", _ACT, "value row of key group 0, block 0 of this head"),
        Field("v_stride", 12, "buffer rows from one group of keys to the next"),
        Field("keys", 10, "valid keys"),
        Field("blocks", 6, "words per head (d / word)"),
        Field("rule", 1, "weights of the codes: 0 maxrel, 1 log2"),
        Field("factor", 1, "1: multiply by the row factor"),
        Field("shift", 5, "re-quantization shift (20-integer-contract, attend)"),
        Field("out_addr", _ACT, "output row of the first group, block 0"),
        Field("out_stride", 12, "buffer rows from one group to the next"),
    ),
    Chunk.LAYERNORM: (
        Field("in_addr", _ACT, "input row of the first group, block 0"),
        Field("in_stride", 12, "buffer rows from one group to the next"),
        Field("in_wide", 1, "0: int8; 1: two byte planes"),
        Field("blocks", 8, "words per token (C / word)"),
        Field("param_addr", 16, "first beat of LayerNorm parameters; one entry of 8 bytes per channel"),
        Field("out_addr", _ACT, "output row of the first group, block 0"),
        Field("out_stride", 12, "buffer rows from one group to the next"),
        Field("act", 1, "1: 12-bit result, then Hardswish and one more re-quantization (EfficientViT's classifier)"),
        Field("q3", 12, "Hardswish: 3 in steps of the 12-bit result"),
        Field("q6", 12, "Hardswish: 6 in steps of the 12-bit result"),
        Field("s2", 5, "Hardswish: right shift to y"),
        Field("offset", 8, "Hardswish: added behind it", signed=True),
    ),
    Chunk.SOFTMAX: (
        Field("in_addr", _ACT, "score row of the first group, key block 0"),
        Field("in_stride", 12, "buffer rows from one group to the next"),
        Field("keys", 10, "valid keys"),
        Field("rule", 1, "0 maxrel, 1 log2"),
        Field("c", 10, "multiplier of max - x"),
        Field("sc", 4, "right shift behind it; u has 4 fraction bits"),
    ),
    Chunk.LOADER: (
        Field("in_addr", _ACT, "key row of group 0, block 0 of this head"),
        Field("in_stride", 12, "buffer rows from one group to the next"),
        Field("blocks", 6, "words per head (d / word) = ksteps of the score instruction"),
        Field("weight_addr", 16, "first weight row of the slot"),
    ),
    Chunk.WEIGHT_DMA: (
        Field("source", 26, "first beat in the memory image"),
        Field("beats", 20, "number of beats; whole rows of the weight buffer"),
        Field("dest", 2, "0 weight buffer, 1 post-processing parameters, 2 LayerNorm parameters"),
        Field("dest_addr", 16, "first weight row, or first parameter beat"),
        Field("checksum", 32, "signature of the data of all rows (arch/checksum.py)"),
    ),
    Chunk.IMAGE_DMA: (
        Field("job", 1, "0: source in the memory image; 1: source in the job's image"),
        Field("source", 26, "first beat"),
        Field("beats", 14, "beats per row (group); whole buffer rows"),
        Field("out_addr", _ACT, "first buffer row; rows follow each other without gaps"),
        Field("checksum", 32, "signature of the data of all rows, where the source is the memory image"),
    ),
    Chunk.RESULT_DMA: (
        Field("in_addr", _ACT, "first buffer row"),
        Field("count", 12, "buffer rows; one word of each is written to DRAM"),
        Field("offset", 16, "first 16-byte unit in the job's result"),
        Field("bank", 4, "the token (bank) whose words are written: the image's place in a batch"),
    ),
    Chunk.RMAC: (Field("kind", 2, "0: as MAT, down-forward accumulation; otherwise WINDOW_FIELDS"), *_ENGINE_FIELDS),
}
assert sum(f.bits for f in WINDOW_FIELDS) <= OP_BITS
for _chunk, _fields in OP_FIELDS.items():
    assert sum(f.bits for f in _fields) <= OP_BITS, _chunk

DEST_WEIGHTS, DEST_PARAMS, DEST_LN_PARAMS = (int(d) for d in Dest)


def _post_op() -> tuple[Field, ...]:
    """What post-processing and writer need of an instruction: fields of both engine formats, which agree on them, and
    what the engine derives."""
    formats = (ROWS_FIELD,), _ENGINE_FIELDS, WINDOW_FIELDS
    derived = {
        f.name: f
        for f in (
            Field("tiles", 1 + _bits(_ENGINE_FIELDS, "tiles"), "tiles of a group; K^T V: value block by value block"),
            Field("hold", 8, "tiles that share a parameter tile, minus 1"),
            Field("dest", 2, "enums.Target"),
            Field("one_bank", 1, "the writer writes one bank"),
        )
    }
    names = (
        "tiles rows groups skip hold param_addr out_addr out_stride out_wide narrow res_mode res_addr res_stride "
        "act act0 act1 divide dest one_bank bank weight_addr"
    )
    fields = []
    for name in names.split():
        known = [f for each in formats for f in each if f.name == name]
        assert len({(f.bits, f.signed) for f in known}) == 1 or name in derived, name
        fields.append(derived[name] if name in derived else known[0])
    return tuple(fields)


def _bits(fields: tuple[Field, ...], name: str) -> int:
    return next(f.bits for f in fields if f.name == name)


POST_OP_FIELDS = _post_op()
assert sum(f.bits for f in KSUM_FIELDS) == _bits(_ENGINE_FIELDS, "act1")

# ---------------------------------------------------------------- parameter entries (8 bytes per channel)

#: power-of-two scales: m1 = 0; division: s1 is the channel's shift itself, mantissa and exponent come from the divisor
POST_PARAM_FIELDS = (
    Field("bias", 26, "added to the accumulator", signed=True),
    Field("m1", 15, "multiplier minus 2^15 (dyadic scales)"),
    Field("s1", 5, "right shift to the 12-bit p, minus 15"),
    Field("e", 5, "left shift of h; negative: left shift of the residual by -e", signed=True),
    Field("s2", 5, "right shift to y"),
    Field("offset", 8, "added behind the last shift", signed=True),
)
LN_PARAM_FIELDS = (
    Field("gamma", 16, "multiplier of z", signed=True),
    Field("beta", 32, "added to the product", signed=True),
    Field("shift", 6, "right shift to y, 0..47"),
    Field("a", 2, "PTF exponent of the input channel"),
)
PARAM_BYTES = 8

# ---------------------------------------------------------------- program header (first 64 bytes of the memory image)

HEADER_FIELDS = (
    Field("magic", 32, "'VITF'"),
    Field("config_hash", 32, "AcceleratorConfig.hash; the hardware refuses another one"),
    Field("build_hash", 32, "configuration, instruction set and generator; the hardware refuses another one"),
    Field("checksum", 32, "makes the signature of header and instructions 0 (arch/checksum.py)"),
    *(
        field
        for chunk in Chunk
        for field in (
            Field(
                f"{chunk.name.lower()}_start", 16, f"first instruction of {chunk.name}, in instructions from the header"
            ),
            Field(f"{chunk.name.lower()}_count", 16, f"instructions of {chunk.name}"),
        )
    ),
)
MAGIC = int.from_bytes(b"VITF", "little")
CHECKSUM_WORD = 3  #: the header's word of 32 bits that holds its checksum


def pack(fields: tuple[Field, ...], values: dict[str, int], what: str) -> int:
    """Fields, least significant first, into one integer; every value is range-checked, unknown names refused."""
    word, position = 0, 0
    for f in fields:
        value = values.get(f.name, 0)
        lo, hi = f.range
        if not lo <= value <= hi:
            raise ValueError(f"{what}: field {f.name} must be in {lo}..{hi}, not {value}")
        word |= (value & ((1 << f.bits) - 1)) << position
        position += f.bits
    if extra := set(values) - {f.name for f in fields}:
        raise ValueError(f"{what}: unknown field {sorted(extra)[0]!r}")
    return word


def unpack(fields: tuple[Field, ...], word: int) -> dict[str, int]:
    """The inverse of :func:`pack`."""
    out = {}
    for f in fields:
        value = word & ((1 << f.bits) - 1)
        if f.signed and value >> (f.bits - 1):
            value -= 1 << f.bits
        out[f.name] = value
        word >>= f.bits
    return out


# ---------------------------------------------------------------- instructions


@dataclasses.dataclass(frozen=True)
class Wait:
    """``counter[src] >= image base + base + min(((r + 1) * a + b) >> s, cap)`` before row r."""

    src: Chunk
    base: int
    a: int = 0
    b: int = 0
    s: int = 0
    cap: int = 4095

    def threshold(self, row: int) -> int:
        """Relative to the image's base."""
        return self.base + min(((row + 1) * self.a + self.b) >> self.s, self.cap)


def op_fields(chunk: Chunk, kind: int = POINTWISE) -> tuple[Field, ...]:
    """The format of a chunk's op; ``kind`` distinguishes those of RMAC."""
    return WINDOW_FIELDS if chunk == Chunk.RMAC and kind != POINTWISE else OP_FIELDS[chunk]


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of one chunk."""

    chunk: Chunk
    rows: int
    op: dict[str, int]
    waits: tuple[Wait, ...] = ()

    def encode(self) -> int:
        """512 bits: six waits, rows, op fields; each range-checked."""
        what = f"{self.chunk.name} instruction"
        if len(self.waits) > WAITS:
            raise ValueError(f"{what}: at most {WAITS} waits, not {len(self.waits)}")
        word = 0
        for i, w in enumerate(self.waits):
            fields = dict(enable=1, src=int(w.src), a=w.a, b=w.b, s=w.s, cap=w.cap, base=w.base)
            word |= pack(WAIT_FIELDS, fields, what) << (i * WAIT_BITS)
        word |= pack((ROWS_FIELD,), {"rows": self.rows}, what) << (WAITS * WAIT_BITS)
        return word | pack(op_fields(self.chunk, self.op.get("kind", 0)), self.op, what) << OP_OFFSET

    @classmethod
    def decode(cls, chunk: Chunk, word: int) -> "Instruction":
        waits = []
        for i in range(WAITS):
            f = unpack(WAIT_FIELDS, word >> (i * WAIT_BITS))
            if f.pop("enable"):
                waits.append(Wait(src=Chunk(f.pop("src")), **f))
        rows = unpack((ROWS_FIELD,), word >> (WAITS * WAIT_BITS))["rows"]
        fields = op_fields(chunk, (word >> OP_OFFSET) & 3)
        return cls(chunk, rows, unpack(fields, word >> OP_OFFSET), tuple(waits))
