"""Published quantizers to compare with, simulated in float: each choice is a strategy in a file of its own.

``observers`` (ranges), ``grids`` (granularity, symmetry), ``transforms`` (what moves between activations and weights),
``codes`` (attention and hidden codes), ``kernels`` (integer exponentials and GELUs), ``schemes`` (the named points),
``model`` (calibrate, run). The hardware runs none of them: every scheme says why.
"""
