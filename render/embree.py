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
from jaxtyping import Float, Int

from mv3d.core.colors import encode_srgb
from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras
from mv3d.render.environment import Environment
from mv3d.render.lightmap import LightMap, bake_lightmap, pieces
from mv3d.render.model import Model
from mv3d.render.prefilter import LightField
from mv3d.render.renderer import Rendered, RenderSettings
from mv3d.render.sampling import RAYS, Eye, find_contrast, find_edges, sample_offsets, window_of
from mv3d.render.shading import shade
from mv3d.render.surface import Channels, Points, Surface
from mv3d.render.tracing import Crossings, Tracer

_CHUNK = 16384  # points shaded at a time: their arrays stay in the second-level cache
_LAYERS = 16  # see-through surfaces behind one another
_PROBES = 144  # rays along a side of a view that find out which surfaces are seen from behind
_GATHER_SPACING = 96  # points of baked light along the largest side of the object


@dataclass(frozen=True, eq=False)
class Frame:
    """One view: (h, w, ...) arrays as in `Rendered`, without the first axis."""

    rgba: Float[np.ndarray, "h w 4"]
    depth: Float[np.ndarray, "h w"] | None
    normals: Float[np.ndarray, "h w 3"] | None
    albedo: Float[np.ndarray, "h w 3"] | None


@dataclass(frozen=True)
class EmbreeRenderer:
    """See `mv3d.render.renderer.Renderer`. adaptive: see the module."""

    adaptive: bool = True

    def render(
        self, model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
    ) -> Rendered:
        """Pictures of the model from every camera. Raises InputError for a model without faces."""
        shape = (len(cameras), cameras.height, cameras.width)
        rgba = np.empty((*shape, 4), np.float32)
        depth = np.empty(shape, np.float32) if "depth" in settings.outputs else None
        normals = np.empty((*shape, 3), np.float32) if "normals" in settings.outputs else None
        albedo = np.empty((*shape, 3), np.float32) if "albedo" in settings.outputs else None
        for view, frame in enumerate(self.frames(model, cameras, environment, settings)):
            rgba[view] = frame.rgba
            for whole, part in ((depth, frame.depth), (normals, frame.normals), (albedo, frame.albedo)):
                if whole is not None and part is not None:
                    whole[view] = part
        return Rendered(rgba, depth, normals, albedo)

    def frames(
        self, model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
    ) -> Iterator[Frame]:
        """The views one by one, so that no more than one is in memory."""
        if not len(model.faces):
            raise InputError("model: expected at least one face, got none")
        scene = _prepare(model, cameras, environment, settings)
        for view in range(len(cameras)):
            yield _render_view(scene, cameras, view, settings, self.adaptive)


@dataclass(frozen=True, eq=False)
class _Scene:
    surface: Surface
    tracer: Tracer
    light: LightField
    lightmap: LightMap
    smooth_group: Int[np.ndarray, " f"]


class _SolidTracer:
    """First crossings with what casts a shadow: rays go on through what is more clear than solid."""

    def __init__(self, tracer: Tracer, surface: Surface, lift: float) -> None:
        self._tracer, self._surface, self._lift = tracer, surface, lift

    def first(self, origins: np.ndarray, directions: np.ndarray) -> Crossings:
        hits = self._tracer.first(origins, directions)
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
            onward = self._tracer.first(
                origins[active] + directions[active] * beyond[:, None], directions[active]
            )
            face[active], u[active], v[active], back[active] = onward.face, onward.u, onward.v, onward.back
            distance[active] = onward.distance + beyond
            active = active[face[active] >= 0]
        return Crossings(face, u, v, distance, back)


def opaque_caster(model: Model) -> Tracer | _SolidTracer:
    """First crossings of rays with a model, through what is more clear than solid: the surface of the depth maps."""
    tracer = Tracer(model.vertices, model.faces)
    if all(material.alpha_mode == "opaque" for material in model.materials):
        return tracer
    size = max(float(np.ptp(model.vertices, axis=0).max()), 1e-12)
    return _SolidTracer(tracer, Surface(model), size * 1e-4)


def baked_light(
    model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
) -> LightMap:
    """The light that `EmbreeRenderer` would shade the views of these cameras with, for other backends."""
    return _prepare(model, cameras, environment, settings).lightmap


def _prepare(model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings) -> _Scene:
    tracer = Tracer(model.vertices, model.faces)
    surface = Surface(model)
    light = LightField(environment)
    size = max(float(np.ptp(model.vertices, axis=0).max()), 1e-12)
    group = pieces(model)
    seen_behind = _pieces_seen_from_behind(tracer, group, cameras)
    lightmap = bake_lightmap(
        model,
        _SolidTracer(tracer, surface, size * 1e-4),
        light.cut(settings.light_samples),
        surface.face_colors(),
        backs=seen_behind[group],
        spacing=size / _GATHER_SPACING,
        bounces=settings.bounces,
        size=size,
    )
    return _Scene(surface, tracer, light, lightmap, group)


