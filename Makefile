# vitforge: `make demo` shows the whole road, `make test` checks everything that CI checks.
# Both set up .venv themselves on first use; afterwards the command line is .venv/bin/vitforge.
BIN := .venv/bin
# Spinning OpenMP threads starve each other and the simulators on small machines.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: help setup demo test lint docs bench board campaign mutation coverage clean
help:
	@echo "make setup     .venv with the packages of requirements.lock; Debian packages iverilog and ccache where allowed"
	@echo "make demo      the whole road on the shipped models (ViT, EfficientViT), a few minutes"
	@echo "make test      lint and the test suite (PYTEST_ARGS='...' to choose)"
	@echo "make lint      ruff and mypy only"
	@echo "make docs      the documentation as a site: build/site/README.html, warnings are errors"
	@echo "make bench     unit and top-level benches only, each unit's Verilog in both simulators"
	@echo "make board     bitstream of the digits ViT for a ULX3S 85F in build/ulx3s: half an hour or more on one core"
	@echo "make campaign  full-size runs (the p2vit preset, slow tests): tens of minutes"
	@echo "make mutation  small errors in every block of tiny_hybrid: docs/mutation.md; hours"
	@echo "make coverage  what the tests make the Verilog of tiny_hybrid do: docs/coverage.md; hours"
	@echo "make clean     removes build/ and caches, keeps .venv"

setup:
	@scripts/setup.sh

demo: setup
	@$(BIN)/vitforge demo

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/python -m mypy

test: lint
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: setup
	@VITFORGE_REPLAY=both $(BIN)/python -m pytest $(PYTEST_ARGS) tests/hw tests/sim

BOARD := build/ulx3s
DIGITS := sw/vitforge/models/digits_vit
board: setup
	@mkdir -p $(BOARD)
	@$(BIN)/vitforge quantize $(DIGITS)/digits_vit.json --checkpoint $(DIGITS)/digits_vit.safetensors \
	  --calib $(DIGITS)/calib --scheme vitforge -o $(BOARD)/digits_vit.safetensors
	@$(BIN)/vitforge compile $(BOARD)/digits_vit.safetensors --config boards/ulx3s/accelerator.json -o $(BOARD)/digits
	@$(BIN)/python boards/ulx3s bitstream $(BOARD)/digits -o $(BOARD)

campaign: setup
	@VITFORGE_REPLAY=both $(BIN)/python -m pytest -m "slow or campaign" -s --timeout 7200
	@$(BIN)/python scripts/campaign.py
	@$(BIN)/python scripts/fuzz.py --page docs/fuzzing.md
	@$(BIN)/python scripts/wheel.py

# Resumable: what is in docs/mutation.json or build/coverage is not done again, but for the recorded tests.
mutation: setup
	@for step in record\ tests/hw nearest whole system equivalent report; do $(BIN)/python scripts/mutation.py $$step || exit 1; done

coverage: setup
	@$(BIN)/python scripts/coverage.py run
	@$(BIN)/python scripts/coverage.py report

clean:
	rm -rf build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find hw sw sim tests -name __pycache__ -type d -prune -exec rm -rf {} +
