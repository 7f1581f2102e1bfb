"""RTL against golden: writes, values inside the units, logits; the first difference named."""
