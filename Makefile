# Everything that this project can do, from nothing but Python 3.11, make and root on a Linux machine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CLUSTER ?= dev
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: requirements/bootstrap.txt requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	export VIRTUAL_ENV=$(VENV)
	$(BIN)/uv pip sync --require-hashes --allow-empty-requirements requirements/dev.txt requirements/bootstrap.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: setup
setup: $(VENV)/.installed ## Make .venv with all that a developer needs.

.PHONY: lock
lock: setup ## Write the hashed requirement files again from pyproject.toml.
	export PATH="$$PWD/$(BIN):$$PATH"
	$(LOCK) requirements/bootstrap.in --output-file requirements/bootstrap.txt
	$(LOCK) pyproject.toml --extra dev --output-file requirements/dev.txt
	for extra in operator trainer trainer-gpu; do
		$(LOCK) pyproject.toml --extra $$extra --constraint requirements/dev.txt --output-file requirements/$$extra.txt
	done
