.PHONY: demo docs-check test

PYTHON ?= python3
VENV ?= .venv
EDITABLE ?= -e
# Machines without an NVIDIA GPU take the CPU build of torch; the other one is gigabytes.
CONSTRAINTS := $(shell command -v nvidia-smi >/dev/null 2>&1 || echo "-c constraints-cpu.txt")

$(VENV)/done: pyproject.toml constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q $(CONSTRAINTS) $(EDITABLE) ".[dev]"
	touch $@

# One photo -> 21 views -> a mesh; prints the path of the GLB.
demo: $(VENV)/done
	$(VENV)/bin/mv3d make examples/chair.png --quality draft

# A file's tests stay in one process, since they share what they make; threads of a process would fight for the cores.
test: $(VENV)/done
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -q -n auto --maxprocesses 4 --dist loadfile

# Runs what README.md and docs/ say, page by page at small sizes; PAGES="docs/data.md --sizes.views 21" for one of them.
docs-check: $(VENV)/done
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(VENV)/bin/python -m docs_check $(PAGES)
