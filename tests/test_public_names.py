"""What `import mv3d` offers is there, and loads nothing before it is used."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import mv3d


def test_every_public_name_is_there():
    for name in mv3d.__all__:
        assert getattr(mv3d, name) is not None


def test_importing_loads_no_torch():
    script = "import sys, mv3d; mv3d.OrbitConfig; mv3d.build_shards; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_an_installation_holds_every_package():
    root = Path(__file__).parents[1]
    setuptools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {setuptools["package-dir"].get(name, name.replace(".", "/")) for name in setuptools["packages"]}
    found = {
        p.parent for room in ("mv3d", "orbits", "recon", "render") for p in (root / room).rglob("__init__.py")
    }
    assert folders == {str(folder.relative_to(root)) for folder in found}
