# Everything a person or CI runs. Each target makes .venv and installs the project on first use.
PYTHON ?= python3
BIN := .venv/bin
# One more than there are processors: tests wait a good deal for processes that they start.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.PHONY: chat test check format docs bench bench-quick bench-long pictures

chat: .venv/installed
	$(BIN)/assistant chat

test: .venv/installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Writes the pages of docs/ that are made from the code: settings, keys, commands, policies, the manual page.
docs: .venv/installed
	$(BIN)/python docs/generate.py

# Takes what the screens look like now as right (tests/tui/pictures).
pictures: .venv/installed
	ACCEPT_PICTURES=1 $(BIN)/python -m pytest -n $(WORKERS) tests/tui/test_pictures.py

# The benchmarks of speed in the README's table that need no other data: about an hour on two cores.
bench: .venv/installed
	$(BIN)/assistant models pull smollm2-135m
	for name in decode prefill resume switch start frontier first_paint tiers; do $(BIN)/python -m benchmarks.$$name || exit 1; done

bench-quick: .venv/installed
	$(BIN)/assistant models pull smollm2-135m
	for name in decode prefill resume switch start frontier first_paint tiers; do $(BIN)/python -m benchmarks.$$name --quick || exit 1; done
	$(BIN)/python benchmarks/gpu_suite.py --device cpu --quick

# What takes too long for `make test`: every operation of the API, 250 examples each; 1,000 turns of 32 sessions;
# 10,000 clients that go away in mid-reply.
bench-long: .venv/installed
	FUZZ_EXAMPLES=250 $(BIN)/python -m pytest -s tests/assistant/test_openapi.py
	LOAD_TURNS=1000 $(BIN)/python -m pytest -s tests/worker/test_load.py
	TEST_DISCONNECTS=10000 $(BIN)/python -m pytest -s tests/worker/test_disconnects.py

.venv/installed: pyproject.toml models.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: run make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Installing into .venv: some minutes on first use."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
