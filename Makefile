# The front doors. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export TF_CPP_MIN_LOG_LEVEL ?= 2

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3 python,$(if $(shell command -v $(p) 2>/dev/null),$(p))))
UV := 0.13.9
READY := .venv/.ready

.PHONY: help setup setup-gpu repro doctor report compare new-language compare-splits serve test test-slow bench faults advisories benchmark-accuracy experiments check format lock clean clean-reuse

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(READY) ## make .venv with the pinned packages

# uv installs the lock in a third of pip's time; where it cannot (an index that only pip is set up for), pip does.
$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
		|| { echo "expected Python 3.11 or 3.12 as python3.11, python3.12 or python3; name another: make PYTHON=/path/to/python"; exit 1; }
	@echo "setting up .venv from requirements.lock ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install -q --disable-pip-version-check uv==$(UV) \
		&& .venv/bin/uv pip sync -q --python .venv/bin/python --require-hashes --compile-bytecode requirements.lock \
		|| .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@touch $@

setup-gpu: $(READY) ## then replace TensorFlow by its build for NVIDIA GPUs
	@uv pip uninstall -q --python .venv/bin/python tensorflow-cpu
	@uv pip install -q --python .venv/bin/python -r pyproject.toml --extra pipeline --extra gpu

repro: $(READY) ## build what has changed, from the corpus to the report, and print the result
	@dvc repro
	@cat metrics/audit/verdict.txt metrics/evaluate/summary.txt

doctor: ## look for what stops a run or spoils it, and name the mend (ALL=1: read the whole cache)
	@$$(command -v .venv/bin/python || echo $(PYTHON)) -m app.doctor $(if $(ALL),--all)

report: $(READY) ## write report.html: all results of the experiment in this folder on one page (BASE=commit to compare with)
	@python -m app.report $(if $(BASE),--base $(BASE))

compare: $(READY) ## print the experiments side by side: the scores that count, with intervals, and the params that differ
	@python -m app.compare $(if $(NUM),--num $(NUM))

new-language: $(READY) ## add recordings as a new language and show what it does: FOLDER=../recordings/eu LANGUAGE=eu
	@python -m app.new_language "$(FOLDER)" "$(LANGUAGE)"

compare-splits: $(READY) ## run the pipeline after a split by group and after a random one, and print both scores
	@python -m benchmarks.compare_splits

serve: $(READY) ## open a page on this machine: recognise recordings, look at the evaluation, compare experiments
	@python -m app.page $(SERVE)

test: $(READY) ## run the tests (a few minutes)
	@python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(READY) ## run the tests that take minutes each or fetch packages
	@python -m pytest -m slow

bench: $(READY) ## measure everything beside its peers, on idle cores (about an hour); writes benchmarks/results.md
	@python -m benchmarks

faults: $(READY) ## hurt everything as often as docs/reliability.md says (hours); writes metrics/faults.json
	@python -m faults

advisories: $(READY) ## known vulnerabilities of the locked packages, offline: FROM=clone of github.com/pypa/advisory-database
	@python -m faults.advisories "$(FROM)"

benchmark-accuracy: $(READY) ## measure what carries over to unheard voices, engines and people (hours without a GPU)
	@uv pip install -q --python .venv/bin/python -r pyproject.toml --extra pipeline --extra benchmark
	@dvc repro $(addprefix data/benchmark/dvc.yaml:,panel_t_asterisk_to_tuxpaint panel_t_tuxpaint_to_asterisk)
	@python benchmarks/accuracy.py
	@python docs/fill_results.py

experiments: $(READY) ## the article's claims as experiments, three seeds each (an hour or two); writes docs/claims.md
	@python -m experiments

check: $(READY) ## format, lint and types
	@ruff format --check .
	@ruff check .
	@mypy

format: $(READY) ## format the code and mend what the linter can
	@ruff format .
	@ruff check --fix .

lock: $(READY) ## pin the newest versions that pyproject.toml allows
	@python -m pip install -q --disable-pip-version-check uv==$(UV)
	@uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--extra predict --extra pipeline --extra cpu --extra cluster --extra export --extra serve --extra dev \
		pyproject.toml -o requirements.lock

clean: ## remove what the pipeline built; DVC's cache stays, `dvc checkout` brings it back
	@rm -rf data/manifest.csv data/manifest.json data/decoded data/resampled data/logmel data/features models/model models/article models/calibrated models/export data/extra/*/
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-reuse: ## forget the finished shards of earlier runs
	@rm -rf data/.reuse
