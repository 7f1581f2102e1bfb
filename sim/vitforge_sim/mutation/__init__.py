"""Mutation of the emitted Verilog by Yosys' ``mutate``: how many small errors the tests see."""
