# Everything happens in .venv, which `make setup` makes; nothing needs root, and nothing but package
# installs and loopback uses the network.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PROTO  := .venv-proto
# Kept apart so that a changed requirement, and nothing else, installs again.
REQUIREMENTS := pyproject.toml $(wildcard proto/pyproject.toml client/pyproject.toml \
                server/pyproject.toml exporter/pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types proto proto-check bench clean

help:  ## Say what there is to make
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | awk -F':.*  ## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/installed  ## Make .venv with all four distributions, editable

$(VENV)/installed: $(REQUIREMENTS)
	@echo "setup: making $(VENV) (torch is the largest part; a minute or more on a first run)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "setup: Carousel needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test --group lint \
	  -e ./proto -e ./client -e './server[cpu]' -e ./exporter
	@touch $@

demo: setup  ## Train, export, verify, serve and stream a real series
	@$(BIN)/python -m examples.co2.demo

test: setup  ## Run the tests
	@echo "test: unit and end-to-end tests, servers on 127.0.0.1 and free ports only"
	@$(BIN)/python -m pytest

check: setup lint types proto-check  ## Lint, types, import boundaries, protocol

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types:
	$(BIN)/mypy proto/carousel client/carousel_client server/carousel_server exporter/carousel_exporter

$(PROTO)/installed: pyproject.toml
	@$(PYTHON) -m venv $(PROTO)
	@$(PROTO)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(PROTO)/bin/python -m pip install --quiet --disable-pip-version-check --group proto
	@touch $@

proto: $(PROTO)/installed  ## Generate the protocol's code again
	@$(PROTO)/bin/python scripts/proto.py generate

proto-check: setup $(PROTO)/installed
	@$(PROTO)/bin/python scripts/proto.py check
	@scripts/buf-check $(PROTO)/bin/python $(BIN)/buf

clean:  ## Remove the environments and what the demo made
	rm -rf $(VENV) $(PROTO) .demo
