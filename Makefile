# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
FLOCK := $(shell command -v flock)
PIP := $(BIN)/python -m pip --disable-pip-version-check
MEASURED := python -m pytest --cov --durations=10 # subprocesses counted; the slowest tests named
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Torch's own dependencies on a CUDA machine: installed with it, never on a machine without.
CUDA := cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
	nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 \
	nvidia-nvtx triton torch

.PHONY: help setup repro figures families golden test test-all faults readme lint format check-format gate baseline fresh bench lock

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed ## make .venv with the locked packages

$(VENV)/.installed: requirements.lock Makefile
ifneq ($(and $(FLOCK),$(if $(ALONE),,not)),) # one at a time, where the system has a lock that ends with its process
	@$(FLOCK) -n .setup.lock true || echo "waiting for another make that sets up"
	@$(FLOCK) .setup.lock $(MAKE) --no-print-directory ALONE=yes $@
else
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: install Python 3.11 or set PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q --no-deps $$(sed -nE 's/^((pip|uv)==[^ ;]+).*/\1/p' requirements.lock)
	@# Without a GPU, take torch's CPU build: from pip where that is what pip finds, else from PyTorch's CPU index.
	if command -v nvidia-smi >/dev/null 2>&1 || ! $(PIP) install --quiet --dry-run --ignore-installed --report - $(TORCH) 2>/dev/null | grep -q '"name": "nvidia-'; \
	then $(PIP) install -q $(TORCH); \
	else $(BIN)/uv pip install -q --python $(BIN)/python --torch-backend=cpu $(TORCH); fi
	$(PIP) install -q --require-hashes --no-deps -r requirements.lock
	touch $@
endif

repro: setup ## run every stage that is out of date, then print the results (PROFILE=standard: more than the verdict)
	@python -m pipeline repro $(if $(PROFILE),--profile $(PROFILE))

figures: setup ## make the figures of every run (and whatever they need)
	@python -m pipeline figures

test: setup ## all tests but the real models', two files at a time, with branch coverage; last what measures time, alone
	$(MEASURED) -n 2 --dist loadfile -m 'not slow and not alone'
	python -m pytest -m 'alone and not slow'

test-all: setup ## every test, real models included, likewise
	$(MEASURED) -n 2 --dist loadfile -m 'not alone'
	python -m pytest -m alone --durations=10

faults: setup ## every fault at every stage of a tiny run: kill, full disk, two at once ... (ARGS="--sample 24 --seed 1")
	@python -m tests.faults $(ARGS)

lint: setup ## ruff and pyright, nothing is changed
	python -m ruff check pipeline tests
	python -m ruff format --check pipeline tests
	python -m pyright

format: setup ## rewrite in the project's format
	python -m ruff check --fix pipeline tests
	python -m ruff format pipeline tests

families: setup ## check every family file on a random tiny model and print the table
	@TQDM_DISABLE=1 python -m pipeline families

golden: setup ## recompute the paper's published results (FOLDER=where they are) and print them beside ours
	@python -m pipeline golden --folder $(or $(FOLDER),../shared/golden)

gate: setup ## fail when a refusal rate of any run moved from its baseline (METRICS=file: hold that against it)
	@python -m pipeline gate $(if $(METRICS),--metrics $(METRICS))

baseline: setup ## make the active run's metrics its baseline
	@python -m pipeline gate --update

readme: setup ## make the tables and measured sentences of README.md and docs/ again from the committed results
	@python -m pipeline readme

fresh: setup ## fail when dvc.lock, configuration, code, results and the numbers of the pages do not belong together
	@python -m pipeline fresh

bench: setup ## time the pipeline beside plain ways of doing the same (ARGS="selection --sample --dtype float32"; --keep: ratios for docs/speed.md)
	@python -m pipeline bench $(ARGS)

lock: ## resolve pyproject.toml again into requirements.lock (torch apart)
	uv pip compile pyproject.toml --extra dev --python-version 3.11 --universal --generate-hashes --no-header \
		--no-annotate --quiet $(foreach name,$(CUDA),--no-emit-package $(name)) -o requirements.lock
