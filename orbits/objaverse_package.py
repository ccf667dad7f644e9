"""What the `objaverse` package has on this disk already, and its sources of Objaverse-XL, whose addresses name no file.

An address of Objaverse-XL on GitHub names a file in a repository at a commit, one on Thingiverse a thing: neither gives
the file when it is asked for. The package clones the one and asks the interface of the other.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from mv3d.core.errors import shown
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.objaverse import DATASET, is_object_path

XlSource = Literal["github", "thingiverse"]


def package_cache() -> Path:
    """Where the package (0.1.7) keeps Objaverse 1.0."""
    return Path.home() / ".objaverse" / "hf-objaverse-v1"


def downloaded(url: str, cache: Path) -> Path | None:
    """The file that the package has of an address of Objaverse 1.0, at any endpoint."""
    _, found, rest = urlsplit(url).path.partition(f"/{DATASET}/resolve/")
    path = rest.partition("/")[2]  # without the revision
    file = cache / path
    return file if found and is_object_path(path) and file.is_file() else None


def xl_source(url: str) -> XlSource | None:
    """The source of Objaverse-XL that an address is of, where it names no file that can be asked for."""
    parts = urlsplit(url)
    if parts.hostname == "github.com" and parts.path.split("/")[3:4] == ["blob"]:
        return "github"
    return "thingiverse" if parts.hostname in ("thingiverse.com", "www.thingiverse.com") else None


def has_package() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("objaverse") is not None


@dataclass(frozen=True)
class Brought:
    """files: by uid. trouble: what ended the package before its time, in brackets, or nothing."""

    files: Mapping[str, Path]
    trouble: str = ""


def fetch_xl(items: Sequence[CatalogueItem], folder: Path, processes: int) -> Brought:
    """Let the package bring these objects of Objaverse-XL into `folder`, those that it can have.

    Their content is not checked: a file that changed since Objaverse-XL was made is among them.
    """
    import objaverse.xl  # noqa: PLC0415 - an optional part
    import pandas  # noqa: PLC0415 - the package brings it

    table = pandas.DataFrame(
        [
            {"fileIdentifier": item.url, "source": xl_source(item.url), "sha256": item.sha256 or ""}
            | {"fileType": PurePosixPath(urlsplit(item.url).path).suffix.lower().removeprefix(".")}
            for item in items
        ]
    )
    take = partial(_take, folder=folder)
    trouble = ""
    try:
        # The package calls `take` in processes of its own, while the file is there.
        objaverse.xl.download_objects(
            table,
            download_dir=None,
            processes=processes,
            handle_found_object=take,
            handle_modified_object=take,
        )
    except Exception as error:  # any: it runs git, asks servers, and reads what these say
        trouble = f" ({type(error).__name__}: {shown(error)})"
    places = {item.uid: folder / _name(item.url) for item in items}
    return Brought({uid: path for uid, path in places.items() if path.is_file()}, trouble)


def _take(local_path: str, file_identifier: str, *_: Any, folder: Path, **__: Mapping[str, Any]) -> None:
    shutil.copyfile(local_path, folder / _name(file_identifier))


def _name(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()
