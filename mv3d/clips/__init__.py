"""Curation of video clips: videos cut into shots, what moves and what is written in them, and which to keep.

The names below load their modules when first used.
"""
# ruff: noqa: F401 - type checkers read the imports

from __future__ import annotations

from typing import TYPE_CHECKING

from mv3d.core.lazy import lazy_names

if TYPE_CHECKING:
    from mv3d.clips.config import ScoreConfig, SelectConfig, SplitConfig
    from mv3d.clips.info import inspect_clips
    from mv3d.clips.score import score_clips
    from mv3d.clips.select import select, write_selection
    from mv3d.clips.split import split_videos

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "config": "ScoreConfig SelectConfig SplitConfig",
        "info": "inspect_clips",
        "score": "score_clips",
        "select": "select write_selection",
        "split": "split_videos",
    },
)
