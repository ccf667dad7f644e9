"""The families of objects, and how often each is drawn: chairs above all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mv3d.orbits.procedural import (
    buildings,
    cars,
    chairs,
    composites,
    creatures,
    furniture,
    plants,
    soft_furniture,
    tools,
    toys,
    vehicles,
    vessels,
    wear,
)
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
        "armchair": Family(soft_furniture.armchair, 4),
        "sofa": Family(soft_furniture.sofa, 2),
        "table": Family(furniture.table, 4),
        "shelf": Family(furniture.shelf, 2),
        "cabinet": Family(furniture.cabinet, 2.5),
        "bed": Family(soft_furniture.bed, 1.5),
        "lamp": Family(soft_furniture.lamp, 2.5),
        "clock": Family(furniture.clock, 1),
        "mug": Family(vessels.mug, 4),
        "glass": Family(vessels.glass, 1),
        "bottle": Family(vessels.bottle, 2.5),
        "vase": Family(vessels.vase, 3),
        "bowl": Family(vessels.bowl, 2),
        "pot": Family(vessels.pot, 2),
        "teapot": Family(vessels.teapot, 2),
        "jar": Family(vessels.jar, 2),
        "car": Family(cars.car, 4),
        "truck": Family(cars.truck, 2),
        "train": Family(vehicles.train, 2),
        "boat": Family(vehicles.boat, 2),
        "plane": Family(vehicles.plane, 2),
        "hammer": Family(tools.hammer, 1),
        "screwdriver": Family(tools.screwdriver, 0.7),
        "wrench": Family(tools.wrench, 0.7),
        "saw": Family(tools.saw, 0.7),
        "axe": Family(tools.axe, 0.7),
        "brush": Family(tools.brush, 0.8),
        "bear": Family(creatures.bear, 2.5),
        "figure": Family(creatures.figure, 3),
        "animal": Family(creatures.animal, 3.5),
        "robot": Family(toys.robot, 2),
        "blocks": Family(toys.blocks, 1.5),
        "top": Family(toys.top, 1.5),
        "house": Family(buildings.house, 2.5),
        "tower": Family(buildings.tower, 1.5),
        "church": Family(buildings.church, 1),
        "castle": Family(buildings.castle, 1),
        "tree": Family(plants.tree, 1.5),
        "cactus": Family(plants.cactus, 1),
        "flower": Family(plants.flower, 1.5),
        "mushroom": Family(plants.mushroom, 1),
        "shoe": Family(wear.shoe, 3),
        "bag": Family(wear.bag, 2),
        "hat": Family(wear.hat, 1),
        "gift": Family(wear.gift, 1.5),
        "composite": Family(composites.composite, 8),
        "sculpture": Family(composites.sculpture, 2),
        "stack": Family(composites.stack, 3),
    }
)
