"""Errors that a user of mv3d can cause, with the exit codes of the command line."""

from __future__ import annotations

from collections.abc import Mapping

from mv3d.core.wording import worded


class Mv3dError(Exception):
    """A failure explained by one sentence: what is wrong, what was expected, what was found, and what to do.

    The sentence is written for the command line. Printed anywhere else, it names settings as Python does
    (`mv3d.core.wording`). fields: names of settings by flags, where they differ by more than hyphens.
    """

    exit_code = 1

    def __init__(self, *args: object, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(*args)
        self.fields = dict(fields or {})

    def __str__(self) -> str:
        return worded(super().__str__(), self.fields)


class InputError(Mv3dError):
    """An input cannot be used: a file, a folder, an image, a camera."""


class EmptyHullError(InputError):
    """The silhouettes of all views have no object in common: their visual hull is empty."""


class OutputError(Mv3dError):
    """The result cannot be written to its place."""


class UsageError(Mv3dError):
    """The request makes no sense: an unknown format, a value out of range."""

    exit_code = 2


class MissingPartError(Mv3dError):
    """An optional part is not installed; the message gives the exact install command."""

    exit_code = 3


class Mv3dWarning(UserWarning):
    """A result that a user should look at twice. The command line prints it as one line."""

    def __str__(self) -> str:
        return worded(super().__str__())


def shown(value: object, most: int = 80) -> str:
    """A foreign value as part of a message: one line of at most `most` characters and an ellipsis."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[:most]}…"
