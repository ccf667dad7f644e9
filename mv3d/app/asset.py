"""What a path holds that can be looked at: a mesh, views of it, and what the records say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mv3d.app.splats import holds_splats
from mv3d.core.errors import InputError
from mv3d.core.locking import mend
from mv3d.core.outputs import unchanged
from mv3d.core.records import read_document, read_record
from mv3d.render.loading import MODEL_SUFFIXES
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh
from mv3d.views.folder import SOLID_FILE
from mv3d.views.readers import load_views
from mv3d.views.views import Views

RECORDS = ("run.json", "recon.json")
SPLATS_FILES = ("splats.ply", "splats.spz", "splats.splat")
# By what they keep of the world of the views and of the colours; an stl for printing is in millimetres.
_MESH_FILES = ("mesh.glb", "mesh.obj", "mesh.ply", SOLID_FILE, "mesh.stl")
_CAMERA_FILES = ("transforms.json", "transforms_train.json")


@dataclass(frozen=True, eq=False)
class Asset:
    """One object as files: a mesh, posed views, or both in one world.

    name: of the folder or the file. mesh_file: what `mesh` was read from. turntable: the video that was made of this very
    mesh, by the record that lists both. splats: a file of 3D Gaussians. records: run.json and recon.json, where there are
    any, by their names.
    """

    name: str
    mesh: Mesh | None = None
    mesh_file: Path | None = None
    views: Views | None = None
    turntable: Path | None = None
    splats: Path | None = None
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_asset(path: Path) -> Asset:
    """Read a file of a mesh or of 3D Gaussians, or a folder with a mesh, views, or both.

    Raises InputError where there is neither, and where a file cannot be used.
    """
    mend(path, path.parent)
    if not path.exists():
        raise InputError(f"{path}: expected a folder of views or a 3D file, found nothing there")
    if path.is_file():
        if holds_splats(path):
            return Asset(path.stem, splats=path)
        if path.suffix.lower() not in MODEL_SUFFIXES:
            raise InputError(
                f"{path}: expected a folder, or a {', '.join(MODEL_SUFFIXES)}, .splat or .spz file, got {path.suffix or 'no suffix'}"
            )
        return Asset(path.stem, load_mesh(path), path)
    mesh_file = next((path / name for name in _MESH_FILES if (path / name).is_file()), None)
    posed = any((path / name).is_file() for name in _CAMERA_FILES)
    splats = next((path / name for name in SPLATS_FILES if (path / name).is_file()), None)
    if mesh_file is None and splats is None and not posed:
        raise InputError(
            f"{path}: expected a mesh ({', '.join(_MESH_FILES)}) or views (transforms.json), found neither"
        )
    found = {name: read_document(path / name) for name in RECORDS}
    return Asset(
        path.resolve().name,
        None if mesh_file is None else load_mesh(mesh_file),
        mesh_file,
        load_views(path) if posed else None,
        None if mesh_file is None else _turntable(mesh_file),
        splats,
        {name: document for name, document in found.items() if document is not None},
    )


def _turntable(mesh_file: Path) -> Path | None:
    video = mesh_file.with_name("turntable.mp4")
    for name in RECORDS:
        record = read_record(mesh_file.with_name(name))
        if record is not None and {mesh_file.name, video.name} <= set(unchanged(mesh_file.parent, record)):
            return video
    return None
