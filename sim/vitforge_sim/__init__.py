"""vitforge_sim: simulator back ends, AXI memory model, monitors and benches (Verilator and Icarus Verilog)."""
