"""The cocotb side of unit.py: one generic test that plays a case file on whatever component was built.

VITFORGE_CASE names a JSON file (see unit._case); the answer goes to the same name with `.out`. The clock is turned
here, two timer steps a cycle, so that levels are set and sampled without a race in either simulator.
"""

import json
import os

import cocotb
from cocotb.triggers import Timer
from cocotb.types import Logic

from .streams import Driver


@cocotb.test()
async def play(dut):
    path = os.environ["VITFORGE_CASE"]
    with open(path) as file:
        case = json.load(file)
    ports = set(case["ports"])

    def handle(name):
        return getattr(dut, name) if name in ports else None

    clk, rst = handle("clk"), handle("rst")
    ins = {n: tuple(handle(f"{n}__{s}") for s in ("valid", "payload", "ready")) for n in case["inputs"]}
    outs = {n: tuple(handle(f"{n}__{s}") for s in ("valid", "payload", "ready")) for n in case["outputs"]}
    last: dict[str, int] = {}

    def put(name, port, value):
        if port is not None and last.get(name) != value:  # a write costs more than a comparison
            last[name] = value
            port.value = value

    def get(port, default=1):
        if port is None:
            return default
        value = port.value
        return int(value) if isinstance(value, Logic) else value.to_unsigned()  # ValueError for X and Z

    for name, value in case["constants"].items():
        put(name, handle(name), value)
    for name, (_, payload, _) in ins.items():
        put(f"{name}.payload", payload, 0)
    answers = []
    for idle, stall in case["patterns"]:  # a reset, then one play each, in the same process: starting it costs most
        driver = Driver(case["inputs"], case["outputs"], idle, stall, case["linger"], case["max_cycles"])
        for name, (valid, _, _) in ins.items():
            put(f"{name}.valid", valid, 0)
        for name, (_, _, ready) in outs.items():
            put(f"{name}.ready", ready, 0)
        for reset in (1, 1, 0):
            put("rst", rst, reset)
            put("clk", clk, 0)
            await Timer(5, "ns")
            if reset:
                put("clk", clk, 1)
                await Timer(5, "ns")
        error = None
        try:
            while not driver.finished:
                offers, ready = driver.drive()
                for name, (valid, payload) in offers.items():
                    put(f"{name}.valid", ins[name][0], valid)
                    put(f"{name}.payload", ins[name][1], payload)
                for name, level in ready.items():
                    put(f"{name}.ready", outs[name][2], level)
                await Timer(5, "ns")
                levels = {}
                for name, (valid, payload, _) in outs.items():
                    is_valid = get(valid)
                    levels[name] = (is_valid, get(payload, 0) if is_valid else 0)
                driver.sample({name: get(handles[2]) for name, handles in ins.items()}, levels, ready)
                put("clk", clk, 1)
                await Timer(5, "ns")
                put("clk", clk, 0)
        except (AssertionError, ValueError) as caught:  # a broken stream rule, or X on a port that must be known
            error = f"cycle {driver.cycle}: {caught}"
        answers.append(driver.answer(error))
    with open(path + ".out", "w") as file:
        json.dump(answers, file)
