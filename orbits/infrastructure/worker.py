"""The child's side of `mv3d.orbits.infrastructure.isolate`: python -m mv3d.orbits.infrastructure.worker FD.

Reads requests, does them one after the other, answers each with a JSON line and the result's bytes. It dies with its
parent, and its memory is limited: whatever a file does to it, the parent goes on.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from mv3d.core.errors import InputError, Mv3dError
from mv3d.orbits.sample import Sample

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Serve until the parent hangs up."""
    connection = Connection(int(sys.argv[1]))
    setup = pickle.loads(connection.recv_bytes())  # from our own parent, over a private socket
    _die_with_parent(setup["parent"])
    sys.path[:] = setup["path"]
    work = pickle.loads(setup["work"])
    _limit_memory(setup["memory_bytes"])
    connection.send_bytes(b"ready")
    while True:
        try:
            item, config = pickle.loads(connection.recv_bytes())
        except EOFError:
            return 0
        header, blob = _answer(work, item, config)
        connection.send_bytes(json.dumps(header).encode())
        if header["ok"]:
            connection.send_bytes(blob)


def _answer(work: Callable[[Any, Any], Sample], item: Any, config: Any) -> tuple[dict[str, Any], bytes]:
    try:
        sample = work(item, config)
        return {"ok": True, "summary": dict(sample.summary)}, sample.fragment
    except MemoryError:
        return {"ok": False, "reason": "memory", "detail": "ran into its memory limit"}, b""
    except InputError as error:
        return {"ok": False, "reason": "unreadable", "detail": str(error)}, b""
    except Mv3dError as error:
        reason = getattr(error, "reason", None)
        if reason is not None:
            return {"ok": False, "reason": reason, "detail": getattr(error, "detail", str(error))}, b""
        # A missing part or a wrong request is no fault of this object: the run ends with it.
        return {"ok": False, "fatal": type(error).__name__, "detail": str(error)}, b""
    except Exception as error:  # whatever a file can provoke; the report has it
        where = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
        return {"ok": False, "reason": "error", "detail": detail}, b""


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def _limit_memory(memory_bytes: int) -> None:
    """RLIMIT_DATA: private writable memory. The address space would also count libraries and mapped files."""
    import resource  # noqa: PLC0415 - POSIX only

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


if __name__ == "__main__":
    raise SystemExit(main())
