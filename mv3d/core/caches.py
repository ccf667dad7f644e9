"""Where mv3d keeps what it can make or fetch again. Other tools keep to their own: HF_HOME, TORCH_HOME."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir(name: str) -> Path:
    """The folder MV3D_CACHE/`name`, by default XDG_CACHE_HOME/mv3d/`name` or ~/.cache/mv3d/`name`. It may be absent."""
    if own := os.environ.get("MV3D_CACHE"):
        return Path(own) / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mv3d" / name
