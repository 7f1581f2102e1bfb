"""One evaluation on several processes: each takes every n-th batch, the first gets everything in the images' order."""

import dataclasses

import torch


@dataclasses.dataclass(frozen=True)
class Shard:
    """Process ``rank`` of ``count``; with several, PyTorch's process group must exist (torchrun, ``vitforge.workers``).

    Whole batches are dealt out, so that a batch holds the same images, and a float model rounds alike, whatever
    ``count`` is.
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self):
        if not 0 <= self.rank < self.count:
            raise ValueError(f"shard: rank must be in 0..{self.count - 1}, not {self.rank}")

    def rows(self, images: int, batch: int) -> list[int]:
        """The images of this process, in whole batches."""
        starts = range(self.rank * batch, images, self.count * batch)
        return [i for start in starts for i in range(start, min(start + batch, images))]

    def gather(self, mine: dict) -> list[dict]:
        """What all processes have, by rank, on process 0; an empty list on the others."""
        if self.count == 1:
            return [mine]
        found = [None] * self.count if self.rank == 0 else None
        torch.distributed.gather_object(mine, found)
        return found or []

    def together(self) -> None:
        """Wait for all, so that rates are of processes that run at the same time."""
        if self.count > 1:
            torch.distributed.barrier()


def merged(parts: list[dict], name: str, images: int, batch: int) -> torch.Tensor:
    """Rows (images, ...) of the processes' tensors ``name``, in order."""
    out = None
    for rank, part in enumerate(parts):
        rows = Shard(rank, len(parts)).rows(images, batch)
        if out is None:
            out = part[name].new_empty(images, *part[name].shape[1:])
        out[rows] = part[name]
    return out
