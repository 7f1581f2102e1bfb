"""R-MAC's window path: map rows into a window buffer, taps and outer products out of it, sums over tokens."""
