# make demo        the nano study: speech, units, models, scores, laws, report
# make test        the fast tests;  make test-slow  the slow ones
# make test-light  laws, plans and reports without torch, on the oldest and the newest Python of this machine
# Each makes the environment that it needs, once.

PYTHON ?= python3
VENV   := .venv
PIP    := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
RUN    := $(VENV)/bin/speechscale
# Two processes; the tests of one file share their fixtures, so a file stays in one process.
PYTEST := $(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile
LIGHT  := tests/laws tests/report tests/test_plan.py tests/test_house.py
.PHONY: demo smoke test test-slow test-light lint setup clean

demo: $(VENV)/run.installed
	$(RUN) study run studies/nano.toml --out work/nano

# The same study at toy size, from nothing each time.
smoke: $(VENV)/run.installed
	rm -rf work/smoke
	$(RUN) study run studies/smoke.toml --out work/smoke

test: $(VENV)/dev.installed
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/dev.installed
	$(PYTEST) -m slow

test-light:
	@set -e; for python in $$($(PYTHON) .ci/pythons); do \
	  echo "light tests on $$($$python --version)"; \
	  $$python -m venv --clear $(VENV)-light; \
	  $(VENV)-light/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[light-test]'; \
	  $(VENV)-light/bin/python -m pytest -m "not slow" $(LIGHT); \
	done

lint: $(VENV)/dev.installed
	$(VENV)/bin/ruff check src tests benchmarks docs
	$(VENV)/bin/ruff format --check src tests benchmarks
	$(VENV)/bin/mypy

setup: $(VENV)/dev.installed

clean:
	rm -rf $(VENV) $(VENV)-light work

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "speechscale needs Python 3.11 or newer; found: $$($(PYTHON) --version). Try: make PYTHON=python3.11 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "This Python cannot make virtual environments. On Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[all]'
	@touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/run.installed
