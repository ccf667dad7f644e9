"""Catalogues: which objects there are, whose they are, and where their files lie.

A *list* is a file with one object a line: JSON lines (`.jsonl`), a JSON array (`.json`) or CSV with a header
(`.csv`). The columns are the fields of `CatalogueItem`; only `uid` or `path` is required. `path` is relative
to the list's folder. A *folder* of .glb, .gltf, .obj, .ply and .stl files is a catalogue, too; a SOURCES.csv
in it (columns name, file, source_repo, path, commit, licence, author, sha256, faces) says whose they are.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError, UsageError, shown
from mv3d.core.files import write_text
from mv3d.orbits.licences import UNKNOWN, parse_licence

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")
LIST_SUFFIXES = (".jsonl", ".json", ".csv")
SOURCES = "SOURCES.csv"
_SOURCES_COLUMNS = (
    *("name", "file", "source_repo", "path", "commit"),
    *("licence", "author", "sha256", "faces", "category"),
)
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")


@dataclass(frozen=True)
class CatalogueItem:
    """One object of a catalogue.

    uid: letters, digits, "_" and "-" only, so that it can name files and samples of a shard.
    path: of the file on this machine, or None before it is fetched. root: the folder that was handed over, with the
    file in it: its textures may lie anywhere below. None: the file's own. url: where to fetch it, or "".
    licence: an SPDX expression (see `mv3d.orbits.licences`). source: the page or the repository it is from.
    sha256: of the file, where known. faces, textures, animations, bytes, age_restricted: as the catalogue
    says (it may be wrong), None where it says nothing. category: e.g. of LVIS. tags: in lower case.
    """

    uid: str
    path: Path | None = None
    licence: str = UNKNOWN
    author: str = ""
    source: str = ""
    sha256: str | None = None
    title: str = ""
    url: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    faces: int | None = None
    textures: int | None = None
    animations: int | None = None
    bytes: int | None = None
    age_restricted: bool | None = None
    root: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not _UID.fullmatch(self.uid):
            raise InputError(
                f"uid: expected 1 to 200 letters, digits, '_' or '-', got {self.uid[:80]!r}; "
                "rename it in the catalogue"
            )
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InputError(
                f"sha256 of {self.uid}: expected 64 hexadecimal digits, got {self.sha256[:80]!r}"
            )


def safe_uid(name: str) -> str:
    """A uid made of any name: what a uid may not hold becomes "_"."""
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", name).lstrip("_-")[:200]
    return text or "object"


def category_key(name: str) -> str:
    """How categories are compared: in lower case, spaces as "_"."""
    return name.strip().lower().replace(" ", "_")


def read_list(path: str | os.PathLike[str]) -> list[CatalogueItem]:
    """The objects of a folder or of a list file, in the order of the catalogue; the one object of a 3D file.

    Raises InputError where there is no such catalogue, where it is empty, where a line cannot be read or
    where a uid comes twice.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        items = [CatalogueItem(safe_uid(path.stem), path, title=path.stem, bytes=path.stat().st_size)]
    elif path.is_dir():
        items = _read_folder(path)
        if not items:
            raise InputError(
                f"{path}: expected {', '.join(SUFFIXES)} files, found none; the catalogue is empty"
            )
    elif path.is_file():
        items = [_from_row(row, path.parent, f"{path}: entry {n}") for n, row in enumerate(_rows(path), 1)]
        if not items:
            raise InputError(f"{path}: expected at least one object, got an empty list")
    else:
        raise InputError(
            f"{path}: expected a folder, a list of objects or a 3D file, found nothing; check the path"
        )
    seen: set[str] = set()
    for item in items:
        if item.uid in seen:
            raise InputError(f"{path}: uid {item.uid} comes twice; every object needs its own")
        seen.add(item.uid)
    return items


def write_list(path: str | os.PathLike[str], items: Iterable[CatalogueItem]) -> None:
    """Write a list (.jsonl or .csv, by the suffix); paths become relative to its folder where they are in it.

    Fields that say nothing are left out. Raises UsageError for another suffix, OutputError where it cannot
    be written.
    """
    path = Path(path)
    rows = [_to_row(item, path.parent) for item in items]
    if path.suffix.lower() == ".jsonl":
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix.lower() == ".csv":
        columns = [each.name for each in fields(CatalogueItem) if each.name != "root"]
        rows = [{**row, "tags": " ".join(row.get("tags", []))} for row in rows]
        write_text(path, csv_text(columns, rows))
    else:
        raise UsageError(
            f"{path.name}: expected a list ending in .jsonl or .csv, got {path.suffix or 'none'}"
        )


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as CSV with a header; values of other columns are left out."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def read_uids(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The uids in a text file (one a line, `#` comments) or in any list."""
    path = Path(path)
    if path.suffix.lower() in LIST_SUFFIXES:
        return tuple(item.uid for item in read_list(path))
    if not path.is_file():
        raise InputError(f"{path}: expected a file of uids, found none; check the path")
    lines = (line.split("#")[0].strip() for line in _text(path).splitlines())
    return tuple(line for line in lines if line)


