"""Runs inputs in child processes under limits, and says for every one how it ended, whatever it did to its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from fuzz.case import Outcome
from fuzz.targets import TARGETS

WALL_SECONDS = 120
"""Of one input; processor time has a closer limit (`worker.CPU_SECONDS`), so that a busy machine changes nothing."""
START_SECONDS = 600
"""For imports and the valid inputs, before the first input."""
WORKER = Path(__file__).with_name("worker.py")
_BATCH = 250


def plan(count: int, readers: Iterable[str] = tuple(TARGETS), *, first: int = 0) -> list[tuple[str, int]]:
    """(reader, number) of `count` inputs, in the readers' shares, at least one each."""
    readers = tuple(readers)
    total = sum(TARGETS[name].share for name in readers)
    exact = {name: count * TARGETS[name].share / total for name in readers}
    counts = dict.fromkeys(readers, 1)
    while sum(counts.values()) < count:  # the next one to whom most is missing
        counts[max(readers, key=lambda name: exact[name] - counts[name])] += 1
    return [(name, first + number) for name in readers for number in range(counts[name])]


def run(
    jobs: list[tuple[str, int]],
    work: Path,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Outcome]:
    """The outcomes, in the order of the jobs. work: a folder of its own, in which the inputs of findings are left."""
    work.mkdir(parents=True, exist_ok=True)
    outcomes: dict[tuple[str, int], Outcome] = {}
    left = list(jobs)
    while left:
        _one_child(left[:_BATCH], work, seed, outcomes, progress, len(jobs))
        left = [job for job in left if job not in outcomes]
    return [outcomes[job] for job in jobs]


def _one_child(
    batch: list[tuple[str, int]],
    work: Path,
    seed: int,
    outcomes: dict[tuple[str, int], Outcome],
    progress: Callable[[int, int], None],
    total: int,
) -> None:
    """One process until it is done or dead; a dead one is the outcome of the input that it was at."""
    results, current = work / "outcomes.jsonl", work / "current"
    for path in (results, current):
        path.unlink(missing_ok=True)
    outside = work / "elsewhere"
    outside.mkdir(exist_ok=True)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "TMPDIR": str(outside), "HOME": str(outside), "XDG_CACHE_HOME": str(outside),
        "HF_HUB_OFFLINE": "1", "PYTHONFAULTHANDLER": "1",
    }  # fmt: skip
    log = (work / "log.txt").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-B", str(WORKER), str(work / "seeds"), str(work), str(seed)],
        stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, cwd=work, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write("".join(f"{name} {number}\n" for name, number in batch))
    process.stdin.close()
    done, since, killed = -1, time.monotonic(), False
    while process.poll() is None:
        time.sleep(0.05)
        lines = results.read_bytes().count(b"\n") if results.exists() else -1
        if lines != done:
            done, since = lines, time.monotonic()
            progress(len(outcomes) + max(lines, 0), total)
        if time.monotonic() - since > (WALL_SECONDS if current.exists() else START_SECONDS):
            process.kill()
            killed = True
    log.close()
    for line in results.read_text(encoding="utf-8").splitlines() if results.exists() else ():
        outcome = Outcome(**json.loads(line))
        outcomes[outcome.reader, outcome.number] = outcome
    if process.returncode == 0 and not killed:
        return
    reader, number = current.read_text().split() if current.exists() else ("", "0")
    failed_itself = process.returncode == 1 and not killed  # an exception beside the reader
    if failed_itself or not reader or (reader, int(number)) in outcomes:
        raise RuntimeError(
            f"the child failed outside of any input ({process.returncode}); see {work / 'log.txt'}"
        )
    kind = "hang" if killed or process.returncode == -signal.SIGXCPU else "death"
    outcomes[reader, int(number)] = Outcome(reader, int(number), kind, f"exit {process.returncode}")


def table(outcomes: Iterable[Outcome]) -> str:
    """Outcomes by reader, as Markdown."""
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        kind = "finding" if outcome.finding else outcome.kind
        counts.setdefault(outcome.reader, Counter()).update([kind, "inputs"])
    rows = ["| reader | inputs | value | refused | findings |", "|---|---|---|---|---|"]
    everything: Counter[str] = sum(counts.values(), Counter())
    for name, count in [*counts.items(), ("**all**", everything)]:
        rows.append(
            f"| {name} | {count['inputs']} | {count['value']} | {count['refused']} | {count['finding']} |"
        )
    return "\n".join(rows)
