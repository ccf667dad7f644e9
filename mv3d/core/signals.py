"""Ctrl-C and SIGTERM as exceptions, at once or at the end of a step, so that cleaning up is never skipped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers and `kill` send it."""


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM raises Terminated in the main thread of this process; a second one ends it at once.

    Processes forked meanwhile die of SIGTERM as ever. Elsewhere than in the main thread nothing changes.
    """
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:
            os.kill(os.getpid(), number)
        raise Terminated

    with _handled({signal.SIGTERM: stop}):
        yield


@contextmanager
def interrupts_held() -> Iterator[Callable[[], type[KeyboardInterrupt] | None]]:
    """Hold back Ctrl-C and SIGTERM; yields a function that says which came, as the exception to raise, or None.

    A second signal raises at once. Forked processes ignore Ctrl-C and end by SIGTERM. Elsewhere than in the main thread nothing is held.
    """
    came: list[type[KeyboardInterrupt]] = []
    owner, before = (
        os.getpid(),
        {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
    )

    def hold(number: int, frame: FrameType | None) -> None:
        earlier = before[signal.Signals(number)]
        if os.getpid() != owner and number == signal.SIGINT:
            return  # of a reader: its parent decides
        if os.getpid() == owner and not came:
            came.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
        elif callable(earlier):
            earlier(number, frame)
        elif earlier == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    # What is ignored stays so: shells start background jobs with Ctrl-C ignored.
    with _handled({number: hold for number, earlier in before.items() if earlier != signal.SIG_IGN}):
        yield lambda: came[0] if came else None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Do the block to its end; Ctrl-C and SIGTERM come after it, within another such block after that one. For work of
    milliseconds whose half is worse than none."""
    with interrupts_held() as asked:
        yield
    if (request := asked()) is not None:
        signal.raise_signal(signal.SIGTERM if request is Terminated else signal.SIGINT)


@contextmanager
def _handled(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
