"""Post-processing shared by the engines: queues, lanes' operands, residual rows, results' rows."""
