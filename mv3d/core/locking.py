"""One process at a time in a folder. The lock dies with its process, however that ends."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from mv3d.core.errors import OutputError
from mv3d.core.files import is_cut_off, put_right
from mv3d.core.signals import uninterrupted

LOCK_NAME = ".mv3d.lock"
_FAR = 1 << 30  # Windows locks bytes, and a locked byte cannot be read: the pid must stay readable
_PATIENCE_S = 10.0  # moves of renamed files take milliseconds


class _HeldError(OutputError):
    """Another process holds the lock."""


@contextmanager
def folder_lock(folder: Path, names: Iterable[str] = ()) -> Iterator[None]:
    """Hold the lock of a folder, which is made where it is absent. What killed runs left in it is put right.

    names: of files and folders in it that the run writes whole or not at all.

    Raises OutputError where another process holds the lock, with its pid, and where the folder cannot be written.
    Warns of a file system without locks, and goes on.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path, stream = folder / LOCK_NAME, None
    try:
        try:
            with uninterrupted():
                folder.mkdir(parents=True, exist_ok=True)
                stream = _locked(path)
                put_right(folder, names)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be written ({error.strerror}); choose another --out"
            ) from error
        yield
    finally:
        with uninterrupted():
            if stream is not None:
                with suppress(OSError):  # Windows removes no open file; one that stays keeps nobody out
                    path.unlink()  # before it is free: the next process makes a file of its own
                stream.close()
            with suppress(OSError):  # what is not empty stays
                for each in made:
                    each.rmdir()


def mend(*folders: Path) -> None:
    """Before results are read: put right what a process left that was killed while it moved some in one of these folders.

    Waits for a process that moves them now. Raises OutputError as `folder_lock` does.
    """
    for folder in folders:
        until = time.monotonic() + _PATIENCE_S
        while is_cut_off(folder):
            try:
                with folder_lock(folder):
                    break
            except _HeldError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)


def _locked(path: Path) -> FileIO:
    """The open lock file with our pid in it."""
    while True:
        stream = path.open("ab", buffering=0)
        try:
            _lock(stream.fileno())
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                stream.close()
                pid = path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
                raise _HeldError(
                    f"{path.parent}: another mv3d process (pid {pid or 'unknown'}) is writing here; "
                    "wait for it or choose another --out"
                ) from error
            warnings.warn(f"{path.parent}: a file system without locks ({error.strerror})", stacklevel=4)
        if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            stream.truncate(0)
            stream.write(f"{os.getpid()}\n".encode())
            return stream
        stream.close()  # its holder removed it after we opened it


def _lock(descriptor: int) -> None:
    try:
        import fcntl  # noqa: PLC0415 - POSIX only
    except ImportError:
        import msvcrt  # noqa: PLC0415 - Windows only

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
