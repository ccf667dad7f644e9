"""One photo and an orbit in, posed views out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mv3d.generation.pipeline import LoadedModel as LoadedModel
    from mv3d.generation.pipeline import generate_views as generate_views
    from mv3d.generation.pipeline import load_model as load_model
    from mv3d.generation.run import generate_to as generate_to

# The configuration is read without torch, so the pipeline loads when one of its names is used.
_HOMES = {
    "LoadedModel": "mv3d.generation.pipeline",
    "generate_views": "mv3d.generation.pipeline",
    "load_model": "mv3d.generation.pipeline",
    "generate_to": "mv3d.generation.run",
}
__all__ = ["LoadedModel", "generate_to", "generate_views", "load_model"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mv3d.generation' has no attribute {name!r}")
