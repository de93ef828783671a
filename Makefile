# `make demo` and `make test` set up everything they need in .venv; nothing else has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# uv unpacks and compiles on all cores. It does not read pip's variables, so the index and the folder of wheels are passed to it.
# It does not read pip's files, either: where it cannot reach its index, pip installs.
UV := $(BIN)/uv pip install --constraint constraints.txt --quiet --python $(BIN)/python --compile-bytecode \
	$(if $(PIP_INDEX_URL),--default-index '$(PIP_INDEX_URL)') $(if $(PIP_FIND_LINKS),--find-links '$(PIP_FIND_LINKS)')
# One worker per core, one thread per worker: more threads than cores would wait for one another.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal
FAST := not slow and not network and not gpu
SLOW := slow and not network and not gpu
# It times the demo, so it runs alone.
DEMO_TEST := vlm_audio_pipeline_tests/demo_models/test_demo.py
# Hundreds of processes of the tests import the package; without bytecode on disk, each would compile it again for 2 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo check test test-slow test-network test-lowest docs format benchmark benchmark-smallest clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	{ $(PIP) uv && $(UV) --editable '.[test]'; } || $(PIP) --editable '.[test]'
	$(BIN)/python -m compileall -q vlm_audio_pipeline
	touch $(READY)

demo: $(READY)  ## set up, run the demo study offline, print its leaderboard
	$(BIN)/vlm-audio run demo
	@echo
	@echo "Next:  $(BIN)/vlm-audio report demo --open   the report page: results, intervals, and the clips behind them"
	@echo "       $(BIN)/vlm-audio ui                  the Dagster UI: assets, previews, plots, at http://127.0.0.1:3000"
	@echo "       $(BIN)/vlm-audio sql \"SELECT label, avg(correct::INT) FROM predictions WHERE study = 'demo' AND classifier = 'janus' AND scoring = 'likelihood' AND control = 'none' GROUP BY label\""
	@echo "       $(BIN)/vlm-audio run baselines       the same on real ESC-10 (downloads 40 MB)"

check: $(READY)  ## check format, lint rules, spelling and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/typos
	$(BIN)/mypy

test: check  ## check, then the fast tests
	$(PARALLEL) -m '$(FAST)'

test-slow: $(READY)  ## tests that start servers, browsers or daemons, kill processes, or take seconds
	$(PARALLEL) --dist loadfile --no-loadscope-reorder -m '$(SLOW)' --ignore $(DEMO_TEST)
	$(BIN)/pytest -m '$(SLOW)' $(DEMO_TEST)

test-network: $(READY)  ## tests that install isolated environments; before an issue is resolved and when dependencies change
	$(BIN)/pytest -m 'network and not gpu'

test-lowest:  ## the fast tests with the lowest versions of the direct dependencies that pyproject.toml allows
	$(PYTHON) -m venv $(VENV)-lowest
	$(PYTHON) -m pip --python $(VENV)-lowest/bin/python install --quiet uv
	$(VENV)-lowest/bin/uv pip install --python $(VENV)-lowest/bin/python --quiet --resolution lowest-direct --editable '.[test]'
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/pytest --numprocesses auto --dist worksteal -m '$(FAST)'

# Installed only for this target, so that `make demo` does not wait for it.
$(DOCS_READY): $(READY)
	$(UV) --editable '.[docs]' || $(PIP) --editable '.[docs]'
	touch $(DOCS_READY)

docs: $(DOCS_READY)  ## build the documentation site in site/; every link and anchor is checked
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict

format: $(READY)  ## format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(READY)  ## run every benchmark; figures stand beside the machine that produced them
	$(BIN)/python benchmarks/recompute.py
	$(BIN)/python benchmarks/rendering.py
	$(BIN)/python benchmarks/encoders.py
	$(BIN)/python benchmarks/language_models.py
	$(BIN)/python benchmarks/interval_coverage.py
	$(BIN)/python benchmarks/embedding_intervals.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/recordings.py

benchmark-smallest: $(READY)  ## run every benchmark at its smallest size: does it still work?
	for name in recompute rendering encoders language_models interval_coverage embedding_intervals scale recordings; do \
		echo "== benchmarks/$$name.py" && $(BIN)/python benchmarks/$$name.py --smallest || exit 1; done

clean:  ## remove the environment and caches; results in data/ stay
	rm -rf $(VENV) $(VENV)-lowest .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site *.egg-info
