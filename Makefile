# Two commands: `make chat` and `make test`. Both install what they need into .venv first.

# The first Python on the path that is new enough; PYTHON=... names another.
SUITABLE = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
  if $$p -c "$(SUITABLE)" 2>/dev/null; then echo $$p; break; fi; done)
PY := .venv/bin/python
NATIVE := $(shell find quantize/native -name '*.c' -o -name '*.h' -o -name CMakeLists.txt)
# An editable installation knows every module by its path: installed again when packages come or go.
PACKAGES := $(shell find app models quantize -name __init__.py)

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
	@test -n "$(PYTHON)" && $(PYTHON) -c "$(SUITABLE)" || \
	  { echo "Stretch needs Python 3.11 or newer. Install it, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making the environment in .venv with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }

.venv/installed: .venv/bin/python pyproject.toml $(NATIVE) $(PACKAGES)
	@command -v cc >/dev/null && command -v c++ >/dev/null || \
	  { echo "Stretch compiles llama.cpp and needs a C and C++ compiler: install gcc and g++, or clang (macOS: xcode-select --install)."; exit 1; }
	@$(PY) .ci/quietly.py .venv/pip.log "Updating pip ..." $(PY) -m pip install --upgrade pip
	@$(PY) .ci/quietly.py .venv/install.log \
	  "Installing Stretch. The first time llama.cpp is compiled: about four minutes on two cores ..." \
	  $(PY) -m pip install --editable .
	@touch $@

.venv/installed-tests: .venv/installed
	@$(PY) .ci/quietly.py .venv/install-tests.log "Installing what the tests need ..." \
	  $(PY) -m pip install --group test --group static
	@touch $@

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
