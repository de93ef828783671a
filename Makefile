# `make demo` and `make test` set up everything they need in .venv; nothing else has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A worker a core, each of one thread: more threads than cores would wait for one another.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

.PHONY: help demo check test test-slow test-network format benchmark clean

help:  ## say what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $(READY)

demo: $(READY)  ## set up, run the demo study offline, print its leaderboard
	$(BIN)/vlm-audio run demo
	@echo
	@echo "Next:  $(BIN)/vlm-audio report demo --open   the page: what hears, how sure that is, on which clips it fails"
	@echo "       $(BIN)/vlm-audio ui                  the assets, their previews and plots, at http://127.0.0.1:3000"
	@echo "       $(BIN)/vlm-audio sql \"SELECT label, avg(correct::INT) FROM predictions WHERE study = 'demo' AND classifier = 'janus' AND scoring = 'likelihood' AND control = 'none' GROUP BY label\""
	@echo "       $(BIN)/vlm-audio run baselines       the same on real ESC-10 (downloads 40 MB)"

check: $(READY)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check  ## check, then the unit tests: under 10 minutes on two cores
	$(PARALLEL) -m 'not slow and not network and not gpu'

test-slow: $(READY)  ## tests that start servers, browsers and daemons, or kill processes
	$(PARALLEL) -m 'slow and not network and not gpu' --ignore vlm_audio_pipeline_tests/demo_models
	$(BIN)/pytest -m 'slow and not network and not gpu' vlm_audio_pipeline_tests/demo_models

test-network: $(READY)  ## tests that install an isolated environment from the package index
	$(BIN)/pytest -m 'network and not gpu'

format: $(READY)  ## put code into the house's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(READY)  ## measure; figures go with the machine they were taken on
	$(BIN)/python benchmarks/recompute.py
	$(BIN)/python benchmarks/rendering.py
	$(BIN)/python benchmarks/encoders.py
	$(BIN)/python benchmarks/language_models.py

clean:  ## remove the environment and caches; results in data/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
