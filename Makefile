# make demo   the main job on this machine, into demo/
# make test   the tests
# make check  ruff and mypy --strict
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check clean

$(VENV)/.installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py --output demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

# The folders profiling/ and hypermodels/ are installed inside the package blsm: mypy sees them where they will be.
check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typed && mkdir -p build/typed/blsm
	ln -s $(CURDIR)/blsm/* $(CURDIR)/profiling $(CURDIR)/hypermodels build/typed/blsm/
	MYPYPATH=build/typed $(BIN)/mypy --package blsm

clean:
	rm -rf build demo $(VENV)
