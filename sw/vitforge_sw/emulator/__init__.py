"""Runs the encoded program from the memory image's bytes, its chunks in seeded random legal order."""

from .machine import Hold, Machine, Result, differences, emulate, holds_for

__all__ = ["Hold", "Machine", "Result", "differences", "emulate", "holds_for"]
