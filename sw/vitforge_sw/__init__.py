"""vitforge_sw: models, integer graph, quantizer, golden model, compiler and emulator."""
