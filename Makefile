.PHONY: demo docs-check test

PYTHON ?= python3
VENV ?= .venv
EDITABLE ?= -e
# Machines without an NVIDIA GPU take the CPU build of torch; the other one is gigabytes.
CONSTRAINTS := $(shell command -v nvidia-smi >/dev/null 2>&1 || echo "-c constraints-cpu.txt")
PACKAGE := $(VENV)/mv3d-installed
PACKAGE_AND_TESTS := $(VENV)/mv3d-and-tests-installed

$(PACKAGE_AND_TESTS): EXTRA = [dev]
$(PACKAGE) $(PACKAGE_AND_TESTS): pyproject.toml constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install $(CONSTRAINTS) $(EDITABLE) ".$(EXTRA)"
	touch $@

# One photo -> 21 views -> a mesh; prints the path of the GLB.
demo: $(PACKAGE)
	$(VENV)/bin/mv3d make examples/chair.png --quality draft --out out/demo
	@echo "For the command mv3d in this shell: source $(VENV)/bin/activate" >&2

# A file's tests stay in one process, since they share what they make; threads of a process would fight for the cores.
test: $(PACKAGE_AND_TESTS)
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -q -n auto --maxprocesses 4 --dist loadfile

# Runs what README.md and docs/ say, page by page at small sizes; PAGES="docs/data.md --sizes.views 21" for one of them.
docs-check: $(PACKAGE_AND_TESTS)
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(VENV)/bin/python -m docs_check $(PAGES)
