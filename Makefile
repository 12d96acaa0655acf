# Everything that this project can do, from nothing but Python, make and root on a Linux machine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# 3.11 where it is there: that is what everything was run on.
PYTHON ?= $(or $(firstword $(foreach each,python3.11 python3.12 python3.13,$(shell command -v $(each)))),python3.11)
VENV := .venv
BIN := $(VENV)/bin
CLUSTER ?= dev
# Where Python is told to write no bytecode, each of the tests' many processes compiles all modules.
export PYTHONDONTWRITEBYTECODE :=
# What to measure, such as "--only idle --idle 1000"; see docs/performance.md.
BENCH ?=
# A process per core, up to the few for whose TensorFlow or API server there is memory.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal
# Those with an API server wait for it more than they compute.
PARALLEL_INTEGRATION := --numprocesses 4 --dist worksteal
# Tests that break nodes share no cluster: each process takes its share, see tests/e2e/shares.py.
PARALLEL_E2E := $(if $(RTJ_CLUSTER),,--numprocesses 3 --dist loadscope)
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: requirements/bootstrap.txt requirements/dev.txt pyproject.toml
	if ! command -v $(PYTHON) >/dev/null; then
		echo "$(PYTHON) is not installed: install it, or name another Python of 3.11 to 3.13," \
			"such as by make PYTHON=/opt/python/bin/python3.12" >&2
		exit 1
	fi
	# Debian and Ubuntu keep a part of Python's own library in a package of its own.
	if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then
		package="python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
			echo "$(PYTHON) has no ensurepip, so it makes no virtual environment:" \
				"install the package $$package (Debian, Ubuntu), or run make as root there" >&2
			exit 1
		fi
		echo "Install $$package"
		apt-get -qq update
		DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $$package
	fi
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	export VIRTUAL_ENV=$(VENV)
	# Compiled here once: TensorFlow's import takes 3.5 s instead of 10 where Python may not write it.
	$(BIN)/uv pip sync --compile-bytecode --require-hashes --allow-empty-requirements requirements/dev.txt requirements/bootstrap.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: setup
setup: $(VENV)/.installed ## Make .venv with all that a developer needs.

.PHONY: lock
lock: setup ## Write the hashed requirement files again from pyproject.toml.
	export PATH="$$PWD/$(BIN):$$PATH"
	$(LOCK) requirements/bootstrap.in --output-file requirements/bootstrap.txt
	$(LOCK) pyproject.toml --extra dev --output-file requirements/dev.txt
	for extra in operator trainer trainer-gpu bench-trainer; do
		$(LOCK) pyproject.toml --extra $$extra --constraint requirements/dev.txt --output-file requirements/$$extra.txt
	done
	$(LOCK) pyproject.toml --extra bench-streaming --output-file requirements/bench-streaming.txt

.PHONY: generate
generate: setup ## Write the CRD and the field reference again from the models.
	$(BIN)/python crds/generate.py

.PHONY: pipelines
pipelines: setup ## Prove the table of pipelines, and write docs/pipelines.md again.
	$(BIN)/python -m tests.pipelines.table

.PHONY: lint
lint: setup ## Linters, types, import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.PHONY: test-unit
test-unit: setup ## No Kubernetes: decisions, files, real TensorFlow.
	$(BIN)/pytest -m unit $(PARALLEL)

.PHONY: test-integration
test-integration: setup ## A real kube-apiserver.
	$(BIN)/pytest -m integration $(PARALLEL_INTEGRATION)

.PHONY: test-e2e
test-e2e: setup ## The dev cluster: real nodes, real deaths.
	$(BIN)/pytest tests/e2e -m e2e $(PARALLEL_E2E)

.PHONY: test
test: lint ## All of it; this is what CI runs.
	# One after the other: two cores have no time for two clusters and another layer at once.
	$(MAKE) test-e2e
	$(MAKE) test-unit
	$(MAKE) test-integration

.PHONY: test-nightly
test-nightly: setup ## The model of the operator, with ten thousand random histories; pipelines at every batch.
	$(BIN)/pytest tests/model --hypothesis-profile=nightly
	RTJ_EVERY_BATCH=1 $(BIN)/pytest tests/pipelines $(PARALLEL)

.PHONY: bench-operator
bench-operator: setup ## How fast the operator is, beside batch/v1 Jobs; an hour and a half and more on a quiet machine.
	$(BIN)/python -m rtj_bench $(BENCH)

# The peers of the trainer are kept out of .venv: one of them needs torch.
$(VENV)-bench/.installed: requirements/bench-trainer.txt pyproject.toml | $(VENV)/.installed
	$(PYTHON) -m venv --clear $(@D)
	export VIRTUAL_ENV=$(@D)
	$(BIN)/uv pip sync --compile-bytecode --require-hashes requirements/bench-trainer.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)-streaming/.installed: requirements/bench-streaming.txt | $(VENV)/.installed
	$(PYTHON) -m venv --clear $(@D)
	VIRTUAL_ENV=$(@D) $(BIN)/uv pip sync --compile-bytecode --require-hashes requirements/bench-streaming.txt
	touch $@

# A start imports what is installed, so it is measured with what the image has and no peer.
$(VENV)-trainer/.installed: requirements/trainer.txt | $(VENV)/.installed
	$(PYTHON) -m venv --clear $(@D)
	VIRTUAL_ENV=$(@D) $(BIN)/uv pip sync --compile-bytecode --require-hashes requirements/trainer.txt
	touch $@

.PHONY: bench-trainer
bench-trainer: $(VENV)-bench/.installed $(VENV)-trainer/.installed ## How fast the trainer is, beside its peers; an hour and a half on a quiet machine.
	# Without Streaming its figures are null, and the run fails, but at its end.
	$(MAKE) $(VENV)-streaming/.installed || true
	$(VENV)-bench/bin/python -m rtj_bench_trainer --streaming $(VENV)-streaming/bin/python \
		--trainer $(VENV)-trainer/bin/python $(BENCH)

.PHONY: demo
demo: setup ## The story of the README, for real. CLUSTER=dev (default), kind or current.
	$(BIN)/python -m rtj_demo --cluster $(CLUSTER)

.PHONY: clean
clean: ## Take everything down; leave no process, mount, network or cgroup behind.
	if [ -x $(BIN)/devcluster ]; then
		$(BIN)/devcluster down --all
		$(BIN)/python -m rtj_demo --clean
	else
		dev="$${RTJ_DEVCLUSTER_STATE:-$${XDG_STATE_HOME:-$$HOME/.local/state}/rtj-devcluster}/.slots"
		left="$$(find "$$dev" "$$HOME/.cache/rtj-demo-kind" -mindepth 1 -print -quit 2>/dev/null || true)"
		if [ -n "$$left" ]; then
			echo "$$left is of a cluster, and $(VENV), which could take it down, is not there:" \
				"run \`make setup\`, then \`make clean\` again" >&2
			exit 1
		fi
	fi
