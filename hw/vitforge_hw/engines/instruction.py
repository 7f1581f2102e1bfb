"""The instruction register of an engine, between its sequencer and the queues of its stages."""

from amaranth import Module, Signal


def hold(m: Module, stream, free) -> tuple:
    """(the instruction, it goes to every stage): taken from ``stream`` when the one before is gone, a cycle before it
    goes; ``free`` (of the instruction): every stage can take it."""
    op = Signal(stream.payload.shape(), name="held_op", reset_less=True)
    held, taken = Signal(name="op_held"), Signal(name="op_taken")
    m.d.comb += [stream.ready.eq(~held), taken.eq(held & free(op))]
    with m.If(~held):
        m.d.sync += [op.eq(stream.payload), held.eq(stream.valid)]
    with m.Elif(taken):
        m.d.sync += held.eq(0)
    return op, taken
