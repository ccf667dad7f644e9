"""Files and folders that appear whole or not at all, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mv3d.core.errors import Mv3dError, OutputError
from mv3d.core.signals import uninterrupted

STAGING = ".mv3d-"
"""How the names of staging folders begin."""
_ASIDE = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(part|old)", re.DOTALL)
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def sha256(path: Path) -> str:
    """Hex digest of a file, or of a folder: its files in order, with their relative names."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if file != path:
            digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def to_json(document: Mapping[str, Any]) -> str:
    """Indented JSON with a final newline. Raises ValueError for NaN and infinity."""
    return json.dumps(document, indent=2, sort_keys=False, allow_nan=False) + "\n"


def remove(path: Path) -> None:
    """Delete a file, or a folder with its content. A link goes without what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace(source: Path, target: Path) -> None:
    """Move a file or a folder of the same disk to `target`; what stands there goes when the new one is in place."""
    if not target.is_dir() or target.is_symlink():
        os.replace(source, target)
        return
    old = source.with_name(_aside(target.name, "old"))
    with uninterrupted():
        os.replace(target, old)
        os.replace(source, target)
    shutil.rmtree(old)


def restore(folder: Path, names: Iterable[str]) -> None:
    """Put right what processes that were killed while they wrote files of these names left in a folder that nobody else
    writes now: what they had half-written goes, and what they had moved aside for a new one that never came is back."""
    known = set(names)
    for path in sorted(folder.glob(".*")):
        match = _ASIDE.fullmatch(path.name)
        if match is None or match[1] not in known:
            continue
        if match[2] == "old" and not os.path.lexists(folder / match[1]):
            os.replace(path, folder / match[1])
        else:
            remove(path)


def _aside(name: str, ending: str) -> str:
    """A free name that tells what becomes of it. File systems take names of 255 bytes, so of long ones the start."""
    kept = os.fsencode(name)[:200].decode("utf-8", "ignore")
    return f".{kept}.{uuid.uuid4().hex[:8]}.{ending}"


def _disk_error(error: Exception) -> str | None:
    """What the system said of a write that failed; None for other errors.

    Libraries have words of their own for it: safetensors ends with (os error 28), shutil.Error lists [Errno 28] for each
    file, and torch raises a RuntimeError while the file's own OSError is handled.
    """
    if isinstance(error, Mv3dError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror
    found = re.search(r"(?:os error |\[Errno )(\d+)", f"{error} {error.__context__}")
    number = int(found[1]) if found else 0
    return os.strerror(number) if number in _OF_DISKS else None


@contextmanager
def atomic_path(
    target: Path, *, scratch: Path | None = None, hint: str = "choose another --out"
) -> Iterator[Path]:
    """Yield a free path for a new file or folder, which replaces `target` when the block ends without an error.

    On an error nothing is left of it. scratch: a folder of the same disk for the unfinished file, by default that of
    `target`; its name ends in .part. Raises OutputError, with `hint` as the way out, for errors of the disk.
    """
    part = (scratch or target.parent) / _aside(target.name, "part")
    try:
        yield part
        replace(part, target)
    except Exception as error:
        if (reason := _disk_error(error)) is None:
            raise
        raise OutputError(f"{target}: cannot be written ({reason}); {hint}") from error
    finally:
        if os.path.lexists(part):
            remove(part)


def write_files(files: dict[Path, bytes]) -> None:
    """Write all files, then rename them in order: the last one appears when the others are there."""
    with ExitStack() as stack:
        for path, data in reversed(files.items()):
            stack.enter_context(atomic_path(path)).write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, as UTF-8. Raises OutputError where it cannot be written."""
    write_files({path: text.encode()})


@contextmanager
def staging(out_dir: Path) -> Iterator[Path]:
    """Yield a folder within `out_dir`, which is there, for unfinished results. It is always removed at the end.

    Raises OutputError at once where `out_dir` cannot be written, not after a minute of work.
    """
    folder = out_dir / f"{STAGING}{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(mode=0o700)
        (folder / "probe").write_bytes(b"\0" * 65536)
        (folder / "probe").unlink()
        yield folder
    except Exception as error:
        if (reason := _disk_error(error)) is None:
            raise
        raise OutputError(
            f"{out_dir}: cannot be written ({reason}); free some space or choose another --out"
        ) from error
    finally:
        with uninterrupted():
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, out_dir: Path, *, last: str) -> None:
    """Move the content of a staging folder to `out_dir`, the file `last` at the end."""
    for name in sorted((p.name for p in folder.iterdir()), key=lambda name: (name == last, name)):
        replace(folder / name, out_dir / name)