def _read_folder(folder: Path) -> list[CatalogueItem]:
    sources: dict[str, CatalogueItem] = {}
    table = folder / SOURCES
    if table.is_file():
        for number, row in enumerate(_rows(table), 1):
            where = f"{table}: entry {number}"
            item = _from_row(_from_sources(row), folder, where)
            if item.path is not None and not item.path.is_relative_to(folder):
                raise InputError(
                    f"{where}: expected a file in the folder itself, got {shown(item.path)}; correct its column file"
                )
            sources[item.path.relative_to(folder).as_posix() if item.path else item.uid] = item
    items: list[CatalogueItem] = []
    taken: set[str] = set()
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if hidden or file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        uid = safe_uid(name.with_suffix("").as_posix())
        item = (
            sources.get(name.as_posix()) or sources.get(uid) or CatalogueItem(uid)
        )  # a row may name no file
        item = replace(item, path=item.path or file, root=folder)
        if item.uid in taken:  # chair.glb beside chair.obj
            item = replace(item, uid=safe_uid(name.as_posix()))
        taken.add(item.uid)
        items.append(replace(item, title=item.title or file.stem, bytes=file.stat().st_size))
    return items


def _from_sources(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of SOURCES.csv, whose `path` is the place in the source repository."""
    place = "/".join(filter(None, (row.get("source_repo"), row.get("path"))))
    commit = row.get("commit")
    name = row.get("name") or Path(row.get("file") or "").stem
    return {
        "uid": safe_uid(name),
        "path": row.get("file"),
        "title": name,
        "source": f"{place}@{commit}" if place and commit else place,
        **{key: row.get(key) for key in ("licence", "author", "sha256", "faces", "category")},
    }


def sources_table(items: Iterable[CatalogueItem], more: Mapping[str, Sequence[object]] | None = None) -> str:
    """SOURCES.csv of a folder with the items' files, as `read_list` reads it. more: further columns, a value an item."""
    more = more or {}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((*_SOURCES_COLUMNS, *more))
    for number, item in enumerate(items):
        rights = (item.source, "", "", item.licence, item.author)
        file = item.path.name if item.path else ""
        further = (values[number] for values in more.values())
        writer.writerow((item.uid, file, *rights, item.sha256, item.faces, item.category, *further))
    return buffer.getvalue()


def _rows(path: Path) -> list[dict[str, Any]]:
    text, suffix = _text(path), path.suffix.lower()
    if suffix == ".csv":
        try:
            rows = list(csv.DictReader(io.StringIO(text)))
        except csv.Error as error:
            raise InputError(f"{path}: cannot be read as CSV ({error})") from error
        for number, row in enumerate(rows, 1):
            if None in row or None in row.values():
                raise InputError(f"{path}: entry {number}: expected as many columns as the header has")
        return rows
    if suffix not in LIST_SUFFIXES:
        raise InputError(
            f"{path}: expected a folder or one of {', '.join(LIST_SUFFIXES)}, got {suffix or 'none'}"
        )
    try:
        if suffix == ".json":
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: expected JSON objects, one for each 3D object")
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def _from_row(row: Mapping[str, Any], folder: Path, where: str) -> CatalogueItem:
    values = {key: value for key, value in row.items() if value not in (None, "")}
    if "uid" not in values and "path" not in values:
        raise InputError(f"{where}: expected a uid or a path, got {shown(', '.join(row)) or 'nothing'}")
    try:
        words: dict[str, Any] = {
            k: str(values.get(k, "")) for k in ("author", "source", "title", "url", "category")
        }
        counts: dict[str, Any] = {
            k: _count(values.get(k)) for k in ("faces", "textures", "animations", "bytes")
        }
        return CatalogueItem(
            uid=str(values["uid"]) if "uid" in values else safe_uid(Path(str(values["path"])).stem),
            path=folder / str(values["path"]) if "path" in values else None,
            root=folder if "path" in values and not Path(str(values["path"])).is_absolute() else None,
            licence=parse_licence(str(values.get("licence", ""))).id,
            sha256=str(values["sha256"]).lower() if "sha256" in values else None,
            tags=_tags(values.get("tags", ())),
            age_restricted=_flag(values.get("age_restricted")),
            **words,
            **counts,
        )
    except (InputError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{where}: {shown(error, 300)}") from error


def _tags(value: Any) -> tuple[str, ...]:
    words = value.split() if isinstance(value, str) else value
    return tuple(str(word).lower() for word in words)


def _count(value: Any) -> int | None:
    if value is None:
        return None
    number = float(value)
    if not number.is_integer() or number < 0:
        raise ValueError(f"expected a whole number of 0 or more, got {shown(repr(value))}")
    return int(number)


def _flag(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if str(value).lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"age_restricted: expected true or false, got {shown(repr(value))}")
    return str(value).lower() in ("true", "1")


def _to_row(item: CatalogueItem, folder: Path) -> dict[str, Any]:
    row = {
        key: value for key, value in asdict(replace(item, root=None)).items() if value not in (None, "", ())
    }
    if item.path is not None:
        inside = os.path.relpath(item.path.resolve(), folder.resolve())
        row["path"] = str(item.path.resolve()) if inside.startswith("..") else Path(inside).as_posix()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}
