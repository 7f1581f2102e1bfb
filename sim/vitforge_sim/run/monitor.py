"""Passive monitors: what to watch, and the reader of their records.

A record is, in 32-bit little-endian words: cycle, address, then the data from its least significant word on
(hdl/monitor.v writes it).
"""

import dataclasses
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Monitor:
    """One watched write port of the design.

    name: key in the results. valid, addr, data: Verilog expressions in which every `$` stands for the instance of the
    top module ("$buffer.bank0.w_en & $buffer.enable"); one without `$` is a signal path below the top
    ("buffer.bank0.w_en"). addr_bits (at most 32), data_bits: their widths.
    """

    name: str
    valid: str
    addr: str
    data: str
    addr_bits: int
    data_bits: int

    def __post_init__(self):
        if not 1 <= self.addr_bits <= 32:
            raise ValueError(f"monitor {self.name}: addr_bits must be 1 to 32, not {self.addr_bits}")
        if self.data_bits < 1:
            raise ValueError(f"monitor {self.name}: data_bits must be positive, not {self.data_bits}")

    @property
    def data_words(self) -> int:
        """32-bit words of data in a record."""
        return -(-self.data_bits // 32)

    def verilog(self, number: int, dut: str) -> str:
        """The instance text in the bench; `dut` is the instance name of the top module."""

        def expression(text: str) -> str:
            return text.replace("$", f"{dut}.") if "$" in text else f"{dut}.{text}"

        return (
            f"    monitor #(.WIDTH_ADDR({self.addr_bits}), .WIDTH_DATA({self.data_bits}), .ID({number})) "
            f"monitor_{number} (.clk(clk), .cycle(cycle), .valid({expression(self.valid)}), "
            f".addr({expression(self.addr)}), .data({expression(self.data)}));"
        )


def record_dtype(data_bits: int) -> np.dtype:
    """Record type: cycle uint32, addr uint32, data uint8[4 * ceil(data_bits / 32)] (little-endian bytes)."""
    return np.dtype([("cycle", "<u4"), ("addr", "<u4"), ("data", "u1", (4 * -(-data_bits // 32),))])


def read_records(path: Path, data_bits: int) -> np.ndarray:
    """Records of one monitor file, in order of time. Raises ValueError if the file ends inside a record."""
    dtype = record_dtype(data_bits)
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size % dtype.itemsize:
        raise ValueError(f"monitor file {path.name} must have whole records of {dtype.itemsize} bytes, not {raw.size}")
    return raw.view(dtype)
