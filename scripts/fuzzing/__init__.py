"""Structure-aware fuzzing, a file for each family of loaders: what ``scripts/fuzz.py`` and tests/e2e/test_fuzz.py run.

A family is made once with a folder and then called with a random generator: it makes one input, gives it to the loader
and says nothing, or raises the loader's ValueError. Anything else that comes out is a fault.
"""
