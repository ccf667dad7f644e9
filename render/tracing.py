"""Rays against a model, through cut-out and translucent surfaces where it has any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from mv3d.render.raycast import embree_scene


@dataclass(frozen=True, eq=False)
class Crossings:
    """Where rays first met a face. face: (r,) int32, -1 where none. u, v: (r,) float32, weights of the second
    and third corner. distance: (r,) float32 in lengths of the direction. back: (r,) bool, met from behind."""

    face: Int[np.ndarray, " r"]
    u: Float[np.ndarray, " r"]
    v: Float[np.ndarray, " r"]
    distance: Float[np.ndarray, " r"]
    back: np.ndarray


class Caster(Protocol):
    """Whatever finds the nearest crossing of rays."""

    def first(self, origins: Float[np.ndarray, "r 3"], directions: Float[np.ndarray, "r 3"]) -> Crossings: ...


class Tracer:
    """Triangles in Embree's acceleration structure. Directions need not be unit vectors."""

    def __init__(self, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> None:
        self._scene, self._mesh = embree_scene(vertices, faces)

    def first(self, origins: Float[np.ndarray, "r 3"], directions: Float[np.ndarray, "r 3"]) -> Crossings:
        """The nearest crossing of each ray."""
        answer = self._scene.run(
            np.ascontiguousarray(origins, np.float32),
            np.ascontiguousarray(directions, np.float32),
            query="INTERSECT",
            output=True,
        )
        normal = answer["Ng"]
        # Embree's Ng points so that a face seen counter-clockwise has it towards the viewer.
        facing = normal[:, 0] * directions[:, 0]
        facing += normal[:, 1] * directions[:, 1]
        facing += normal[:, 2] * directions[:, 2]
        return Crossings(answer["primID"], answer["u"], answer["v"], answer["tfar"], facing > 0)