def _pieces_seen_from_behind(tracer: Tracer, group: np.ndarray, cameras: Cameras) -> np.ndarray:
    """Whether any camera sees the back of a piece, found with few rays."""
    behind = np.zeros(int(group.max()) + 1, bool)
    step = max(1, max(cameras.width, cameras.height) // _PROBES)
    ys, xs = np.mgrid[step // 2 : cameras.height : step, step // 2 : cameras.width : step]
    xy = np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5], 1)
    for view in range(len(cameras)):
        hits = tracer.first(*cameras.rays(view, xy))
        behind[group[hits.face[(hits.face >= 0) & hits.back]]] = True
    return behind


class _Shots:
    """Rays shaded: premultiplied linear colour and albedo, alpha; one array a channel."""

    def __init__(self, count: int, *, albedo: bool) -> None:
        self.color = np.zeros((4, count), np.float32)
        self.albedo = np.zeros((3, count), np.float32) if albedo else None


def _render_view(
    scene: _Scene, cameras: Cameras, view: int, settings: RenderSettings, adaptive: bool
) -> Frame:
    height, width = cameras.height, cameras.width
    wanted = settings.outputs
    rgba = np.zeros((height, width, 4), np.float32)
    depth = np.full((height, width), np.inf, np.float32) if "depth" in wanted else None
    normals = np.zeros((height, width, 3), np.float32) if "normals" in wanted else None
    albedo = np.zeros((height, width, 3), np.float32) if "albedo" in wanted else None
    frame = Frame(rgba, depth, normals, albedo)
    top, bottom, left, right = window_of(scene.surface.model, cameras, view)
    if bottom <= top or right <= left:
        return frame
    eye = Eye(cameras, view)
    rows, columns = bottom - top, right - left
    ys, xs = np.divmod(np.arange(rows * columns, dtype=np.int32), np.int32(columns))
    x, y = xs + np.float32(left + 0.5), ys + np.float32(top + 0.5)
    directions = eye.directions(x, y)
    hits = eye.trace(scene.tracer, directions)
    cull = settings.backfaces == "cull"
    hit = np.flatnonzero(hits.face >= 0)
    face, back, distance = hits.face[hit], hits.back[hit], hits.distance[hit]
    points = Points(face, hits.u[hit], hits.v[hit], back, distance * eye.pixel)
    normal, facing = _center_geometry(scene.surface, points, directions[hit])
    if adaptive and settings.samples > 1:
        edge = find_edges(
            scene.surface, hits.face.reshape(rows, columns), hit, face, distance, normal, facing, eye.pixel
        )
    else:
        edge = np.full(rows * columns, settings.samples > 1)
    if scene.surface.has_see_through:
        edge[hit[scene.surface.see_through[face]]] = True
    if cull:
        edge[hit[back & scene.surface.single_sided[face]]] = True
    smooth = np.flatnonzero(~edge[hit])
    result = _Shots(rows * columns, albedo=albedo is not None)
    inner = _with_slope(points.part(smooth), facing[smooth])
    base = _base_colors(scene.surface, inner)
    if adaptive and settings.samples > 1 and scene.surface.varies:
        _refine_base(scene, eye, base, inner, hit[smooth], (rows, columns), (left, top), settings)
    shots = _shade_all(scene, inner, directions[hit[smooth]], settings, albedo is not None, base)
    result.color[:, hit[smooth]] = shots.color
    if result.albedo is not None:
        result.albedo[:, hit[smooth]] = shots.albedo
    if adaptive and settings.samples > 1 and scene.surface.detailed:
        contrast = find_contrast(result.color, hit[smooth], (rows, columns))
        edge[contrast] = True
    _shoot_edges(scene, eye, np.flatnonzero(edge), xs + left, ys + top, settings, result)
    _store(frame, result, (slice(top, bottom), slice(left, right)))
    if depth is not None or normals is not None:
        _store_geometry(
            scene, eye, frame, hits, directions, hit, normal, points, cull, (top, bottom, left, right)
        )
    return frame


def _center_geometry(surface: Surface, points: Points, directions: np.ndarray) -> tuple[Channels, np.ndarray]:
    """Interpolated normals on the seen side, and the cosine between the ray and the face's own normal."""
    return surface.normal(points, bumped=False), face_cosines(surface, points, directions)


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


def _with_slope(points: Points, facing: np.ndarray) -> Points:
    """Footprints on slanted surfaces: longer by 1/cosine in one direction; the mean of the two is taken."""
    footprint = points.footprint / np.sqrt(np.maximum(facing, np.float32(0.05)))
    return Points(points.face, points.u, points.v, points.back, footprint)


def _base_colors(surface: Surface, points: Points) -> Float[np.ndarray, "4 n"]:
    """`Surface.base` of many points."""
    base = np.empty((4, len(points.face)), np.float32)
    for start in range(0, len(points.face), _CHUNK):
        part = slice(start, start + _CHUNK)
        for channel, values in enumerate(surface.base(points.part(part))):
            base[channel, part] = values
    return base


