"""Runs the encoded program from the memory image's bytes, its chunks in seeded random legal order."""
