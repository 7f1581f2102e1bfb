"""The program: instructions, waits, order proof, memory image, build directory."""
