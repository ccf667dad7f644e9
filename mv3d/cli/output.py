"""Output of the commands: results on stdout, everything else on stderr, bars only on a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mv3d.core.errors import OutputError


def print_result(lines: list[str], document: dict[str, Any], *, as_json: bool) -> None:
    """Print lines for people, or one JSON object. Raises OutputError."""
    if as_json or lines:
        show(json.dumps(document) if as_json else "\n".join(lines))


def show(text: str) -> None:
    """Print to stdout. Raises OutputError."""
    with stdout_checked():
        print(text)


def note(text: str) -> None:
    """Print a remark that is no part of the result to stderr."""
    print(text, file=sys.stderr)


FEW = 5
"""Lines of one kind that a command prints of many."""


def note_warnings(texts: Sequence[str], count: int | None = None, where: str = "") -> None:
    """Print the first warnings to stderr, a line each, and how many more of `count` there are in `where`."""
    for text in texts[:FEW]:
        note(f"warning: {text}")
    more = (len(texts) if count is None else count) - len(texts[:FEW])
    if more > 0:
        note(f"warning: {more} more{', see ' if where else ''}{where}")


@contextmanager
def stdout_checked() -> Iterator[None]:
    """Write out what the block prints. Raises OutputError if stdout cannot take it, BrokenPipeError if its reader left."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except UnicodeEncodeError as error:
        raise OutputError(
            f"standard output: expected an encoding with {error.object[error.start]!a}, got {error.encoding}; "
            "set PYTHONIOENCODING=utf-8"
        ) from error
    except OSError as error:
        # What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from error


_QUIET_S = 10.0


class StageBars:
    """One bar per stage on a terminal, as wide as it is; elsewhere a line when ten seconds have passed without one."""

    def __init__(self) -> None:
        self._shown, self._last = sys.stderr.isatty(), time.monotonic()
        self._bar: Any = None
        self._name = ""

    def __call__(self, name: str, share: float) -> None:
        if not self._shown:
            if time.monotonic() - self._last >= _QUIET_S:
                self._last = time.monotonic()
                note(f"{name} {share:.0%}")
            return
        from tqdm import tqdm

        if name != self._name:
            self.close()
            self._bar = tqdm(
                total=100,
                desc=f"{name:>12}",
                file=sys.stderr,
                bar_format="{desc} {bar} {elapsed}, {remaining} left",
            )
            self._name = name
        self._bar.n = round(100 * share)
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar, self._name = None, ""


class ObjectsBar:
    """A bar of the objects done, with the number of rejects, on a terminal; elsewhere a line when ten seconds have passed
    without one."""

    def __init__(self) -> None:
        self._shown, self._last = sys.stderr.isatty(), time.monotonic()
        self._bar: Any = None

    def __call__(self, done: int, total: int, rejected: int) -> None:
        if not self._shown:
            if time.monotonic() - self._last >= _QUIET_S:
                self._last = time.monotonic()
                note(f"object {done} of {total}, {rejected} rejected")
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done - 1, file=sys.stderr, unit="object")
        self._bar.set_postfix_str(f"{rejected} rejected", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
