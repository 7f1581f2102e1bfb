"""The machine's life alone: cycle by cycle against a plain model, headers right and wrong in every field."""

import dataclasses
import random

import pytest

from vitforge_hw.arch import isa
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.memmap import BASE_ALIGNMENT
from vitforge_hw.host.boot import RESET_CYCLES, Boot
from vitforge_sim.bench.replay import Simulator

TINY = get_config("tiny")
WIDE = dataclasses.replace(TINY, name="wide", masters=2)
COUNTED = [chunk.name.lower() for chunk in isa.Chunk]
REFUSALS = ("misaligned", "bad_program", "bad_build", "bad_checksum")


class Model:
    """What Boot's docstring says; ``step`` takes the inputs of a cycle and gives the outputs of the same cycle."""

    def __init__(self, config):
        self.config = config
        self.state, self.count, self.header, self.base, self.beats = "OFF", 0, [0] * config.instruction_beats, 0, 0
        self.complete = self.broken = self.damaged = False
        self.stop = self.reset = [False]  # the last cycles' state is DRAIN or RESET, is RESET
        self.was_off = True

    def fields(self):
        raw = b"".join(beat.to_bytes(self.config.beat_bytes, "little") for beat in self.header)
        return isa.unpack(isa.HEADER_FIELDS, int.from_bytes(raw, "little") & ((1 << 8 * len(raw)) - 1))

    def fits(self, fields):
        chunks = {c.name.lower() for c in self.config.chunks}
        room = self.beats // self.config.instruction_beats
        return all(
            fields[f"{c}_start"] + fields[f"{c}_count"] <= room if c in chunks else fields[f"{c}_count"] == 0
            for c in COUNTED
        )

    def step(self, i):
        c, fields, state = self.config, self.fields(), self.state
        leave = i["soft_reset"] or not i["enable"]
        out = dict.fromkeys((*REFUSALS, "clear", "started", "run", "booting", "load_valid"), 0)
        following, broken = state, self.broken or i["read_error"]
        base, beats, damaged = self.base, self.beats, self.damaged
        if state == "OFF":
            if i["soft_reset"]:
                following = "DRAIN"
            elif i["enable"]:
                out["started"], broken = 1, False
                base, beats, following = i["program_base"], i["program_beats"], "START"
        elif state == "START":
            if base % BASE_ALIGNMENT:
                out["misaligned"], following = 1, "FAILED"
            elif not c.instruction_beats <= beats <= c.program_rows:
                out["bad_program"], following = 1, "FAILED"
            else:
                out["booting"], following = 1, "REQUEST"
        elif state in ("REQUEST", "LOAD"):
            out["booting"], out["load_valid"] = 1, int(state == "REQUEST")
            if state == "REQUEST":
                following = "LOAD" if i["load_ready"] else state
            elif leave:
                following = "DRAIN"
            elif i["loaded"]:
                damaged, following = i["damaged"], "CHECK"
        elif state == "CHECK":
            hashes = fields["config_hash"] == c.hash and fields["build_hash"] == build_hash(c)
            faults = ((fields["magic"] == isa.MAGIC, "bad_program"), (hashes, "bad_build"),
                      (not damaged, "bad_checksum"), (self.complete, "bad_program"))  # fmt: skip
            wrong = next((name for good, name in faults if not good), None)
            following = "FAILED" if self.broken or wrong else "RUN"
            if wrong and not self.broken:
                out[wrong] = 1
        elif state in ("RUN", "FAILED"):
            out["run"] = int(state == "RUN" and not leave)
            following = "DRAIN" if leave else state
        elif state == "DRAIN":
            following = "RESET" if i["idle"] and self.stop[-2:] == [True, True] else state
        elif self.count == RESET_CYCLES - 1:
            out["clear"], following = i["soft_reset"], "OFF"
        out |= {"stop": int(self.stop[-1]), "core_reset": int(self.reset[-1]), "base": self.base}
        out["stopping"] = int(out["stop"] or out["core_reset"] or i["soft_reset"] or (leave and not self.was_off))
        out["load_payload"] = self.beats
        out |= {name: fields[name] for chunk in COUNTED for name in (f"{chunk}_start", f"{chunk}_count")}
        # ---- the next cycle
        self.complete = self.fits(fields)
        if i["program_valid"] and i["program_addr"] < c.instruction_beats:
            self.header[i["program_addr"]] = i["program_data"]
        self.stop = [*self.stop[-1:], state in ("DRAIN", "RESET")]
        self.reset, self.was_off = [state == "RESET"], state == "OFF"
        self.count = self.count + 1 if state == "RESET" else 0
        self.state, self.base, self.beats, self.broken, self.damaged = following, base, beats, bool(broken), damaged
        return out


