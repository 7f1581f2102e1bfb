"""The write side of a master port alone, cycle by cycle against a plain model: memories that outlive aresetn or do not,
late responses, another epoch."""

import dataclasses
import random

import pytest

from vitforge_hw.host.axi import OKAY, PATIENCE, WriteMaster
from vitforge_sim.bench.replay import Resettable, Simulator

STROBES = 0xFFFF
OUTPUTS = (
    "idle", "burst_ready", "beat_ready", "moved", "done", "stray", "error", "error_addr", "error_resp", "bready",
    "awvalid", "awaddr", "awlen", "awid", "awsize", "awburst", "awlock", "awqos", "awcache", "awprot", "awuser",
    "wvalid", "wdata", "wstrb", "wlast",
)  # fmt: skip


@dataclasses.dataclass
class Burst:
    """What has been accepted of the burst under way; cut: aresetn found it a part sent."""

    addr: int
    length: int
    address: bool = False
    beats: int = 0
    cut: bool = False
    still: int = 0

    @property
    def data_left(self) -> bool:
        return self.beats < self.length

    @property
    def begun(self) -> bool:
        """A memory that was not reset waits for the rest."""
        return (self.address or self.beats > 0) and not self.sent

    @property
    def sent(self) -> bool:
        return self.address and not self.data_left


class Model:
    """What WriteMaster's docstring says: ``outputs`` of a cycle with inputs ``i``, then ``step`` to the next one."""

    def __init__(self):
        self.burst: Burst | None = None
        self.seen: dict[str, int] = dict.fromkeys(("done", "error", "stray", "cut", "ended", "forgotten", "dropped"), 0)

    def outputs(self, i) -> dict[str, int]:
        b, up = self.burst, not i["rst"]
        own = b is not None and b.sent and not b.cut and i["bid"] == i["epoch"] << 1
        done = i["bvalid"] and own
        out = {
            "idle": b is None, "burst_ready": b is None and not i["stop"], "done": done, "bready": 1,
            "stray": i["bvalid"] and not own, "error": done and i["bresp"] != OKAY,
            "awvalid": b is not None and not b.address and up,
            "wvalid": b is not None and b.data_left and (b.cut or i["beat_valid"]) and up,
            "beat_ready": b is not None and b.data_left and i["wready"] and not b.cut,
            "awsize": 4, "awburst": 1, "awlock": 0, "awqos": 0, "awcache": i["attributes"] & 15,
            "awprot": i["attributes"] >> 4 & 7, "awuser": i["attributes"] >> 7,
        }  # fmt: skip
        out["moved"] = out["wvalid"] and i["wready"] or done
        if out["awvalid"]:
            out |= {"awaddr": b.addr, "awlen": b.length - 1, "awid": i["epoch"] << 1 | b.cut}
        if out["wvalid"]:
            out |= {"wlast": b.beats == b.length - 1, "wstrb": 0 if b.cut else STROBES}
            out |= {} if b.cut else {"wdata": i["beat"]}
        if out["error"]:
            out |= {"error_addr": b.addr, "error_resp": i["bresp"]}
        return {name: int(value) for name, value in out.items()}

    def step(self, i, out):
        b = self.burst
        sent = out["wvalid"] and i["wready"], out["awvalid"] and i["awready"]
        if i["rst"]:
            if b is not None:
                self.seen["cut" if b.begun else "dropped"] += not b.cut
                self.burst = dataclasses.replace(b, cut=True, still=0) if b.begun else None
        elif b is None:
            if i["burst_valid"] and out["burst_ready"]:
                self.burst = Burst(i["burst_addr"], i["burst_len"] + 1)
        elif b.cut and (b.sent or b.still == PATIENCE - 1):
            self.seen["ended" if b.sent else "forgotten"] += 1
            self.burst = None
        elif out["done"]:
            self.burst = None
        else:
            b.beats, b.address = b.beats + bool(sent[0]), b.address or bool(sent[1])
            b.still = 0 if any(sent) else b.still + 1
        for name in ("done", "error", "stray"):
            self.seen[name] += out[name]


