"""Generated Verilog as hardware: open synthesis, resources, static timing. All estimated, before placement."""
