"""Rays of the Embree backend: what they meet is shaded, through cut-out and translucent surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mv3d.render.lightmap import LightMap
from mv3d.render.prefilter import LightField
from mv3d.render.raycast import RayScene
from mv3d.render.renderer import RenderSettings
from mv3d.render.sampling import RAYS, CameraRays, find_contrast, sample_offsets
from mv3d.render.shading import shade
from mv3d.render.surface import Points, Surface

LAYERS = 16
"""See-through surfaces behind one another."""
_CHUNK = 16384  # points shaded at a time: their arrays stay in the second-level cache


@dataclass(frozen=True, eq=False)
class Scene:
    surface: Surface
    rays: RayScene
    light: LightField
    lightmap: LightMap


class ShadedRays:
    """Rays shaded: premultiplied linear colour and albedo, alpha; one array a channel."""

    def __init__(self, count: int, *, albedo: bool) -> None:
        self.color = np.zeros((4, count), np.float32)
        self.albedo = np.zeros((3, count), np.float32) if albedo else None


def face_cosines(
    surface: Surface, points: Points, directions: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, " n"]:
    """Cosine between rays and the faces' own normals, without its sign."""
    x, y, z = (np.ascontiguousarray(directions[:, axis]) for axis in range(3))
    cosine = surface.ground[0].take(points.face) * x
    cosine += surface.ground[1].take(points.face) * y
    cosine += surface.ground[2].take(points.face) * z
    np.abs(cosine, out=cosine)
    x *= x
    x += y * y
    x += z * z
    cosine /= np.sqrt(x, out=x)
    # Rounding takes a ray that meets a face head-on past 1, where no angle has such a cosine.
    return np.minimum(cosine, np.float32(1), out=cosine)


def with_slope(points: Points, facing: np.ndarray) -> Points:
    """Footprints on slanted surfaces: longer by 1/cosine in one direction; the mean of the two is taken."""
    footprint = points.footprint / np.sqrt(np.maximum(facing, np.float32(0.05)))
    return Points(points.face, points.u, points.v, points.back, footprint)


def base_colors(surface: Surface, points: Points) -> Float[np.ndarray, "4 n"]:
    """`Surface.base` of many points."""
    base = np.empty((4, len(points.face)), np.float32)
    for start in range(0, len(points.face), _CHUNK):
        part = slice(start, start + _CHUNK)
        for channel, values in enumerate(surface.base(points.part(part))):
            base[channel, part] = values
    return base


