"""Matrix engines: MAT and R-MAC, their operands' fetch, their steps' issue, their arrays."""
