"""Where every process of a run stands, so that one which hangs is found and named, and the launcher can start anew.

A process that hangs, in a reader, on a dead disk or in a driver, makes all others wait in a collective for ever: the
launcher sees processes that live. Each process therefore tells by a small file how many phases it has begun; the one
that is behind when nothing moves any more is the one to look at.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

FOLDER = ".heartbeats"
HUNG_CODE = 75
"""Exit code of a run that ended itself because a process stood still (EX_TEMPFAIL: trying again may help)."""

DATA = "waiting for data"
GRADIENTS = "computing gradients"
WEIGHTS = "changing weights"
SAVING = "saving a checkpoint"
VALIDATION = "validating"
"""May take as long as it takes: the main process samples views, the others wait."""


@dataclass(frozen=True)
class Beat:
    """Where one process stands."""

    rank: int
    host: str
    pid: int
    count: int
    """Phases begun. Processes go through the same ones in the same order, so the least count is behind."""
    step: int
    phase: str
    standing_s: float
    """Seconds in this phase, by the process' own clock."""

    def __str__(self) -> str:
        return f"rank {self.rank} ({self.host}, pid {self.pid}) at step {self.step}, {self.phase}"


def behind(beats: Iterable[Beat], hang_after_s: float) -> list[Beat]:
    """The processes that the others wait for; none while one of them moves, or validates.

    Nothing moves where every process has stood for longer than `hang_after_s` seconds.
    """
    beats = list(beats)
    if not beats or any(b.standing_s < hang_after_s or b.phase == VALIDATION for b in beats):
        return []
    least = min(beat.count for beat in beats)
    return [beat for beat in beats if beat.count == least]


class Heartbeat:
    """Tells where this process stands, and ends it where the run hangs. A context; the thread lives within it.

    folder: of the run, which all processes see. hang_after_s: 0 for never. end, tell: are called with the exit
    code and with a line for people.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        processes: int,
        hang_after_s: float,
        *,
        end: Callable[[int], object] = os._exit,
        tell: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        self._folder, self._rank, self._processes = folder / FOLDER, rank, processes
        self._hang_after_s, self._end, self._say = hang_after_s, end, tell
        self._place = (
            0,
            0,
            DATA,
            time.monotonic(),
        )  # one tuple: another thread reads it while this one goes on
        self._seen: dict[int, tuple[str, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def stands(self, step: int, phase: str) -> None:
        """This process begins a phase of a step."""
        self._place = (self._place[0] + 1, step, phase, time.monotonic())

    def __enter__(self) -> Heartbeat:
        if self._processes > 1 and self._hang_after_s > 0:
            self._folder.mkdir(exist_ok=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._path(self._rank).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others are still in it
                self._folder.rmdir()

    def beat(self) -> Beat:
        """Where this process stands now."""
        count, step, phase, since = self._place
        standing_s = time.monotonic() - since
        return Beat(self._rank, socket.gethostname(), os.getpid(), count, step, phase, standing_s)

    def hung(self) -> list[Beat]:
        """The processes that the others wait for, by what all have told. A process that has told nothing yet, or
        finished, is no reason."""
        beats = [
            self.beat(),
            *(beat for r in range(self._processes) if r != self._rank and (beat := self._read(r))),
        ]
        return behind(beats, self._hang_after_s) if len(beats) == self._processes else []

    def _watch(self) -> None:
        while not self._over.wait(min(max(self._hang_after_s / 8, 0.05), 10.0)):
            try:
                self._tell()
            except (
                OSError
            ):  # a disk that is full or gone for a while ends nothing; the step that writes will say so
                continue
            found = self.hung()
            if found and not self._over.is_set():
                # One line: of the main process, or where that is the one that hangs, of the next.
                if self._rank == min({0, 1} - {found[0].rank}):
                    self._say(f"mv3d: {_explained(found, self._processes)}\n")
                self._end(HUNG_CODE)
                return

    def _tell(self) -> None:
        path = self._path(self._rank)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self.beat())), encoding="utf-8")
        os.replace(part, path)

    def _read(self, rank: int) -> Beat | None:
        """What a process told last. Its standing time goes on where the process tells nothing any more."""
        try:
            text = self._path(rank).read_text(encoding="utf-8")
            beat = Beat(**json.loads(text))
        except (OSError, ValueError, TypeError):
            return None
        now = time.monotonic()
        before, since = self._seen.get(rank, ("", now))
        if text != before:
            since = now
        self._seen[rank] = (text, since)
        return replace(beat, standing_s=beat.standing_s + now - since)

    def _path(self, rank: int) -> Path:
        return self._folder / f"{rank}.json"


def _explained(found: list[Beat], processes: int) -> str:
    named = "; ".join(str(beat) for beat in found[:4]) + ("; …" if len(found) > 4 else "")
    waiting = "none goes on" if len(found) == processes else "the others wait for it"
    return (
        f"nothing has moved for {min(b.standing_s for b in found):.0f} s: {named}; {waiting}. Ended with code {HUNG_CODE}; "
        "the last checkpoint is kept, and the same command goes on from it"
    )
