"""Ports shared by the blocks: chunk control, activation-buffer and weight-buffer accesses."""

from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from .arch import isa
from .arch.config import ACC_BITS, AcceleratorConfig
from .arch.enums import Target

READ_LATENCY = 2  #: cycles from an accepted read request to its data, for every on-chip memory


def fields_layout(fields) -> data.StructLayout:
    """A declaration of arch.isa as an Amaranth layout (bit 0 first)."""
    from amaranth import signed, unsigned

    return data.StructLayout({f.name: signed(f.bits) if f.signed else unsigned(f.bits) for f in fields})


def op_layout(chunk: isa.Chunk, w4: bool = False) -> data.StructLayout:
    """``rows`` and the chunk's own fields; MAT's W4_FIELD with ``w4`` alone."""
    fields = (f for f in isa.OP_FIELDS[chunk] if w4 or f is not isa.W4_FIELD)
    return fields_layout((isa.ROWS_FIELD, *fields))


class ChunkControl(Signature):
    """How a sequencer drives a chunk (seen from the chunk: use ``In(ChunkControl(...))``).

    Members
    -------
    op : the next instruction (stream); the chunk accepts it when it can hold it, at the latest when its predecessor's
        last row has started.
    go : one transfer lets the chunk begin one more row of its current instruction; all waits of that row are
        satisfied, including those for the space that the row writes. Payload is 1 with an instruction's last row.
    done : one cycle high for each finished row, in order: every read captured, every write accepted by the buffer.
    """

    def __init__(self, chunk: isa.Chunk, w4: bool = False):
        op = stream.Signature(op_layout(chunk, w4))
        super().__init__({"op": Out(op), "go": Out(stream.Signature(1)), "done": In(1)})


class BufferRead(Signature):
    """Activation-buffer read, seen from the client (``Out``). Data returns exactly READ_LATENCY cycles after
    valid & ready, in order; the client must take it.

    ``rotate`` adds the second address of the PE array's port: lane i reads bank (i + offset) mod cores, from ``addr``
    or, where ``upper`` has the bank's bit set, from ``addr_upper``; the data arrive already rotated.

    ``pair``, with pool_words 2: with ``pair`` set, ``addr`` is even and ``second`` brings the row behind it, too.
    """

    def __init__(self, config: AcceleratorConfig, rotate: bool = False, pair: bool = False):
        members = {
            "valid": Out(1),
            "ready": In(1),
            "addr": Out(16),
            "data_valid": In(1),
            "data": In(config.row_bytes * 8),
        }
        if rotate:
            members |= {"addr_upper": Out(16), "upper": Out(config.cores), "offset": Out(range(config.cores))}
        if pair and config.pool_words == 2:
            members |= {"pair": Out(1), "second": In(config.row_bytes * 8)}
        super().__init__(members)


class BufferWrite(Signature):
    """Activation-buffer write, seen from the client (``Out``): one row, ``mask`` one bit per bank.

    A read accepted three cycles after the write's acceptance, or later, sees the new data.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__(
            {
                "valid": Out(1),
                "ready": In(1),
                "addr": Out(16),
                "data": Out(config.row_bytes * 8),
                "mask": Out(config.cores),
            }
        )


class MemoryRead(Signature):
    """A private read port without back-pressure, seen from the client: data READ_LATENCY cycles after addr.

    With ``enable`` the client says in ``en`` whether it wants them: the memory may have other use for the cycle.
    """

    def __init__(self, bits: int, enable: bool = False):
        super().__init__({"addr": Out(16), "data": In(bits)} | ({"en": Out(1)} if enable else {}))


class WeightWrite(Signature):
    """Weight-buffer or parameter-memory write, seen from the client: ``mask`` has one bit per beat-sized column."""

    def __init__(self, bits: int, columns: int):
        super().__init__({"valid": Out(1), "ready": In(1), "addr": Out(16), "data": Out(bits), "mask": Out(columns)})


class KsumWrite(Signature):
    """Ksum memory: one word of int8 (element i: channel i of a head's word), always accepted; seen from the client."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"valid": Out(1), "addr": Out(16), "data": Out(config.word * 8)})


#: what post-processing and writer need of an instruction (docs/hybrid.md)
POST_OP = fields_layout(isa.POST_OP_FIELDS)
DEST_BUFFER, DEST_Z, DEST_KSUM = (int(target) for target in Target)
RESULTS = 32  #: tiles of one engine in its result FIFO: the round trip of a credit, at one tile a cycle
MANTISSA_BITS, EXPONENT_BITS = 8, 5
FACTOR_BITS = MANTISSA_BITS + EXPONENT_BITS  #: of a token: mantissa low, p above


class EngineOutput(Signature):
    """From an engine to the post-processing lanes, seen from the engine.

    Members
    -------
    op : one POST_OP per instruction, in program order (stream)
    tile_valid, tile_acc : a finished tile; sums before the bias, element ``token * lanes + lane``. The engine holds
        RESULTS credits and gives one for each tile.
    popped : a credit comes back
    factor_valid, factor : mantissa and p of every token (FACTOR_BITS each), one for each tile of an instruction with
        ``divide``, in order, at any distance from its tile (at most RESULTS ahead)
    done : one cycle for each finished row
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__(
            {
                "op": Out(stream.Signature(POST_OP)),
                "tile_valid": Out(1),
                "tile_acc": Out(config.cores * config.lanes * ACC_BITS),
                "popped": In(1),
                "factor_valid": Out(1),
                "factor": Out(config.cores * FACTOR_BITS),
                "done": In(1),
            }
        )
