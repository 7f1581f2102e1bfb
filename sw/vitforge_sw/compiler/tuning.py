"""The schedules' tuned constants: found by trying, right for no deeper reason; a search may try others."""

import dataclasses

ANY = -(10**9)  #: a slack: the order of the program is enough, even if it makes rows wait


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """Block schedule (ViT)

    good: cycles over an engine's busy cycles at which no other schedule is tried.
    query_latency: cycles of an engine, at least those from a step to the written row.
    attend_lead: value of BlockSchedule.attend_lead where it is tried.
    growing_ends: ends of four row blocks, the first one ready early; for a softmax that is slower than the engines.
    together_ends: ends of the row blocks with heads together: the first one is long, so that one head's softmax lasts
    until the next head's scores are there.

    Row schedule (EfficientViT), in cycles where nothing else is said

    latency: from an engine's last step to a row that others may read. switch: between instructions of an engine.
    long_row: a row that is worth halving.
    leave, early: R-MAC leaves a matmul for its depthwise layer when at most ``leave`` rows are left, or MAT will have
    finished them in the part ``early`` of the depthwise layer's own duration.
    hold: R-MAC waits so long for such work rather than take a row of another layer; ``shorter``: other values, tried in
    turn where the program memory is too small. ahead: layers in which it looks.
    windows: (layers in which an engine looks for work, first layers of the next image that fill waiting time), tried
    in turn: the fewer layers, the fewer tensors are needed at once.
    next_room: part of the rest of the activation buffer that the present image's tensors may take meanwhile. fill: part
    of a row's cycles that must be waiting time.
    pace: between a deferred classifier's pieces, in cycles that loading them takes. beside_parts: its pieces are so
    many times smaller than the others.
    pieces: longest weight pieces that are tried, in parts of the ring. branches: wanted slots of Z and Ksum (two
    branches of two blocks). small: pieces of at most 1 / small of the ring may get places of their own in a batch.

    Allocation by lifetimes

    slacks: cycles that a place rests before it is reused. leads: how much earlier than its first use an image is
    loaded, in cycles that loading it takes; the second ones where the first ones do not fit. tries: random orders of
    tensors where they do not fit in the order of their sizes.
    """

    good: float = 1.01
    query_latency: int = 64
    attend_lead: float = 0.7
    growing_ends: tuple[int, ...] = (4, 10, 17, 25)
    together_ends: tuple[int, ...] = (16, 28, 40, 50)

    latency: int = 75
    switch: int = 8
    long_row: int = 1100
    leave: int = 1
    early: float = 0.85
    hold: int = 400
    shorter: tuple[int, ...] = (700, 0)
    ahead: int = 14
    windows: tuple[tuple[int, int], ...] = ((24, 2), (24, 0), (2, 0))
    next_room: float = 1 / 3
    fill: float = 0.5
    pace: int = 5
    beside_parts: int = 4
    pieces: tuple[int, ...] = (3, 4, 6, 8, 12, 16)
    branches: int = 4
    small: int = 8

    slacks: tuple[int, ...] = (4000, 2000, 1500, 1000, 700, 500, 350, 250, 120, 0, ANY)
    leads: tuple[tuple[int, ...], ...] = ((16, 8, 4), (2, 1, 0))
    tries: int = 300
