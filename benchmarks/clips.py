"""How well `mv3d clips` tells clips apart: precision and recall of every filter on labelled clips.

    python benchmarks/clips.py [--seed 2] [--keep FOLDER] [--quick] --out clips.json

60 clips of `labelled_clips` as mp4 files, cut and scored by the commands' own functions, and beside them ten of these out of
focus and ten copies (smaller, brighter, or without the first frames). Thresholds are absolute: those of `THRESHOLDS`, the
same for all seeds. --quick: a sixth of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelled_clips import COUNTS, Labelled, blurred, copied, labelled_clips, save

from mv3d.clips.score import score_clips
from mv3d.clips.select import copies
from mv3d.clips.split import split_videos

THRESHOLDS = {
    "motion": 0.002,
    "camera": 0.01,
    "object": 0.01,
    "text": 0.07,
    "sharpness": 0.5,
    "duplicates": 0.2,
}
SMALL_TEXT = 0.07


@dataclass(frozen=True)
class Result:
    """positives: what the filter should drop or name. hit: of them, found. false: found, and not to be."""

    name: str
    what: str
    positives: int
    hit: int
    false: int
    of: int

    @property
    def recall(self) -> float:
        return self.hit / self.positives if self.positives else 1.0

    @property
    def precision(self) -> float:
        return self.hit / (self.hit + self.false) if self.hit + self.false else 1.0


def measure(
    seed: int, folder: Path, counts: dict[str, int] | None = None, *, workers: int = 2
) -> list[Result]:
    """Write the clips of a seed into `folder`, run the commands on them, and count."""
    clips = labelled_clips(seed, counts)
    singles = [clip for clip in clips if clip.motion]
    extra = [blurred(clip) for clip in singles[:: max(1, len(singles) // 10)][:10]]
    twins = [
        copied(clip, number) for number, clip in enumerate(singles[2 :: max(1, len(singles) // 10)][:10])
    ]
    whole = folder / "whole"
    whole.mkdir(parents=True)
    for clip in [*clips, *extra, *twins]:
        save(clip, whole)
    split = split_videos([whole], folder / "split", workers=workers)
    found = {Path(e["video"]).stem: [tuple(b) for b in e["boundaries"]] for e in split.entries}
    results = boundary_results(clips, found)
    scored = score_clips(whole, workers=workers).entries
    scores = {name.removesuffix(".mp4"): entry for name, entry in scored.items()}
    return [*results, *score_results(singles, extra, twins, scores)]


def boundary_results(clips: list[Labelled], found: dict[str, list[tuple[int, int]]]) -> list[Result]:
    """A cut is found by its very frame; a fade or dissolve by an interval that covers half of it."""
    counts = {True: [0, 0, 0], False: [0, 0, 0]}  # gradual → positives, hit, false
    for clip in clips:
        left = list(found[clip.name])
        for truth in clip.boundaries:
            gradual = truth[1] > truth[0] + 1
            counts[gradual][0] += 1
            match = next((b for b in left if _covers(b, truth) if gradual or b == truth), None)
            if match:
                counts[gradual][1] += 1
                left.remove(match)
        for last, first in left:
            counts[first > last + 1][2] += 1
    names = {False: ("cuts", "to the frame"), True: ("fades and dissolves", "half of their frames or more")}
    return [Result(*names[gradual], *counts[gradual], of=len(clips)) for gradual in (False, True)]


def score_results(
    singles: list[Labelled], extra: list[Labelled], twins: list[Labelled], scores: dict[str, dict[str, Any]]
) -> list[Result]:
    """Of clips of one shot. extra: out of focus. twins: copies of other clips."""
    t = THRESHOLDS

    def counted(name: str, what: str, wanted: Callable[[Labelled], bool], got: Callable[[dict[str, Any]], bool],
                among: Iterable[Labelled] = singles) -> Result:  # fmt: skip
        rows = [(wanted(clip), got(scores[clip.name])) for clip in among]
        hit = sum(a and b for a, b in rows)
        return Result(name, what, sum(a for a, _ in rows), hit, sum(b and not a for a, b in rows), len(rows))

    results = [
        counted("motion", f"nothing moves: below {t['motion']}", lambda c: c.motion == "static",
                lambda s: s["motion"] < t["motion"]),
        counted("camera", f"the camera stands: below {t['camera']}", lambda c: c.motion in ("static", "object"),
                lambda s: s["camera"] < t["camera"]),
        counted("object", f"things move and the camera stands: above {t['object']}, camera below {t['camera']}",
                lambda c: c.motion == "object",
                lambda s: s["object"] > t["object"] and s["camera"] < t["camera"]),
    ]  # fmt: skip
    for kind in ("pan", "zoom", "orbit", "static", "object"):
        results.append(
            counted(
                f"kind {kind}", "named so", lambda c, k=kind: c.motion == k, lambda s, k=kind: s["kind"] == k
            )
        )
    results += [
        counted("text", f"more than {t['text']}", lambda c: c.text_area > SMALL_TEXT, lambda s: s["text"] > t["text"]),
        counted("sharpness", f"below {t['sharpness']}", lambda c: c.blurred,
                lambda s: s["sharpness"] < t["sharpness"], [*singles, *extra]),
    ]  # fmt: skip
    rows = {clip.name: scores[clip.name] for clip in [*singles, *twins]}
    pairs = {frozenset(pair) for pair in copies(rows, t["duplicates"]).items()}
    truth = {frozenset((twin.name, str(twin.copy_of))) for twin in twins}
    what = f"copies: {t['duplicates']} of the bits or less"
    results.append(Result("duplicates", what, len(truth), len(pairs & truth), len(pairs - truth), len(rows)))
    return results


def table(results: list[Result]) -> str:
    """As Markdown."""
    lines = [
        "| filter | what it should find | there are | of | precision | recall |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.name} | {r.what} | {r.positives} | {r.of} | {r.precision:.3f} | {r.recall:.3f} |"
        for r in results
    ]
    return "\n".join(lines)


def _covers(found: tuple[int, int], truth: tuple[int, int]) -> bool:
    shared = min(found[1], truth[1]) - max(found[0], truth[0])
    return shared * 2 >= truth[1] - truth[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Precision and recall of the filters of mv3d clips.")
    parser.add_argument(
        "--seed", type=int, default=2, help="seed of the clips; thresholds were chosen on 0 and 1"
    )
    parser.add_argument("--keep", type=Path, help="folder for the clips (default: a temporary one)")
    parser.add_argument("--quick", action="store_true", help="a sixth of the clips")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="JSON of the results")
    args = parser.parse_args()
    counts = {kind: max(1, count // 6) for kind, count in COUNTS.items()} if args.quick else None
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        results = measure(args.seed, args.keep or Path(scratch) / "clips", counts, workers=args.workers)
    seconds = round(time.perf_counter() - begun, 1)
    rows = [vars(r) | {"precision": r.precision, "recall": r.recall} for r in results]
    args.out.write_text(json.dumps({"seed": args.seed, "seconds": seconds, "results": rows}, indent=2) + "\n")
    print(table(results))
    print(f"\nseed {args.seed}, {seconds} s")


if __name__ == "__main__":
    main()
