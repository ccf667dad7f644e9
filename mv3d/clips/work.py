"""Videos worked on in child processes: bounded, and a broken one costs one line (`mv3d.orbits.infrastructure.isolate`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mv3d.core.errors import UsageError
from mv3d.core.progress import ObjectProgress
from mv3d.orbits.infrastructure.isolate import Limits, LocalPool, Work
from mv3d.orbits.sample import Outcome, Reject


@dataclass(frozen=True)
class VideoItem:
    """A video to work on. uid: its name in lines and messages. staging: where results may be put aside."""

    uid: str
    path: Path
    staging: Path | None = None


def work_through(
    items: Sequence[VideoItem],
    work: Work,
    config: Any,
    on_outcome: Callable[[VideoItem, Outcome], None],
    *,
    workers: int,
    limits: Limits,
    done: int = 0,
    rejected: int = 0,
    progress: ObjectProgress | None = None,
) -> None:
    """Work on all items, `workers` at a time; `on_outcome` is called in this process, in the order in which they end.

    done, rejected: of earlier runs, for `progress`.
    """
    if workers < 1:
        raise UsageError(f"--workers: expected at least 1, got {workers}")
    total, waiting, flying = done + len(items), iter(enumerate(items)), 0
    with LocalPool(work, config, workers=min(workers, max(1, len(items))), limits=limits) as pool:
        more = True
        while more or flying:
            while more and pool.capacity() > 0:
                position, item = next(waiting, (-1, None))
                if item is None:
                    more = False
                    break
                pool.submit(position, item)
                flying += 1
            for position, outcome in pool.results() if flying else ():
                flying -= 1
                on_outcome(items[position], outcome)
                done, rejected = done + 1, rejected + isinstance(outcome, Reject)
                if progress:
                    progress(done, total, rejected)
