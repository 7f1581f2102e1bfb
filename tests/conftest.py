"""Settings of the whole suite."""

import gc

# Simulators and netlists make many small objects that live long: looking for circles among them is 5 % of the time.
gc.set_threshold(100_000, 20, 100)
