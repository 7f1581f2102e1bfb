"""Benches of units and chunks: streams, ports and memories around a component, the same in three simulators."""
