"""vitforge software: models, graph, quantizers, golden model, compiler, emulator."""
