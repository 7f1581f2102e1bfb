"""Parts of POST_OP, and how the address of a row of groups moves on."""

from amaranth import Mux
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
