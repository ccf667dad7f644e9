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
_EARLIER = f"{STAGING}earlier-"
_MOVES = "moves.mv3d"
"""In a staging folder whose content is whole: what has to be moved. Until then the folder is scratch."""
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


def put_right(folder: Path, names: Iterable[str] = ()) -> None:
    """Put right what processes that were killed left in a folder that nobody else writes now: results that were whole go
    to their places, earlier files that were being removed are back, scratch goes. names: see `restore`."""
    for left in sorted(folder.glob(f"{STAGING}*")):
        if left.name.startswith(_EARLIER):
            _put_back(left, folder)
        elif (left / _MOVES).is_file():
            _finish_moves(left, folder)
        remove(left)
    restore(folder, names)


def is_cut_off(folder: Path) -> bool:
    """Whether a process moves, or was killed while it moved, files of this folder as `publish` and `discard` do."""
    return os.path.isdir(folder) and any(
        left.name.startswith(_EARLIER) or (left / _MOVES).is_file() for left in folder.glob(f"{STAGING}*")
    )


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
            if not (folder / _MOVES).exists():  # else the next run goes on with them
                shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, out_dir: Path, *, last: str, stale: Iterable[str] = ()) -> None:
    """Move the content of a staging folder of `out_dir` there, the file `last` at the end, and remove `stale` from it.

    Once this has begun it is done: where the process dies in between, `put_right` goes on.
    """
    names = sorted((p.name for p in folder.iterdir()), key=lambda name: (name == last, name))
    write_text(folder / _MOVES, to_json({"names": names, "stale": list(stale)}))
    with uninterrupted():
        _finish_moves(folder, out_dir)


def _finish_moves(folder: Path, out_dir: Path) -> None:
    moves = json.loads((folder / _MOVES).read_text(encoding="utf-8"))
    names, stale = ([n for n in moves[key] if Path(n).name == n] for key in ("names", "stale"))
    left = [name for name in names if os.path.lexists(folder / name)]
    for name in stale if left else ():
        if os.path.lexists(out_dir / name):
            os.replace(out_dir / name, folder / _aside(name, "old"))
    for name in left:
        replace(folder / name, out_dir / name)
    (folder / _MOVES).unlink()


def discard(folder: Path, names: Iterable[str]) -> None:
    """Remove files and folders below `folder`, where they are there, all of them or none: where the process dies in
    between, `put_right` puts them back."""
    there = [name for name in names if os.path.lexists(folder / name)]
    if not there:
        return
    mark = uuid.uuid4().hex[:8]
    aside, gone = folder / f"{_EARLIER}{mark}", folder / f"{STAGING}{mark}"
    with uninterrupted():
        aside.mkdir()
        try:
            for name in there:
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / name, aside / name)
        except OSError:
            _put_back(aside, folder)
            raise
        os.replace(aside, gone)
        shutil.rmtree(gone)


def _put_back(aside: Path, folder: Path) -> None:
    for path in sorted(aside.rglob("*")):
        place = folder / path.relative_to(aside)
        if (path.is_symlink() or not path.is_dir()) and not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
    remove(aside)
