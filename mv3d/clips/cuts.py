"""Where one shot ends and another begins: PySceneDetect's detectors at two rates.

As in Stable Video Diffusion (arXiv 2311.15127, appendix C), whose cascade finds fades and dissolves by looking at fewer
frames a second. At the full rate, three detectors vote, each blind to another fault: adaptive (HSV difference against its
neighbours: not fooled by fast motion), histogram (not by anything that moves), hash (not by light). At 2 frames a second a
histogram sees what changes slowly; such a transition is an interval, and its frames belong to no shot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mv3d.clips.parts import scene_detectors

SIDE = 144
"""Shorter side of the pictures that are compared, pixels."""
DETECTORS = ("adaptive", "histogram", "hash", "content")
SLOW_FPS, SLOW_THRESHOLD = 2.0, 0.14
_LONG = 3


@dataclass(frozen=True, order=True)
class Boundary:
    """last: the last frame of a shot. first: the first of the next. Frames between them are a transition."""

    last: int
    first: int

    @property
    def gradual(self) -> bool:
        return self.first > self.last + 1


def find_boundaries(
    pictures: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float, *, detectors: tuple[str, ...], votes: int
) -> tuple[list[Boundary], int]:
    """The boundaries, rising and apart, and the number of frames. pictures: RGB, small ones."""
    from scenedetect import FrameTimecode  # noqa: PLC0415 - an optional part

    step = max(2, round(fps / SLOW_FPS))
    fast = {name: _detector(name) for name in detectors}
    slow = _detector("histogram", threshold=SLOW_THRESHOLD)
    found: dict[str, set[int]] = {name: set() for name in fast}
    jumps: set[int] = set()
    count = 0
    for number, picture in enumerate(pictures):
        when, bgr = FrameTimecode(number, fps=fps), np.ascontiguousarray(picture[..., ::-1])
        for name, detector in fast.items():
            found[name] |= {cut.frame_num for cut in detector.process_frame(when, bgr)}
        if number % step == 0:
            jumps |= {cut.frame_num for cut in slow.process_frame(when, bgr)}
        count = number + 1
    if count:
        for name, detector in fast.items():
            found[name] |= {cut.frame_num for cut in detector.post_process(when)}
    runs = long_runs(sorted(found.get("histogram", ())))
    hard = voted(found.values(), runs, jumps, step, votes)
    return merged(hard, [*runs, *_slow_runs(jumps, step)], step), count


def long_runs(frames: list[int]) -> list[Boundary]:
    """Histogram cuts at three frames or more in a row, which no hard cut makes, as transitions."""
    return [Boundary(run[0] - 1, run[-1]) for run in _runs(frames, 1) if len(run) >= _LONG]


def voted(
    found: Iterable[set[int]], runs: list[Boundary], jumps: set[int], step: int, votes: int
) -> list[int]:
    """First frames of shots that enough detectors name; a slow jump across one that stands alone has a vote, too."""
    ballots = Counter(frame for frames in found for frame in frames)
    alone = [run[0] for run in _runs(sorted(jumps), step) if len(run) == 1]
    ballots.update(frame for frame in list(ballots) if any(jump - step < frame <= jump for jump in alone))
    return sorted(
        f for f, n in ballots.items() if n >= votes and not any(r.last < f <= r.first for r in runs)
    )


def merged(hard: list[int], slow: list[Boundary], step: int) -> list[Boundary]:
    """Hard cuts (first frames of shots) and slow changes as boundaries, rising and apart.

    A slow change without a hard cut is a transition. Where there are some, what lies between them is one only if it
    takes more than one step: what is left of a step may be motion.
    """
    gradual: list[Boundary] = []
    for change in sorted(slow):
        free = [
            edge
            for edge in range(change.last, change.first, step)
            if not any(edge < cut <= edge + step for cut in hard)
        ]
        whole = len(free) * step >= change.first - change.last
        for run in _runs(free, step):
            part = change if whole else Boundary(run[0], run[-1] + step)
            if not whole and len(run) < 2:
                continue
            if gradual and part.last < gradual[-1].first:
                gradual[-1] = Boundary(gradual[-1].last, max(gradual[-1].first, part.first))
            else:
                gradual.append(part)
    kept = [Boundary(cut - 1, cut) for cut in hard if not any(g.last < cut <= g.first for g in gradual)]
    return sorted([*gradual, *kept])


def _slow_runs(jumps: set[int], step: int) -> list[Boundary]:
    return [Boundary(run[0] - step, run[-1]) for run in _runs(sorted(jumps), step)]


def _runs(frames: list[int], step: int) -> list[list[int]]:
    found: list[list[int]] = []
    for frame in frames:
        if found and frame - found[-1][-1] <= step:
            found[-1].append(frame)
        else:
            found.append([frame])
    return found


def shots(boundaries: list[Boundary], frames: int, *, least: int, most: int | None) -> list[tuple[int, int]]:
    """(first, end) of the shots of at least `least` frames; longer ones than `most` are cut into equal parts."""
    starts = [0, *(b.first for b in boundaries)]
    ends = [*(b.last + 1 for b in boundaries), frames]
    found = []
    for start, end in zip(starts, ends, strict=True):
        parts = 1 if most is None else -(-(end - start) // most)
        edges = np.linspace(start, end, max(parts, 1) + 1).round().astype(int).tolist()
        found += [(a, b) for a, b in pairwise(edges) if b - a >= least]
    return found


def _detector(name: str, **settings: float) -> Any:
    kinds = scene_detectors().detectors
    # Short shots are left out later, by their length in seconds.
    return {
        "adaptive": kinds.AdaptiveDetector,
        "histogram": kinds.HistogramDetector,
        "hash": kinds.HashDetector,
        "content": kinds.ContentDetector,
    }[name](min_scene_len=1, **settings)
