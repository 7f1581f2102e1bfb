"""Mixed precision, coarse to fine (P2-ViT, 2405.19915): which layers' weights get 4 bits within a budget.

``sensitivity`` says what 4 bits in one layer cost, ``costs`` what an assignment saves, ``search`` finds the best one,
``run`` is the whole way. Nothing of it sees an image that is not a calibration image.
"""
