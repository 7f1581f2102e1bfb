"""Limits that follow from widths: accumulators, and addresses in instructions."""

from .isa import KSUM_BITS, OP_FIELDS, Chunk

ACC_BITS = 27  #: accumulator + bias of an engine, proved per layer by the compiler
ATTEND_ACC_BITS = 32  #: attention x value: 31 bits at 197 tokens for arbitrary codes (20-integer-contract)


def _values(chunk: Chunk, field: str) -> int:
    return 1 << next(f.bits for f in OP_FIELDS[chunk] if f.name == field)


#: rows of a memory that instructions can address
ACT_ROWS = _values(Chunk.MAT, "out_addr")
WEIGHT_ROWS = _values(Chunk.WEIGHT_DMA, "dest_addr")
KSUM_ROWS = 1 << KSUM_BITS
#: longest reduction whose sums of int8 x -127..127 fit the accumulators
MAX_K = ((1 << ACC_BITS - 1) - 1) // (128 * 127)
#: longest softmax row: sums of code weights (up to 2^15) times int8
MAX_TOKENS = ((1 << ATTEND_ACC_BITS - 1) - 1) // (128 << 15)
MAX_CHANNELS = 4096  #: longest LayerNorm row: V = C S2 - S1^2 < 2^46 for 12-bit values
assert MAX_TOKENS < _values(Chunk.SOFTMAX, "keys")
