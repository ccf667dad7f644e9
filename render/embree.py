"""The default backend: Embree ray casting on the CPU.

An object is prepared once (acceleration structure, texture pyramids, light baked onto its surface) and then seen
from all cameras. Anti-aliasing is adaptive: every pixel gets a ray through its centre; pixels in which the
surface has an edge (silhouette, crease, overlap, change of material or of texture chart, anything see-through)
are replaced by the mean of all their `samples` rays; in the others the surface is smooth and its texture is
filtered over the pixel. `EmbreeRenderer(adaptive=False)` casts all rays everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mv3d.core.colors import encode_srgb
from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras
from mv3d.render.environment import Environment
from mv3d.render.lightmap import LightMap
from mv3d.render.lightmap_baking import bake_lightmap, pieces
from mv3d.render.model import Model
from mv3d.render.prefilter import LightField
from mv3d.render.ray_shading import (
    LAYERS,
    Scene,
    ShadedRays,
    base_colors,
    face_cosines,
    refine_base,
    shade_points,
    shade_samples,
    with_slope,
)
from mv3d.render.raycast import Hits, RayScene
from mv3d.render.renderer import Output, Rendered, RenderSettings
from mv3d.render.sampling import CameraRays, find_contrast, find_edges, window_of
from mv3d.render.surface import Channels, Points, Surface

_PROBES = 144  # rays along a side of a view that find out which surfaces are seen from behind
_GATHER_SPACING = 96  # points of baked light along the largest side of the object


def _blank(shape: tuple[int, ...], outputs: tuple[Output, ...]) -> Rendered:
    """Pictures in which nothing is. shape: (n, h, w), or (h, w) for one view, without the first axis."""
    return Rendered(
        np.zeros((*shape, 4), np.float32),
        np.full(shape, np.inf, np.float32) if "depth" in outputs else None,
        np.zeros((*shape, 3), np.float32) if "normals" in outputs else None,
        np.zeros((*shape, 3), np.float32) if "albedo" in outputs else None,
    )


@dataclass(frozen=True)
class EmbreeRenderer:
    """See `mv3d.render.renderer.Renderer`. adaptive: see the module."""

    adaptive: bool = True

    def render(
        self, model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
    ) -> Rendered:
        """Pictures of the model from every camera. Raises InputError for a model without faces."""
        rendered = _blank((len(cameras), cameras.height, cameras.width), settings.outputs)
        for view, frame in enumerate(self.frames(model, cameras, environment, settings)):
            for whole, part in zip(vars(rendered).values(), vars(frame).values(), strict=True):
                if whole is not None:
                    whole[view] = part
        return rendered

    def frames(
        self, model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
    ) -> Iterator[Rendered]:
        """The views one by one, without the first axis, so that no more than one is in memory."""
        if not len(model.faces):
            raise InputError("model: expected at least one face, got none")
        scene = _prepare(model, cameras, environment, settings)
        for view in range(len(cameras)):
            yield _render_view(scene, cameras, view, settings, self.adaptive)


class _SolidCaster:
    """First hits of what casts a shadow: rays go on through what is more clear than solid."""

    def __init__(self, rays: RayScene, surface: Surface, lift: float) -> None:
        self._rays, self._surface, self._lift = rays, surface, lift

    def first_hits(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        hits = self._rays.first_hits(origins, directions)
        if not self._surface.has_see_through:
            return hits
        face, back = hits.face.copy(), hits.back.copy()
        u, v, distance = hits.u.copy(), hits.v.copy(), hits.distance.copy()
        active = np.flatnonzero(face >= 0)
        for _ in range(4):
            active = active[self._surface.see_through[face[active]]]
            if not len(active):
                break
            points = Points(
                face[active], u[active], v[active], back[active], np.zeros(len(active), np.float32)
            )
            active = active[self._surface.base(points)[3] < 0.5]
            if not len(active):
                break
            beyond = distance[active] + self._lift
            onward = self._rays.first_hits(
                origins[active] + directions[active] * beyond[:, None], directions[active]
            )
            face[active], u[active], v[active], back[active] = onward.face, onward.u, onward.v, onward.back
            distance[active] = onward.distance + beyond
            active = active[face[active] >= 0]
        return Hits(face, u, v, distance, back)


def opaque_caster(model: Model) -> RayScene | _SolidCaster:
    """First hits of rays on a model, through what is more clear than solid: the surface that depth maps show."""
    rays = RayScene(model.vertices, model.faces)
    if all(material.alpha_mode == "opaque" for material in model.materials):
        return rays
    size = max(float(np.ptp(model.vertices, axis=0).max()), 1e-12)
    return _SolidCaster(rays, Surface(model), size * 1e-4)


def baked_light(
    model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
) -> LightMap:
    """The light that `EmbreeRenderer` would shade the views of these cameras with, for other backends."""
    return _prepare(model, cameras, environment, settings).lightmap


def _prepare(model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings) -> Scene:
    rays = RayScene(model.vertices, model.faces)
    surface = Surface(model)
    light = LightField(environment)
    size = max(float(np.ptp(model.vertices, axis=0).max()), 1e-12)
    group = pieces(model)
    seen_behind = _pieces_seen_from_behind(rays, group, cameras)
    lightmap = bake_lightmap(
        model,
        _SolidCaster(rays, surface, size * 1e-4),
        light.cut(settings.light_samples),
        surface.face_colors(),
        backs=seen_behind[group],
        spacing=size / _GATHER_SPACING,
        bounces=settings.bounces,
        size=size,
    )
    return Scene(surface, rays, light, lightmap)


def _pieces_seen_from_behind(rays: RayScene, group: np.ndarray, cameras: Cameras) -> np.ndarray:
    """Whether any camera sees the back of a piece, found with few rays."""
    behind = np.zeros(int(group.max()) + 1, bool)
    step = max(1, max(cameras.width, cameras.height) // _PROBES)
    ys, xs = np.mgrid[step // 2 : cameras.height : step, step // 2 : cameras.width : step]
    xy = np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5], 1)
    for view in range(len(cameras)):
        hits = rays.first_hits(*cameras.rays(view, xy))
        behind[group[hits.face[(hits.face >= 0) & hits.back]]] = True
    return behind


def _render_view(
    scene: Scene, cameras: Cameras, view: int, settings: RenderSettings, adaptive: bool
) -> Rendered:
    frame, albedo = _blank((cameras.height, cameras.width), settings.outputs), "albedo" in settings.outputs
    top, bottom, left, right = window_of(scene.surface.model, cameras, view)
    if bottom <= top or right <= left:
        return frame
    camera = CameraRays(cameras, view)
    rows, columns = bottom - top, right - left
    ys, xs = np.divmod(np.arange(rows * columns, dtype=np.int32), np.int32(columns))
    x, y = xs + np.float32(left + 0.5), ys + np.float32(top + 0.5)
    directions = camera.directions(x, y)
    hits = camera.trace(scene.rays, directions)
    cull = settings.backfaces == "cull"
    hit = np.flatnonzero(hits.face >= 0)
    face, back, distance = hits.face[hit], hits.back[hit], hits.distance[hit]
    points = Points(face, hits.u[hit], hits.v[hit], back, distance * camera.pixel)
    normal = scene.surface.normal(points, bumped=False)
    facing = face_cosines(scene.surface, points, directions[hit])
    if adaptive and settings.samples > 1:
        edge = find_edges(
            scene.surface, hits.face.reshape(rows, columns), hit, face, distance, normal, facing, camera.pixel
        )
    else:
        edge = np.full(rows * columns, settings.samples > 1)
    if scene.surface.has_see_through:
        edge[hit[scene.surface.see_through[face]]] = True
    if cull:
        edge[hit[back & scene.surface.single_sided[face]]] = True
    smooth = np.flatnonzero(~edge[hit])
    result = ShadedRays(rows * columns, albedo=albedo)
    inner = with_slope(points.part(smooth), facing[smooth])
    base = base_colors(scene.surface, inner)
    if adaptive and settings.samples > 1 and scene.surface.varies:
        refine_base(scene, camera, base, inner, hit[smooth], (rows, columns), (left, top), settings)
    shaded = shade_points(scene, inner, directions[hit[smooth]], settings, albedo, base)
    result.color[:, hit[smooth]] = shaded.color
    if result.albedo is not None:
        result.albedo[:, hit[smooth]] = shaded.albedo
    if adaptive and settings.samples > 1 and scene.surface.detailed:
        edge[find_contrast(result.color, hit[smooth], (rows, columns))] = True
    shade_samples(scene, camera, np.flatnonzero(edge), xs + left, ys + top, settings, result)
    _store(frame, result, (slice(top, bottom), slice(left, right)))
    if frame.depth is not None or frame.normals is not None:
        window, seen = (top, bottom, left, right), (hit, normal, points)
        _store_geometry(scene, camera, frame, hits, directions, seen, cull=cull, window=window)
    return frame


def _store(frame: Rendered, result: ShadedRays, where: tuple[slice, slice]) -> None:
    """Premultiplied linear → straight sRGB."""
    shape = frame.rgba[where].shape[:2]
    alpha = result.color[3]
    covered = np.flatnonzero(alpha > 0)
    share = 1 / alpha[covered]
    image = np.zeros((len(alpha), 4), np.float32)
    for channel in range(3):
        image[covered, channel] = encode_srgb(result.color[channel, covered] * share)
    image[:, 3] = np.minimum(alpha, 1)
    frame.rgba[where] = image.reshape(*shape, 4)
    if frame.albedo is not None and result.albedo is not None:
        colors = np.zeros((len(alpha), 3), np.float32)
        for channel in range(3):
            colors[covered, channel] = encode_srgb(result.albedo[channel, covered] * share)
        frame.albedo[where] = colors.reshape(*shape, 3)


def _store_geometry(
    scene: Scene,
    camera: CameraRays,
    frame: Rendered,
    hits: Hits,
    directions: np.ndarray,
    seen: tuple[np.ndarray, Channels, Points],
    *,
    cull: bool,
    window: tuple[int, int, int, int],
) -> None:
    """Depth and normals through the pixel centres, of the first surface that is more solid than clear.

    seen: the pixels that hit something, their normals and points.
    """
    hit, normal, points = seen
    top, bottom, left, right = window
    depth = np.full(hits.face.shape, np.inf, np.float32)
    image = np.zeros((len(hits.face), 3), np.float32)
    depth[hit] = hits.distance[hit]
    for axis in range(3):
        image[hit, axis] = normal[axis]
    surface = scene.surface
    doubtful = surface.see_through[points.face]
    if cull:
        doubtful = doubtful | (points.back & surface.single_sided[points.face])
    active = hit[doubtful]
    depth[active], image[active] = np.inf, 0
    passed = np.zeros(len(active), np.float32)
    for _ in range(LAYERS):
        if not len(active):
            break
        towards = directions[active]
        onward = scene.rays.first_hits(camera.center + towards * passed[:, None], towards)
        met = np.flatnonzero(onward.face >= 0)
        active, distance = active[met], onward.distance[met] + passed[met]
        some = Points(
            onward.face[met], onward.u[met], onward.v[met], onward.back[met], distance * camera.pixel
        )
        solid = surface.base(some)[3] >= 0.5
        if cull:
            solid &= ~(some.back & surface.single_sided[some.face])
        depth[active[solid]] = distance[solid]
        image[active[solid]] = np.stack(surface.normal(some.part(solid), bumped=False), 1)
        active, passed = active[~solid], distance[~solid] * np.float32(1 + 1e-5)
    if frame.depth is not None:
        frame.depth[top:bottom, left:right] = depth.reshape(bottom - top, right - left)
    if frame.normals is not None:
        frame.normals[top:bottom, left:right] = image.reshape(bottom - top, right - left, 3)
