"""The command that installs an optional part."""

from __future__ import annotations

import shutil
import sys


def running_python() -> str:
    """What to type for this Python: `python` where the shell's is this one, else its path."""
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    return f'"{python}"' if " " in python else python


def install_command(*packages: str) -> str:
    """`python -m pip install viser`, for the Python that runs.

    packages: of one of mv3d's extras, themselves: asking for `mv3d[view]` instead would let pip choose torch anew.
    """
    quoted = [f'"{name}"' if set(name) & set("[]<>= ") else name for name in packages]
    return " ".join([running_python(), "-m pip install", *quoted])
