"""The names of settings in sentences: flags for who types a command, keywords for who calls Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_FLAG = re.compile(r"(?<![\w-])--(no-)?([a-z][a-z0-9]*(?:-[a-z0-9]+)*)")
# Commands are typed as they stand, whoever reads of them.
_COMMAND = re.compile(
    r"`[^`]*`|\b(?:pip (?:install|download)|hf download|mv3d [a-z]+(?: [a-z]+)?)\b[^;,.()]*"
)
_flags_spoken = False


@contextmanager
def flags_spoken() -> Iterator[None]:
    """Within it, sentences name settings by flags: for the command line's whole process."""
    global _flags_spoken  # noqa: PLW0603 - one reader per process: a person at a terminal, or a program
    before, _flags_spoken = _flags_spoken, True
    try:
        yield
    finally:
        _flags_spoken = before


def worded(text: str, fields: Mapping[str, str] | None = None) -> str:
    """A sentence of the command line for its reader here. fields: as of `in_keywords`."""
    return text if _flags_spoken else in_keywords(text, fields)


def in_keywords(text: str, fields: Mapping[str, str] | None = None) -> str:
    """A sentence of the command line as one for Python: `--drop-render` is `drop_render`, `--no-prior` `prior=False`.

    Flags of commands that are to be typed stay. fields: names by flags, where they differ by more than hyphens.
    """
    fields = fields or {}

    def keyword(flag: re.Match[str]) -> str:
        return fields.get(flag[2], flag[2].replace("-", "_")) + ("=False" if flag[1] else "")

    parts, end = [], 0
    for command in _COMMAND.finditer(text):
        parts += [_FLAG.sub(keyword, text[end : command.start()]), command[0]]
        end = command.end()
    return "".join([*parts, _FLAG.sub(keyword, text[end:])])
