"""The jobs of a server as folders on disk: STORE/ID holds job.json, the upload, named by its kind, and out/."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mv3d.app.job import ENDED, Job, Kind, read_job, write_job
from mv3d.core.errors import InputError
from mv3d.core.files import STAGING, remove, staging

OUT = "out"
CUTOUT = "cutout.png"
PREVIEWS = "previews"
"""Folder of the views as they come, on white, until they are all there and cut out."""
LOG = "log.txt"
MOST_STARTS = 2
"""A job whose process was started so often when the server ended is not started again."""
_ID = re.compile(r"[0-9a-f]{32}\Z")


class NoSuchJobError(InputError):
    """No job has this id."""


class JobStore:
    """All jobs, by id. Safe for threads: what it gives are values, and `change` is the one way to make new ones.

    The folder is to be held with `folder_lock` as long as the store is in use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}

    def load(self) -> None:
        """Find the jobs of earlier servers. One that was running is queued again, at most MOST_STARTS times in all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            job = read_job(path) if _ID.match(path.name) and not path.is_symlink() else None
            if job is None:
                continue
            self._jobs[job.id] = job
            if job.state == "running" and job.starts < MOST_STARTS:
                self.change(job.id, state="queued", stage="", progress=0.0)
            elif job.state == "running":
                text = f"the server ended {job.starts} times while this job ran; send it again, or with less to do"
                self.change(job.id, state="failed", error=text, ended=time.time())

    def add(
        self, kind: Kind, settings: dict[str, Any], title: str, device: str, fill: Callable[[Path], None]
    ) -> Job:
        """A new job in the queue. fill: writes the upload into the folder it is given.

        The folder appears whole, or where `fill` raises not at all. Raises OutputError for errors of the disk.
        """
        job = Job(secrets.token_hex(16), kind, time.time(), settings, title, device)
        with staging(self.folder) as staged:
            fill(staged)
            write_job(staged, job)
            staged.rename(self.folder / job.id)
        with self._lock:
            self._jobs[job.id] = job
        return job

    def get(self, job_id: str) -> Job:
        """Raises NoSuchJobError."""
        with self._lock:
            if job_id not in self._jobs:
                raise NoSuchJobError("expected the id of a job, found none of that id")
            return self._jobs[job_id]

    def all(self) -> list[Job]:
        """The newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: (-job.created, job.id))

    def waiting(self, device: str) -> Job | None:
        """The job whose turn is next on a device."""
        with self._lock:
            queued = (job for job in self._jobs.values() if job.state == "queued" and job.device == device)
            return min(queued, key=lambda job: (job.created, job.id), default=None)

    def change(self, job_id: str, *, only: tuple[str, ...] = (), **values: Any) -> Job:
        """The job with other values, on disk too where more than the progress differs.

        only: states in which it changes; in another one it stays as it is. Raises NoSuchJobError, OutputError.
        """
        with self._lock:
            if job_id not in self._jobs:
                raise NoSuchJobError("expected the id of a job, found none of that id")
            before = self._jobs[job_id]
            if only and before.state not in only:
                return before
            job = replace(before, **values)
            self._jobs[job_id] = job  # first: a full disk must not hide that a job has ended
            if replace(job, progress=before.progress) != before:
                write_job(self.path(job_id), job)
            return job

    def path(self, job_id: str) -> Path:
        """The folder of a job of this store."""
        return self.folder / job_id

    def files(self, job_id: str) -> dict[str, Path]:
        """What a job has made so far, by name: `mesh.glb`, `images/000.png`, and while the views are being made
        `previews/000.png`. Raises NoSuchJobError."""
        self.get(job_id)
        home = self.path(job_id)
        found = {CUTOUT: home / CUTOUT} if (home / CUTOUT).is_file() else {}
        for path in sorted((home / PREVIEWS).glob("*.png")):
            if not path.name.startswith("."):
                found[f"{PREVIEWS}/{path.name}"] = path
        for path in sorted((home / OUT).glob("*")) + sorted((home / OUT).glob("*/*")):
            name = path.relative_to(home / OUT)
            hidden = any(part.startswith(".") for part in name.parts)
            if not hidden and path.is_file() and not path.is_symlink():
                found[name.as_posix()] = path
        return found

    def tidy(self, job_id: str) -> None:
        """Remove what an ended process left unfinished."""
        if (self.path(job_id) / PREVIEWS).exists():
            remove(self.path(job_id) / PREVIEWS)
        for path in (self.path(job_id) / OUT).glob(f"{STAGING}*"):
            remove(path)

    def queued(self) -> int:
        """Number of jobs that wait."""
        with self._lock:
            return sum(job.state == "queued" for job in self._jobs.values())

    def has_ended(self, job_id: str) -> bool:
        """Raises NoSuchJobError."""
        return self.get(job_id).state in ENDED
