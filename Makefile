# Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test check ui clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Create .venv and install the project with pinned versions

$(READY): pyproject.toml constraints.txt _startup/hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)  ## Sample archives to results page: no network, no GPU, a few minutes
	ACULA_ARCHIVES=sample ACULA_RECIPE=sample $(BIN)/dagster asset materialize --select '*results_page'
	@$(BIN)/acula page

test: $(READY)  ## Lint, types, import rules and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

ui: $(READY)  ## Dagster UI on http://localhost:3000
	$(BIN)/dagster dev

clean:  ## Delete made data and Dagster's history (archives given by you stay)
	rm -rf data .dagster_home
