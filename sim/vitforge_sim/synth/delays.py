"""Delay models: kinds of :mod:`primitives` to picoseconds. Estimates before placement, no vendor's data base.

``FanOut``: one delay for every LUT and a net that grows with its loads; the yardstick of docs/silicon.md.
``PerNet``: published delays of UltraScale+ cells (RapidWright's delay model, speed -2) and one constant for every
routed net. It is blind to fan-out and stands beside the first.
"""

import math
from typing import Protocol

import numpy as np


class Model(Protocol):
    """arc, start, end: kind -> picoseconds; local: the arc is wired inside a slice or column; net: loads -> ps.

    lut_pins : delays of a LUT's inputs by order of arrival, the last first; None: ``arc`` alone
    """

    name: str
    lut_pins: np.ndarray | None

    def arc(self, kind: str) -> float: ...

    def local(self, kind: str) -> bool: ...

    def start(self, kind: str) -> float: ...

    def end(self, kind: str) -> float: ...

    def net(self, loads: np.ndarray, local: np.ndarray) -> np.ndarray: ...

    def merged(self) -> float | None:
        """Net delay from logic to the only flip-flop that it feeds, in the same slice; None: like any net."""


# DSP48E2, speed -2: 775 MHz with all registers, 544 without M, 410 with none between (DS925): periods, ps
DSP_PERIOD = {"DSP 1 0 1": 1840.0}
DSP_PERIOD_PIPELINED = 1290.0
DSP_CLOCK = 350.0
_DSP_MULTIPLY, _DSP_SUM, _DSP_SETUP = 1400.0, 1000.0, 300.0


def dsp_period(kind: str) -> float:
    """Of a DSP's own path between registers."""
    return DSP_PERIOD.get(kind, DSP_PERIOD_PIPELINED)


def dsp_arc(kind: str) -> float:
    """Through a DSP without registers."""
    return _DSP_MULTIPLY + _DSP_SUM if kind == "DSP M" else _DSP_SUM


def dsp_start(kind: str) -> float:
    """From the clock to P: register P, or M and the sum, or A, product and sum."""
    m, p = kind.split()[1:]
    return DSP_CLOCK if p == "1" else DSP_CLOCK + _DSP_SUM + (0 if m == "1" else _DSP_MULTIPLY)


def dsp_end(kind: str) -> float:
    """To the first register that an operand meets."""
    register, own, m, _ = kind.split()[1:]
    if own == "1":
        return _DSP_SETUP
    return _DSP_SETUP + (_DSP_SUM if register == "C" else _DSP_MULTIPLY + (0 if m == "1" else _DSP_SUM - _DSP_SETUP))


class FanOut:
    """LUT 100 ps, net 200 + 60 log2(loads) ps; carry and wide multiplexers wired inside a slice."""

    name = "fan-out model: LUT 100 ps, net 200 + 60 log2(loads) ps"
    lut_pins = None
    _arc = {"LUT": 100.0, "INV": 0.0, "MUXF I": 60.0, "MUXF S": 60.0, "LRAM": 150.0, "SRL": 150.0}
    _start = {"FF": 90.0, "RAM 0": 950.0, "RAM 1": 950.0, "LRAM": 550.0, "SRL": 500.0, "PORT": 0.0}
    _end = {"RAM": 300.0, "LRAM": 200.0, "SRL": 100.0, "PORT": 0.0}

    def arc(self, kind):
        if kind.startswith("CARRY"):
            _, pin, out, _, _, bits = kind.split()
            if pin in ("CI", "CY"):
                return 20.0 * (int(bits) // 4) if out == "CO" else 80.0
            return (100.0 if out == "O" else 120.0) + (30.0 if pin == "DI" else 0.0)
        return dsp_arc(kind) if kind.startswith("DSP") else self._arc[kind]

    def local(self, kind):
        return kind == "MUXF I" or (kind.startswith("CARRY") and " DI " not in kind)

    def start(self, kind):
        return dsp_start(kind) if kind.startswith("DSP") else self._start[kind]

    def end(self, kind):
        if kind.startswith("FF"):
            return 50.0
        return dsp_end(kind) if kind.startswith("DSP") else self._end[kind]

    def net(self, loads, local):
        return np.where(local & (loads <= 2), 0.0, 200.0 + 60.0 * np.log2(np.maximum(loads, 1)))

    def merged(self):
        return None


class PerNet:
    """Road A: published cell delays, ``net`` ps for every routed net.

    LUT6 inputs by order of arrival, the last on the fastest pin: 35, 50, 90, 100, 125, 150.
    """

    LUT_PINS = (35.0, 50.0, 90.0, 100.0, 125.0, 150.0)
    _arc = {"INV": 0.0, "LUT": 0.0, "MUXF I": 70.0, "MUXF S": 77.0, "LRAM": 110.0, "SRL": 110.0}
    _start = {"FF": 77.0, "RAM 0": 1000.0, "RAM 1": 220.0, "LRAM": 500.0, "SRL": 500.0, "PORT": 0.0}
    _end = {"RAM": 300.0, "LRAM": 300.0, "SRL": 300.0, "PORT": 0.0}

    def __init__(self, net: float, scale: float = 1.0):
        """scale : of the cells' delays, for slower parts than UltraScale+ -2."""
        self.routed, self.scale = net, scale
        self.name = f"road A: published cell delays, {net:g} ps a net"
        self.lut_pins = np.array([p * scale for p in self.LUT_PINS])

    def arc(self, kind):
        return self.scale * self._unscaled(kind)

    def _unscaled(self, kind):
        if not kind.startswith("CARRY"):
            return dsp_arc(kind) if kind.startswith("DSP") else self._arc[kind]
        _, pin, out, i, j, bits = kind.split()
        i, j, bits = int(i), int(j), int(bits)
        sum_bit = 40 if out == "O" else 0
        if pin == "CI":
            return 56.0 + 8 * i if out == "O" else (12.0 if i == bits - 1 else 20.0 + 8 * i)
        if pin == "CY":
            return 110.0 + 10 * i
        if pin == "S":
            return 60.0 if out == "O" and i == j else 71.0 + 16 * (i - j) + sum_bit
        return 57.0 + 12 * (i - j) + sum_bit

    def local(self, kind):
        return kind in ("MUXF I", "INV") or (kind.startswith("CARRY") and " CY " not in kind)

    def start(self, kind):
        return self.scale * (dsp_start(kind) if kind.startswith("DSP") else self._start[kind])

    def end(self, kind):
        if kind.startswith("FF"):
            return 25.0 * self.scale
        return self.scale * (dsp_end(kind) if kind.startswith("DSP") else self._end[kind])

    def net(self, loads, local):
        return np.where(local, 0.0, self.routed)

    def merged(self):
        return 50.0


def megahertz(period: float) -> float:
    """Of a period in ps."""
    return 1e6 / period if period else math.inf
