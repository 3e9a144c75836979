# make demo    the nano study: speech, units, models, scores, laws, report
# make test    the tests (fast ones)
# Each makes .venv and installs what it needs, once.

PYTHON ?= python3
VENV   := .venv
PIP    := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
RUN    := $(VENV)/bin/speechscale

.PHONY: demo smoke test test-slow lint setup clean

demo: $(VENV)/run.installed
	$(RUN) study run studies/nano.toml --out work/nano

# The same study at toy size, from nothing each time.
smoke: $(VENV)/run.installed
	rm -rf work/smoke
	$(RUN) study run studies/smoke.toml --out work/smoke

test: $(VENV)/dev.installed
	$(VENV)/bin/python -m pytest -m "not slow"

test-slow: $(VENV)/dev.installed
	$(VENV)/bin/python -m pytest -m slow

lint: $(VENV)/dev.installed
	$(VENV)/bin/ruff check src tests benchmarks
	$(VENV)/bin/ruff format --check src tests benchmarks
	$(VENV)/bin/mypy

setup: $(VENV)/dev.installed

clean:
	rm -rf $(VENV) work

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