def header(rng, config, beats, faults):
    """A program's header, right in half of the cases, else with one fault: one of ``faults``, or one at random."""
    room = beats // config.instruction_beats
    fields = {"magic": isa.MAGIC, "config_hash": config.hash, "build_hash": build_hash(config)}
    absent = [f"{chunk.name.lower()}_count" for chunk in isa.Chunk if chunk not in config.chunks]
    for chunk in isa.Chunk:
        name = chunk.name.lower()
        start = rng.randint(0, room)
        fields[f"{name}_start"] = start
        fields[f"{name}_count"] = rng.choice([room - start, rng.randint(0, room - start)])
        if chunk not in config.chunks:
            fields[f"{name}_count"] = 0
    if rng.random() < 0.5:
        some = rng.choice(list(fields)[3:]), *rng.sample(absent, min(1, len(absent)))
        name = rng.choice(["magic", "config_hash", "build_hash", *some])
        bit = rng.randrange(next(f.bits for f in isa.HEADER_FIELDS if f.name == name))
        if rng.random() < 0.6:
            name, bit = next(faults)
        fields[name] ^= 1 << bit
    raw = isa.pack(isa.HEADER_FIELDS, fields, "header").to_bytes(isa.INSTRUCTION_BYTES, "little")
    size = config.beat_bytes
    return [int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size)]


@pytest.mark.parametrize(
    "config, cycles",
    [(TINY, 6000), pytest.param(TINY, 60000, marks=pytest.mark.slow), (WIDE, 4000)],
    ids=lambda v: getattr(v, "name", v),
)
def test_boot(config, cycles):
    """Random lives: every refusal, runs, soft resets and disabling in every state; in 60000 cycles every bit of every
    chunk's start and count is wrong once."""
    rng = random.Random(config.masters)
    bits = [(f"{chunk}_{what}", bit) for chunk in COUNTED for what in ("start", "count") for bit in range(16)]
    rng.shuffle(bits)
    faults = iter(bits * 50)
    dut, model = Boot(config), Model(config)
    seen, met = dict.fromkeys((*REFUSALS, "clear", "run", "started"), 0), set()

    async def bench(ctx):
        enable = soft = loading = 0
        writes, patience = [], 0
        for _ in range(cycles):
            state = model.state
            if state == "OFF" and not enable and not soft:
                enable = int(rng.random() < 0.5)
            elif state in ("RUN", "FAILED", "LOAD", "REQUEST") and enable and rng.random() < 0.08:
                enable = 0
            if rng.random() < (0.04 if state in ("START", "REQUEST", "CHECK") else 0.004):
                soft = 1
            room = rng.choice([config.program_rows, rng.randrange(config.instruction_beats, 60)])
            beats = (
                room if rng.random() < 0.9 else rng.choice([0, config.instruction_beats - 1, config.program_rows + 1])
            )
            base = rng.getrandbits(52) << 12
            base |= 0 if rng.random() < 0.95 else 1 << rng.randrange(12)
            if state == "REQUEST":
                loading, patience = 1, rng.randrange(4)
                writes = list(enumerate(header(rng, config, model.beats, faults)))
                writes += [(rng.randrange(config.instruction_beats, 1 << 16), rng.getrandbits(64)) for _ in range(3)]
            give = state == "LOAD" and writes and rng.random() < 0.7
            addr, data = writes.pop(0) if give else (rng.randrange(config.instruction_beats), rng.getrandbits(32))
            done = loading and state == "LOAD" and not writes
            patience -= done
            loaded = int(done and patience < 0)
            loading = loading and not loaded
            i = {
                "enable": enable, "soft_reset": soft, "program_base": base, "program_beats": beats,
                "load_ready": int(rng.random() < 0.5), "loaded": loaded, "damaged": int(rng.random() < 0.2),
                "program_valid": int(bool(give)), "program_addr": addr, "program_data": data,
                "read_error": int(rng.random() < 0.005), "idle": int(rng.random() < 0.4),
            }  # fmt: skip
            for name, value in i.items():
                ctx.set(dut.load.ready if name == "load_ready" else getattr(dut, name), value)
            want = model.step(i)
            got = {name: ctx.get(getattr(dut, name)) for name in want if not name.startswith("load_")}
            got |= {"load_valid": ctx.get(dut.load.valid), "load_payload": ctx.get(dut.load.payload)}
            want["load_payload"] &= (1 << len(dut.load.payload)) - 1
            assert got == want, state
            seen.update({name: seen[name] + want[name] for name in seen})
            if soft or not enable:
                met.add((state, soft))
            if want["clear"]:
                enable = soft = 0
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert min(seen.values()) >= 2, seen
    assert cycles < 60000 or len(list(faults)) < 49 * len(bits)
    assert {s for s, _ in met} == {"OFF", "START", "REQUEST", "LOAD", "CHECK", "RUN", "FAILED", "DRAIN", "RESET"}, met
