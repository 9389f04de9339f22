# Everything runs in .venv with the versions of constraints.txt; the stamps make a second run start at once.
PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist worksteal
BENCH_ARGS ?=
ENVS ?=
# What `make test` runs. `make test-slow` runs all the others, so that between them they run every test.
QUICK := not slow and not stress

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

# Two busy cores make OpenMP threads spin instead of sleep: ten times slower training steps.
export OMP_WAIT_POLICY := PASSIVE
# Pictures go to files, never to a window.
export MPLBACKEND := agg

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-matrix lint docs bench dist venv clean
.DELETE_ON_ERROR:

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@echo "  Variables: PYTHON=$(PYTHON)  PYTEST_ARGS='$(PYTEST_ARGS)'  BENCH_ARGS='$(BENCH_ARGS)'  ENVS='$(ENVS)'"

demo: $(VENV)/.dev ## integrate real cells with planted batch effects, write pictures and scores
	$(BIN)/scbatchnorm demo

test test-slow: export OMP_NUM_THREADS := 1
test: $(VENV)/.dev ## tests and doctests, but for those that are slow by nature
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m '$(QUICK)'

test-slow: $(VENV)/.dev ## those: tutorials, demo, other processes, clusters, browser, real data, stress
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m 'not ($(QUICK))'

test-matrix: ## all tests with other versions; environments of .ci/test_matrix.py in ENVS, or the usual ones
	$(PYTHON) .ci/test_matrix.py $(ENVS) --pytest-args='$(PYTEST_ARGS)'

lint: $(VENV)/.dev ## ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs ## the documentation, in docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

bench: $(VENV)/.bench ## compare with the peers; options in BENCH_ARGS
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

dist: ## sdist and wheel in dist/, each installed and tried in a fresh environment
	@command -v $(PYTHON) >/dev/null || { echo "No '$(PYTHON)' here. Name a Python 3.11 or newer: make PYTHON=python3.11" >&2; exit 1; }
	PYTHON=$(PYTHON) .ci/check-dist

venv: $(VENV)/.dev ## the environment alone

clean: ## remove the environment, caches and what the demo wrote
	rm -rf $(VENV) .venv-matrix demo-output build dist docs/_build docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "No '$(PYTHON)' here. Name a Python 3.11 or newer: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("scbatchnorm needs Python 3.11 or newer, but $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.11" % v[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# torch first and alone: a build for the CPU that is already there, or that the index offers, then stays.
$(VENV)/.dev: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (minutes the first time) ..."
	$(INSTALL) torch
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.dev
	@echo "Installing sphinx into $(VENV) ..."
	$(INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo "Installing the peers of the comparison into $(VENV) ..."
	$(INSTALL) --editable '.[bench]'
	@touch $@
