"""Parts of POST_OP, how the address of a row of groups moves on, counts of what waits."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data

from ..interfaces import POST_OP


def op_part(*names: str) -> data.StructLayout:
    """The named fields of POST_OP."""
    return data.StructLayout({name: POST_OP.members[name] for name in names})


def following(start, row_start, stride, ends_row, skip):
    """Address of the next group: ``stride`` on; where ``skip`` leaves out a row, that row's length more."""
    after = (start + stride)[: len(start)]
    length = (after - row_start)[: len(start)]
    return (after + Mux(ends_row & skip, length, 0))[: len(start)]


def counted(m: Module, name: str, most: int, more, less, init: int = 0):
    """There are some: a register beside the count of at most ``most``, for ``less`` decides late in a cycle."""
    count, some = Signal(range(most + 1), init=init, name=name), Signal(init=init > 0, name=f"some_{name}")
    after = (count + more)[: len(count)]
    m.d.sync += [count.eq(after - less), some.eq(Mux(less, after[1:].any(), after.any()))]
    return some
