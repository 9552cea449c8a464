# Needs make and Python 3.11 or newer, nothing else: everything is installed into .venv from the lock files.
# `make help` lists the targets.

PYTHON ?= python3
JOBS ?= auto
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Touched when the installation is complete: a broken one is repeated, a complete one costs nothing.
INSTALLED := $(VENV)/.installed
SOURCES := config simulator worker tests $(wildcard benchmarks)
# -qq hides warnings about the machine's pip settings; errors are printed all the same.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --no-strip-extras

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run test trouble chaos fuzz guards model bench bench-policies bench-commands check format format-check lint types coverage lock wheel image-check metrics-check broker-check clean

help: ## Explain every target
	@echo 'make TARGET [PYTHON=python3.12] [JOBS=4] [ARGS="..."]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv from the lock files (the other targets do it when needed)

$(INSTALLED): requirements-dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
		echo 'There is no "$(PYTHON)" here. Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11' >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@echo 'Installing into $(VENV) (about half a minute) ...'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq --require-hashes -r requirements-dev.lock
	@$(PIP) install -qq --no-deps --no-build-isolation -e .
	@touch $@

run: $(INSTALLED) ## Run everything against a simulated Kinetic API: make run ARGS="--for 60s"
	@$(BIN)/kinetic-retry up $(ARGS)

test: $(INSTALLED) ## Run all tests in parallel: make test ARGS="tests/unit -k policy"
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup $(ARGS)

trouble: $(INSTALLED) ## Run real processes through kills, stalls, failovers and a Redis in trouble (minutes)
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup tests/trouble $(ARGS)

chaos: $(INSTALLED) ## Run real processes under random faults and judge them: make chaos MINUTES=10 SEED=7
	@$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: $(INSTALLED) ## Throw hostile data at all that reads: make fuzz EXAMPLES=20000
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/pytest -n $(JOBS) tests/fuzz

model: $(INSTALLED) ## Drive engine and scripts through random interleavings: make model STEPS=200000
	@MODEL_STEPS=$(or $(STEPS),200000) $(BIN)/pytest -n 0 tests/model

guards: $(INSTALLED) ## Remove each guard of a promise in turn and show its test failing: make guards ARGS="lease"
	@$(BIN)/python -m tests.guards $(ARGS)

bench: $(INSTALLED) ## Measure speed, memory and calls against their targets: make bench ARGS="retries --runs 1"
	@$(BIN)/python -m benchmarks.speed $(ARGS)

bench-policies: $(INSTALLED) ## Compare retry policies on simulated days: make bench-policies ARGS="--day outage"
	@$(BIN)/python -m benchmarks.effectiveness $(ARGS)

bench-commands: $(INSTALLED) ## Measure every command over 100,000 lineages: make bench-commands ARGS="--answers"
	@$(BIN)/python -m benchmarks.commands $(ARGS)

check: format-check lint types test ## Check format, lint, types and tests: what CI checks

format: $(INSTALLED) ## Format the code and sort its imports
	@$(BIN)/ruff check -q --select I --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

format-check: $(INSTALLED) ## Say which files `make format` would change
	@$(BIN)/ruff format --check $(SOURCES)

lint: $(INSTALLED) ## Look for mistakes and bad habits
	@$(BIN)/ruff check $(SOURCES)

types: $(INSTALLED) ## Check the types, strictly
	@$(BIN)/mypy $(SOURCES)

coverage: $(INSTALLED) ## Measure what the tests cover; the pages are in htmlcov/
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup --cov --cov-report=term --cov-report=html $(ARGS)

lock: $(INSTALLED) ## Write the lock files anew: make lock ARGS=--upgrade for newer versions
	@$(UV_COMPILE) $(ARGS) pyproject.toml --extra alerts --extra tracing -o requirements.lock
	@$(UV_COMPILE) $(ARGS) pyproject.toml --extra alerts --extra tracing --extra demo --group dev -c requirements.lock -o requirements-dev.lock
	@$(BIN)/python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(UV_COMPILE) - -c requirements-dev.lock -o requirements-build.lock

wheel: $(INSTALLED) ## Build the wheel into dist/
	@mkdir -p dist
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . >dist/build.log 2>&1 \
		|| { cat dist/build.log >&2; exit 1; }
	@ls dist/*.whl

image-check: $(INSTALLED) ## Build the image, run the compose file and stop it (podman or docker; slow)
	@deploy/image-check/run

metrics-check: $(INSTALLED) ## Watch a real run with a real Prometheus while parts of it are killed (slow)
	@$(BIN)/python -m tests.prometheus

broker-check: $(INSTALLED) ## Run real processes over a real RabbitMQ that is killed, stalled and full (six minutes)
	@$(BIN)/python -m tests.rabbitmq $(ARGS)

clean: ## Remove what tests, tools and builds left; .venv stays (rm -r .venv removes it)
	@rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
