# Everything here works from a fresh clone on Debian or Ubuntu with python3 (3.11 or newer),
# make and git. What is missing is brought once; after that nothing needs the network.
PYTHON := .venv/bin/python
SETUP := bash .ci/setup.sh

.PHONY: help setup demo test conformance interop e2e fuzz faults check bench mutate image dist proto lock clean
.DEFAULT_GOAL := help

help: ## say what there is
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

setup: .venv/.stamp-python .venv/.stamp-schemas ## .venv from requirements.lock, and libvirt's schemas

demo: setup ## show what the hook does, offline, without libvirt or devices
	@$(PYTHON) tests/demo.py $(ARGS)

test: setup ## run the tests, against a real libvirt too; ARGS="-k name -x"
	@$(SETUP) system
	@$(SETUP) firmware
	@.venv/bin/pytest --ignore=tests/conformance --ignore=tests/e2e $(ARGS)

conformance: setup ## run libvirt's own test domains through ours, and in three libvirts; tables in build/conformance
	@$(SETUP) system
	@$(SETUP) conformance
	@.venv/bin/pytest tests/conformance -s $(ARGS)

interop: setup ## run KubeVirt's and Kubernetes' own Go code against ours; ARGS="-run Name -v"
	@$(SETUP) system
	@$(SETUP) interop
	@bash tests/interop/run.sh $(ARGS)

e2e: setup ## pass devices through for real, in an emulated machine (root); ARGS="--only audio"
	@$(SETUP) e2e
	@$(PYTHON) tests/e2e/run.py $(ARGS)

fuzz: setup ## fuzz each target for FUZZ_SECONDS=600; ARGS="domain vmi"; report in build/fuzz
	@$(SETUP) fuzz
	@$(PYTHON) tests/fuzz/run.py $(ARGS)

faults: setup ## kill, fill, stop the clock: the table of what was withstood (root); ARGS="-k clock"
	@$(SETUP) system
	@.venv/bin/pytest tests/faults $(ARGS)

check: setup ## lint, formatting, types, layers
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

bench: setup ## measure rendering, sidecar and device plugin; BENCH_ROUNDS=0.1 for a quick look
	@$(PYTHON) tests/bench/render.py
	@$(PYTHON) tests/bench/hook.py
	@$(PYTHON) tests/bench/deviceplugin.py

mutate: setup ## change the deciding modules, see which changes no test notices; ARGS=--again for those
	@$(SETUP) mutation
	@$(PYTHON) tests/mutation.py $(ARGS)

proto: setup ## make the message classes of launcher_hook/proto anew
	@$(PYTHON) tests/make_messages.py

image: setup ## build the container image; BASE=python:3.13-slim-trixie for a base of a registry
	@$(SETUP) image
	@$(PYTHON) sidecar-image/build.py $(if $(BASE),--base $(BASE)) $(ARGS)

dist: setup ## build sdist and wheel of the commit, twice, the same byte for byte; DIRTY=1 for a try
	@bash .ci/dist.sh

lock: ## make requirements.lock anew, and the image's; ARGS=--upgrade for newer versions
	@$(SETUP) lock $(ARGS)

clean: ## remove all that make brought or built (the next make needs the network)
	rm -rf .venv .cache build dist schemas/libvirt .coverage
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.stamp-python: requirements.lock pyproject.toml .ci/setup.sh
	@$(SETUP) python
	@touch $@

.venv/.stamp-schemas: .venv/.stamp-python schemas/manifest.toml schemas/fetch.py schemas/debian.py
	@$(SETUP) schemas
	@touch $@
