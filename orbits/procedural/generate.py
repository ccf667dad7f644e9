"""A family and a seed → an object, and a folder of objects that `mv3d orbits render` takes as it is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mv3d.core.errors import OutputError, UsageError
from mv3d.core.files import publish, staging, write_text
from mv3d.core.locking import LOCK_NAME, folder_lock
from mv3d.core.progress import ObjectProgress
from mv3d.orbits.catalogue import SOURCES, CatalogueItem, sources_table
from mv3d.orbits.procedural.families import FAMILIES
from mv3d.orbits.procedural.pieces import Piece, finished, glb_of, model_of
from mv3d.render.model import Model

VERSION = 1
"""Counts up whenever the same family and seed give another object."""
MAX_COUNT = 1_000_000
"""Objects of one seed; the next seed's begin after them."""
LICENCE, AUTHOR, SOURCE = "CC0-1.0", "mv3d", "procedural"

"""(objects done, objects in all, rejected)"""


@dataclass(frozen=True, eq=False)
class ProceduralObject:
    """One object. pieces: named parts in the world frame (Z up), standing on z = 0, the front towards +X."""

    family: str
    seed: int
    pieces: tuple[Piece, ...]

    @property
    def uid(self) -> str:
        return object_uid(self.family, self.seed)

    @property
    def faces(self) -> int:
        return sum(len(piece.solid.faces) for piece in self.pieces)

    @property
    def model(self) -> Model:
        """As a renderer takes it."""
        return model_of(self.pieces)

    def glb(self) -> bytes:
        """As a file; the same on every call."""
        return glb_of(self.pieces, self.uid)


def object_uid(family: str, seed: int) -> str:
    return f"{SOURCE}-{family}-{seed:08d}-v{VERSION}"


def make_object(family: str, seed: int) -> ProceduralObject:
    """The object of that family and seed (0 or more), always the same one. Raises UsageError for an unknown family
    or a negative seed."""
    _check_families((family,))
    if seed < 0:
        raise UsageError(f"seed: expected 0 or more, got {seed}")
    return ProceduralObject(family, seed, finished(FAMILIES[family].make(_rng(family, seed))))


def drawn_families(number: int, seed: int, families: Sequence[str] = ()) -> list[tuple[str, int]]:
    """(family, seed) of the first objects of a seed, families drawn by their weights; of all families where none is
    named. More of them begin with the same ones."""
    names = tuple(dict.fromkeys(families)) or tuple(FAMILIES)
    _check_families(names)
    weights = np.array([FAMILIES[name].weight for name in names])
    edges = np.cumsum(weights) / weights.sum()
    draws = _rng("families", seed).random(number)
    places = np.minimum(np.searchsorted(edges, draws, side="right"), len(names) - 1)
    return [(names[place], seed * MAX_COUNT + k) for k, place in enumerate(places)]


def write_objects(
    out_dir: Path,
    *,
    number: int,
    seed: int = 0,
    families: Sequence[str] = (),
    progress: ObjectProgress | None = None,
) -> list[CatalogueItem]:
    """Write objects as GLB files into an empty or new folder, with SOURCES.csv, which says whose
    they are.

    Raises UsageError for a number or a seed out of range or an unknown family, OutputError where the folder holds
    something or cannot be written; nothing is left there then.
    """
    if not 1 <= number <= MAX_COUNT:
        raise UsageError(f"--count: expected 1..{MAX_COUNT:,}, got {number}")
    if seed < 0:
        raise UsageError(f"--seed: expected 0 or more, got {seed}")
    chosen = drawn_families(number, seed, families)
    out_dir = Path(out_dir)
    items: list[CatalogueItem] = []
    with folder_lock(out_dir), staging(out_dir) as folder:
        if any(path.name not in (LOCK_NAME, folder.name) for path in out_dir.iterdir()):
            raise OutputError(
                f"{out_dir}: expected an empty or a new folder, found something; choose another --out"
            )
        for family, object_seed in chosen:
            made = make_object(family, object_seed)
            data = made.glb()
            path = folder / f"{made.uid}.glb"
            path.write_bytes(data)
            items.append(
                CatalogueItem(
                    made.uid,
                    path,
                    licence=LICENCE,
                    author=AUTHOR,
                    source=SOURCE,
                    sha256=hashlib.sha256(data).hexdigest(),
                    title=made.uid,
                    category=family,
                    faces=made.faces,
                    bytes=len(data),
                )
            )
            if progress:
                progress(len(items), number, 0)
        write_text(folder / SOURCES, sources_table(items))
        publish(folder, out_dir, last=SOURCES)
    return [
        CatalogueItem(**{**item.__dict__, "path": out_dir / item.path.name}) for item in items if item.path
    ]


def family_counts(items: Sequence[CatalogueItem]) -> dict[str, int]:
    """How many there are of each family, the most frequent first."""
    found = Counter(item.category for item in items)
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _check_families(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        raise UsageError(f"--families: expected some of {', '.join(FAMILIES)}, got {', '.join(unknown)}")


def _rng(name: str, seed: int) -> np.random.Generator:
    """Random numbers of a family, a seed and the version, of nothing else."""
    digest = hashlib.sha256(f"{VERSION}\0{name}\0{seed}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))
