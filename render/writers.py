"""The seam of mesh files: one writer a suffix. A new format is a module of its own and one entry of WRITERS.

Loads nothing heavy.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mv3d.core.errors import MissingPartError, OutputError, UsageError
from mv3d.core.installing import install_command

if TYPE_CHECKING:
    from mv3d.render.mesh import Mesh


@dataclass(frozen=True)
class WriteOptions:
    """How to write. name: of node, mesh and material. jpeg_quality: embed the texture of a glb, 3mf or usdz as JPEG
    instead of PNG. scale: multiplies the coordinates of an stl, which has no unit, and of a 3mf; slicers read
    millimetres. points: write a ply of so many points on the surface instead of the mesh. seed: of their places."""

    name: str = "mv3d"
    jpeg_quality: int | None = None
    scale: float = 1.0
    points: int | None = None
    seed: int = 0


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
    if options.points is not None:
        from mv3d.render.points import write_points  # noqa: PLC0415

        write_points(mesh, path, options)  # pyright: ignore[reportArgumentType]
        return
    from mv3d.render.mesh_io import write_ply  # noqa: PLC0415

    write_ply(mesh, path, options)  # pyright: ignore[reportArgumentType]


def _stl(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    from mv3d.render.mesh_io import write_stl  # noqa: PLC0415

    write_stl(mesh, path, options)  # pyright: ignore[reportArgumentType]


def _3mf(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    from mv3d.render.threemf import write_3mf  # noqa: PLC0415

    write_3mf(mesh, path, options)  # pyright: ignore[reportArgumentType]


def _usdz(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    from mv3d.render.usdz import write_usdz  # noqa: PLC0415

    write_usdz(mesh, path, options)  # pyright: ignore[reportArgumentType]


WRITERS: dict[str, MeshWriter] = {
    "glb": _glb,
    "obj": _obj,
    "ply": _ply,
    "stl": _stl,
    "3mf": _3mf,
    "usdz": _usdz,
}
"""Writer by suffix, without the dot."""
SIDE_FILES: dict[str, tuple[str, ...]] = {"obj": (".mtl", "_texture.png")}
"""What a format writes beside its file, as endings of the file's stem."""
NORMAL_MAP = "_normals.png"
"""What an obj with a normal map writes besides."""
POINT_FILES: dict[str, str] = {"ply-points": "points.ply"}
"""File by format of `--format`, of clouds of points."""
USD_HINT = f"a usdz needs the package usd-core, which is not installed; run: {install_command('usd-core')}"


def file_of(name: str) -> str:
    """The file of a format of `--format` that is made of a mesh."""
    return POINT_FILES.get(name, f"mesh.{name}")


def check_writers(formats: Iterable[str]) -> None:
    """Raise MissingPartError for formats whose package is not installed: before the work, not after it."""
    if "usdz" in formats and importlib.util.find_spec("pxr") is None:
        raise MissingPartError(f"--format usdz: {USD_HINT}")


def save_mesh(mesh: Mesh, path: str | os.PathLike[str], options: WriteOptions | None = None) -> Path:
    """Write a mesh; the suffix of `path` chooses the writer. Written aside, then renamed; the folder is made where it is
    missing.

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
    if options is not None and options.points is not None and suffix != ".ply":
        raise UsageError(f"points: expected only with .ply, got {path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another path") from error
    WRITERS[suffix[1:]](without_degenerate(mesh), path, options or WriteOptions())
    return path
