"""Progress of long work as callbacks, and the seconds of its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Progress = Callable[[str, float], None]
"""(stage, share of it that is done, 0 to 1)"""
ObjectProgress = Callable[[int, int, int], None]
"""(objects done, objects in all, rejected)"""
TrainingProgress = Callable[[str, int, int, dict[str, float]], None]
"""(stage, steps done, steps in all, measured values)"""


@dataclass
class Clock:
    """Seconds of each stage, and the caller's progress. The one mutable helper of a run."""

    progress: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Time a stage; yields a callback for the share of it that is done. A repeated stage adds up."""

        def on_progress(share: float) -> None:
            if self.progress:
                self.progress(name, share)

        start = time.perf_counter()
        on_progress(0.0)
        yield on_progress
        on_progress(1.0)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)

    def with_total(self) -> dict[str, float]:
        """Seconds of each stage and of all."""
        return {**self.seconds, "total": round(sum(self.seconds.values()), 3)}
