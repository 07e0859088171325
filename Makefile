# What whoever works on nsdemo does every day; each is a command that can be typed as well.

PYTHON = .venv/bin/python
C_FILES = $(shell git ls-files '*.[ch]')

.PHONY: help build test test-c lint format types docs bench hooks all

help: ## this list
	@sed -n 's/^\([a-z-]*\): .*## /\1	/p' Makefile | expand -t 10

.venv:
	python3 -m venv .venv

build: .venv ## what pip makes of the checkout: again after each change in csrc
	NSDEMO_WERROR=1 $(PYTHON) -m pip install -q -e '.[test,dev,docs]'

test: ## all tests (TESTS='tests/test_plan.py -k walk': some)
	$(PYTHON) -m pytest -n auto $(TESTS)

test-c: ## the core and the steps alone, under sanitizers
	$(PYTHON) -m pytest tests/test_c.py

lint: ## what a reader or a compiler would complain about, types included
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	clang-format --dry-run -Werror $(C_FILES)
	$(MAKE) --no-print-directory types

types: ## mypy, and the stubs against the built module
	$(PYTHON) -m mypy --strict nsdemo
	$(PYTHON) -m mypy.stubtest nsdemo

format: ## write Python and C as the rules have them
	$(PYTHON) -m ruff check --fix-only --quiet .
	$(PYTHON) -m ruff format .
	clang-format -i $(C_FILES)

docs: ## the reference of all public names, in a browser
	docs/build --open

bench: ## a launch against bare C, subprocess and others
	$(PYTHON) tests/bench --quick

hooks: ## look at each commit before it is made
	$(PYTHON) -m pre_commit install

all: ## everything that must hold, on a Debian machine as root
	.ci/run
