"""The cocotb side of topaxi.py: cocotbext-axi's masters and memories around the generated top level.

Nothing here is ours but the order of the register accesses: handshakes, bursts and responses are cocotbext-axi's. Its
memory answers in order; every channel pauses at random.
"""

import json
import mmap
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

PERIOD = 10  #: ns


def _pauses(rng: random.Random, share: float):
    while True:
        yield rng.random() < share


def _channels(side):
    return [c for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel")
            if (c := getattr(side, name, None)) is not None]  # fmt: skip


@cocotb.test()
async def play(dut):
    path = os.environ["VITFORGE_CASE"]
    with open(path) as file:
        case = json.load(file)
    rng = random.Random(case["seed"])
    memory = mmap.mmap(-1, case["size"])
    with open(case["memory"], "rb") as file:
        content = file.read()
    memory[: len(content)] = content
    dut.aresetn.value = 0
    cocotb.start_soon(Clock(dut.aclk, PERIOD, unit="ns").start())
    reset = dict(reset_active_level=False)
    lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi_ctrl"), dut.aclk, dut.aresetn, **reset)
    rams = [
        AxiRam(AxiBus.from_prefix(dut, f"m_axi_gmem{i}"), dut.aclk, dut.aresetn, **reset, size=case["size"], mem=memory)
        for i in range(case["masters"])
    ]
    for side in (lite.write_if, lite.read_if, *(s for ram in rams for s in (ram.write_if, ram.read_if))):
        for channel in _channels(side):
            channel.set_pause_generator(_pauses(random.Random(rng.random()), case["pause"]))
    await ClockCycles(dut.aclk, 8)
    dut.aresetn.value = 1
    await ClockCycles(dut.aclk, 4)
    values = []
    for op, address, value, mask in case["script"]:
        if op == "write":
            await lite.write_dword(address, value)
        elif op == "read":
            values.append(await lite.read_dword(address))
        elif op == "interrupt":
            if not dut.interrupt.value:
                await with_timeout(dut.interrupt.rising_edge, case["limit"] * PERIOD, "ns")
        else:
            assert op == "poll", op
            for _ in range(case["limit"]):
                if await lite.read_dword(address) & mask == value:
                    break
            else:
                raise AssertionError(f"register {address:#x} never had {value:#x} under {mask:#x}")
    with open(case["memory"] + ".out", "wb") as file:
        file.write(memory[:])
    with open(path + ".out", "w") as file:
        json.dump(values, file)
