# Every target does its own set-up: a venv, the dependencies, the runtime.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=

export COPILOT_OFFLINE = true

.PHONY: demo test test-all test-versions binder-check check docs bench notebooks screenshots dist clean

demo: $(VENV)/demo  ## open the quickstart on the embedded model (ARGS="--no-browser --check" runs it headlessly)
	$(BIN)/copilot-jupyter demo $(ARGS)

test: $(VENV)/test  ## the tests, on the real runtime
	$(BIN)/python tests/browser/chromium.py
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not campaign" $(ARGS)

test-all: $(VENV)/test  ## the long campaigns, and the demo
	$(BIN)/python -m pytest -m campaign $(ARGS)
	$(BIN)/copilot-jupyter demo --no-browser --check

test-versions: $(VENV)/test  ## the lowest dependencies, and every Python at hand (test-all does it too)
	$(BIN)/python -m pytest -m campaign tests/packaging/test_versions.py $(ARGS)

binder-check: $(VENV)/test  ## what Binder builds and starts, without Docker (test-all does it too)
	$(BIN)/python -m pytest -m campaign tests/packaging/test_binder.py $(ARGS)

check: $(VENV)/test docs  ## style, types, and the docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/test  ## the site, in docs/_build; a warning or a broken link is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet --jobs auto docs docs/_build

notebooks: $(VENV)/test  ## ask the notebooks anew on the embedded model; write outputs and bundles
	$(BIN)/python notebooks/remake.py $(ARGS)

screenshots: $(VENV)/test  ## make the pictures of the docs
	$(BIN)/python tests/browser/chromium.py
	$(BIN)/python docs/screenshots.py

bench: $(VENV)/test  ## ratios against the bare SDK, bare IPython and the peers (ARGS="--write", ARGS="peers")
	$(BIN)/python tests/browser/chromium.py
	$(BIN)/python -m benchmarks $(ARGS)

$(VENV)/demo: pyproject.toml | $(VENV)/python
	$(BIN)/pip install --quiet --editable '.[lab,local]'
	touch $@

$(VENV)/test: pyproject.toml | $(VENV)/python
	$(BIN)/pip install --quiet --editable '.[lab,local,secrets]' --group test --group check --group docs
	touch $@

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

dist: $(VENV)/test  ## the sdist, and the wheel built from it
	$(BIN)/uv build --clear --out-dir dist

clean:  ## remove what the other targets made
	rm -rf $(VENV) .cache dist docs/_build
