.PHONY: test

.venv/done: pyproject.toml constraints-cpu.txt
	python3 -m venv .venv
	.venv/bin/pip install -q -c constraints-cpu.txt -e ".[dev]"
	touch $@

test: .venv/done
	.venv/bin/pytest -q
