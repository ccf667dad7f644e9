"""The families of objects, and how often each is drawn: chairs above all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mv3d.orbits.procedural import chairs, furniture, vessels
from mv3d.orbits.procedural.pieces import Piece

Maker = Callable[[np.random.Generator], list[Piece]]


@dataclass(frozen=True)
class Family:
    """make: pieces of one object, whatever its size and place. weight: share among all."""

    make: Maker
    weight: float


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "chair": Family(chairs.chair, 20),
        "stool": Family(chairs.stool, 3),
        "armchair": Family(furniture.armchair, 4),
        "sofa": Family(furniture.sofa, 2),
        "table": Family(furniture.table, 4),
        "shelf": Family(furniture.shelf, 2),
        "cabinet": Family(furniture.cabinet, 2.5),
        "bed": Family(furniture.bed, 1.5),
        "lamp": Family(furniture.lamp, 2.5),
        "clock": Family(furniture.clock, 1),
        "mug": Family(vessels.mug, 4),
        "glass": Family(vessels.glass, 1),
        "bottle": Family(vessels.bottle, 2.5),
        "vase": Family(vessels.vase, 3),
        "bowl": Family(vessels.bowl, 2),
        "pot": Family(vessels.pot, 2),
        "teapot": Family(vessels.teapot, 2),
        "jar": Family(vessels.jar, 2),
    }
)
