"""One photo and an orbit in, posed views out.

The configuration is read without torch: the names below load their modules when first used.
"""
# ruff: noqa: F401 - type checkers read the imports

from __future__ import annotations

from typing import TYPE_CHECKING

from mv3d.core.lazy import lazy_names

if TYPE_CHECKING:
    from mv3d.generation.batch import generate_to
    from mv3d.generation.views import LoadedModel, generate_views, load_model

__all__, __getattr__, __dir__ = lazy_names(
    __name__, {"views": "LoadedModel generate_views load_model", "batch": "generate_to"}
)
