"""What the quantizers of all families share: power-of-two scales, rounding, calibration streams."""
