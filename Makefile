# The developer's whole interface. Every target works from a fresh clone: it makes or reuses .venv by itself.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat requirements.lock requirements-dev.lock torch.lock pyproject.toml 2>/dev/null | sha256sum | cut -c1-16)
CONVERT := $(VENV)-convert/.installed-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)
export TRIMTAB_HOME ?= $(CURDIR)/.trimtab

.DEFAULT_GOAL := help
.PHONY: help env run down test unit integration faults stories random-networks bench-journal bench-compress bench-convert bench-shortcuts bench-registry bench-serve bench-monitor soak lint format types imports check lock clean

help:            ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

env: $(STAMP)    ## Make the environment from the lock files (.venv)

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { echo "needs Python 3.11 ($(PYTHON) not found); Debian/Ubuntu: apt-get install python3.11 python3.11-venv, or make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module; Debian/Ubuntu: apt-get install python3.11-venv"; exit 1; }
	./.ci/make-env $(PYTHON) $(VENV)
	@rm -f $(VENV)/.installed-*; touch $@

run: env         ## Run the whole loop on the digits example; everything stays up until `make down`
	@$(BIN)/python -m deployments.demo

down: env        ## Stop everything `make run` started
	@$(BIN)/trimtab down

# Compiled files are kept whatever the shell says: a hundred processes would compile everything anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: env        ## The whole suite, on its own state directories and ports; two test files at a time
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

unit: env        ## Unit tests only
	@$(BIN)/python -m pytest -m "not integration" -n 2 --dist loadfile

integration: env ## Tests that start real servers
	@$(BIN)/python -m pytest -m "integration and not slow"

faults: env      ## The slow tests: registry and releases killed at every failpoint in turn, a killed search, late labels, stock serving, a release in an environment of its own
	@$(BIN)/python -m pytest -m slow

stories: env     ## What the watch promises, end to end on real servers: [STORIES="healthy breaker …"], a quarter to half an hour
	@PYTHONPATH=. $(BIN)/python -m deployments.stories $(STORIES)

random-networks: env ## Many random networks on every target here against eager torch, [NETWORKS=60] each: half an hour, so not in CI
	@TRIMTAB_RANDOM_NETWORKS=$(or $(NETWORKS),60) $(BIN)/python -m pytest tests/unit/convert/test_convert_random_networks.py

bench-journal: env ## What the journal costs a request: ours with inputs journalled over ours without
	@PYTHONPATH=. $(BIN)/python -m benchmarks.journal_cost

bench-monitor: env ## A window judged by Evidently alone and by ours, false alarms on identical data, power [ROUNDS=3] [WINDOWS=1000]
	@PYTHONPATH=. $(BIN)/python -m benchmarks.monitor $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(WINDOWS),--windows $(WINDOWS))

bench-compress: env ## The compression search against its peers: DATA=<cifar10 folder> WEIGHTS=<state dict> [MINUTES=90]
	@[ -n "$(DATA)" ] && [ -n "$(WEIGHTS)" ] || { echo "say where the task is: make bench-compress DATA=<folder with train.parquet and test.parquet> WEIGHTS=<state dict of the ResNet-20>"; exit 1; }
	@PYTHONPATH=. $(BIN)/python -m benchmarks.compress --data "$(DATA)" --weights "$(WEIGHTS)" $(if $(MINUTES),--minutes $(MINUTES)) $(if $(UNSEEN_MINUTES),--unseen-minutes $(UNSEEN_MINUTES))

soak: env        ## Promote, kill, flood and starve the scoring service: ten to fifteen minutes
	@PYTHONPATH=. $(BIN)/python -m benchmarks.soak

bench-convert: $(CONVERT) ## Five models on every target against eager PyTorch, and wrong conversions that must be caught
	@PYTHONPATH=. $(VENV)-convert/bin/python -m benchmarks.convert $(if $(TARGETS),--targets $(TARGETS))

# The environment with the runtimes that are extras, on top of the first.
$(CONVERT): $(STAMP)
	@$(BIN)/python -m venv --clear --without-pip $(VENV)-convert  # it finds the first one's pip
	@$(BIN)/python -c 'import sysconfig; print(*(sysconfig.get_path(kind) for kind in ("purelib", "platlib")), sep="\n")' \
		> "$$($(VENV)-convert/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@$(VENV)-convert/bin/python -m pip install --quiet --disable-pip-version-check \
		$$($(BIN)/python -c 'import tomllib; e = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*e["litert"], *e["executorch"])')
	@touch $@

bench-shortcuts: env ## What it gives to write slice-and-pad shortcuts as convolutions
	@PYTHONPATH=. $(BIN)/python -m benchmarks.shortcuts

bench-registry: env ## The registry killed at named points, raced and attacked: [KILLS=200] [PROMOTIONS=200] [DATABASE=sqlite|postgresql]
	@PYTHONPATH=. $(BIN)/python -m benchmarks.registry $(if $(KILLS),--kills $(KILLS)) $(if $(PROMOTIONS),--promotions $(PROMOTIONS)) $(if $(DATABASE),--database $(DATABASE))
bench-serve: env ## Our service against stock MLflow, LitServe and a small app, and the bare runtime: [ROUNDS=5]; needs wrk
	@PYTHONPATH=. $(BIN)/python -m benchmarks.serve $(if $(ROUNDS),--rounds $(ROUNDS))

lint: env        ## ruff
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: env      ## ruff, changing files
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: env       ## mypy
	@$(BIN)/mypy

imports: env     ## import-linter: the layers and floors
	@$(BIN)/lint-imports

check: lint types imports ## Everything CI checks besides the tests

lock: env        ## Resolve the lock files again from pyproject.toml
	@$(BIN)/python -m pip -q install uv && ./.ci/make-lock $(BIN)/uv

clean:           ## Remove the environment and the state directory (stop first: make down)
	rm -rf $(VENV) .trimtab
