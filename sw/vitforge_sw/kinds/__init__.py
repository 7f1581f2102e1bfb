"""Instruction kinds: one file each says what the hardware does with it, this registry finds it.

The compiler's waits and order proof, the cycle model, the emulator and the comparison with RTL ask here, so an access
that a kind forgets is forgotten by waits, proof and cycle model; the emulator's steps, which do not use the accesses,
show such a mistake as a wrong tensor. A new kind is one file and one name in ``KINDS``.
"""

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from .access import Access, Memory
from .attend import Attend
from .depthwise import Depthwise
from .image_load import ImageLoad
from .key_load import KeyLoad
from .key_value import KeyValue
from .kind import Clock, Engine, InstructionKind, Op, Output
from .layernorm import LayerNorm
from .matmul import Matmul
from .result_store import ResultStore
from .softmax import Softmax
from .token_sum import TokenSum
from .weight_load import WeightLoad

__all__ = [
    "KINDS", "Access", "Clock", "Engine", "InstructionKind", "Memory", "Op", "Output", "accesses", "kind_of",
    "memory_rows", "readers", "writers",
]  # fmt: skip

KINDS: tuple[InstructionKind, ...] = (
    Matmul(), Depthwise(), KeyValue(), TokenSum(), Attend(), LayerNorm(), Softmax(), KeyLoad(), WeightLoad(),
    ImageLoad(), ResultStore(),
)  # fmt: skip
_BY_CODE = {(chunk, int(kind.code)): kind for kind in KINDS for chunk in kind.chunks}


def kind_of(chunk: Chunk, op: Op) -> InstructionKind:
    """The kind of an instruction of ``chunk``."""
    return _BY_CODE[chunk, op.get("kind", 0) if chunk == Chunk.RMAC else 0]


def accesses(chunk: Chunk, rows: int, op: Op, config: AcceleratorConfig) -> list[Access]:
    """Every access of an instruction, from its op fields alone, reads before writes. Fields that are 0 may miss."""
    kind = kind_of(chunk, op)
    return kind.accesses(kind.filled(op), rows, config)


def memory_rows(config: AcceleratorConfig) -> tuple[int, ...]:
    """Rows of each memory."""
    return tuple(memory.rows(config) for memory in Memory)


def writers(memory: Memory) -> tuple[Chunk, ...]:
    """The chunks with a kind that may write it."""
    return tuple(c for c in Chunk if any(c in kind.chunks and memory in kind.writing for kind in KINDS))


def readers(memory: Memory) -> tuple[Chunk, ...]:
    """The chunks with a kind that may read it."""
    return tuple(c for c in Chunk if any(c in kind.chunks and memory in kind.reading for kind in KINDS))
