"""The seam of mesh files: one writer a suffix. A new format is a module of its own and one entry of WRITERS.

Loads nothing heavy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mv3d.core.errors import UsageError

if TYPE_CHECKING:
    from mv3d.render.mesh import Mesh


@dataclass(frozen=True)
class WriteOptions:
    """How to write. name: of node, mesh and material. jpeg_quality: embed the glb's texture as JPEG instead of PNG.
    scale: multiplies the coordinates of an stl, which has no unit; slicers read millimetres."""

    name: str = "mv3d"
    jpeg_quality: int | None = None
    scale: float = 1.0


class MeshWriter(Protocol):
    """Writes a mesh of faces with an area to `path`, whole or not at all. Raises OutputError."""

    def __call__(self, mesh: Mesh, path: Path, options: WriteOptions) -> None: ...


def _glb(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    from mv3d.render.mesh_io import write_glb  # noqa: PLC0415 - only where it is chosen

    write_glb(mesh, path, options)  # pyright: ignore[reportArgumentType]


def _obj(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    from mv3d.render.mesh_io import write_obj  # noqa: PLC0415

    write_obj(mesh, path, options)  # pyright: ignore[reportArgumentType]


def _ply(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    from mv3d.render.mesh_io import write_ply  # noqa: PLC0415

    write_ply(mesh, path, options)  # pyright: ignore[reportArgumentType]


def _stl(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    from mv3d.render.mesh_io import write_stl  # noqa: PLC0415

    write_stl(mesh, path, options)  # pyright: ignore[reportArgumentType]


WRITERS: dict[str, MeshWriter] = {"glb": _glb, "obj": _obj, "ply": _ply, "stl": _stl}
"""Writer by suffix, without the dot."""
SIDE_FILES: dict[str, tuple[str, ...]] = {"obj": (".mtl", "_texture.png")}
"""What a format writes beside its file, as endings of the file's stem."""
NORMAL_MAP = "_normals.png"
"""What an obj with a normal map writes besides."""


def save_mesh(mesh: Mesh, path: str | os.PathLike[str], options: WriteOptions | None = None) -> Path:
    """Write a mesh; the suffix of `path` chooses the writer. Written aside, then renamed.

    An obj comes with NAME.mtl, NAME_texture.png and, where there is a normal map, NAME_normals.png, or NAME.2.mtl and so on where another file has that name. Those of
    an earlier obj at `path`, if nobody changed them, are replaced.
    Raises UsageError for an unknown suffix, OutputError where the file cannot be written.
    """
    from mv3d.render.mesh_io import without_degenerate  # noqa: PLC0415 - as above

    path = Path(path)
    suffix = path.suffix.lower()
    if suffix[1:] not in WRITERS:
        known = ", ".join(f".{name}" for name in WRITERS)
        raise UsageError(f"{path.name}: expected one of {known}, got {suffix or 'no suffix'}")
    WRITERS[suffix[1:]](without_degenerate(mesh), path, options or WriteOptions())
    return path
