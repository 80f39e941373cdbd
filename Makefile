# The two commands: `make demo` and `make test`. `make help` lists the rest.

VENV ?= .venv
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
DEMO_ARGS ?= --overwrite
UPGRADE ?=
DATA ?=
SST2 ?=
BENCH_ARGS ?=
BENCH_VENV ?= .venv-bench
UV_VERSION ?= 0.13.9

PYTHON = $(VENV)/bin/python
# What one reads to know the Transformer: its blocks, the model as a function, and one published family.
CORE = $(addprefix src/encodax/, $(addprefix nn/, attention.py embeddings.py encoder.py feed_forward.py functional.py \
	heads.py kernels/plain.py layer.py layer_norm.py linear.py pooling.py residual.py) models/forward.py families/bert.py)
CORE_LINES = 1800
FAST_TESTS = tests/nn tests/types tests/contracts tests/families/test_bert.py tests/models/test_encoder_model.py \
	tests/tasks/test_classification.py tests/tasks/test_task.py tests/training/step \
	--ignore=tests/contracts/test_memory.py --ignore=tests/training/step/test_layouts.py

export VENV PY

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo docs test test-fast lint check soak bench bench-training bench-step wheel lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  PY=python3.12 chooses the Python, VENV=.venv-other the environment's folder."

setup: ## build the environment (.venv) on the newest usable Python, as locked
	@tools/setup.sh demo

setup-test: ## the same, with what the tests need
	@tools/setup.sh test

demo: setup ## train an encoder to read dates in 68 languages, and write runs/demo/report.html
	@$(VENV)/bin/encodax demo $(DEMO_ARGS)

docs: setup-test ## build the documentation into docs/_build/html; the walkthrough runs, and a warning fails it
	@$(PYTHON) -m sphinx -j 2 -W --keep-going -E -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

test: setup-test ## run all tests, the examples in docstrings included
	@$(PYTHON) -m pytest $(PYTEST_ARGS)

test-fast: setup-test ## run what tells most in two minutes: blocks, contracts, one family, one task
	@$(PYTHON) -m pytest $(PYTEST_ARGS) $(FAST_TESTS)

lint: setup-test ## style, types, the direction of imports, and the length of the core
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports
	@lines=$$(cat $(CORE) | wc -l); echo "The core has $$lines lines of at most $(CORE_LINES)."; \
	test "$$lines" -le $(CORE_LINES) || { echo "error: move what a reader does not need out of: $(CORE)" >&2; exit 1; }

check: lint test ## the one gate: lint, then all tests

soak: setup-test ## run the tests that take minutes
	@$(PYTHON) -m pytest -m soak

bench: ## compare speed and memory with other libraries, and write docs/benchmarks.md (DATA=FOLDER)
	@test -n "$(DATA)" || { echo "error: name the folder that holds sts/ and wikitext2/: make bench DATA=FOLDER" >&2; exit 2; }
	@$(MAKE) --no-print-directory setup-test
	@VENV=$(BENCH_VENV) benchmarks/setup.sh
	@$(PYTHON) -m benchmarks.speed --data "$(DATA)" --reference $(BENCH_VENV)/bin/python $(BENCH_ARGS)

bench-training: setup-test ## measure the speed of training, packed and padded
	@$(PYTHON) -m benchmarks.training_speed

bench-step: ## compare the training step with PyTorch, and write docs/training_speed.md (SST2=FILE)
	@test -n "$(SST2)" || { echo "error: name the file of SST-2 to learn from: make bench-step SST2=FILE" >&2; exit 2; }
	@$(MAKE) --no-print-directory setup-test
	@VENV=$(BENCH_VENV) benchmarks/setup.sh
	@$(PYTHON) -m benchmarks.training_step --sst2 "$(SST2)" --reference $(BENCH_VENV)/bin/python $(BENCH_ARGS)

wheel: setup ## build a wheel into dist/ and try it in a clean environment
	@tools/check_wheel.sh

# base: what the package needs to run; demo: with the extras and the build backend; test: with Ray and all else.
# A file starts as a copy of the larger one: uv keeps the pins it finds, so all three hold the same ones.
LOCK = .venv-lock/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-python-downloads --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock"
DEMO = --extra train --extra demo --extra parquet --extra sentencepiece --group build
lock: ## lock the dependencies again (UPGRADE=--upgrade for the newest)
	@python=$$(tools/find_python.sh) && "$$python" -m venv --clear .venv-lock
	@.venv-lock/bin/python -m pip --disable-pip-version-check install -qq uv==$(UV_VERSION)
	@$(LOCK) $(DEMO) --extra ray --group docs --group test $(UPGRADE) -o requirements/test.txt >/dev/null
	@cp requirements/test.txt requirements/demo.txt
	@$(LOCK) $(DEMO) -o requirements/demo.txt >/dev/null
	@cp requirements/demo.txt requirements/base.txt
	@$(LOCK) -o requirements/base.txt >/dev/null
	@grep -c '==' requirements/*.txt

clean: ## remove environments, built files and caches (runs/ stays)
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests tools benchmarks interop -name __pycache__ -type d -prune -exec rm -rf {} +
