"""Work in child processes with limits of time and memory, so that a poisonous file costs one line.

A child is warm: it serves one object after the other, and is replaced after a fault and after every
`recycle_after` objects. What a fault in a child that had served before says is not believed: the object gets one more
try in a fresh child, so that the outcome depends on the object alone.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, Self

from mv3d.core import errors
from mv3d.core.errors import Mv3dError, UsageError
from mv3d.orbits.sample import Outcome, Reject, Sample

_START_SECONDS = 120.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Limits:
    """What one object may cost."""

    timeout_s: float = 300.0
    """Longest time for one object, seconds."""
    memory_mb: int = 4096
    """Most memory for one object, MB: a child's private memory."""
    recycle_after: int = 64
    """Objects after which a child is replaced."""

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise UsageError(f"--timeout-s: expected more than 0 seconds, got {self.timeout_s}")
        if self.memory_mb < 256:
            raise UsageError(f"--memory-mb: expected at least 256, got {self.memory_mb}")
        if self.recycle_after < 1:
            raise UsageError(f"recycle_after: expected at least 1, got {self.recycle_after}")


class Item(Protocol):
    """Whatever is worked on has a name."""

    @property
    def uid(self) -> str: ...


Work = Callable[[Any, Any], Sample]
"""(item, config) → sample: a function of a module that the child can import."""


class Pool(Protocol):
    """Objects in, outcomes out, in whatever order they are done. As a context it closes at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def capacity(self) -> int:
        """How many more objects it takes now."""
        ...

    def submit(self, position: int, item: Item) -> None: ...

    def results(self) -> list[tuple[int, Outcome]]:
        """Waits for at least one outcome."""
        ...

    def close(self) -> None: ...


class LocalPool(Pool):
    """Children on this machine."""

    def __init__(self, work: Work, config: Any, *, workers: int, limits: Limits) -> None:
        self._children = [IsolatedWorker(work, config, limits) for _ in range(workers)]
        self._positions: dict[int, int] = {}

    def capacity(self) -> int:
        return len(self._children) - len(self._positions)

    def submit(self, position: int, item: Item) -> None:
        index = next(i for i in range(len(self._children)) if i not in self._positions)
        self._positions[index] = position
        self._children[index].begin(item)

    def results(self) -> list[tuple[int, Outcome]]:
        done: list[tuple[int, Outcome]] = []
        while not done and self._positions:
            busy = {index: self._children[index] for index in self._positions}
            nearest = min(child.deadline for child in busy.values())
            ready = wait([child.connection for child in busy.values()], max(0.0, nearest - time.monotonic()))
            for index, child in busy.items():
                if child.connection in ready or time.monotonic() >= child.deadline:
                    outcome = child.advance()
                    if outcome is not None:
                        done.append((self._positions.pop(index), outcome))
        return done

    def close(self) -> None:
        for child in self._children:
            child.stop()


class IsolatedWorker:
    """One child, started when first needed."""

    def __init__(self, work: Work, config: Any, limits: Limits) -> None:
        self._work, self._config, self._limits = pickle.dumps(work), config, limits
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None
        self._begun = 0
        self._ready = False
        self._item: Item | None = None
        self.connection: Connection
        self.deadline = 0.0

    def run(self, item: Item) -> Outcome:
        """Begin and wait."""
        self.begin(item)
        while True:
            self.connection.poll(max(0.0, self.deadline - time.monotonic()))
            outcome = self.advance()
            if outcome is not None:
                return outcome

    def begin(self, item: Item) -> None:
        """Hand an object over; `advance` gives its outcome later."""
        self._item = item
        if self._begun >= self._limits.recycle_after:
            self.stop()
        if self._process is None:
            self._start()
        else:
            self._send()

    def advance(self) -> Outcome | None:
        """To be called when the connection is ready or the deadline is over; the outcome, where there is one now."""
        assert self._item is not None, "advance: nothing was begun"
        try:
            if not self.connection.poll(0):
                return None if time.monotonic() < self.deadline else self._late()
            if not self._ready:
                self.connection.recv_bytes()
                self._ready = True
                self._send()
                return None
            header = json.loads(self.connection.recv_bytes())
            blob = self.connection.recv_bytes() if header["ok"] else b""
        except (EOFError, OSError):
            return self._dead()
        return self._finish(header, blob)

    def stop(self) -> None:
        """End the child and whatever it started."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self.connection.close()
        self._errors.close()
        self._process, self._begun, self._ready = None, 0, False

    def _taken_back(self) -> Item:
        item, self._item = self._item, None
        assert item is not None
        return item

    def _finish(self, header: Mapping[str, Any], blob: bytes) -> Outcome | None:
        item = self._taken_back()
        if header["ok"]:
            return Sample(blob, header["summary"])
        if "fatal" in header:
            self.stop()
            raise getattr(errors, header["fatal"], Mv3dError)(header["detail"])
        if header["reason"] == "memory":
            return self._again_or(item, Reject(item.uid, "memory", self._memory_detail()))
        return Reject(item.uid, header["reason"], _one_line(header["detail"]))

    def _late(self) -> Outcome | None:
        if not self._ready:
            self._fail_to_start(f"not ready after {_START_SECONDS:.0f} s")
        item = self._taken_back()
        self.stop()  # no second try: that would double the time that such files cost
        return Reject(item.uid, "timeout", f"not done after {self._limits.timeout_s:g} s")

    def _dead(self) -> Outcome | None:
        assert self._process is not None
        code = self._process.wait()
        if not self._ready:
            self._fail_to_start(f"ended with code {code}")
        item = self._taken_back()
        said = self._stderr_tail()
        if code == -signal.SIGKILL:
            reject = Reject(item.uid, "memory", "killed, by the system for want of memory or by someone")
        elif "bad_alloc" in said or "MemoryError" in said:
            reject = Reject(item.uid, "memory", self._memory_detail())
        else:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            reject = Reject(item.uid, "crash", _one_line(f"the process died: {how}{said and ': ' + said}"))
        return self._again_or(item, reject)

    def _again_or(self, item: Item, reject: Reject) -> Outcome | None:
        """A fresh child tries again, unless this one was fresh."""
        fresh = self._begun <= 1
        self.stop()
        if fresh:
            return reject
        self.begin(item)
        return None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}
            self._errors = tempfile.TemporaryFile()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mv3d.orbits.infrastructure.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                env=environment,
                start_new_session=True,  # what it starts itself ends with it, and Ctrl-C is ours to handle
            )
        self.connection = Connection(ours.detach())
        setup = {
            "work": self._work,
            "path": sys.path,
            "parent": os.getpid(),
            "memory_bytes": self._limits.memory_mb * 2**20,
        }
        self.connection.send_bytes(pickle.dumps(setup))
        self.deadline = time.monotonic() + _START_SECONDS

    def _send(self) -> None:
        self.deadline = time.monotonic() + self._limits.timeout_s
        self._begun += 1
        try:
            self.connection.send_bytes(pickle.dumps((self._item, self._config)))
        except OSError:
            pass  # it died while idle: the next look at the connection says so

    def _fail_to_start(self, what: str) -> None:
        said = self._stderr_tail()
        self.stop()
        raise Mv3dError(_one_line(f"a worker process cannot start: {what}{said and ': ' + said}"))

    def _memory_detail(self) -> str:
        return f"more than {self._limits.memory_mb} MB"

    def _stderr_tail(self) -> str:
        end = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, end - 4000))
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