def inputs(rng, model, state) -> dict[str, int]:
    """A cycle's inputs; ``state``: what stays from cycle to cycle."""
    b = model.burst
    if b is None:
        state["deaf"] = False
        if rng.random() < 0.2:
            state |= {"attributes": rng.getrandbits(8), "move": rng.choice([1, 0.7, 0.3])}
            state["address"] = rng.choice([state["move"], 0.02])
    state["rst"] = (state["rst"] and rng.random() < 0.5) or (not state["deaf"] and rng.random() < 0.012)
    if state["rst"]:
        state["epoch"] = rng.getrandbits(3)
        if b is not None and b.begun and not b.cut and state["patience"] and rng.random() < 0.3:
            state["deaf"], state["patience"] = True, state["patience"] - 1
    valid = state["burst"] is not None
    if not valid and rng.random() < 0.5:
        state["burst"] = (rng.getrandbits(60) << 4, rng.choice([15, rng.getrandbits(4)]))
    state["valid"] = state["burst"] is not None
    addr, length = state["burst"] or (rng.getrandbits(64), rng.getrandbits(4))
    state["beat"] = rng.getrandbits(128) if state["beat"] is None else state["beat"]
    state["offer"] = state["offer"] or rng.random() < state["move"]
    answer = rng.random() < (0.3 if b is not None and b.sent else 0.02)
    own = state["epoch"] << 1
    hears = [not state["deaf"] or what for what in (b.address, not b.data_left)] if b else [True, True]
    moves = [on and rng.random() < state[rate] for on, rate in zip(hears, ("address", "move"), strict=True)]
    return {
        "rst": state["rst"], "stop": rng.random() < 0.1, "epoch": state["epoch"], "attributes": state["attributes"],
        "burst_valid": state["valid"], "burst_addr": addr, "burst_len": length, "beat_valid": state["offer"],
        "beat": state["beat"], "awready": moves[0], "wready": moves[1], "bvalid": answer,
        "bid": own if rng.random() < 0.8 else rng.getrandbits(4), "bresp": rng.choice([0, 0, 2, 3]),
    }  # fmt: skip


@pytest.mark.parametrize("cycles, patience", [(7000, 1), pytest.param(60000, 6, marks=pytest.mark.slow)])
def test_write_master(cycles, patience):
    """Random bursts and aresetn at any moment; ``patience`` times the memory does not go on with a burst that was cut:
    forgotten after PATIENCE cycles."""
    dut, model, rng = WriteMaster(), Model(), random.Random(cycles)
    top = Resettable(dut)
    state = dict(cycle=0, rst=0, epoch=0, deaf=False, patience=patience, attributes=0, move=1, address=1)
    state |= dict(burst=None, beat=None, offer=0)

    def port(name):
        names = {
            "rst": top.reset, "burst_valid": dut.burst.valid, "burst_addr": dut.burst.payload.addr,
            "burst_len": dut.burst.payload.len, "burst_ready": dut.burst.ready, "beat_valid": dut.beat.valid,
            "beat": dut.beat.payload, "beat_ready": dut.beat.ready, "attributes": dut.attributes.as_value(),
        }  # fmt: skip
        return names[name] if name in names else getattr(dut if hasattr(dut, name) else dut.axi, name)

    async def test(ctx):
        levels: dict[str, int] = {}

        def drive():
            i = {name: int(value) for name, value in inputs(rng, model, state).items()}
            for name in (n for n in i if levels.get(n) != i[n]):
                ctx.set(port(name), i[name])
            levels.update(i)

        drive()
        async for _, _, *values in ctx.tick().sample(*map(port, OUTPUTS)):
            got, want = dict(zip(OUTPUTS, values, strict=True)), model.outputs(levels)
            assert {name: got[name] for name in want} == want, levels
            model.step(levels, want)
            if levels["burst_valid"] and want["burst_ready"] and not levels["rst"]:
                state["burst"] = None
            if levels["beat_valid"] and want["beat_ready"]:
                state["beat"], state["offer"] = None, 0
            state["cycle"] += 1
            if state["cycle"] == cycles:
                break
            drive()

    simulator = Simulator(top, simulators=("icarus",))
    simulator.add_clock(1e-8)
    simulator.add_testbench(test)
    simulator.run()
    assert model.seen["forgotten"] == patience and min(model.seen.values()) >= min(patience, 3), model.seen
