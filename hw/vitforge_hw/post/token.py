"""One token's share of post-processing: its lanes, their operands, their bytes shifted into a row."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch import isa
from ..arch.config import ACC_BITS, AcceleratorConfig
from ..emit import block
from ..interfaces import POST_OP
from ..units.post_lane import PostLane, ports
from .queue import phases


def pick(chosen, values):
    """The value whose bit is set in the one-hot ``chosen``."""
    out = values[0]
    for bit, value in zip(chosen[1:], values[1:], strict=False):
        out = Mux(bit, value, out)
    return out


def lane_inputs(config: AcceleratorConfig):
    """A lane's inputs besides acc and residual, name -> member: those of a channel, those that all lanes share."""
    inputs = {n: f for n, f in ports(config.trio, config.attention).items() if f.flow == In}
    channel = {f.name: inputs[f.name] for f in isa.POST_PARAM_FIELDS if f.name in inputs}
    return channel, {n: f for n, f in inputs.items() if n not in channel and n not in ("acc", "residual")}


class PostToken(wiring.Component):
    """post_channels lanes of one token. A module of its own, because there are ``cores`` of them.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    engine, phase : one-hot, whose sums and which channels the accumulators take in this cycle
    acc : sums of the oldest tile of each engine
    res_engine, res_phase, res_mode : likewise for the residual, a cycle before the lanes want it
    res_low, res_high : rows of each engine's residual
    bias, ... : parameters of each channel, when a lane wants them; wide, ... : what all lanes have alike
    write : the lanes' results of this cycle are the row's next
    low, high : a tile's bytes

    Latency/throughput: engine to the lanes' acc 1 cycle, res_engine to their residual 1, ``write`` to low, high 1.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        engines, byte_row = len(c.engine_names), c.word * 8
        self._channel, self._shared = lane_inputs(c)
        super().__init__(
            {
                "engine": In(engines),
                "phase": In(phases(c)),
                "acc": In(c.lanes * ACC_BITS).array(engines),
                "res_engine": In(engines),
                "res_phase": In(phases(c)),
                "res_mode": In(POST_OP.members["res_mode"]),
                "res_low": In(byte_row).array(engines),
                "res_high": In(byte_row).array(engines),
                **{name: member.array(c.post_channels) for name, member in self._channel.items()},
                **self._shared,
                "write": In(1),
                "low": Out(byte_row),
                "high": Out(byte_row),
            }
        )

    @property
    def kind(self) -> str:
        """What the lanes can do."""
        c = self._config
        return "_trio" * c.trio + ("_gelu" if c.trio and c.attention else "")

    @property
    def module_name(self) -> str:
        """For ``block``."""
        c = self._config
        return f"vf_post_token_{c.word}x{c.post_channels}x{len(c.engine_names)}{self.kind}"

    def elaborate(self, platform):
        c = self._config
        m = Module()
        channels = c.post_channels * ACC_BITS
        sums = pick(self.engine, list(self.acc))
        acc = Signal(channels, name="sums", reset_less=True)
        m.d.sync += acc.eq(pick(self.phase, [sums.word_select(p, channels) for p in range(phases(c))]))
        residual = self._residual(m)
        low, high = [], []
        for j in range(c.post_channels):
            m.submodules[f"lane{j}"] = lane = block(PostLane(c.trio, c.attention), f"vf_post_lane{self.kind}")
            m.d.comb += [
                lane.acc.eq(acc.word_select(j, ACC_BITS).as_signed()),
                lane.residual.eq(residual[j]),
                *(getattr(lane, name).eq(getattr(self, name)[j]) for name in self._channel),
                *(getattr(lane, name).eq(getattr(self, name)) for name in self._shared),
            ]
            low.append(lane.low)
            high.append(lane.high)
        for row, new, name in ((self.low, low, "low"), (self.high, high, "high")):
            r = Signal(len(row), name=f"{name}_row", reset_less=True)
            with m.If(self.write):
                m.d.sync += r.eq(Cat(r, *new)[len(Cat(new)) :])
            m.d.comb += row.eq(r)
        return m

    def _residual(self, m):
        """A register for each channel of the phase."""
        c, mode = self._config, self.res_mode
        planes = [pick(self.res_engine, list(rows)) for rows in (self.res_low, self.res_high)]
        out = []
        for j in range(c.post_channels):
            places = range(j, c.word, c.post_channels)
            low, high = (pick(self.res_phase, [plane.word_select(p, 8) for p in places]) for plane in planes)
            upper = Mux(mode[1], high, low[-1].replicate(8))
            value = Signal(signed(16), name=f"residual{j}", reset_less=True)
            m.d.sync += value.eq(Cat(low, upper) & mode.any().replicate(16))
            out.append(value)
        return out
