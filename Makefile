# Every target does its own set-up: a venv, the dependencies, the runtime.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=

export COPILOT_OFFLINE = true

.PHONY: demo test test-all check bench notebooks screenshots clean

demo: $(VENV)/demo  ## open the quickstart on the embedded model (ARGS="--no-browser --check" runs it headlessly)
	$(BIN)/copilot-jupyter demo $(ARGS)

test: $(VENV)/test  ## the tests, on the real runtime
	$(BIN)/python tests/browser/chromium.py
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not campaign" $(ARGS)

test-all: $(VENV)/test  ## the long campaigns, and the demo
	$(BIN)/python -m pytest -m campaign $(ARGS)
	$(BIN)/copilot-jupyter demo --no-browser --check

check: $(VENV)/test  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

notebooks: $(VENV)/test  ## ask the notebooks anew on the embedded model; write outputs and bundles
	$(BIN)/python notebooks/remake.py $(ARGS)

screenshots: $(VENV)/test  ## make the pictures of the docs
	$(BIN)/python tests/browser/chromium.py
	$(BIN)/python docs/screenshots.py

bench: $(VENV)/test  ## ratios against the bare SDK and bare IPython, in one run
	$(BIN)/python -m benchmarks

$(VENV)/demo: pyproject.toml | $(VENV)/python
	$(BIN)/pip install --quiet --editable '.[lab,local]'
	touch $@

$(VENV)/test: pyproject.toml | $(VENV)/python
	$(BIN)/pip install --quiet --editable '.[lab,local]' --group test --group check
	touch $@

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

clean:  ## remove what the other targets made
	rm -rf $(VENV) .cache dist
