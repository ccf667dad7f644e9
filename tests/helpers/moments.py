"""Moments of a run that are counted, not timed: the changes that it makes to the files below a folder."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "open": 0,
    "os.mkdir": 0,
    "os.rename": 1,
    "os.remove": 0,
    "os.rmdir": 0,
    "os.link": 1,
    "shutil.rmtree": 0,
}
"""Events of Python's audit that change files, and which of their arguments names the place."""
TAKES_SPACE = {"open", "os.mkdir", "os.link"}

_watching: list[Watch] = []


class Killed(BaseException):
    """The process is gone: nothing that it still tries has any effect on the disk."""


class Watch:
    """Counts changes below `folder`; `on_change(number, event)` is called before each of them."""

    def __init__(self, folder: Path, on_change: Callable[[int, str], None]) -> None:
        self.count = 0
        self._root, self._on_change = f"{os.path.abspath(folder)}{os.sep}", on_change
        self._busy = threading.RLock()

    def see(self, event: str, arguments: tuple) -> None:
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
            return
        path = arguments[_CHANGES[event]]
        if not isinstance(path, str | os.PathLike):
            return
        path = os.fspath(path)
        if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:  # within rmtree
            with suppress(OSError):
                path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), path)
        if isinstance(path, str) and f"{os.path.abspath(path)}{os.sep}".startswith(self._root):
            with self._busy:
                self.count += 1
                number = self.count
            self._on_change(number, event)


def _hook(event: str, arguments: tuple) -> None:
    if _watching and event in _CHANGES:
        _watching[-1].see(event, arguments)


@cache
def _hooked() -> None:
    sys.addaudithook(_hook)  # for the life of the process


@contextmanager
def watched(
    folder: Path, on_change: Callable[[int, str], None] = lambda number, event: None
) -> Iterator[Watch]:
    """Call back before every change of a file below a folder. What the callback raises stops the change."""
    _hooked()
    _watching.append(Watch(folder, on_change))
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


def signalled(moment: int, number: signal.Signals) -> Callable[[int, str], None]:
    """Send this process a signal before the change of that number, as its user would."""

    def on_change(count: int, event: str) -> None:
        if count == moment:
            os.kill(os.getpid(), number)

    return on_change


def killed(moment: int) -> Callable[[int, str], None]:
    """No change from that number on: what is on the disk is what SIGKILL or a power cut leaves."""

    def on_change(count: int, event: str) -> None:
        if count >= moment:
            raise Killed

    return on_change


def full(moment: int) -> Callable[[int, str], None]:
    """From that number on the disk takes no new file."""

    def on_change(count: int, event: str) -> None:
        if count >= moment and event in TAKES_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return on_change
