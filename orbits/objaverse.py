"""Objaverse 1.0 (arXiv 2212.08051) as a catalogue: 798,759 objects, their licences, and LVIS categories.

The metadata are read from the files that the `objaverse` package reads, at the same addresses and in the same
folder layout, so a cache can be shared with it (`~/.objaverse/hf-objaverse-v1`). The package itself is not
used: its downloads have no retry, time limit or checksum, an interrupted one leaves a broken file that it
trusts ever after, and `load_annotations` holds all annotations in memory at once. Here one of the 160 files is
in memory at a time, and a broken one is fetched again. The tests compare what both read.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.core.caches import cache_dir
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.progress import Progress
from mv3d.orbits.catalogue import CatalogueItem, category_key
from mv3d.orbits.infrastructure.download import DownloadError, Transport, download
from mv3d.orbits.licences import parse_licence

DEFAULT_ENDPOINT = "https://huggingface.co"
DATASET = "datasets/allenai/objaverse"
PATHS_FILE = "object-paths.json.gz"
LVIS_FILE = "lvis-annotations.json.gz"
_MAX_UNPACKED = 2 << 30  # bytes of one metadata file; the largest real one has some 70 MB


def default_endpoint() -> str:
    """Address of the hub: HF_ENDPOINT (a mirror), or huggingface.co."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_ENDPOINT


@dataclass(frozen=True)
class ObjaverseStore:
    """The files of the data set, at an endpoint and in a cache folder. seed: of the waits between tries."""

    cache: Path = field(default_factory=lambda: cache_dir("objaverse"))
    endpoint: str = field(default_factory=default_endpoint)
    revision: str = "main"
    transport: Transport = Transport()  # noqa: RUF009 - frozen
    seed: int = 0

    def url(self, path: str) -> str:
        """Address of a file of the data set."""
        return f"{self.endpoint.rstrip('/')}/{DATASET}/resolve/{self.revision}/{path}"

    def object_paths(self) -> dict[str, str]:
        """uid → path of the .glb in the data set."""
        paths = self._json(PATHS_FILE)
        return {uid: path for uid, path in paths.items() if is_object_path(path)}

    def lvis_categories(self) -> dict[str, list[str]]:
        """LVIS category → uids; some 47,000 objects have one."""
        categories = self._json(LVIS_FILE)
        return {name: uids for name, uids in categories.items() if isinstance(uids, list)}

    def annotations(self, part: str) -> dict[str, Any]:
        """uid → annotation, of one of the parts `000-000` … `000-159`."""
        return self._json(f"metadata/{part}.json.gz")

    def _json(self, name: str) -> dict[str, Any]:
        target = self.cache / name
        if target.exists():
            try:
                return _unpack(target)
            except InputError:  # cut off by whoever wrote it: fetched again below
                target.unlink()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.cache}: cannot be written ({error.strerror}); choose another --cache"
            ) from error
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        try:
            download(self.url(name), target, self.transport, check=_complaint, rng=rng)
        except DownloadError as error:
            raise InputError(
                f"{self.url(name)}: {error}; the same command goes on with what is there already, "
                "HF_ENDPOINT or --endpoint name a mirror"
            ) from error
        return _unpack(target)


def objaverse_items(
    store: ObjaverseStore,
    *,
    uids: Sequence[str] | None = None,
    lvis: bool = False,
    progress: Progress | None = None,
) -> Iterator[CatalogueItem]:
    """The objects of Objaverse as catalogue items, one metadata file at a time.

    uids: only these, and only the metadata files that hold them. lvis: fill in the categories.
    progress: called with "metadata" and the share that is done.
    Raises InputError where a metadata file cannot be had or read.
    """
    paths = store.object_paths()
    category: dict[str, str] = {}
    if lvis:
        # The first category by name wins where an object has several.
        for name, members in sorted(store.lvis_categories().items(), reverse=True):
            category.update(dict.fromkeys(members, name))
    wanted = None if uids is None else set(uids)
    parts = sorted({path.split("/")[1] for uid, path in paths.items() if wanted is None or uid in wanted})
    for done, part in enumerate(parts):
        if progress:
            progress("metadata", done / len(parts))
        for uid, annotation in store.annotations(part).items():
            if uid in paths and (wanted is None or uid in wanted) and isinstance(annotation, Mapping):
                yield item_of(uid, annotation, store.url(paths[uid]), category.get(uid, ""))
    if progress:
        progress("metadata", 1.0)


def check_categories(store: ObjaverseStore, names: Iterable[str]) -> None:
    """Raise UsageError for a name that is no LVIS category, with those that are spelled like it."""
    names = tuple(names)
    known = {category_key(name): name for name in store.lvis_categories()} if names else {}
    for name in names:
        if category_key(name) not in known:
            near = [known[key] for key in get_close_matches(category_key(name), known, n=5)]
            hint = f"; there is {', '.join(near)}" if near else ""
            raise UsageError(f"--categories: expected LVIS categories, got {name!r}{hint}")


def item_of(uid: str, annotation: Mapping[str, Any], url: str, category: str = "") -> CatalogueItem:
    """An annotation of Objaverse (which is an answer of Sketchfab's API) as a catalogue item."""
    archive = _mapping(_mapping(annotation.get("archives")).get("glb"))
    user = _mapping(annotation.get("user"))
    faces = _count(archive.get("faceCount"))
    restricted = annotation.get("isAgeRestricted")
    return CatalogueItem(
        uid=uid,
        licence=parse_licence(str(annotation.get("license") or "")).id,
        author=str(user.get("displayName") or user.get("username") or ""),
        source=str(annotation.get("viewerUrl") or annotation.get("uri") or ""),
        title=str(annotation.get("name") or ""),
        url=url,
        category=category,
        tags=tuple(
            str(tag.get("name")).lower()
            for tag in _list(annotation.get("tags"))
            if isinstance(tag, Mapping) and tag.get("name")
        ),
        faces=faces if faces is not None else _count(annotation.get("faceCount")),
        textures=_count(archive.get("textureCount")),
        animations=_count(annotation.get("animationCount")),
        bytes=_count(archive.get("size")),
        age_restricted=restricted if isinstance(restricted, bool) else None,
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: Any) -> int | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    return int(value) if good else None


def is_object_path(path: Any) -> bool:
    """Whether it is the path of an object in the data set."""
    parts = path.split("/") if isinstance(path, str) else []
    return len(parts) == 3 and parts[2].endswith(".glb") and ".." not in parts


def _unpack(path: Path) -> dict[str, Any]:
    try:
        with gzip.open(path, "rb") as stream:
            data = stream.read(_MAX_UNPACKED + 1)
        if len(data) > _MAX_UNPACKED:
            raise InputError(f"{path.name}: unpacks to more than {_MAX_UNPACKED} bytes")
        document = json.loads(data)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name}: expected JSON packed by gzip ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(document, dict):
        raise InputError(f"{path.name}: expected a JSON object, got {type(document).__name__}")
    return document


def _complaint(path: Path) -> str | None:
    try:
        _unpack(path)
    except InputError as error:
        return str(error)
    return None
