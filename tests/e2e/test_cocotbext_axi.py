"""The emitted `tiny` RTL between cocotbext-axi's AXI4-Lite master and AXI4 memory: an independent reading of AXI."""

import numpy as np
import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.registers import Error
from vitforge_hw.verilog import emit
from vitforge_sim.bench.topaxi import run_top
from vitforge_sim.run.machine import FAILED, IMAGE_DONE, Script

CONFIG = get_config("tiny")


@pytest.mark.parametrize("pause", [0.3])
def test_digits_with_random_pauses(digits, pause):
    """Two jobs after a refused one: golden logits, the refusal reported, the interrupt raised, nothing else written."""
    machine = digits.machine
    s = machine.enable(Script().write("irq_enable", IMAGE_DONE | FAILED))
    machine.aim(s, 0, 0).write64("job_image", machine.image[0] + 16).write("job_submit", 1).interrupt().error("odd")
    s.write("errors", 1 << Error.ALIGNMENT).write("irq_status", FAILED)
    machine.submit(s, 3, 1)
    machine.submit(s, 5, 2).interrupt().poll("completed", 2).read("errors").read("done_count").read("irq_status")
    values, memory = run_top(emit(CONFIG), s, machine.memory, pause=pause)
    read = dict(zip(s.labels, values, strict=True))
    assert (read["odd.code"], read["odd.lo"]) == (Error.ALIGNMENT, machine.image[0] + 16)
    assert (read["errors"], read["done_count"], read["irq_status"]) == (0, 2, IMAGE_DONE)
    for slot, image in ((1, 3), (2, 5)):
        at = machine.result[slot]
        logits = digits.build.logits(memory[at : at + machine.result_bytes].tobytes())
        assert np.array_equal(logits, digits.want[image]), slot
        memory[at : at + machine.result_bytes] = 0
    assert np.array_equal(memory[: machine.memory.size], machine.memory) and not memory[machine.memory.size :].any()
