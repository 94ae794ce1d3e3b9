# The two commands of the README. Each makes the environment that it needs.
PYTHON ?= python3
VENV := .venv
QUICKSTART_OUTPUT ?= runs/quickstart

.PHONY: quickstart test lint types unit clean

quickstart: $(VENV)/.installed
	$(VENV)/bin/mpo run quickstart --output $(QUICKSTART_OUTPUT)

test: export HF_HUB_OFFLINE = 1
test: $(VENV)/.installed-test lint types unit

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-test
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

unit: $(VENV)/.installed-test
	$(VENV)/bin/pytest

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(VENV)/bin/python -m pip install --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) runs dist
