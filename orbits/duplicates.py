"""The same object twice, under whatever name and in whatever file.

Hashes (`mv3d.render.fingerprint`) find exact copies. The signature finds copies that were turned, mirrored,
scaled, rounded by a text format or had their triangles reordered: numbers of the surface that do not depend on
its place, size, rotation or triangle order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from mv3d.core.errors import UsageError
from mv3d.orbits.parts import face_areas
from mv3d.render.fingerprint import geometry_hash, texture_hash
from mv3d.render.model import Model

SIGNATURE_LENGTH = 14
SIGNATURE_TOLERANCE = 1e-3
_QUANTILES = np.linspace(0.05, 0.95, 10)


@dataclass(frozen=True)
class Fingerprint:
    """geometry, texture: hashes. signature: see `shape_signature`."""

    geometry: str
    texture: str
    signature: tuple[float, ...]


def fingerprint(model: Model) -> Fingerprint:
    """Raises InputError for a model without faces or without a size."""
    geometry = geometry_hash(model)
    return Fingerprint(geometry, texture_hash(model), tuple(shape_signature(model).tolist()))


def shape_signature(model: Model) -> Float[np.ndarray, " 14"]:
    """Area and enclosed volume over powers of the radius of gyration of the surface, its two smaller principal
    moments as shares of the whole, and ten quantiles of the distance of the triangles from the centre.

    The moments are exact for triangles: ∫x·xᵀ = area/12 · (Σ vᵢ·vᵢᵀ + 9·m·mᵀ) with m the middle of the triangle.
    Degenerate surfaces give zeros.
    """
    corners = model.triangles.astype(np.float64)
    corners -= corners.reshape(-1, 3).mean(0)  # keeps the squares small
    areas = face_areas(corners.reshape(-1, 3), np.arange(len(corners) * 3).reshape(-1, 3))
    total = areas.sum()
    if not total > 0:
        return np.zeros(SIGNATURE_LENGTH)
    corners -= np.average(corners.mean(1), axis=0, weights=areas)
    middle = corners.mean(1)
    flat = corners.reshape(-1, 3)
    moments = (flat * np.repeat(areas, 3)[:, None]).T @ flat + 9 * (middle * areas[:, None]).T @ middle
    moments /= 12 * total
    radius = np.sqrt(np.trace(moments))
    volume = abs((corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum()) / 6
    shares = np.linalg.eigvalsh(moments)[:2] / radius**2
    distance = np.linalg.norm(middle, axis=1) / radius
    order = np.argsort(distance)
    heap = np.cumsum(areas[order]) / total
    quantiles = np.interp(_QUANTILES, heap, distance[order])
    return np.concatenate([[np.sqrt(total) / radius, np.cbrt(volume) / radius], shares, quantiles])


def same_shape(a: Float[np.ndarray, "... 14"], b: Float[np.ndarray, " 14"]) -> Bool[np.ndarray, ...]:
    """Whether signatures agree in every number, within 10⁻³."""
    return np.asarray((np.abs(np.asarray(a) - np.asarray(b)) <= SIGNATURE_TOLERANCE).all(-1))


@dataclass
class DuplicateIndex:
    """What came already. The first one stays, so the outcome depends on the order: add in that of the list.

    variants: "keep" takes the same shape in other colours as another object, "reject" does not.
    """

    variants: Literal["keep", "reject"] = "keep"
    _first: dict[tuple[str, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.variants not in ("keep", "reject"):
            raise UsageError(f"--variants: expected keep or reject, got {self.variants}")

    def add(self, uid: str, found: Fingerprint) -> str | None:
        """Note an object. The uid of the earlier one that it repeats, or None."""
        key = (found.geometry, found.texture) if self.variants == "keep" else (found.geometry,)
        first = self._first.setdefault(key, uid)
        return None if first == uid else first
