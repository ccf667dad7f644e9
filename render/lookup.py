"""Where a file is that another one names: at the stated place, or nearby under the same name, and never outside the
folder that was handed over."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PICTURE_FOLDERS = (
    *("textures", "texture", "images", "image", "maps", "tex", "materials", "materials/textures"),
    *("source/textures", "source/images"),
)
"""Where public data sets and programs keep pictures, seen from the model's folder or one above it."""
_MODELS = frozenset((".glb", ".gltf", ".obj", ".ply", ".stl", ".off", ".fbx", ".dae"))
_MOST_ENTRIES = 20_000
"""Entries of folders that are looked at in search of one model's files."""
_DRIVE = re.compile(r"^(?:file:/*)?(?:[A-Za-z]:[\\/]|[\\/]{2})|^file:/+", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """path: resolved, within the root. elsewhere: it is not where the name says."""

    path: Path
    elsewhere: bool


class Lookup:
    """Finds files below `root`, beginning from `folder` within it. Both are resolved folders."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self._listings: dict[Path, dict[str, str]] = {}
        self._seen = 0

    def find(self, name: str, beside: Path | None = None) -> Place | None:
        """The file of this name, as programs of any system write it, or None.

        In this order: as stated, from `beside` (the folder of the file that names it) and from the model's folder; the
        same with other upper and lower case; the last parts of the name, and the file itself, in these folders, in the
        folders of pictures beside them, and in the same ones of every folder up to the root; anywhere in the model's
        folder; anywhere in a folder above it that holds no other model. Of several candidates in the last two none is
        taken. Raises LookupError where the name leads out of the root and nothing else is found.
        """
        starts = list(dict.fromkeys((beside or self.folder, self.folder)))
        absolute = bool(_DRIVE.match(name)) or name.startswith("/")
        text = _DRIVE.sub("", name).replace("\\", "/").lstrip("/")
        if not text or "\0" in text:
            return None
        outside = False
        if not absolute:
            for start in starts:
                path = self._exact(start, text)
                if path is not None:
                    return Place(path, elsewhere=False)
                outside |= self._leads_out(start, text)
            for start in starts:
                path = self._within(start, [part for part in text.split("/") if part not in ("", ".")])
                if path is not None:
                    return Place(path, elsewhere=False)
        parts = [part for part in text.split("/") if part not in ("", ".", "..")]
        path = self._nearby(parts, starts) if parts else None
        if path is not None:
            return Place(path, elsewhere=True)
        if outside:
            raise LookupError(name)
        return None

    def exact(self, name: str, beside: Path | None = None) -> Path | None:
        """The file at the stated place, or None."""
        starts = dict.fromkeys((beside or self.folder, self.folder))
        return next(filter(None, (self._exact(start, name) for start in starts)), None)

    def _exact(self, folder: Path, name: str) -> Path | None:
        try:
            target = (folder / name).resolve()
            return target if target.is_relative_to(self.root) and target.is_file() else None
        except (OSError, ValueError):  # too long for the file system, or no text
            return None

    def _leads_out(self, folder: Path, name: str) -> bool:
        try:
            return not (folder / name).resolve().is_relative_to(self.root)
        except (OSError, ValueError):
            return False

    def _nearby(self, parts: list[str], starts: Sequence[Path]) -> Path | None:
        levels = list(dict.fromkeys(level for start in starts for level in self._up(start)))
        # Nearest first: the model's own folders before those that it shares with others.
        levels.sort(key=lambda level: -len(level.parts))
        for level in levels:
            for first in range(len(parts)):
                path = self._within(level, parts[first:])
                if path is not None:
                    return path
            for folder in PICTURE_FOLDERS:
                path = self._within(level, [*folder.split("/"), parts[-1]])
                if path is not None:
                    return path
        return self._anywhere(parts[-1].casefold())

    def _up(self, folder: Path) -> Iterator[Path]:
        """The folder and those above it, to the root."""
        while folder.is_relative_to(self.root):
            yield folder
            if folder == self.root:
                return
            folder = folder.parent

    def _within(self, folder: Path, parts: Sequence[str]) -> Path | None:
        """The file of this relative name whatever its case, or None."""
        for number, part in enumerate(parts):
            if part == "..":
                folder = folder.parent
                continue
            there = self._listing(folder).get(part.casefold())
            if there is None:
                return None
            folder = folder / there
            if number < len(parts) - 1 and not self._is_inside(folder):
                return None
        return self._exact(folder.parent, folder.name)

    def _listing(self, folder: Path) -> dict[str, str]:
        """Names in a folder by their folded form; the first in alphabetical order where several fold alike."""
        if folder not in self._listings:
            names: list[str] = []
            if self._is_inside(folder) and self._seen < _MOST_ENTRIES:
                try:
                    names = os.listdir(folder)
                except (OSError, ValueError):
                    names = []
            self._seen += len(names)
            self._listings[folder] = {name.casefold(): name for name in sorted(names, reverse=True)}
        return self._listings[folder]

    def _is_inside(self, folder: Path) -> bool:
        try:
            return folder.resolve().is_relative_to(self.root)
        except (OSError, ValueError):
            return False

    def _anywhere(self, name: str) -> Path | None:
        """The only file of this name in the model's folder or, above it, in a folder without other models."""
        for level in self._up(self.folder):
            found: set[Path] = set()
            for folder, entries in self._below(level):
                foreign = any(Path(entry).suffix in _MODELS for entry in entries)
                if foreign and not folder.is_relative_to(self.folder):
                    return None
                if name in entries:
                    found |= {path for path in (self._exact(folder, entries[name]),) if path is not None}
            if found:
                return found.pop() if len(found) == 1 else None
        return None

    def _below(self, top: Path) -> Iterator[tuple[Path, dict[str, str]]]:
        """Every folder from `top` down with its listing; links are not followed."""
        stack = [top]
        while stack and self._seen < _MOST_ENTRIES:
            folder = stack.pop()
            entries = self._listing(folder)
            yield folder, entries
            try:
                with os.scandir(folder) as found:
                    stack += [folder / entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
