"""One photo and an orbit in, posed views out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mv3d.generation.batch import generate_to as generate_to
    from mv3d.generation.views import LoadedModel as LoadedModel
    from mv3d.generation.views import generate_views as generate_views
    from mv3d.generation.views import load_model as load_model

# The configuration is read without torch: the rest loads when one of its names is used.
_HOMES = {
    "LoadedModel": "mv3d.generation.views",
    "generate_views": "mv3d.generation.views",
    "load_model": "mv3d.generation.views",
    "generate_to": "mv3d.generation.batch",
}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mv3d.generation' has no attribute {name!r}")
