# Every job by name; `make help` lists them. Each sets up what it needs, when it is missing or stale.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
READY := .venv/.ready
# `make test` gives pytest more words with PYTEST="-k psds"
PYTEST ?=
# A file's tests stay together: what they share is made once. The longest files come first.
SIDE_BY_SIDE = -n 2 --dist loadfile --no-loadscope-reorder
# Every command is a process of its own: without compiled modules on disk each compiles torch and the rest anew.
unexport PYTHONDONTWRITEBYTECODE

$(READY): requirements.txt common/run/setup.sh
	@sh common/run/setup.sh

include common/run/task.mk $(wildcard */task.mk)
PACKAGES := $(patsubst %/task.mk,%,$(wildcard */task.mk))
# A checkout, or an image, may lack tasks; the contracts name all.
ABSENT = $(strip $(filter-out common $(PACKAGES),$(shell sed -n 's/[],"[]/ /g; s/^root_packages *= //p' pyproject.toml)))

.PHONY: help setup check format test test-slow test-faults benchmark encoders lock dockerfiles clean

help: ## list the jobs
	@awk -F ':.*## ' ' \
	  function job(name, text) { printf "  %-19s %s\n", name, text } \
	  /^[a-z0-9-]+:.*## / { job($$1, $$2) } \
	  /^define / { own = /task/ } \
	  /^\$$1-[a-z]+:.*## / { verb[++n] = substr($$1, 3); text[n] = $$2; if (!own) chain = n } \
	  /call (task|chain),.*\)\)$$/ && n { \
	    split($$0, of, ","); last = /call task/ ? n : chain; \
	    for (i = 1; i <= last; i++) job(of[2] verb[i], of[4] ": " text[i]) }' \
	  $(MAKEFILE_LIST)

setup: $(READY) ## make the environment (.venv) of requirements.txt

check: $(READY) ## lint, types, contracts, fast tests
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy common $(PACKAGES)
	$(if $(ABSENT),@echo "import contracts: not checked without $(ABSENT)",.venv/bin/lint-imports --no-logo --config pyproject.toml)
	$(PY) -m pytest -q -m "not slow and not end_to_end and not faults" $(SIDE_BY_SIDE) $(PYTEST)

format: $(READY) ## format the code and mend what lint can mend
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

test: $(READY) ## all tests but the slow ones
	$(PY) -m pytest -m "not slow and not faults" $(SIDE_BY_SIDE) $(PYTEST)

test-slow: $(READY) ## deeper checks: kill -9 at random moments, memory at 2,000,000 clips, ...
	$(PY) -m pytest -m slow $(PYTEST)

test-faults: $(READY) ## kills, containers, full disks, hostile and broken files, fuzzing: tried, survived, lost
	DCASE_FAULTS=1 $(PY) -m pytest tests/faults $(SIDE_BY_SIDE) $(PYTEST)

benchmark: $(tasks:%=%-benchmark) ## throughput of every stage on this machine
	$(if $(filter task4,$(tasks)),$(PY) -m task4_sed benchmark --detect)
	$(PY) -m common.encoders benchmark

encoders: $(READY) ## the audio encoders: sizes, costs, published checkpoints
	$(PY) -m common.encoders

lock: $(READY) ## resolve pyproject.toml anew into requirements.txt
	.venv/bin/uv pip compile --quiet pyproject.toml --extra dev --extra ears --extra pages --extra millions --extra tune --generate-hashes --universal --python-version 3.11 \
	  --no-emit-index-url --upgrade --custom-compile-command "make lock" -o requirements.txt

dockerfiles: $(PACKAGES:%=docker/%.Dockerfile) ## write docker/<task>.Dockerfile from docker/Dockerfile

docker/%.Dockerfile: docker/Dockerfile
	sed 's/^ARG TASK$$/ARG TASK=$*/' $< > $@

clean: ## remove all runs and the toy data sets (not .venv, not data of your own)
	rm -rf runs data/*/toy
