"""Parts of a model gathered while a file is read, and joined into one `Model`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mv3d.core.errors import InputError
from mv3d.render.limits import LoadLimits
from mv3d.render.load_warnings import LoadWarningName, WarningLog
from mv3d.render.mesh import face_normals, unit_vectors
from mv3d.render.model import Material, Model, without_picture


@dataclass(frozen=True, eq=False)
class Part:
    """Triangles of one material. normals None: flat shading (vertices are split by face). more_uv: further sets of
    texture coordinates, for textures that lie on another one than the first."""

    vertices: np.ndarray
    faces: np.ndarray
    material: int
    normals: np.ndarray | None = None
    uv: np.ndarray | None = None
    colors: np.ndarray | None = None
    more_uv: tuple[np.ndarray, ...] = ()


class Assembly:
    """Counts parts against the limits as they come, so that no file can grow without bound."""

    def __init__(self, name: str, limits: LoadLimits, warnings: WarningLog | None = None) -> None:
        self.name, self.limits = name, limits
        self._warnings = WarningLog() if warnings is None else warnings
        self.parts: list[Part] = []
        self._faces = self._vertices = 0

    def add(self, part: Part) -> None:
        """Take one part. Raises InputError for an index out of range, NaN or infinity, or too much of it."""
        faces, vertices = part.faces, part.vertices
        if not len(faces):
            return
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise InputError(
                f"{self.name}: expected vertex indices in 0..{len(vertices) - 1}, got {faces.min()}..{faces.max()}"
            )
        named = [("vertices", vertices), ("normals", part.normals), ("texture coordinates", part.uv)]
        named += [("texture coordinates", values) for values in part.more_uv]
        for what, values in named:
            if values is None:
                continue
            if len(values) != len(vertices):
                raise InputError(f"{self.name}: expected {len(vertices)} {what}, got {len(values)}")
            if not np.isfinite(values).all():
                raise InputError(f"{self.name}: {what}: expected finite numbers, got NaN or infinity")
            # Sums and squares must stay finite in float32.
            if np.abs(values).max() > 1e15:
                raise InputError(
                    f"{self.name}: {what}: expected numbers below 1e15, got {np.abs(values).max():.0e}"
                )
        if part.normals is None:
            part = _split_flat(part)
        self._faces += len(part.faces)
        self._vertices += len(part.vertices)
        self.check_room(0, 0)
        if len(self.parts) >= self.limits.nodes:
            raise InputError(f"{self.name}: expected at most {self.limits.nodes} parts, got more; merge them")
        self.parts.append(part)

    def check_room(self, faces: int, vertices: int) -> None:
        """Raise InputError where that many more would be too many."""
        for what, count, most in (
            ("faces", self._faces + faces, self.limits.faces),
            ("vertices", self._vertices + vertices, self.limits.vertices),
        ):
            if count > most:
                raise InputError(
                    f"{self.name}: expected at most {most:,} {what} with instances expanded, got {count:,} or "
                    "more; simplify the mesh"
                )

    def model(self, materials: tuple[Material, ...]) -> Model:
        """Everything joined; materials that no face uses are left out, and pictures of parts without texture
        coordinates, with a warning. Raises InputError where there is no face."""
        parts, materials = self._without_pictures(materials)
        if not parts:
            raise InputError(
                f"{self.name}: expected at least one face, got none (points and lines are not drawn)"
            )
        used = sorted({part.material for part in parts})
        number = {old: new for new, old in enumerate(used)}
        starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
        faces = [part.faces + start for part, start in zip(parts, starts, strict=True)]
        return Model(
            np.concatenate([part.vertices for part in parts]).astype(np.float32),
            np.concatenate(faces).astype(np.int32),
            np.concatenate([part.normals for part in parts if part.normals is not None]),
            _joined(parts, [part.uv for part in parts], (0, 0)),
            _joined(parts, [part.colors for part in parts], (1, 1, 1, 1)),
            np.concatenate([np.full(len(part.faces), number[part.material], np.int32) for part in parts]),
            tuple(materials[index] for index in used),
            more_uv=_more_uv(parts),
        )

    def _without_pictures(self, materials: tuple[Material, ...]) -> tuple[list[Part], tuple[Material, ...]]:
        """Parts without texture coordinates get materials of their own, as pictures that cannot be used leave them."""
        every, bare = list(materials), dict[int, int]()
        parts: list[Part] = []
        for part in self.parts:
            material = materials[part.material]
            if part.uv is not None or not material.textures:
                parts.append(part)
                continue
            if part.material not in bare:
                bare[part.material] = len(every)
                every.append(_bare(material))
                name: LoadWarningName = "missing_detail"
                if material.base_color_texture is not None or material.emissive_texture is not None:
                    name = "unusable_texture"
                self._warnings.add(
                    name, f"{material.name[:80] or 'a material'}: its pictures have no texture coordinates"
                )
            parts.append(replace(part, material=bare[part.material]))
        return parts, tuple(every)


def _bare(material: Material) -> Material:
    """The material as it is without its pictures."""
    for slot in material.textures:
        material = replace(without_picture(material, slot), **{slot: None})
    return material


def _joined(
    parts: list[Part], values: list[np.ndarray | None], default: tuple[float, ...]
) -> np.ndarray | None:
    """An attribute of all vertices, the default for parts without it; None where no part has it."""
    if all(value is None for value in values):
        return None
    filling = np.array([default], np.float32)
    found = (
        np.repeat(filling, len(part.vertices), 0) if value is None else value
        for part, value in zip(parts, values, strict=True)
    )
    return np.concatenate([value.astype(np.float32) for value in found])


def _more_uv(parts: list[Part]) -> tuple[np.ndarray, ...]:
    """The further sets of texture coordinates, as many as the part with most has."""
    sets = []
    for number in range(max(len(part.more_uv) for part in parts)):
        values = [part.more_uv[number] if number < len(part.more_uv) else None for part in parts]
        joined = _joined(parts, values, (0, 0))
        assert joined is not None  # the longest has it
        sets.append(joined)
    return tuple(sets)


def _split_flat(part: Part) -> Part:
    corners = part.faces.reshape(-1)
    normal = unit_vectors(face_normals(part.vertices, part.faces), least=1e-30)
    return replace(
        part,
        vertices=part.vertices[corners],
        faces=np.arange(len(corners), dtype=np.int64).reshape(-1, 3),
        normals=np.repeat(normal, 3, 0).astype(np.float32),
        uv=None if part.uv is None else part.uv[corners],
        colors=None if part.colors is None else part.colors[corners],
        more_uv=tuple(uv[corners] for uv in part.more_uv),
    )
