"""Where tensors live in the activation buffer: what an allocation hands over."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Place:
    """``address`` of group 0, ``stride`` rows from group to group, ``planes`` bytes per value, class and slot."""

    name: str
    address: int
    stride: int
    groups: int
    planes: int
    klass: str
    slot: int
    restarts: bool = False  #: the buffer holds one row block; each starts at ``address``

    def row(self, group: int) -> int:
        """Address of the first row of a group; ``group`` is the first of a row block where the buffer restarts."""
        return self.address if self.restarts else self.address + group * self.stride


@dataclasses.dataclass
class Allocation:
    """``places``: tensor -> Place; ``slots``: (class, slot) -> (address, rows); ``used``: rows taken of each pool;
    ``loads``: of a batch, the run before which each image is loaded (0: at the start)."""

    places: dict[str, Place]
    slots: dict[tuple[str, int], tuple[int, int]]
    used: list[int]
    loads: tuple[int, ...] = (0,)
