"""Many machines: the same work per object as Ray tasks. Ray is an optional part."""

from __future__ import annotations

import logging
import pickle
import socket
from functools import lru_cache
from typing import Any

from mv3d.core.errors import MissingPartError, Mv3dError
from mv3d.core.installing import install_command
from mv3d.orbits.infrastructure.isolate import IsolatedWorker, Item, Limits, Pool, Work
from mv3d.orbits.sample import Outcome

LOCAL = "local"
_RETRIES = 3  # of a task whose machine was lost


class RayPool(Pool):
    """Objects as Ray tasks, one CPU each. Every Ray worker keeps a child process of its own, with the limits of
    `mv3d.orbits.infrastructure.isolate`; results come back through Ray, so only the driver writes files. The object files and mv3d
    have to be in the same place on every machine.

    workers: objects at a time; for an existing cluster at least as many as it has CPUs.
    """

    def __init__(self, work: Work, config: Any, *, workers: int, limits: Limits, address: str) -> None:
        try:
            import ray  # noqa: PLC0415 - an optional part
            from ray import exceptions  # noqa: PLC0415
        except ImportError as error:
            raise MissingPartError(f"Ray is not installed; run: {install_command('ray')}") from error
        self._ray, self._exceptions = ray, exceptions
        self._mine = not ray.is_initialized()
        if self._mine:
            _check_address(address)
            cluster: dict[str, Any] = {"num_cpus": workers} if address == LOCAL else {"address": address}
            try:
                ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False, **cluster)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise Mv3dError(f"--ray {address}: no cluster answers there ({error})") from error
        self._slots = max(workers, int(ray.cluster_resources().get("CPU", 1)))
        self._task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_run)
        self._shared = ray.put(pickle.dumps((work, config, limits)))
        self._flying: dict[Any, int] = {}

    def capacity(self) -> int:
        return self._slots - len(self._flying)

    def submit(self, position: int, item: Item) -> None:
        self._flying[self._task.remote(item, self._shared)] = position

    def results(self) -> list[tuple[int, Outcome]]:
        ready, _ = self._ray.wait(list(self._flying), num_returns=1)
        done: list[tuple[int, Outcome]] = []
        for reference in ready:
            try:
                outcome = self._ray.get(reference)
            except self._exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                raise cause if isinstance(cause, Mv3dError) else error from None
            except self._exceptions.RayError as error:
                raise Mv3dError(
                    f"Ray lost a task {_RETRIES + 1} times ({type(error).__name__}); look after the cluster and run "
                    "the same command again, it goes on from here"
                ) from error
            done.append((self._flying.pop(reference), outcome))
        return done

    def close(self) -> None:
        for reference in self._flying:
            self._ray.cancel(reference, force=True)
        self._flying = {}
        if self._mine:
            self._ray.shutdown()


def _check_address(address: str) -> None:
    """Ray itself waits for minutes where nobody answers."""
    host, _, port = address.partition(":")
    if not port.isdigit():  # local, auto, ray://…
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise Mv3dError(f"--ray {address}: no cluster answers there ({error})") from error


def _run(item: Any, shared: bytes) -> Outcome:
    return _worker(shared).run(item)


@lru_cache(maxsize=1)
def _worker(shared: bytes) -> IsolatedWorker:
    """The child of this Ray worker; it dies with it."""
    work, config, limits = pickle.loads(shared)
    return IsolatedWorker(work, config, limits)
