.PHONY: demo test

PYTHON ?= python3
VENV ?= .venv
EDITABLE ?= -e
# Machines without an NVIDIA GPU take the CPU build of torch; the other one is gigabytes.
CONSTRAINTS := $(shell command -v nvidia-smi >/dev/null 2>&1 || echo "-c constraints-cpu.txt")

$(VENV)/done: pyproject.toml constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q $(CONSTRAINTS) $(EDITABLE) ".[dev]"
	touch $@

# Reconstructs the bundled views (examples/make_demo_views.py) and prints the path of the GLB.
demo: $(VENV)/done
	$(VENV)/bin/mv3d recon examples/demo_views --out out/demo

test: $(VENV)/done
	$(VENV)/bin/pytest -q
