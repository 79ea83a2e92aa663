# Two commands need nothing but Python 3.11 or newer and make: `make quickstart` and `make test`.
# Everything is installed into .venv in this folder; nothing outside it is touched.

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-lowest renew-constraints lint docs
SHELL := /bin/bash

# The first Python that is new enough; override with `make PYTHON=/path/to/python ...`.
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo "$$name"; break; fi; done)
BIN := .venv/bin
WORKERS ?= 2
export NO_MKDOCS_2_WARNING := 1 # advice about another product, in red, on every build
# A stamp is newer than the files it was made from exactly when that install is up to date.
CORE := .venv/.installed-core
FULL := .venv/.installed-full

help:  ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "swath needs Python 3.11 or newer, and none was found. Install one, or name it: make PYTHON=/path/to/python3.11 install" >&2; \
	  exit 1; fi
	"$(PYTHON)" -m venv .venv

# What a user needs.
$(CORE): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# Every extra, the checks and the documentation tools as well.
$(FULL): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[all,dev,docs]'
	@touch $(CORE) $@

install: $(FULL)  ## create .venv and install swath with every extra

quickstart: $(CORE)  ## train three methods on a synthetic Earth and write the report (no network, no data)
	$(BIN)/swath quickstart --out runs/quickstart

lint: $(FULL)  ## format, lint, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(FULL)  ## build the documentation site into site/
	$(BIN)/mkdocs build --strict

test: lint  ## every check: lint, documentation, tests
	$(BIN)/mkdocs build --strict --quiet
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

renew-constraints:  ## resolve the newest versions that fit pyproject.toml and write them to constraints.txt
	"$(PYTHON)" -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --disable-pip-version-check -e '.[all,dev,docs]'
	{ sed -n '/^#/p' constraints.txt; .venv-newest/bin/python -m pip freeze --exclude-editable | sort -f; } > .constraints.new
	mv .constraints.new constraints.txt
	rm -r .venv-newest

# The oldest versions pyproject.toml allows, in a second environment.
test-lowest: | $(BIN)/python  ## run the tests with the lowest versions that pyproject.toml allows
	"$(BIN)/python" -m venv --clear .venv-lowest
	$(BIN)/python -c 'import re, tomllib; \
	  need = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]; \
	  print(*(re.sub(r"\[.*\]", "", line).replace(">=", "==") for line in need), sep="\n")' > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --disable-pip-version-check -c .venv-lowest/constraints.txt -e '.[dev]'
	# Old releases meet newer dependencies of their own there; what those deprecate is not ours.
	.venv-lowest/bin/pytest -n $(WORKERS) --dist worksteal -W default::DeprecationWarning
