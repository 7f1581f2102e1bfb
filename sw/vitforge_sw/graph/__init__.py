"""The integer graph: what the quantizer writes, the golden model runs and the compiler schedules."""
