"""Functions over many things in threads."""

from __future__ import annotations

import threading

import pytest

from mv3d.core.threads import in_threads


def test_answers_keep_the_order_and_the_first_exception_is_raised():
    wait = threading.Barrier(2, timeout=5)

    def slow(item: int) -> int:
        wait.wait()  # two at a time, or it breaks
        return item * item

    assert in_threads(slow, range(6), 2) == [0, 1, 4, 9, 16, 25]
    assert in_threads(abs, [-1, -2], 1) == [1, 2]
    with pytest.raises(ValueError, match="invalid literal"):
        in_threads(int, ["1", "x", "3"], 2)
