# Everything here works on a fresh clone with Python 3.11+, make and PyPI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS ?= 0
.DEFAULT_GOAL := help
.PHONY: help install demo test check format test-kafka test-faults soak simulate mutate mutate-protocol fuzz bench screenshots docs lock clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3,11) <= sys.version_info[:2] <= (3,13) else "Isotherm needs Python 3.11 to 3.13; this is %d.%d. Try: make PYTHON=python3.11 install" % sys.version_info[:2])'
	@echo "Setting up $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(VENV)/.installed ## make .venv with everything locked in requirements.lock

demo: install ## watch accounts turn hot and cool down (make demo SECONDS=30 stops by itself)
	@$(BIN)/isotherm demo --seconds $(SECONDS)

test: install ## run all tests against the embedded broker and Valkey
	@$(BIN)/python -m pytest

test-kafka: install ## run the broker's tests against Apache Kafka and redis-server (needs Java 17 and Maven)
	@$(BIN)/python tests/kafka/run.py

test-faults: install ## break servers and workers in every way we know, 30 minutes (ARGS="--only 1-9,14"; needs Java 17 and Maven)
	@$(BIN)/python tests/faults/run.py $(ARGS)

soak: install ## the same at random, for MINUTES=60 (ISOTHERM_SOAK_SEED=7: those again)
	@$(BIN)/python tests/faults/run.py --soak $(or $(MINUTES),60) $(ARGS)

check: install ## exactly what CI runs: format, lint, types, tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest

simulate: install ## crashes, zombies, a Redis that goes back: SCHEDULES=100000 drawn ones of the fold (SEED=7: those again)
	@ISOTHERM_SCHEDULES=$(or $(SCHEDULES),100000) $(BIN)/python -m pytest -s tests/simulate --hypothesis-seed=$(or $(SEED),$(shell date +%s))

mutate: install ## break rules/ one operator at a time and see that a test notices, 10 minutes
	@$(BIN)/python tests/mutate/run.py $(ARGS)

mutate-protocol: install ## take one protection of the protocol away at a time and see that a test notices, 15 minutes
	@SCHEDULES=$(or $(SCHEDULES),1000) $(BIN)/python tests/mutate/protocol.py $(ARGS)

fuzz: install ## send a million damaged messages through every adapter (make fuzz SEED=7: those again), 5 minutes
	@ISOTHERM_FUZZ=1000000 ISOTHERM_FUZZ_SEED=$(or $(SEED),$(shell date +%s)) $(BIN)/python -m pytest -s tests/adapters/test_fuzz.py

format: install ## format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: install .venv-bench/.installed ## measure everything, 15 minutes (make bench ARGS=--quick: two; --only fold,latency)
	@$(BIN)/python tests/bench/run.py $(ARGS)

# Quix Streams and bytewax want other versions than we do; without them the bench says what it leaves out.
.venv-bench/.installed: tests/bench/peers/requirements.txt | $(VENV)/.installed
	@if $(BIN)/python -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,12))'; then \
	  echo "Setting up .venv-bench ..." && rm -rf .venv-bench && $(BIN)/python -m venv .venv-bench && \
	  .venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<; \
	else rm -rf .venv-bench && mkdir .venv-bench; fi
	@touch $@

screenshots: install ## pictures of the page into docs/img (needs Chromium)
	@$(BIN)/python -m tests.page.screenshots

docs: install ## build docs/ as a site into build/site; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f docs/site/mkdocs.yml

lock: ## resolve the versions in pyproject.toml anew into requirements.lock
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra dev pyproject.toml -o requirements.lock

clean: ## remove .venv and everything the demo wrote
	@rm -rf $(VENV) .isotherm
