"""Uploads as files of a job: bounded before anything is decoded, under names of our own."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mv3d.core.errors import InputError, Mv3dError, shown
from mv3d.views.folder import SOLID_FILE
from mv3d.views.images import (
    ANIMATION_SUFFIXES,
    MAX_FRAMES,
    MAX_TOTAL_PIXELS,
    check_size,
    image_suffixes,
    stored_size,
)
from mv3d.views.transforms import TRANSFORMS

RECORD = "run.json"
"""Of views; it says that `prior.glb` is the solid of these very views."""
MAX_UNPACKED_BYTES = 1_000_000_000
MAX_MEMBERS = 2000
_PART = re.compile(r"[A-Za-z0-9_()+-][A-Za-z0-9 _.()+-]{0,99}\Z")
_DEPTH = 6
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Upload:
    """One file of a request. name: as the sender calls it; its ending is compared with known ones, no more."""

    name: str
    stream: BinaryIO


def title_of(uploads: Sequence[Upload]) -> str:
    """What a job is called: the name of its file without folders, and how many there are."""
    name = re.split(r"[/\\]", uploads[0].name)[-1]
    name = shown("".join(letter for letter in name if letter.isprintable()), 60) or "upload"
    return name if len(uploads) == 1 else f"{name} and {len(uploads) - 1} more"


def fill_photo(folder: Path, photo: Upload) -> None:
    """Write `photo`. Raises InputError for what is no image by its header, and for too many pixels."""
    with _own_names(folder):
        _copy(photo.stream, folder / "photo")
        check_size(folder / "photo", *stored_size(folder / "photo")[:2])


def fill_views(folder: Path, uploads: Sequence[Upload]) -> None:
    """Write `views/` from a zip or from pictures in their order, or `views.mp4` and the like from one video.

    Raises InputError for anything else, for a zip whose members have no plain names, and for too much.
    """
    with _own_names(folder):
        first, suffix = uploads[0], Path(uploads[0].name).suffix.lower()
        if len(uploads) == 1 and (suffix == ".zip" or zipfile.is_zipfile(first.stream)):
            first.stream.seek(0)
            _unpack(first.stream, folder / "views")
        elif len(uploads) == 1:
            if suffix not in ANIMATION_SUFFIXES:
                raise InputError(
                    f"views: expected a zip, several pictures, or one of {', '.join(ANIMATION_SUFFIXES)}, got "
                    f"{shown(suffix) or 'no suffix'}"
                )
            first.stream.seek(0)
            _copy(first.stream, folder / f"views{suffix}")
            if suffix in image_suffixes():
                check_size(f"views{suffix}", *stored_size(folder / f"views{suffix}")[:2])
            return
        else:
            _write_pictures(folder / "views", uploads)
        _check_pictures(folder / "views")


def _write_pictures(folder: Path, uploads: Sequence[Upload]) -> None:
    if len(uploads) > MAX_FRAMES:
        raise InputError(f"views: expected at most {MAX_FRAMES} files, got {len(uploads)}; send a zip")
    folder.mkdir()
    for place, upload in enumerate(uploads):
        suffix = Path(upload.name).suffix.lower()
        if suffix not in image_suffixes():
            raise InputError(
                f"views: file {place}: expected one of {', '.join(image_suffixes())}, got {shown(suffix) or 'no suffix'}"
            )
        _copy(upload.stream, folder / f"{place:03}{suffix}")


def _check_pictures(folder: Path) -> None:
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in image_suffixes()]
    if not pictures:
        raise InputError("views: expected pictures, got none")
    pixels = 0
    for path in pictures:
        width, height, _ = stored_size(path)
        check_size(path, width, height)
        pixels += width * height
    if pixels > MAX_TOTAL_PIXELS:
        raise InputError(
            f"views: expected at most {MAX_TOTAL_PIXELS} pixels in all, got {pixels}; scale them down"
        )


def _unpack(stream: BinaryIO, folder: Path) -> None:
    try:
        with zipfile.ZipFile(stream) as archive:
            members = _members(archive)
            root = _root(list(members))
            left = MAX_UNPACKED_BYTES
            folder.mkdir()
            for path, info in members.items():
                if root not in path.parents:
                    continue
                target = folder / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, target.open("xb") as out:
                    while chunk := source.read(_CHUNK):
                        left -= len(chunk)
                        if left < 0:
                            raise InputError(
                                f"views: expected at most {MAX_UNPACKED_BYTES // 10**6} MB once unpacked, got more"
                            )
                        out.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        # RuntimeError: members that need a password. NotImplementedError: an unknown compression.
        raise InputError(f"views: expected a zip, got one that cannot be read ({shown(error)})") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InputError(
            "views: expected a zip whose members have names of their own, got one name twice"
        ) from error


def _members(archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The pictures, cameras, solids and records among the members, by path. Raises InputError for a path that is not plain."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MAX_MEMBERS:
        raise InputError(f"views: expected a zip of at most {MAX_MEMBERS} files, got {len(infos)}")
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        parts = name.split("/")
        if len(parts) > _DEPTH or "\\" in name or ".." in parts or name.startswith("/") or ":" in name:
            raise InputError(f"views: expected plain names in the zip, got {shown(repr(name))}")
        path = PurePosixPath(name)
        wanted = path.suffix.lower() in image_suffixes() or path.name in (*TRANSFORMS, SOLID_FILE, RECORD)
        if not wanted or parts[0] == "__MACOSX" or path.name.startswith("."):
            continue
        if not all(_PART.match(part) for part in parts):
            raise InputError(
                f"views: expected names of plain letters, digits and . _ - in the zip, got {shown(repr(name))}"
            )
        if path in found:
            raise InputError(
                "views: expected a zip whose members have names of their own, got one name twice"
            )
        found[path] = info
    return found


def _root(paths: list[PurePosixPath]) -> PurePosixPath:
    """The folder of the cameras in a zip; without cameras the one that all pictures share."""
    cameras = [path.parent for path in paths if path.name in TRANSFORMS]
    if cameras:
        return min(cameras, key=lambda path: len(path.parts))
    parents = {path.parent for path in paths}
    return parents.pop() if len(parents) == 1 else PurePosixPath()


def _copy(stream: BinaryIO, target: Path) -> None:
    with target.open("xb") as out:
        shutil.copyfileobj(stream, out, _CHUNK)


@contextmanager
def _own_names(folder: Path) -> Iterator[None]:
    """Sentences name files relative to the job, not by where the server keeps it."""
    try:
        yield
    except Mv3dError as error:
        error.args = (str(error).replace(f"{folder}{os.sep}", ""), *error.args[1:])
        raise
