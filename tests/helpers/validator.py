"""The Khronos glTF validator, where `npm install` in tests/gltf_validator has put it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from helpers.places import TESTS

FOLDER = TESTS / "gltf_validator"
READY = shutil.which("node") is not None and (FOLDER / "node_modules" / "gltf-validator").is_dir()


def issues_of(paths: list[Path]) -> dict[str, Any]:
    """What it says of each file, by path."""
    done = subprocess.run(
        ["node", str(FOLDER / "validate.mjs"), *map(str, paths)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)
