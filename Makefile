# Sets adapterd up in this folder, checks it, tests it, runs it. `make help` lists the targets.

# What a person may set, as in `make run STATE=/srv/adapterd` or `make unit ARGS="-k store -x"`.
PYTHON ?=
STATE  ?= $(or $(ADAPTERD_STATE),$(or $(XDG_STATE_HOME),$(HOME)/.local/state)/adapterd)
ARGS   ?=

PY := .venv/bin/python
BASE := smollm2-135m

# One copy of the base serves `make run`, the demo, the tests and an `adapterd serve` by hand: the state folder's.
export ADAPTERD_TEST_BASES := $(STATE)/bases
# Both would ask the network for newer releases; ours are in constraints.txt.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := setup
.DELETE_ON_ERROR:
# One target at a time, even under -j: type checkers and tests beside each other fight for the same cores.
.NOTPARALLEL:
.PHONY: setup base check lint imports types test unit e2e faults demo run stubs lock clean help

# An installation knows where its folder lies. In one that was moved or copied since, it has to be made again.
$(shell [ "$$(cat .venv/.installed 2>/dev/null)" = "$(CURDIR)" ] || rm -f .venv/.installed)

setup: .venv/.installed base ## make .venv, install everything into it, fetch the base (the default)

.venv/bin/python:
	@set -e; python=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        python="$$candidate"; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "adapterd needs Python 3.11 or newer, and$(if $(PYTHON), PYTHON=$(PYTHON) is, here is) none." >&2; \
	    echo "hint: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	elif ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$(command -v "$$python") cannot make a virtual environment: its venv module is missing." >&2; \
	    echo "hint: apt install python3-venv on Debian and Ubuntu; or name another: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	echo "making .venv with $$("$$python" --version), $$(command -v "$$python")"; \
	"$$python" -m venv --clear .venv || { rm -rf .venv; exit 1; }

# torch goes first: its exact pin is what finds a CPU build where the index has one. The project itself is built without
# isolation, so that the pinned build backend builds it and nothing else is fetched.
.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@set -e; start=$$(date +%s); \
	ls -d .venv/lib/python*/site-packages/torch >/dev/null 2>&1 || \
	    echo "installing torch (some 200 MB for the CPU, several GB where the index has CUDA builds only)"; \
	$(PY) -m pip install --quiet --constraint constraints.txt torch setuptools; \
	echo "installing adapterd and what it needs to run, to be checked and to be tested"; \
	$(PY) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'; \
	printf '%s' "$(CURDIR)" >$@; \
	echo "installed in $$(($$(date +%s) - start)) s"

# The folder of a base appears by rename, whole or not at all: if it is there, nothing is left to do.
base: .venv/.installed
	@ls -d "$(STATE)/bases/$(BASE)"-*/config.json >/dev/null 2>&1 || { \
	    echo "fetching the base $(BASE) into $(STATE)/bases (98 MB, once)"; \
	    ADAPTERD_STATE="$(STATE)" ADAPTERD_BASE=$(BASE) ADAPTERD_LOG_FORMAT=console .venv/bin/adapterd base pull; }

check: lint imports types ## what can be said without running anything

lint: .venv/.installed ## ruff: rules and format
	$(PY) -m ruff check
	$(PY) -m ruff format --check

imports: .venv/.installed ## import-linter: which package may know which
	$(PY) .venv/bin/lint-imports --no-logo

types: .venv/.installed ## mypy --strict and pyright
	$(PY) -m mypy
	$(PY) -m mypy tests benchmarks examples
	$(PY) -m pyright --pythonpath $(PY)

test: check unit e2e ## everything that must pass before a change lands

# The tiny base is too small to share out: with a thread for each core, threads would wait for each other. So there is a
# process for each core, and a file's tests stay together, as they share what they set up.
unit: .venv/.installed ## fast tests, on a tiny base made on the spot; ARGS go to pytest
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not e2e" --numprocesses auto --dist loadfile $(ARGS)

e2e: .venv/.installed base ## tests on the real base and of whole daemons, minutes; ARGS go to pytest
	$(PY) -m pytest -m e2e $(ARGS)

faults: .venv/.installed ## kills, power cuts, full disks, attackers and a soak at full size, hours; `make e2e` has them short
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/faults -m e2e --full $(ARGS)

demo: .venv/.installed base ## watch an adapter learn, be promoted, forget nothing and be reverted
	$(PY) -m examples.demo

run: .venv/.installed base ## run the daemon in the foreground; STATE is its folder
	@ADAPTERD_STATE="$(STATE)" exec .venv/bin/adapterd serve

stubs: .venv/.installed ## make the gRPC stubs from proto/ again
	$(PY) -m grpc_tools.protoc -Iproto --python_out=proto --pyi_out=proto --grpc_python_out=proto proto/adapterd/v1/*.proto

lock: .venv/.installed ## write constraints.txt from what .venv holds
	@set -e; sed -n '/^#/p' constraints.txt >.venv/lock; \
	$(PY) -m pip freeze --all --exclude-editable --exclude pip | sed 's/+.*//' | LC_ALL=C sort -f >>.venv/lock; \
	mv .venv/lock constraints.txt; printf '%s' "$(CURDIR)" >.venv/.installed

clean: ## remove .venv, caches and builds; the state folder stays
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
