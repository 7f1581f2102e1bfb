"""Declarations shared by RTL, golden model, compiler, emulator and documentation (no torch, no Amaranth)."""
