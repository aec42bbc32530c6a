# Two commands: `make chat` and `make test`. Both install what they need into .venv first.
PYTHON ?= python3
PY := .venv/bin/python
NATIVE := $(shell find quantize/native -name '*.c' -o -name '*.h' -o -name CMakeLists.txt)

.PHONY: chat test lint types clean

chat: .venv/installed
	@exec .venv/bin/stretch

test: .venv/installed-tests
	@$(MAKE) --no-print-directory lint types
	@$(PY) -m pytest

lint: .venv/installed-tests
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@.venv/bin/lint-imports --no-logo

types: .venv/installed-tests
	@$(PY) -m mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Stretch needs Python 3.11 or newer. Set PYTHON=/path/to/python3.11 and run make again."; exit 1; }
	@echo "Making the environment in .venv ..."
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python pyproject.toml $(NATIVE)
	@echo "Installing Stretch. The first time llama.cpp is compiled: about four minutes on two cores."
	@$(PY) -m pip install --quiet --editable .
	@touch $@

.venv/installed-tests: .venv/installed
	@echo "Installing what the tests need ..."
	@$(PY) -m pip install --quiet --upgrade pip
	@$(PY) -m pip install --quiet --group test --group static
	@touch $@

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
