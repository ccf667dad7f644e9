"""The errors that a user of mv3d can cause, each with the exit code of the command line.

This is a leaf module: it imports nothing, so every room may use it.
"""

from __future__ import annotations


class Mv3dError(Exception):
    """A failure that one sentence explains: what, expected, got, and the way out."""

    exit_code = 1


class InputError(Mv3dError):
    """What was given cannot be used: a file, a folder, an image, a camera."""


class EmptyHullError(InputError):
    """The silhouettes of all views have no object in common: their visual hull is empty."""


class OutputError(Mv3dError):
    """The result cannot be written where it was asked for."""


class UsageError(Mv3dError):
    """The request itself makes no sense: an unknown format, a value out of range."""

    exit_code = 2


class MissingPartError(Mv3dError):
    """An optional part is not installed; the message gives the exact install command."""

    exit_code = 3


def shown(value: object, most: int = 80) -> str:
    """What a file or a user gave, as part of a message: one line, cut where it is long."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[:most]}…"
