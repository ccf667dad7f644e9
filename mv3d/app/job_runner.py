"""The queue at work: one job at a time on each device, each in a process of its own."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mv3d.app.job import Job
from mv3d.app.job_store import LOG, JobStore
from mv3d.core.errors import OutputError, UsageError, shown

COMMAND = (sys.executable, "-m", "mv3d.app.job_process")
_IDLE_S = 0.2
_DRAIN_S = 2.0


class EndedError(UsageError):
    """A job that has ended cannot be cancelled."""


@dataclass
class _Running:
    job_id: str
    process: subprocess.Popen[bytes]
    stopped: str = ""
    """Why the process was told to end: "cancelled", or "closed" with the server."""
    error: str | None = None


class JobRunner:
    """Runs the queued jobs of a store between `start` and `close`.

    command: of a job's process, which runs in the folder of the job and speaks as `mv3d.app.job_process`.
    grace_s: from SIGTERM to SIGKILL.
    """

    def __init__(self, store: JobStore, command: Sequence[str] = COMMAND, *, grace_s: float = 5.0) -> None:
        self.store, self._command, self._grace_s = store, tuple(command), grace_s
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._lanes: dict[str, threading.Thread] = {}
        self._running: dict[str, _Running] = {}
        self._closed = True

    def start(self) -> None:
        """Begin with what is queued."""
        self._closed = False
        for job in self.store.all():
            if job.state == "queued":
                self.attend(job.device)

    def attend(self, device: str) -> None:
        """A new job waits for this device."""
        with self._lock:
            if not self._closed and device not in self._lanes:
                name = f"mv3d jobs on {device}"
                self._lanes[device] = threading.Thread(
                    target=self._work, args=(device,), name=name, daemon=True
                )
                self._lanes[device].start()
        self._wake.set()

    def cancel(self, job_id: str) -> Job:
        """Take a job out of the queue, or tell its process to end; the job as it is now.

        Raises NoSuchJobError, and EndedError for one that is done or has failed.
        """
        with self._lock:
            running = self._running.get(job_id)
            if running is None:
                job = self.store.change(job_id, only=("queued",), state="cancelled", ended=time.time())
                if job.state in ("done", "failed"):
                    raise EndedError(
                        f"expected a job that waits or runs, got one that is {job.state}; its files stay"
                    )
                return job
            first, running.stopped = not running.stopped, running.stopped or "cancelled"
        if first:
            threading.Thread(target=self._stop, args=(running.process,), daemon=True).start()
        return self.store.change(job_id, only=("running",), stage="cancelling")

    def close(self) -> None:
        """End every process and wait for that. Jobs that ran are queued again, for the next server."""
        with self._lock:
            self._closed = True
            for running in self._running.values():
                running.stopped = running.stopped or "closed"
                threading.Thread(target=self._stop, args=(running.process,), daemon=True).start()
            lanes = list(self._lanes.values())
        self._wake.set()
        for lane in lanes:
            lane.join()
        self._lanes.clear()

    def _work(self, device: str) -> None:
        while not self._closed:
            job = self.store.waiting(device)
            if job is None:
                self._wake.wait(_IDLE_S)
                self._wake.clear()
                continue
            try:
                self._run(job)
            except (OutputError, OSError) as error:  # a full disk, a folder that is gone: others may yet run
                self._fail(job.id, str(error))

    def _fail(self, job_id: str, text: str) -> None:
        try:
            self.store.change(
                job_id, only=("queued", "running"), state="failed", error=text, ended=time.time()
            )
        except OutputError:
            time.sleep(_IDLE_S)  # it stands in memory, and nothing more can be done about it

    def _run(self, job: Job) -> None:
        folder = self.store.path(job.id)
        with self._lock:  # from here on `cancel` and `close` find the process
            if self._closed or self.store.get(job.id).state != "queued":
                return
            self.store.change(
                job.id, state="running", stage="start", progress=0.0, error=None, warnings=(),
                started=time.time(), starts=job.starts + 1,
            )  # fmt: skip
            try:
                process = _started(self._command, folder)
            except OSError as error:
                text = f"the job's process could not be started ({error.strerror})"
                self.store.change(job.id, state="failed", error=text, ended=time.time())
                return
            running = self._running[job.id] = _Running(job.id, process)
        reader = threading.Thread(target=self._listen, args=(running, process.stdout), daemon=True)
        reader.start()
        code = process.wait()
        _signal(process, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)  # what it has left behind
        reader.join(_DRAIN_S)
        assert process.stdin is not None, "a pipe"
        process.stdin.close()
        with self._lock:
            del self._running[job.id]
            self._end(running, code)
            self.store.tidy(job.id)

    def _end(self, running: _Running, code: int) -> None:
        job_id, ended = running.job_id, time.time()
        if code == 0:
            self.store.change(job_id, state="done", stage="", progress=1.0, ended=ended)
        elif running.stopped == "closed":
            starts = self.store.get(job_id).starts - 1
            self.store.change(job_id, state="queued", stage="", progress=0.0, starts=starts)
        elif running.stopped == "cancelled":
            self.store.change(job_id, state="cancelled", stage="", ended=ended)
        else:
            error = running.error or _how_it_ended(code, self.store.path(job_id) / LOG)
            self.store.change(job_id, state="failed", error=error, ended=ended)

    def _listen(self, running: _Running, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                told = json.loads(line)
            except ValueError:
                continue  # cut off by the end of the process
            if not isinstance(told, dict):
                continue
            values: dict[str, Any] = {}
            if isinstance(told.get("error"), str):
                running.error = told["error"]
            if isinstance(told.get("stage"), str) and not running.stopped:
                values["stage"] = told["stage"]
            share = told.get("progress")
            if isinstance(share, int | float) and math.isfinite(share):
                values["progress"] = min(max(float(share), 0.0), 1.0)
            if isinstance(told.get("warnings"), list):
                values["warnings"] = tuple(map(str, told["warnings"]))
            try:
                self.store.change(running.job_id, only=("running",), **values)
            except OutputError:
                continue  # the process itself fails of a full disk, and says so

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is None:
            _signal(process, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)


def resolved_device(name: str) -> str:
    """The device that a job with this setting waits for. Loads torch. Raises UsageError for one that is not there."""
    from mv3d.core.devices import pick_device  # noqa: PLC0415 - loads torch

    device = pick_device(name)
    return f"cuda:{device.index or 0}" if device.type == "cuda" else "cpu"


Resolve = Callable[[str], str]


def _started(command: tuple[str, ...], folder: Path) -> subprocess.Popen[bytes]:
    """In a session of its own: a signal reaches it with its children, and the server's Ctrl-C does not."""
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        if os.name == "nt":
            process.terminate()
        else:
            os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # it has ended


def _how_it_ended(code: int, log: Path) -> str:
    """The sentence for a process that ended without one."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = "; memory may have run out: choose a lower quality" if name == "SIGKILL" else ""
        return f"the job's process was ended by {name}{hint}, or send the job again"
    lines = log.read_bytes()[-4000:].decode("utf-8", "replace").strip().splitlines() if log.exists() else []
    last = shown(lines[-1], 200) if lines else "it said nothing"
    return f"the job's process ended with exit code {code} ({last}); the folder of the job holds its {LOG}"
