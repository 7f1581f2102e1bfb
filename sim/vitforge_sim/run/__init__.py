"""Runs the RTL: simulators, builds, top-level bench, register scripts, monitors."""
