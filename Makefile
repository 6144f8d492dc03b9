# `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo check lint unit test integration long conformance crash fuzz engines bench reproducible clean

python := .venv/bin/python
demo_port ?= 8080
FUZZ_SECONDS ?= 600

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: ## install what the program needs (asks sudo only where it must)
	@scripts/setup.sh run

setup-test:
	@scripts/setup.sh dev

demo: setup ## build examples/hello, run it, fetch its page
	@scripts/demo.sh $(demo_port)

check: lint unit ## linters, types and unit tests; under a minute

lint: setup-test
	@$(python) -m ruff check --quiet .
	@$(python) -m mypy

unit: setup-test
	@$(python) -m pytest -q -n auto -m "not integration" --ignore=tests/integration tests

test: check integration ## everything; under 25 minutes

integration: setup-test
	@$(python) -m pytest -q -m "integration and not long" --durations=60 tests

long: setup-test ## the tests that take long: whole stacks, large toolchains, every engine (LONG="-k lxd")
	@$(python) -m pytest -q -m "integration and long" --durations=10 tests $(LONG)

crash: setup-test ## kill builds at a hundred random moments (`make test` takes twelve)
	@BOXWRIGHT_KILLS=100 $(python) -m pytest -q tests/integration/test_crash.py

fuzz: setup-test ## fuzz the parser, word expansion and ignore matching; FUZZ_SECONDS each (600)
	@for target in parser words ignore; do $(python) -m tests.fuzz $$target --seconds $(FUZZ_SECONDS); done

conformance: setup-test ## build every case here and with a real BuildKit and compare (CONFORMANCE="--only copy/")
	@$(python) -m tests.conformance --write $(CONFORMANCE)

engines: ## install and start the engines that the tests talk to
	@scripts/engines.sh

bench: setup-test ## compare with docker's BuildKit and buildah; prints a table (BENCH="--runs 3 --only run-50")
	@$(python) -m bench $(BENCH)

reproducible: setup-test ## build every package of packages/ twice and compare (REPRODUCIBLE="--only libs/zlib --test")
	@$(python) -m tests.reproducible $(REPRODUCIBLE)

clean: ## remove the virtual environment and caches, not the store
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	@find src tests bench -name __pycache__ -prune -exec rm -rf {} +
