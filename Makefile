# Everything happens in .venv, which `make setup` makes; nothing needs root, and nothing but package
# installs and loopback uses the network. pip's own variables (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS,
# PIP_CONSTRAINT and so on) are honoured.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PROTO  := .venv-proto
CHARTS := .venv-chart
IMAGE  := .venv-image
NPM    := helm/tools/node_modules
# Kept apart so that a changed requirement, and nothing else, installs again.
REQUIREMENTS := pyproject.toml proto/pyproject.toml client/pyproject.toml server/pyproject.toml \
                exporter/pyproject.toml

# An environment that was moved or copied with its folder still points to the old place; see
# scripts/environment, which notes the place and makes such a one anew.
moved = $(if $(filter-out $(CURDIR),$(shell cat $(1)/place 2>/dev/null)),anew)
ifneq ($(call moved,$(VENV))$(call moved,$(PROTO)),)
.PHONY: $(VENV)/installed $(PROTO)/installed
endif
ifneq ($(call moved,$(CHARTS)),)
.PHONY: $(CHARTS)/installed
endif
ifneq ($(call moved,$(IMAGE)),)
.PHONY: $(IMAGE)/installed
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos check lint format types proto proto-check installs chart chart-files \
        image image-locks bench clean

help:  ## Say what there is to make
	@echo "usage: make TARGET [PYTHON=/path/to/python3.11]"
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | awk -F':.*  ## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/installed  ## Make .venv with all four distributions, editable

$(VENV)/installed: $(REQUIREMENTS)
	@echo "setup: installing Carousel and what it needs into $(VENV); PyTorch is the largest part."
	@echo "setup: some minutes on a first run, seconds later; pip is quiet unless it fails"
	@scripts/environment $(PYTHON) $(VENV) --group test --group lint \
	  -e ./proto -e ./client -e './server[cpu,otel]' -e './exporter[tensorboard]'
	@touch $@
	@echo "setup: done"

demo: setup  ## Train, export, verify, serve and stream a real series
	@$(BIN)/python -m examples.co2.demo

test: setup  ## Run all tests; servers listen on 127.0.0.1 and free ports only
	@$(BIN)/python -m pytest

chaos: setup  ## Kill servers and Redis under load, and check every answer; CHAOS=--quick for CI
	@$(BIN)/python -m pytest tests/chaos $(CHAOS)

check: lint types proto-check  ## Lint, format, types, import boundaries and protocol

lint: setup  ## Lint, check the format and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: setup  ## Format the code and mend what the linter can mend
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

types: setup  ## Check types, strictly
	@$(BIN)/mypy proto/carousel client/carousel_client server/carousel_server \
	  exporter/carousel_exporter examples benchmarks

$(PROTO)/installed: pyproject.toml
	@echo "setup: installing the protocol's generator into $(PROTO)"
	@scripts/environment $(PYTHON) $(PROTO) --group proto
	@touch $@

proto: $(PROTO)/installed  ## Generate the protocol's code again
	@$(PROTO)/bin/python scripts/proto.py generate

proto-check: setup $(PROTO)/installed  ## Check that the protocol's code is up to date, and buf's rules
	@$(PROTO)/bin/python scripts/proto.py check
	@scripts/buf-check $(PROTO)/bin/python $(BIN)/buf

installs:  ## Prove that client and server install without each other's packages
	@scripts/check-installs $(PYTHON)

$(CHARTS)/installed: pyproject.toml
	@echo "setup: installing what checks the Helm chart into $(CHARTS)"
	@scripts/environment $(PYTHON) $(CHARTS) --group chart
	@touch $@

$(NPM)/installed: helm/tools/package-lock.json
	@command -v npm >/dev/null || { echo "setup: the chart's checks need Node 20 or newer, and npm" >&2; exit 1; }
	@echo "setup: installing what checks the Helm chart into $(NPM)"
	@cd helm/tools && npm ci
	@touch $@

chart: setup $(CHARTS)/installed $(NPM)/installed  ## Check the Helm chart, its alerts and dashboard; CHART=--full: longer
	@timeout 900 $(BIN)/python -m pytest tests/chart $(CHART)

chart-files: setup  ## Make the chart's README and dashboard again
	@$(BIN)/python helm/tools/readme.py
	@$(BIN)/python helm/tools/dashboard.py

$(IMAGE)/installed: pyproject.toml
	@echo "setup: installing what checks and builds the images into $(IMAGE)"
	@scripts/environment $(PYTHON) $(IMAGE) --group image
	@touch $@

# uv does not know pip's variable.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# The chart says how the image is run, so Helm is needed too.
image: setup $(IMAGE)/installed $(NPM)/installed  ## Build the server's image and run it as the chart would; needs root
	@timeout 900 scripts/build-image $(IMAGE)/bin .image
	@timeout 600 $(BIN)/python -m pytest tests/image

image-locks: $(IMAGE)/installed  ## Pin what the images install; LOCKS=--upgrade for the newest
	@scripts/lock-images $(IMAGE)/bin/uv image $(LOCKS)

bench: setup  ## Measure the server beside its ceilings; BENCH=--quick for a short run
	@$(BIN)/python -m benchmarks $(BENCH)

clean:  ## Remove the environments, and what the demo and the benchmarks made
	rm -rf $(VENV) $(PROTO) $(CHARTS) $(IMAGE) $(NPM) .demo .bench .image
