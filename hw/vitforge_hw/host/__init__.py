"""The side that faces the system: AXI, DMA, registers, jobs, boot."""
