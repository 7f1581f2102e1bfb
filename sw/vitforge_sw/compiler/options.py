"""What the compiler may choose, and the sets of choices for a ViT that it tries in turn."""

import dataclasses
from typing import Any

from .tuning import Tuning

PIPELINING = ("both", "inter", "intra", "none")
ENGINES = ("both", "rmac", "mat")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSchedule:
    """Order and buffers of a ViT's blocks.

    row_blocks: groups of each row block of proj, fc1, fc2 (None: whole layers one after the other).
    v_slots, score_slots, key_slots: copies of a head's values, scores, keys in the weight buffer, where heads follow
    each other.
    heads_together: q, scores, softmax and attention x value of all heads go row block by row block, so that proj, fc1
    and fc2 of the first row blocks run beside the attention of the others; every head has its own slots.
    proj_ahead: proj of the next row block stands before fc2, so that LayerNorm 2 is over when fc1 begins.
    embed_beside (two engines): the embedding is MAT's alone; meanwhile R-MAC does the last groups of fc1 and fc2 of the
    image before, which needs a buffer of its own for the embedding.
    attend_lead: softmax and shifter array take that part of the rows that they can finish beside k, v, q and scores
    head by head, the rest by row blocks (None: all head by head).
    weights_resident: weights of proj, fc1, fc2 stay for all row blocks of an image's layer.
    pos_in_place: position embedding loaded into the embedding's buffer. out_in_place: LayerNorm 2 writes over the
    attention output. input_over_hidden: image and hidden layer of the MLP share a buffer. hidden_block: the hidden
    layer's buffer holds one row block only.
    """

    row_blocks: tuple[int, ...] | None = None
    v_slots: int = 3
    score_slots: int = 3
    key_slots: int = 2
    heads_together: bool = False
    proj_ahead: bool = False
    embed_beside: bool = False
    attend_lead: float | None = None
    weights_resident: bool = True
    pos_in_place: bool = False
    out_in_place: bool = False
    input_over_hidden: bool = False
    hidden_block: bool = False

    def __post_init__(self) -> None:
        for name in ("v_slots", "score_slots", "key_slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """What a user of the compiler chooses; the rest is the schedules' business.

    pipelining: P2-ViT's ablation: both, inter (between layers only), intra (inside attention only), none; of an
    EfficientViT both (layers overlap) or none (each layer begins when the one before has ended).
    engines: both, or Trio-ViT's ablation: rmac (everything on R-MAC; not for a ViT), mat (R-MAC does only what MAT has
    no datapath for: depthwise, K^T V, sums; no layer of an EfficientViT runs beside another).
    batch: images of a job (EfficientViT: at most cores), whose classifier reads its weights once.
    defer: the classifier works on the images of the job before, piece by piece beside the first image's layers: a job's
    results come with the next job (EfficientViT).
    blocks: a ViT's schedule (None: the fastest of several, by the cycle model).
    piece_rows: longest weight piece, in weight-buffer rows (None: ViT a third of the ring, EfficientViT the longest
    that fits).
    tuning: the schedules' constants.
    """

    pipelining: str = "both"
    engines: str = "both"
    batch: int = 1
    defer: bool = False
    blocks: BlockSchedule | None = None
    piece_rows: int | None = None
    tuning: Tuning = Tuning()

    overlap = property(lambda s: s.pipelining == "both" and s.engines != "mat", doc="EfficientViT: layers overlap")

    def __post_init__(self) -> None:
        if self.engines not in ENGINES:
            raise ValueError(f"engines must be one of {', '.join(ENGINES)}, not {self.engines!r}")
        if self.pipelining not in PIPELINING:
            raise ValueError(f"pipelining must be one of {', '.join(PIPELINING)}, not {self.pipelining!r}")
        if self.defer and not self.overlap:
            chosen = f"pipelining {self.pipelining}, engines {self.engines}"
            raise ValueError(f"defer needs layers that overlap, not {chosen}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, not {self.batch}")

    @classmethod
    def from_dict(cls, data: dict) -> "CompileOptions":
        """The inverse of dataclasses.asdict, also behind JSON, which makes lists of tuples."""

        def tuples(value: Any) -> Any:
            return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value

        def plain(given: dict) -> dict:
            return {name: tuples(value) for name, value in given.items()}

        blocks = BlockSchedule(**plain(data["blocks"])) if data["blocks"] else None
        return cls(**plain(data) | dict(blocks=blocks, tuning=Tuning(**plain(data["tuning"]))))


def blocks_of(groups: int, n: int) -> tuple[int, ...]:
    """``n`` nearly equal row blocks, the larger ones last (8, 8, 9 of 25 groups); fewer where there are few groups."""
    n = min(n, groups)
    return tuple((groups * (i + 1)) // n - (groups * i) // n for i in range(n))


def blocks_by(groups: int, ends: tuple[int, ...]) -> tuple[int, ...]:
    """Row blocks that end near ``ends``, in parts of the last one; fewer where there are few groups."""
    at = [0, *(round(groups * end / ends[-1]) for end in ends)]
    return tuple(b - a for a, b in zip(at, at[1:]) if b > a)


def candidates(groups: int, options: CompileOptions, engines: int) -> list[list[BlockSchedule]]:
    """Families of choices with the same schedule, in each the roomiest buffers first; the frugal last family only if
    no other fits. ``engines``: of the machine."""
    roomy: list[dict[str, Any]] = [
        {},
        dict(out_in_place=True),
        dict(out_in_place=True, pos_in_place=True),
        dict(out_in_place=True, pos_in_place=True, score_slots=2),
        dict(out_in_place=True, pos_in_place=True, score_slots=2, v_slots=2, input_over_hidden=True),
    ]
    if options.pipelining in ("none", "intra"):  # whole layers follow each other
        return [[BlockSchedule(**more) for more in roomy]]
    t = options.tuning
    thirds, halves, growing = blocks_of(groups, 3), blocks_of(groups, 2), blocks_by(groups, t.growing_ends)
    shapes = [
        (thirds, True, None), (thirds, True, t.attend_lead), (growing, True, t.attend_lead), (halves, True, None),
        (None, True, None), (None, True, t.attend_lead), (thirds, False, None),
    ]  # fmt: skip
    out = []
    if engines > 1 and options.engines == options.pipelining == "both":
        # weights that do not stay are read for each row block: then two of them
        for rows, stay in ((blocks_by(groups, t.together_ends), True), (halves, False)):
            same: dict[str, Any] = dict(row_blocks=rows, weights_resident=stay)
            same |= dict(heads_together=True, proj_ahead=True)
            out.append([BlockSchedule(**same, embed_beside=beside, **more)
                        for beside in (True, False) for more in roomy[:3]])  # fmt: skip
    for blocks, resident, lead in dict.fromkeys(shapes):
        same = dict(row_blocks=blocks, weights_resident=resident, attend_lead=lead)
        out.append([BlockSchedule(**same, **more) for more in roomy])
    out.append([BlockSchedule(**same, hidden_block=True, **roomy[-1])])
    return out
