"""A function over many things in several threads: for numpy, scipy and Embree, which let other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_threads(function: Callable[[Item], Answer], items: Iterable[Item], threads: int) -> list[Answer]:
    """The answers in the order of the items, the same for any number of threads. The first exception is raised."""
    if threads <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
