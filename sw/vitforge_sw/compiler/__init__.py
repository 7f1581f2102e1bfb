"""From an integer graph to a program: schedule, buffers, waits, memory image, order proof, cycle model."""
