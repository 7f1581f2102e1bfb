"""Properties proved about emitted blocks."""
