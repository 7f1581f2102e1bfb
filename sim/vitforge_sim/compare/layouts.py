"""How golden tensors lie in the machine's memories: expected rows of bytes, and which element a byte belongs to."""

import abc
import functools

import numpy as np

from vitforge_hw.arch import memmap


class Layout(abc.ABC):
    """A tensor in rows of bytes, found by (group, row).

    Members
    -------
    values : golden integers (images, tokens, channels)
    ends : values that count as saturated
    first : first image whose writes are compared
    valid : bool (groups, rows, bytes): bytes that belong to the tensor
    """

    first = 0

    def __init__(self, values: np.ndarray, ends: tuple[int, int]):
        self.values, self.ends = values, ends

    def rows(self, image: int) -> np.ndarray:
        """Expected bytes, uint8 (groups, rows, bytes)."""
        return self._rows(self.values[image])

    @functools.cached_property
    def valid(self) -> np.ndarray:
        return self._rows(np.full(self.values.shape[1:], -1, np.int64)) != 0

    def elements(self, written: np.ndarray) -> np.ndarray:
        """bool (tokens, channels): the elements in rows that ``written`` (groups, rows) names."""
        return self._tensor(np.where(self.valid & written[:, :, None], 255, 0).astype(np.uint8)) != 0

    def index(self, token: int, channel: int) -> tuple[int, ...]:
        """How an element is shown."""
        return token, channel

    def with_byte(self, want: int, row: int, byte: int) -> int:
        """The value that came, if it differs from ``want`` in one byte."""
        return (byte ^ 0x80) - 0x80

    @abc.abstractmethod
    def element(self, group: int, row: int, byte: int) -> tuple[int, int]:
        """(token, channel) of a byte."""

    @abc.abstractmethod
    def _rows(self, x: np.ndarray) -> np.ndarray:
        """A tensor as bytes, uint8 (groups, rows, bytes)."""

    @abc.abstractmethod
    def _tensor(self, rows: np.ndarray) -> np.ndarray:
        """The inverse of ``_rows``."""


class GroupLayout(Layout):
    """Groups of ``cores`` tokens, words of ``word`` channels, two byte planes where ``wide``; a feature map of
    ``size`` = (height, width) row by row, each map row padded to whole groups ((0, 0): not spatial).

    The Ksum memory is the layout of one core.
    """

    def __init__(self, values, ends, cores: int, word: int, wide: bool = False, size: tuple[int, int] = (0, 0)):
        super().__init__(values, ends)
        self.cores, self.word, self.wide = cores, word, wide
        self.height, self.width = size

    def _rows(self, x):
        return memmap.to_map_rows(x, self.height, self.width, self.cores, self.word, self.wide)

    def _tensor(self, rows):
        tokens, channels = self.values.shape[1:]
        height = self.height if self.width else tokens
        return memmap.from_map_rows(rows, height, self.width, channels, self.cores, self.word, self.wide)

    def element(self, group, row, byte):
        lane, channel = divmod(byte, self.word)
        block = row // (1 + self.wide)
        if self.width:
            y, g = divmod(group, -(-self.width // self.cores))
            return y * self.width + g * self.cores + lane, block * self.word + channel
        return group * self.cores + lane, block * self.word + channel

    def index(self, token, channel):
        return (*divmod(token, self.width), channel) if self.width else (token, channel)

    def with_byte(self, want, row, byte):
        if not self.wide:
            return super().with_byte(want, row, byte)
        return (want & ~0xFF) | byte if row % 2 == 0 else (want & 0xFF) | ((byte ^ 0x80) - 0x80) << 8


class ZLayout(Layout):
    """Z (images, dim, heads * dim) in the weight buffer: group = head, row (value block, key block, h) of a head, byte
    ``lane * width + i`` = Z[key block * word + h * width + i][head * dim + value block * word + lane]."""

    def __init__(self, values, ends, heads: int, word: int, width: int):
        super().__init__(values, ends)
        self.heads, self.word, self.width = heads, word, width
        self.blocks, self.steps = values.shape[1] // word, word // width
        assert values.shape[1] % word == 0 and values.shape[2] == heads * values.shape[1], values.shape

    def _rows(self, x):
        y = x.reshape(self.blocks, self.steps, self.width, self.heads, self.blocks, self.word)
        y = y.transpose(3, 4, 0, 1, 5, 2).reshape(self.heads, -1, self.word * self.width)
        return (y & 255).astype(np.uint8)

    def _tensor(self, rows):
        y = rows.reshape(self.heads, self.blocks, self.blocks, self.steps, self.word, self.width)
        return y.transpose(2, 3, 5, 0, 1, 4).reshape(self.values.shape[1:])

    def element(self, group, row, byte):
        value, key, h = np.unravel_index(row, (self.blocks, self.blocks, self.steps))
        lane, i = divmod(byte, self.width)
        dim = self.blocks * self.word
        return int(key * self.word + h * self.width + i), int(group * dim + value * self.word + lane)
