"""Memories of the machine, and the accesses to their rows that kinds of instructions declare."""

import dataclasses
import enum

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import PARAM_BYTES


class Memory(enum.IntEnum):
    """On-chip memories that instructions address."""

    ACT = 0  #: activation buffer
    WEIGHT = 1  #: weight buffer
    PARAM = 2  #: post-processing parameters
    LN_PARAM = 3  #: LayerNorm parameters
    KSUM = 4  #: sums of keys

    @property
    def title(self) -> str:
        """As messages name it."""
        return _TITLES[self]

    def rows(self, config: AcceleratorConfig) -> int:
        """Its rows (parameter memories: beats; Ksum memory: words)."""
        return int(getattr(config, f"{self.name.lower()}_rows"))


_TITLES = ("activation buffer", "weight buffer", "parameters", "LayerNorm parameters", "Ksum memory")


@dataclasses.dataclass(frozen=True)
class Access:
    """``index``: memory rows, shape (n,) where every row of the instruction makes the same access; otherwise (m, n) for
    rows ``first`` to ``first + m - 1``, and the others make none."""

    memory: Memory
    write: bool
    index: np.ndarray
    first: int = 0

    @property
    def shared(self) -> bool:
        return self.index.ndim == 1

    def row(self, r: int) -> np.ndarray:
        """The memory rows of row ``r`` of the instruction, shape (n,)."""
        if self.shared:
            return self.index
        return self.index[r - self.first] if self.first <= r < self.first + len(self.index) else self.index[:0].ravel()


def reads(memory: Memory, index: np.ndarray, first: int = 0) -> Access:
    return Access(memory, False, index, first)


def writes(memory: Memory, index: np.ndarray, first: int = 0) -> Access:
    return Access(memory, True, index, first)


def cdiv(a: int, b: int) -> int:
    """Ceiling division."""
    return -(-a // b)


def grid(base: int, stride: int, rows: int, n: int) -> np.ndarray:
    """``n`` memory rows of each row of an instruction, ``stride`` apart: (rows, n)."""
    return base + np.arange(rows)[:, None] * stride + np.arange(n)


def words(base: int, stride: int, groups: np.ndarray, n: int) -> np.ndarray:
    """``n`` words of each token group; groups (rows, groups of a row) -> (rows, words)."""
    return (base + groups[:, :, None] * stride + np.arange(n)).reshape(len(groups), -1)


def param_beats(at: int, channels: int, config: AcceleratorConfig) -> np.ndarray:
    """Beats that hold the parameter entries of so many channels."""
    return at + np.arange(cdiv(channels * PARAM_BYTES, config.beat_bytes))
