"""Checks the clock estimates of `vitforge synth` on designs whose clocks were published from Vivado.

    .venv/bin/pip install pythondata-cpu-picorv32==1.0.post218 pythondata-cpu-vexriscv==1.0.1.post407
    .venv/bin/python scripts/check_clock_estimate.py

Road A's 148 ps a net is calibrated on the first row (PicoRV32, Kintex UltraScale+, speed -2); the other rows check it.
Speed grade -3 is 775/891 of -2, as the global buffer's limits are. 7-series: all delays longer by PicoRV32's own ratio
(Kintex-7 -3: 454 MHz) and, for Artix-7 -3, by the ratio of the DSP's limits (741 to 628 MHz).
"""

import json
import tempfile
from pathlib import Path

import pythondata_cpu_picorv32
import pythondata_cpu_vexriscv

from vitforge_sim.synth import yosys
from vitforge_sim.synth.delays import FanOut, PerNet, megahertz
from vitforge_sim.synth.design import flatten
from vitforge_sim.synth.netlist import count, netlist
from vitforge_sim.synth.timing import Timing

PICO = Path(pythondata_cpu_picorv32.data_location) / "picorv32.v"
VEX = Path(pythondata_cpu_vexriscv.data_location)
GRADE_3 = 775 / 891
ARTIX_3 = 714 / 454 * 741 / 628
#: design, part, published MHz, file, top, parameters, target, periods longer by
CASES = [
    ("PicoRV32", "Kintex UltraScale+ -2", 714, PICO, "picorv32_axi", {"TWO_CYCLE_ALU": 1}, "xcup", 1),
    ("PicoRV32", "Kintex UltraScale+ -3", 769, PICO, "picorv32_axi", {"TWO_CYCLE_ALU": 1}, "xcup", GRADE_3),
    ("PicoRV32", "Virtex UltraScale+ -2", 666, PICO, "picorv32_axi", {"TWO_CYCLE_ALU": 1}, "xcup", 1),
    ("VexRiscv small", "Artix-7 -3", 243, VEX / "VexRiscv_Min.v", "VexRiscv", {}, "xc7", ARTIX_3),
    ("VexRiscv full", "Artix-7 -3", 199, VEX / "VexRiscv.v", "VexRiscv", {}, "xc7", ARTIX_3),
    ("VexRiscv Linux", "Artix-7 -3", 180, VEX / "VexRiscv_Linux.v", "VexRiscv", {}, "xc7", ARTIX_3),
]


def design(file: Path, top: str, parameters: dict[str, int], target: str):
    """Cells counted and the flat graph."""
    with tempfile.TemporaryDirectory() as folder:
        script = [
            f"read_verilog {file}",
            *(f"chparam -set {name} {value} {top}" for name, value in parameters.items()),
            f"synth_xilinx -family {target} -top {top} -flatten -noiopad -noclkbuf",
            f"select {top}",
            "write_json -selected out.json",
        ]
        yosys.run(script, Path(folder))
        module = json.loads((Path(folder) / "out.json").read_text())["modules"][top]
    module["netnames"] = {n: v["bits"] for n, v in module["netnames"].items()}
    net = netlist(top, module, set())
    return count(net.cells), flatten({top: net}, top)


def main() -> None:
    print(f"{'design':16}{'part':24}{'LUT':>6}{'published':>11}{'fan-out':>16}{'148 ps':>16}{'250 ps':>16}")
    made = {}
    for name, part, published, file, top, parameters, target, longer in CASES:
        if (file, target) not in made:
            resources, flat = design(file, top, parameters, target)
            periods = [Timing(flat, model).period for model in (FanOut(), PerNet(148), PerNet(250))]
            made[file, target] = resources["lut"], periods
        lut, periods = made[file, target]
        clocks = [megahertz(p * longer) for p in periods]
        text = "".join(f"{c:8.0f} ({100 * (c / published - 1):+3.0f} %)" for c in clocks)
        print(f"{name:16}{part:24}{lut:6}{published:7} MHz{text}")


if __name__ == "__main__":
    main()
