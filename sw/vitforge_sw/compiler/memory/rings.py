"""Rings of static addresses for weights and parameters."""

import numpy as np


class RingError(ValueError):
    """Weights or parameters do not fit their memory with this schedule."""


class Ring:
    """Static addresses handed out in turn from ``start``; a piece that would cross the end starts at 0.

    ``first``: address of an image's first piece, which must find its place while the image before is still at work.
    """

    def __init__(self, rows: int, what: str, start: int = 0, first: int | None = None):
        self.rows, self.what, self.next, self.first = rows, what, start, first
        self.taken: list[tuple[int, int, str]] = []
        self.uses: list[list[int]] = []  #: first and last use of each piece, in cycles of the PE array
        self.held: dict[str, tuple[int, int]] = {}  #: pieces not yet overwritten

    def take(self, n: int, name: str) -> int:
        if n > self.rows:
            raise RingError(f"{self.what}: {name} needs {n} rows of {self.rows}")
        if not self.taken and self.first is not None and self.first + n <= self.rows:
            at = self.first
        else:
            at = self.next if self.next + n <= self.rows else 0
            self.next = at + n
        self.taken.append((at, n, name))
        self.uses.append([])
        self.held = {k: (a, b) for k, (a, b) in self.held.items() if b <= at or a >= at + n}
        self.held[name] = (at, at + n)
        return at

    def addresses(self, sizes: list[int]) -> list[int]:
        """Where pieces of these sizes would be placed."""
        out: list[int] = []
        following = self.next
        for n in sizes:
            if not out and self.first is not None and self.first + n <= self.rows:
                out.append(self.first)
                continue
            out.append(following if following + n <= self.rows else 0)
            following = out[-1] + n
        return out

    def holds(self, name: str) -> bool:
        """Whether a piece that was taken lies there whole."""
        return name in self.held

    def size(self, name: str) -> int:
        """Rows of a piece when it was last taken; 0: never."""
        return next((n for _, n, taken in reversed(self.taken) if taken == name), 0)

    def best(self, total: int, cycles_per_row: int, unit: int = 1) -> tuple[int, int]:
        """(start, first), multiples of ``unit``, where pieces find their place free as long as possible.

        The slack of a piece: from the last use of what it overwrites (also of the image before) to its first use,
        less its loading. ``total``: cycles of an image.
        """
        sizes = np.array([n for _, n, _ in self.taken])
        first, last = np.array([u[0] for u in self.uses]), np.array([u[-1] for u in self.uses])
        earlier = np.arange(len(sizes))[:, None] > np.arange(len(sizes))
        before = np.where(earlier, last[None], last[None] - total)

        def score(start: int, one: int | None, skip: int) -> tuple[int, int]:
            at = np.array(Ring(self.rows, self.what, start, one).addresses(sizes.tolist()))
            overlap = (at[:, None] < at + sizes) & (at < (at + sizes)[:, None])
            slack = first - np.where(overlap, before, -(10**9)).max(axis=1) - sizes * cycles_per_row
            slack = np.minimum(slack, total // 8)[skip:]
            return int(slack.min(initial=total)), int(slack.sum())

        places = {0, *np.linspace(0, self.rows, 65).astype(int).tolist(), *(a for a, _, _ in self.taken)}
        tries = sorted({a // unit * unit for a in places})
        start = max(tries, key=lambda s: score(s, None, 1))
        return start, max(tries, key=lambda one: score(start, one, 0))

    def use(self, at: int, piece: str, layer: str, begin: int, end: int) -> None:
        """A layer uses ``piece`` at ``at`` from cycle ``begin`` to ``end``; it may have been overwritten since it was
        loaded."""
        low, high = self.held.get(piece, (0, 0))
        if not low <= at < high:
            raise RingError(
                f"{self.what}: {self.rows} rows are too few to keep the pieces of {layer} for all row blocks"
            )
        index = max(i for i, taken in enumerate(self.taken) if taken[2] == piece)
        self.uses[index] += [begin, end]
