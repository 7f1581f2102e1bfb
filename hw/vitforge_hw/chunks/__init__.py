"""Blocks with an instruction queue and a progress counter."""
