"""vitforge_hw: the accelerator in Amaranth HDL, and the plain-int declarations (`arch`) that everything shares."""
