"""Signals as exceptions, at once or held back."""

from __future__ import annotations

import os
import signal

import pytest

from mv3d.core.signals import Terminated, interrupts_held, terminated_as_interrupt


def test_sigterm_runs_what_cleans_up():
    before, cleaned = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(Terminated), terminated_as_interrupt():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)
    assert cleaned and signal.getsignal(signal.SIGTERM) == before


def test_a_forked_process_dies_of_sigterm():
    with terminated_as_interrupt():
        child = os.fork()
        if not child:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os._exit(9)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM


def test_the_first_signal_is_held_and_the_second_raises():
    # Shells start background jobs, and so the tests of one, with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _hold_and_raise()
    finally:
        signal.signal(signal.SIGINT, before)


def _hold_and_raise() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_held() as asked:
        assert asked() is None
        signal.raise_signal(signal.SIGINT)
        assert asked() is KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)