def _refine_base(
    scene: _Scene,
    eye: Eye,
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
        hits = eye.trace(scene.tracer, eye.directions(x, y))
        met = np.flatnonzero(hits.face >= 0)
        footprint = np.repeat(points.footprint[some], count)[met] / np.float32(np.sqrt(count))
        part = Points(hits.face[met], hits.u[met], hits.v[met], hits.back[met], footprint)
        colors = _base_colors(scene.surface, part)
        owner = met // count
        found = np.bincount(owner, minlength=len(some))
        seen = np.flatnonzero(found)
        for channel in range(3):
            total = np.bincount(owner, colors[channel], len(some))
            base[channel, some[seen]] = total[seen] / found[seen]


def _shade_all(
    scene: _Scene,
    points: Points,
    directions: Float[np.ndarray, "n 3"],
    settings: RenderSettings,
    albedo: bool,
    colors: Float[np.ndarray, "4 n"] | None = None,
) -> _Shots:
    """Straight colour and alpha at points; `colors`: their base colours, where they are known."""
    shots = _Shots(len(points.face), albedo=albedo)
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
            shots.color[channel, part] = color[channel]
            if shots.albedo is not None:
                shots.albedo[channel, part] = base[channel]
        shots.color[3, part] = base[3]
    return shots


def _shoot_edges(
    scene: _Scene,
    eye: Eye,
    pixels: np.ndarray,
    xs: np.ndarray,
    ys: np.ndarray,
    settings: RenderSettings,
    result: _Shots,
) -> None:
    """All samples of the given pixels; their mean goes into `result`."""
    offsets = sample_offsets(settings.samples, settings.seed).astype(np.float32)
    step = max(1, RAYS // settings.samples)
    for start in range(0, len(pixels), step):
        some = pixels[start : start + step]
        x = (xs[some][:, None] + offsets[:, 0]).reshape(-1)
        y = (ys[some][:, None] + offsets[:, 1]).reshape(-1)
        directions = eye.directions(x, y)
        shots = _through_layers(scene, eye, directions, settings, result.albedo is not None)
        for sums, values in ((result.color, shots.color), (result.albedo, shots.albedo)):
            if sums is not None and values is not None:
                for plane, value in zip(sums, values, strict=True):
                    by_pixel = value.reshape(len(some), settings.samples)
                    mean = by_pixel[:, 0].copy()
                    for sample in range(1, settings.samples):
                        mean += by_pixel[:, sample]
                    mean *= np.float32(1 / settings.samples)
                    plane[some] = mean


def _through_layers(
    scene: _Scene, eye: Eye, directions: np.ndarray, settings: RenderSettings, albedo: bool
) -> _Shots:
    """Rays through see-through surfaces, composited front to back: premultiplied colour and alpha."""
    surface = scene.surface
    result = _Shots(len(directions), albedo=albedo)
    active = np.arange(len(directions))
    passed = np.zeros(len(directions), np.float32)
    remaining = np.ones(len(directions), np.float32)
    pixel = eye.pixel / np.float32(np.sqrt(settings.samples))
    for layer in range(_LAYERS):
        towards = directions[active]
        origins = eye.center + towards * passed[active][:, None]
        hits = scene.tracer.first(origins, towards)
        met = np.flatnonzero(hits.face >= 0)
        active, towards = active[met], towards[met]
        if not len(active):
            break
        distance = hits.distance[met] + passed[active]
        points = Points(hits.face[met], hits.u[met], hits.v[met], hits.back[met], distance * pixel)
        facing = face_cosines(surface, points, towards)
        shots = _shade_all(scene, _with_slope(points, facing), towards, settings, albedo)
        if layer == 0 and not (surface.has_see_through or settings.backfaces == "cull"):
            result.color[:3, active] = shots.color[:3]
            result.color[3, active] = 1
            if result.albedo is not None and shots.albedo is not None:
                result.albedo[:, active] = shots.albedo
            break
        alpha = shots.color[3]
        if settings.backfaces == "cull":
            alpha = np.where(points.back & surface.single_sided[points.face], np.float32(0), alpha)
        weight = remaining[active] * alpha
        for channel in range(3):
            result.color[channel, active] += shots.color[channel] * weight
            if result.albedo is not None and shots.albedo is not None:
                result.albedo[channel, active] += shots.albedo[channel] * weight
        result.color[3, active] += weight
        remaining[active] -= weight
        passed[active] = distance * np.float32(1 + 1e-5)
        active = active[remaining[active] > 1 / 512]
        if not len(active):
            break
    return result


def _store(frame: Frame, result: _Shots, where: tuple[slice, slice]) -> None:
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
    scene: _Scene,
    eye: Eye,
    frame: Frame,
    hits: Crossings,
    directions: np.ndarray,
    hit: np.ndarray,
    normal: Channels,
    points: Points,
    cull: bool,
    window: tuple[int, int, int, int],
) -> None:
    """Depth and normals through the pixel centres, of the first surface that is more solid than clear."""
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
    for _ in range(_LAYERS):
        if not len(active):
            break
        towards = directions[active]
        onward = scene.tracer.first(eye.center + towards * passed[:, None], towards)
        met = np.flatnonzero(onward.face >= 0)
        active, distance = active[met], onward.distance[met] + passed[met]
        some = Points(onward.face[met], onward.u[met], onward.v[met], onward.back[met], distance * eye.pixel)
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
