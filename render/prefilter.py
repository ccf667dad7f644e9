"""What an environment does to a surface: irradiance, glossy reflection, and a cut of the sphere into lights.

Functions of direction are kept as octahedral maps (Cigolle et al., "Survey of Efficient Representations for
Independent Unit Vectors", JCGT 2014) with a border of one texel, so that a bilinear look-up needs no wrap.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from mv3d.render.environment import Environment, texel_directions, texel_solid_angles
from mv3d.render.mesh import unit_vectors

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True, eq=False)
class OctaMap:
    """A function of direction. planes: (c, (size + 2)²) float32; texels row by row, borders included."""

    size: int
    planes: Float[np.ndarray, "c t"]

    def sample(
        self, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], z: Float[np.ndarray, " n"]
    ) -> list[Float[np.ndarray, " n"]]:
        """Bilinear values in unit directions, one array a channel."""
        scale = np.float32(1) / (np.abs(x) + np.abs(y) + np.abs(z))
        u, v = x * scale, y * scale
        below = z < 0
        if below.any():
            folded_u = np.copysign(1 - np.abs(v), u)
            folded_v = np.copysign(1 - np.abs(u), v)
            u, v = np.where(below, folded_u, u), np.where(below, folded_v, v)
        half = np.float32(self.size / 2)
        u, v = u * half + np.float32(half + 0.5), v * half + np.float32(half + 0.5)
        i, j = u.astype(np.int32), v.astype(np.int32)
        u -= i
        v -= j
        corner = j * np.int32(self.size + 2) + i
        return bilinear(self.planes, corner, self.size + 2, u, v)


def bilinear(
    planes: Iterable[Float[np.ndarray, " t"]],
    corner: Int[np.ndarray, " n"],
    row: int | Int[np.ndarray, " n"],
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
) -> list[Float[np.ndarray, " n"]]:
    """Values of each plane at x and y in [0, 1] from texel `corner`; texel `corner + row` is the one below it."""
    taps = (
        (corner, (1 - x) * (1 - y)),
        (corner + 1, x * (1 - y)),
        (corner + row, (1 - x) * y),
        (corner + row + 1, x * y),
    )
    result = []
    for plane in planes:
        total = plane.take(taps[0][0])
        total *= taps[0][1]
        for index, weight in taps[1:]:
            tap = plane.take(index)
            tap *= weight
            total += tap
        result.append(total)
    return result


def octa_directions(size: int) -> Float[np.ndarray, "t 3"]:
    """Unit directions of the texels of an octahedral map of `size`, borders included."""
    line = (np.arange(-1, size + 1) + 0.5) / size * 2 - 1
    v, u = np.meshgrid(line, line, indexing="ij")
    over = np.abs(u) > 1  # beyond an edge the map continues turned by 180 degrees
    u, v = np.where(over, np.sign(u) * 2 - u, u), np.where(over, -v, v)
    over = np.abs(v) > 1
    u, v = np.where(over, -u, u), np.where(over, np.sign(v) * 2 - v, v)
    z = 1 - np.abs(u) - np.abs(v)
    x = np.where(z < 0, np.copysign(1 - np.abs(v), u), u)
    y = np.where(z < 0, np.copysign(1 - np.abs(u), v), v)
    directions = np.stack([x, y, z], -1).reshape(-1, 3)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class LightCut:
    """The sphere cut into cells of about equal importance, each one light.

    directions: (m, 3) unit, towards the light. radiance: (m, 3) integral of the radiance over the cell.
    solid_angle: (m,) steradians, 4π in total.
    """

    directions: Float[np.ndarray, "m 3"]
    radiance: Float[np.ndarray, "m 3"]
    solid_angle: Float[np.ndarray, " m"]


class LightField:
    """An environment prepared for shading; maps are made when first asked for."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._glossy: dict[int, OctaMap] = {}

    @cached_property
    def _small(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Directions (t, 3), solid angles (t,) and mean radiances (t, 3) of at most 64 × 128 texels."""
        radiance = self.environment.radiance.astype(np.float64)
        height, width = radiance.shape[:2]
        directions, angles = texel_directions(height, width), texel_solid_angles(height, width)
        rows = np.minimum(np.arange(height) * min(height, 64) // height, 63)
        columns = np.minimum(np.arange(width) * min(width, 128) // width, 127)
        cell = (rows[:, None] * (columns[-1] + 1) + columns[None]).reshape(-1)
        count = int(cell.max()) + 1
        weight = angles.reshape(-1)
        area = np.bincount(cell, weight, count)
        # The direction of a cell is that of its light, so that a small sun stays where it is.
        luminance = (radiance @ _LUMINANCE).reshape(-1)
        pull = weight * (luminance + 1e-6 + 1e-3 * luminance.mean())
        center = _sums(cell, pull, directions, count)
        center /= np.linalg.norm(center, axis=1, keepdims=True)
        mean = _sums(cell, weight, radiance, count)
        return center, area, mean / area[:, None]

    @cached_property
    def irradiance(self) -> OctaMap:
        """E(n) = ∫ L(ω) max(n·ω, 0) dω, without occlusion, divided by π: a white surface's radiance."""
        directions, area, mean = self._small
        size = 64
        flux = (mean * (area / np.pi)[:, None]).astype(np.float32)
        # Discrete cells do not quite integrate the cosine to π; the last column takes that error out.
        flux = np.concatenate([flux, (area / np.pi).astype(np.float32)[:, None]], 1)
        normals, towards = octa_directions(size).astype(np.float32), directions.T.astype(np.float32)
        result = np.empty((len(normals), 4), np.float32)
        for start in range(0, len(normals), 256):  # bounds the memory
            cosine = normals[start : start + 256] @ towards
            np.maximum(cosine, 0, out=cosine)
            result[start : start + 256] = cosine @ flux
        return OctaMap(size, np.ascontiguousarray((result[:, :3] / result[:, 3:]).T))

    def glossy(self, roughness: float) -> OctaMap:
        """The environment seen in a GGX mirror of that roughness, view along the normal (the first sum of
        Karis, "Real Shading in Unreal Engine 4", 2013); made once for each of 33 steps of roughness."""
        step = round(float(np.clip(roughness, 0, 1)) * 32)
        if step not in self._glossy:
            self._glossy[step] = self._prefilter(step / 32)
        return self._glossy[step]

    @cached_property
    def _pyramid(self) -> list[np.ndarray]:
        """The environment at half the size each, down to 2 rows."""
        levels = [self.environment.radiance]
        while levels[-1].shape[0] >= 4 and levels[-1].shape[1] >= 4:
            last = levels[-1][: levels[-1].shape[0] // 2 * 2, : levels[-1].shape[1] // 2 * 2]
            levels.append(last.reshape(last.shape[0] // 2, 2, last.shape[1] // 2, 2, 3).mean((1, 3)))
        return levels

    def _prefilter(self, roughness: float, samples: int = 48) -> OctaMap:
        size = 128 if roughness < 0.3 else 48
        normal = octa_directions(size)
        base_angle = 4 * np.pi / (self._pyramid[0].shape[0] * self._pyramid[0].shape[1])
        if roughness < 0.03:
            texel = 4 * np.pi / size**2
            level = 0.5 * np.log2(max(texel / base_angle, 1))
            return OctaMap(size, np.ascontiguousarray(self._lookup(normal, level).T, np.float32))
        alpha = roughness**2
        first = (np.arange(samples) + 0.5) / samples
        turn = 2 * np.pi * ((np.arange(samples) * 0.6180339887) % 1)
        cos_h = np.sqrt((1 - first) / (1 + (alpha**2 - 1) * first))
        sin_h = np.sqrt(np.maximum(1 - cos_h**2, 0))
        density = alpha**2 / (np.pi * ((alpha**2 - 1) * cos_h**2 + 1) ** 2) / 4
        local = np.stack(
            [2 * cos_h * sin_h * np.cos(turn), 2 * cos_h * sin_h * np.sin(turn), 2 * cos_h**2 - 1], 1
        )
        helper = np.where(np.abs(normal[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
        tangent = np.cross(helper, normal)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        bitangent = np.cross(normal, tangent)
        total, weight = np.zeros((len(normal), 3)), 0.0
        for (x, y, z), pdf in zip(local, density, strict=True):
            if z <= 0:
                continue
            level = 0.5 * np.log2(max(1 / (samples * pdf * base_angle), 1)) + 0.5
            total += z * self._lookup(x * tangent + y * bitangent + z * normal, level)
            weight += z
        return OctaMap(size, np.ascontiguousarray((total / weight).T, np.float32))

    def _lookup(self, directions: Float[np.ndarray, "n 3"], level: float) -> Float[np.ndarray, "n 3"]:
        image = self._pyramid[min(round(level), len(self._pyramid) - 1)]
        return sample_equirect(image, directions)

    def cut(self, count: int) -> LightCut:
        """Cut the sphere into at most `count` cells, as median cut does (Debevec, "A Median Cut Algorithm for
        Light Probe Sampling", 2005), half of the importance by light and half by solid angle, so that the
        cells also serve to gather light from surfaces."""
        directions, area, mean = self._small
        height = min(self.environment.radiance.shape[0], 64)
        width = len(area) // height
        luminance = mean @ _LUMINANCE
        average = (luminance * area).sum() / (4 * np.pi)
        importance = (area * (0.5 + 0.5 * luminance / max(average, 1e-12))).reshape(height, width)
        sine = np.sin((np.arange(height) + 0.5) / height * np.pi)
        # A heap of rectangles (top, bottom, left, right); the most important one is cut next.
        heap = [(-importance.sum(), (0, height, 0, width))]
        done = []
        while heap and len(heap) + len(done) < count:
            _, (top, bottom, left, right) = heapq.heappop(heap)
            if bottom - top == 1 and right - left == 1:
                done.append((top, bottom, left, right))
                continue
            part = importance[top:bottom, left:right]
            wide = (right - left) * sine[(top + bottom) // 2] * np.pi * 2 / width
            across = right - left > 1 and (wide > (bottom - top) * np.pi / height or bottom - top == 1)
            running = np.cumsum(part.sum(0 if across else 1))
            middle = int(np.clip(np.argmin(np.abs(running - running[-1] / 2)) + 1, 1, len(running) - 1))
            halves = (
                ((top, bottom, left, left + middle), (top, bottom, left + middle, right))
                if across
                else ((top, top + middle, left, right), (top + middle, bottom, left, right))
            )
            for half in halves:
                heapq.heappush(heap, (-importance[half[0] : half[1], half[2] : half[3]].sum(), half))
        cells = done + [rectangle for _, rectangle in heap]
        owner = np.zeros((height, width), np.int64)
        for index, (top, bottom, left, right) in enumerate(cells):
            owner[top:bottom, left:right] = index
        owner = owner.reshape(-1)
        weight = importance.reshape(-1)
        middle = unit_vectors(_sums(owner, weight, directions, len(cells)), least=1e-9)
        light = _sums(owner, area, mean, len(cells))
        return LightCut(middle, light, np.bincount(owner, area, len(cells)))


def _sums(
    group: Int[np.ndarray, " n"], weight: Float[np.ndarray, " n"], vectors: np.ndarray, count: int
) -> Float[np.ndarray, "g 3"]:
    """Weighted sum of the vectors of each group."""
    return np.stack([np.bincount(group, weight * column, count) for column in vectors.reshape(-1, 3).T], 1)


def sample_equirect(
    image: Float[np.ndarray, "h w c"], directions: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n c"]:
    """Bilinear radiance of an equirectangular picture (see `mv3d.render.environment`) in unit directions."""
    height, width = image.shape[:2]
    column = (0.5 - np.arctan2(directions[:, 1], directions[:, 0]) / (2 * np.pi)) * width - 0.5
    row = np.arccos(np.clip(directions[:, 2], -1, 1)) / np.pi * height - 0.5
    j, i = np.floor(column).astype(np.int64), np.floor(np.clip(row, 0, height - 1)).astype(np.int64)
    x, y = (column - j)[:, None], (np.clip(row, 0, height - 1) - i)[:, None]
    below = np.minimum(i + 1, height - 1)
    j, right = j % width, (j + 1) % width
    top = image[i, j] * (1 - x) + image[i, right] * x
    bottom = image[below, j] * (1 - x) + image[below, right] * x
    return top * (1 - y) + bottom * y
