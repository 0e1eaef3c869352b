# Two commands do all set-up on a fresh machine: `make demo` and `make test`.
SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
RUNS := results/runs

# The first interpreter that the simulators support (Meta-World 3.1.1 has no release for 3.14). Override: make PYTHON=...
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	if $$name -c '$(SUPPORTED)' >/dev/null 2>&1; then echo $$name; break; fi; done)

# All tests with SLOW=1, and where continuous integration sets CI; else those that take seconds.
PYTEST_MARKS := $(if $(SLOW)$(CI),-m '',)

.PHONY: help demo test gate lint format clean system-packages

help:
	@echo "make demo    install everything and evaluate a few real Meta-World and LIBERO episodes"
	@echo "make test    install everything and run the tests (SLOW=1: all of them)"
	@echo "make gate    evaluate fast suites and hold them against results/baselines"
	@echo "make lint    check style;  make format: correct it"
	@echo "make clean   remove $(VENV), build products and caches; results stay"

# Running it again goes on where it stopped, and prints the tables at once when all is done.
demo: system-packages $(VENV)/.demo-installed
	@# Without OpenGL the doctor says so, and the first evaluation still runs: its agent looks at no image.
	$(BIN)/flowbench doctor || true
	$(BIN)/flowbench eval --agent scripted --suite metaworld11 --cameras corner --limit 11 --out $(RUNS)/demo-metaworld11-scripted
	$(BIN)/flowbench eval --agent sof --suite metaworld11 --cameras corner --episodes 1 --out $(RUNS)/demo-metaworld11-sof
	$(BIN)/flowbench eval --agent sof --suite libero10 --limit 4 --out $(RUNS)/demo-libero10-sof

test: system-packages $(VENV)/.dev-installed
	$(BIN)/python -m pytest $(PYTEST_MARKS) $(PYTEST_ARGS)

# The experts are deterministic, so the toy suite is held to every outcome and number of steps.
gate: $(VENV)/.dev-installed
	rm -rf $(RUNS)/gate-toy-scripted $(RUNS)/gate-metaworld11-scripted
	$(BIN)/flowbench eval --agent scripted --suite toy --episodes 40 --out $(RUNS)/gate-toy-scripted --quiet
	$(BIN)/flowbench gate $(RUNS)/gate-toy-scripted --baseline results/baselines/toy-scripted.json --exact
	$(BIN)/flowbench eval --agent scripted --suite metaworld11 --cameras corner --workers 2 --out $(RUNS)/gate-metaworld11-scripted --quiet
	$(BIN)/flowbench gate $(RUNS)/gate-metaworld11-scripted --baseline results/baselines/metaworld11-scripted.json

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system-packages:
	@PYTHON="$(PYTHON)" tools/install_system_packages.sh

$(BIN)/python: | system-packages
	@python="$(PYTHON)"; : "$${python:=python3}"; \
	$$python -c '$(SUPPORTED)' || { \
		echo "FlowBench needs Python 3.11, 3.12 or 3.13, and $$python is not one. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
		exit 1; }; \
	$$python -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade pip

# Each is installed again whenever pyproject.toml changes.
# torch and torchvision have to be of one build. Where pip is configured with a folder of wheels that holds only one of them
# (find-links), the other comes from elsewhere; so for this extra pip is given an empty folder.
$(VENV)/.agents-installed: pyproject.toml | $(BIN)/python
	@empty=$$(mktemp -d); trap 'rmdir "$$empty"' EXIT; \
	PIP_FIND_LINKS="$$empty" $(BIN)/python -m pip install --quiet --editable '.[agents]'
	@touch $@

$(VENV)/.demo-installed: $(VENV)/.agents-installed
	$(BIN)/python -m pip install --quiet --editable '.[metaworld,libero]'
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.agents-installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo-installed
