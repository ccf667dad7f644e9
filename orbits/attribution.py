"""Who made what a data set is rendered from, and under which licence: the file that goes along with it."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError
from mv3d.core.files import write_text
from mv3d.orbits.catalogue import CatalogueItem, csv_text
from mv3d.orbits.licences import Licence, parse_licence

MARKDOWN, TABLE = "ATTRIBUTION.md", "attribution.csv"
_CREDITS = ("title", "author", "licence", "source")
_COLUMNS = ("uid", "title", "author", "licence", "licence_url", "source", "sha256")


def write_attribution(folder: str | os.PathLike[str], items: Iterable[CatalogueItem]) -> tuple[Path, Path]:
    """Write ATTRIBUTION.md, grouped by licence, and attribution.csv, by uid, into a folder; their paths.

    The same items in any order give the same bytes.
    """
    folder = Path(folder)
    ordered = sorted(items, key=lambda item: item.uid)
    licences = [parse_licence(item.licence) for item in ordered]
    rows = [
        vars(item) | {"licence": licence.id, "licence_url": licence.url}
        for item, licence in zip(ordered, licences, strict=True)
    ]
    write_text(folder / TABLE, csv_text(_COLUMNS, rows))
    write_text(folder / MARKDOWN, attribution_text(ordered))
    return folder / MARKDOWN, folder / TABLE


def read_attribution(folder: str | os.PathLike[str]) -> list[CatalogueItem]:
    """The items of a folder's attribution.csv; none where there is no such file. Raises InputError for a damaged one."""
    path = Path(folder) / TABLE
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}: damaged: {error}; restore the file, or render the shards again") from error
    items = []
    for number, row in enumerate(rows, 2):
        if not row.get("uid") or any(row.get(key) is None for key in _CREDITS):
            raise InputError(
                f"{path}: damaged: expected uid, {', '.join(_CREDITS)} in line {number}; restore the file, or render the "
                "shards again"
            )
        words: dict[str, Any] = {key: row[key] for key in _CREDITS}
        items.append(CatalogueItem(row["uid"], **words, sha256=row.get("sha256") or None))
    return items


def attribution_text(items: Iterable[CatalogueItem]) -> str:
    """Markdown: title, author, source of every object, a section for each licence."""
    groups: dict[str, list[CatalogueItem]] = {}
    for item in items:
        groups.setdefault(parse_licence(item.licence).id, []).append(item)
    total = sum(len(group) for group in groups.values())
    note = f"Rendered from {total} objects. Each is shown changed: rendered as images."
    lines = ["# Attribution", "", note, ""]
    for name, group in sorted(groups.items()):
        licence = parse_licence(name)
        lines += [f"## {name} ({len(group)})", "", _terms(licence), ""]
        for item in sorted(group, key=lambda item: item.uid):
            title = _plain(item.title or item.uid)
            author = _plain(item.author) or "unknown author"
            source = f", {_place(item.source)}" if item.source else ""
            lines.append(f"- “{title}” by {author}{source} (`{item.uid}`)")
        lines.append("")
    return "\n".join(lines)


def _terms(licence: Licence) -> str:
    words = ["commercial use allowed" if licence.commercial else "no commercial use"]
    if licence.attribution:
        words.append("name the author")
    if licence.share_alike:
        words.append("share under the same licence")
    if not licence.derivatives:
        words.append("no changed copies")
    return "; ".join(words) + (f". {licence.url}" if licence.url else ".")


def _plain(text: str) -> str:
    """One line whose letters Markdown does not read as markup: titles are written by strangers."""
    return re.sub(r"([\[\]<>`*_|\\#])", r"\\\1", " ".join(text.split()))


def _place(source: str) -> str:
    """An address as a link, anything else as it is written."""
    text = "".join(source.split()).replace("`", "")
    return f"<{text}>" if re.match(r"https?://[^<>]+$", text) else f"`{text}`"