def refine_base(
    scene: Scene,
    camera: CameraRays,
    base: Float[np.ndarray, "4 n"],
    points: Points,
    pixels: Int[np.ndarray, " n"],
    shape: tuple[int, int],
    corner: tuple[int, int],
    settings: RenderSettings,
) -> None:
    """Where the base colour changes from pixel to pixel, take the mean of all samples' base colours: shading is
    linear in it, and on a smooth surface the rest is the same over a pixel."""
    whole = np.zeros((3, shape[0] * shape[1]), np.float32)
    whole[:, pixels] = base[:3]
    place = np.zeros(whole.shape[1], np.int32)
    place[pixels] = np.arange(len(pixels), dtype=np.int32)
    busy = place[find_contrast(whole, pixels, shape)]
    count = settings.samples
    offsets = sample_offsets(count, settings.seed).astype(np.float32)
    for start in range(0, len(busy), max(1, RAYS // count)):
        some = busy[start : start + max(1, RAYS // count)]
        ys, xs = np.divmod(pixels[some], shape[1])
        x = ((xs + corner[0]).astype(np.float32)[:, None] + offsets[:, 0]).reshape(-1)
        y = ((ys + corner[1]).astype(np.float32)[:, None] + offsets[:, 1]).reshape(-1)
        hits = camera.trace(scene.rays, camera.directions(x, y))
        met = np.flatnonzero(hits.face >= 0)
        footprint = np.repeat(points.footprint[some], count)[met] / np.float32(np.sqrt(count))
        part = Points(hits.face[met], hits.u[met], hits.v[met], hits.back[met], footprint)
        colors = base_colors(scene.surface, part)
        owner = met // count
        found = np.bincount(owner, minlength=len(some))
        seen = np.flatnonzero(found)
        for channel in range(3):
            total = np.bincount(owner, colors[channel], len(some))
            base[channel, some[seen]] = total[seen] / found[seen]


def shade_points(
    scene: Scene,
    points: Points,
    directions: Float[np.ndarray, "n 3"],
    settings: RenderSettings,
    albedo: bool,
    colors: Float[np.ndarray, "4 n"] | None = None,
) -> ShadedRays:
    """Straight colour and alpha at points; `colors`: their base colours, where they are known."""
    shaded = ShadedRays(len(points.face), albedo=albedo)
    for start in range(0, len(points.face), _CHUNK):
        part = slice(start, start + _CHUNK)
        some = points.part(part)
        towards = directions[part]
        inverse = 1 / np.sqrt(towards[:, 0] ** 2 + towards[:, 1] ** 2 + towards[:, 2] ** 2)
        view = [towards[:, axis] * -inverse for axis in range(3)]
        base = scene.surface.base(some) if colors is None else list(colors[:, part])
        normal = scene.surface.normal(some)
        color = shade(
            scene.surface,
            scene.light,
            scene.lightmap,
            some,
            view,
            normal,
            base,
            diffuse_only=settings.diffuse_only,
        )
        for channel in range(3):
            shaded.color[channel, part] = color[channel]
            if shaded.albedo is not None:
                shaded.albedo[channel, part] = base[channel]
        shaded.color[3, part] = base[3]
    return shaded


def shade_samples(
    scene: Scene,
    camera: CameraRays,
    pixels: np.ndarray,
    xs: np.ndarray,
    ys: np.ndarray,
    settings: RenderSettings,
    result: ShadedRays,
) -> None:
    """All samples of the given pixels; their mean goes into `result`."""
    offsets = sample_offsets(settings.samples, settings.seed).astype(np.float32)
    step = max(1, RAYS // settings.samples)
    for start in range(0, len(pixels), step):
        some = pixels[start : start + step]
        x = (xs[some][:, None] + offsets[:, 0]).reshape(-1)
        y = (ys[some][:, None] + offsets[:, 1]).reshape(-1)
        directions = camera.directions(x, y)
        shaded = _through_layers(scene, camera, directions, settings, result.albedo is not None)
        for sums, values in ((result.color, shaded.color), (result.albedo, shaded.albedo)):
            if sums is not None and values is not None:
                for plane, value in zip(sums, values, strict=True):
                    by_pixel = value.reshape(len(some), settings.samples)
                    mean = by_pixel[:, 0].copy()
                    for sample in range(1, settings.samples):
                        mean += by_pixel[:, sample]
                    mean *= np.float32(1 / settings.samples)
                    plane[some] = mean


def _through_layers(
    scene: Scene, camera: CameraRays, directions: np.ndarray, settings: RenderSettings, albedo: bool
) -> ShadedRays:
    """Rays through see-through surfaces, composited front to back: premultiplied colour and alpha."""
    surface = scene.surface
    result = ShadedRays(len(directions), albedo=albedo)
    active = np.arange(len(directions))
    passed = np.zeros(len(directions), np.float32)
    remaining = np.ones(len(directions), np.float32)
    pixel = camera.pixel / np.float32(np.sqrt(settings.samples))
    for layer in range(LAYERS):
        towards = directions[active]
        origins = camera.center + towards * passed[active][:, None]
        hits = scene.rays.first_hits(origins, towards)
        met = np.flatnonzero(hits.face >= 0)
        active, towards = active[met], towards[met]
        if not len(active):
            break
        distance = hits.distance[met] + passed[active]
        points = Points(hits.face[met], hits.u[met], hits.v[met], hits.back[met], distance * pixel)
        facing = face_cosines(surface, points, towards)
        shaded = shade_points(scene, with_slope(points, facing), towards, settings, albedo)
        if layer == 0 and not (surface.has_see_through or settings.backfaces == "cull"):
            result.color[:3, active] = shaded.color[:3]
            result.color[3, active] = 1
            if result.albedo is not None and shaded.albedo is not None:
                result.albedo[:, active] = shaded.albedo
            break
        alpha = shaded.color[3]
        if settings.backfaces == "cull":
            alpha = np.where(points.back & surface.single_sided[points.face], np.float32(0), alpha)
        weight = remaining[active] * alpha
        for channel in range(3):
            result.color[channel, active] += shaded.color[channel] * weight
            if result.albedo is not None and shaded.albedo is not None:
                result.albedo[channel, active] += shaded.albedo[channel] * weight
        result.color[3, active] += weight
        remaining[active] -= weight
        passed[active] = distance * np.float32(1 + 1e-5)
        active = active[remaining[active] > 1 / 512]
        if not len(active):
            break
    return result
