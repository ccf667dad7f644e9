"""Names of splat files. Loads nothing heavy."""

from __future__ import annotations

SPLAT_FILES: dict[str, str] = {"splat": "splats.splat", "ply-splat": "splats.ply", "spz": "splats.spz"}
"""File by format of `--format`."""


def splat_files(formats: tuple[str, ...]) -> tuple[str, ...]:
    """The files of those formats that are splats."""
    return tuple(SPLAT_FILES[name] for name in formats if name in SPLAT_FILES)


def mesh_formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    """The formats that are no splats."""
    return tuple(name for name in formats if name not in SPLAT_FILES)
