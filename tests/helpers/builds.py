"""A data set of forty objects that the tests of building share."""

from __future__ import annotations

from pathlib import Path

from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig

CONFIG = OrbitConfig(views=4, size=16, environments=("uniform",), shard_size=6)
ITEMS = [CatalogueItem(f"o{index}", licence="MIT" if index % 2 else "CC0-1.0") for index in range(40)]


def content(folder: Path) -> dict[str, bytes]:
    """All files that make up the data set."""
    skip = {"run.json", ".mv3d.lock"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in skip
    }
