"""The LayerNorm chunk: fetch, statistics, lanes."""
