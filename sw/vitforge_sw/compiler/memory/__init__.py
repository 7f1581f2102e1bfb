"""Where tensors, weights and parameters live."""
