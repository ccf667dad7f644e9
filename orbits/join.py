"""Several data sets as one: of several machines, lights, trajectories or sources of objects."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError, OutputError
from mv3d.core.files import publish, staging, to_json, write_text
from mv3d.core.locking import LOCK_NAME, folder_lock
from mv3d.core.version import __version__
from mv3d.orbits.attribution import read_attribution, write_attribution
from mv3d.orbits.build import REJECTS
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.index import INDEX, BuildResult, read_index, write_index
from mv3d.orbits.shards import is_whole, read_shard_record

_ALIKE = (
    "views",
    "size",
    "fov_deg",
    "geometry",
    "depth_size",
    "solid_cells",
    "solid_colors",
    "normals",
    "albedo",
)
"""What samples of one batch must have in common."""
_NETWORKS = ("vae_sha256", "image_encoder_sha256")


def join_shards(sources: Sequence[str | os.PathLike[str]], out_dir: str | os.PathLike[str]) -> BuildResult:
    """One folder of all the shards of finished data sets of one kind: hard links where the disk allows, copies else.

    A sample that has the uid of an earlier one stays: it is another orbit of the same object. Raises InputError for
    folders that are no finished data sets or do not fit each other, OutputError where `out_dir` is not empty or cannot
    be written.
    """
    folders, out = [Path(source) for source in sources], Path(out_dir)
    if len(folders) < 2:
        raise InputError(f"orbits join: expected at least 2 data sets, got {len(folders)}")
    indices = [_finished(folder) for folder in folders]
    _check_alike(folders, indices)
    _refuse_repeated(folders, indices)
    with folder_lock(out):
        if any(path.name != LOCK_NAME for path in out.iterdir()):
            raise OutputError(f"{out}: expected a new or an empty folder; choose another --out")
        with staging(out) as folder:
            _fill(folder, folders, indices)
            publish(folder, out, last=INDEX)  # without its index a folder is no data set
    return BuildResult(out, read_index(out) or {})


def _finished(folder: Path) -> dict[str, Any]:
    index = read_index(folder)
    if index is None:
        raise InputError(f"{folder}: expected shards of mv3d orbits render or encode, found no such index")
    if not index["finished"]:
        raise InputError(f"{folder}: not finished yet; run its mv3d orbits command again first")
    return index


def _check_alike(folders: list[Path], indices: list[dict[str, Any]]) -> None:
    facts = [
        {"kind": index["kind"]}
        | {key: index.get("config", {}).get(key) for key in _ALIKE}
        | {key: index.get(key) for key in _NETWORKS}
        for index in indices
    ]
    for folder, found in zip(folders, facts, strict=True):
        for key, expected in facts[0].items():
            if found[key] != expected:
                raise InputError(f"{folder}: expected {key} {expected} as in {folders[0]}, got {found[key]}")


def _refuse_repeated(folders: list[Path], indices: list[dict[str, Any]]) -> None:
    """The same shard twice would count its orbits twice."""
    seen: dict[str, Path] = {}
    for folder, index in zip(folders, indices, strict=True):
        for shard in index["shards"]:
            if shard["sha256"] in seen:
                raise InputError(
                    f"{folder}: {shard['name']} is in {seen[shard['sha256']]}, too: the same orbits would count twice; give each data "
                    "set once"
                )
        seen |= dict.fromkeys((shard["sha256"] for shard in index["shards"]), folder)


def _joined_config(indices: list[dict[str, Any]]) -> dict[str, Any]:
    """The first one's settings; its trajectory names all, with commas between them."""
    configs = [index.get("config", {}) for index in indices]
    given = [config["trajectory"] for config in configs if "trajectory" in config]
    names = [name for each in given for name in (each.split(",") if isinstance(each, str) else ["file"])]
    return configs[0] | ({"trajectory": ",".join(dict.fromkeys(names))} if len(set(names)) > 1 else {})


def _fill(aside: Path, folders: list[Path], indices: list[dict[str, Any]]) -> None:
    records: list[dict[str, Any]] = []
    items: dict[str, CatalogueItem] = {}
    rejects: list[str] = []
    for folder, index in zip(folders, indices, strict=True):
        for shard in index["shards"]:
            name = f"shard-{len(records):06d}"
            source = folder / shard["name"]
            record = read_shard_record(source.with_suffix(".json"))
            if record is None or not is_whole(source, record):
                raise InputError(f"{source}: missing or cut off; render it again first")
            _link(source, aside / f"{name}.tar")
            records.append(record | {"shard": f"{name}.tar"})
            write_text(aside / f"{name}.json", to_json(records[-1]))
        if (folder / REJECTS).exists():
            rejects += (folder / REJECTS).read_text(encoding="utf-8").splitlines()
        items |= {item.uid: item for item in read_attribution(folder)}
    write_text(aside / REJECTS, "".join(f"{line}\n" for line in rejects))
    write_attribution(aside, items.values())
    first = indices[0]
    identity = {
        "kind": first["kind"],
        "mv3d": __version__,
        "config": _joined_config(indices),
        "objects": sum(index["objects"] for index in indices),
        "joined": [index["identity_sha256"] for index in indices],
    } | {key: first[key] for key in _NETWORKS if key in first}
    write_index(aside, identity, records, finished=True, scratch=aside)
    # Rejects of objects whose shard held nothing else are not in any record.
    document = json.loads((aside / INDEX).read_text(encoding="utf-8"))
    total = Counter[str]()
    for index in indices:
        total.update(index["rejected"])
    document["rejected"] = dict(sorted(total.items()))
    write_text(aside / INDEX, to_json(document))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
