"""UV unwrap, and a texture baked from the views.

Every surface point gets one colour, a robust mean: views weigh in by viewing angle (cos²), outliers lose weight,
low frequencies come from all views, high frequencies from the best one or two. Visibility is ray cast; pixels next
to the silhouette or to a depth edge are not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8, UInt32
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from mv3d.core.errors import InputError
from mv3d.core.threads import in_threads
from mv3d.recon.arrays import Faces, Vertices
from mv3d.render.mesh import Mesh, face_normals, smooth_normals
from mv3d.render.raycast import RayScene, at_corners, planar, render_view, sample_bilinear
from mv3d.render.topology import vertex_links
from mv3d.views.morphology import distance_to_false, nearest_true
from mv3d.views.views import Views

PADDING = 8  # texels between charts
_SMALLER = 11  # tries to pack charts, each at 0.85 times the density of the last
_CHUNK = 50_000  # texels at a time: bounds the memory


@dataclass(frozen=True)
class BakeConfig:
    """Numbers of the bake, tuned on the orbits and objects of benchmarks/recon.py. Colours are sRGB, 0 to 1."""

    texture_size: int = 1024
    blur_px: float = 4.0  # border between low and high frequencies, in pixels of a view 576 wide
    edge_px: float = 1.0  # pixels nearer than this to the silhouette or to a depth edge are not used
    edge_ramp_px: float = 3.0  # trust grows from 0 to 1 over so many pixels beyond that
    depth_edge: float = 0.03
    """A jump in depth by more than this share of the camera's distance from the origin is a depth edge."""
    input_preference: float = 1.5  # how much more the photo counts than a generated view
    disagreement: float = 0.6
    """A view this far from the mean colour has half its weight (Cauchy's robust weight)."""
    robust_rounds: int = 3  # reweightings of the mean (iteratively reweighted least squares)
    gain_rounds: int = 4  # alternations between the mean colours and the views' gains
    most_gain: float = 0.1  # a gain lies within 1 ± this
    sharpness: float = 2.0  # high frequencies: weight relative to the best view, to this power
    least_share: float = 0.01  # views with less than this of the best view's weight add no high frequencies
    min_cosine: float = 0.12  # views at a more grazing angle give no colour
    cosine_ramp: float = 0.2  # their weight grows in over this much above it
    ray_epsilon: float = 2e-3
    """Rays of the visibility test start this far off the surface, in diagonals of the points' box."""
    seen: float = 0.02  # a point counts as seen from this total weight on
    certain: float = 0.15  # total weight from which on a texel takes its own colour alone, not the vertices'
    refine_rounds: int = 1
    """Passes that render the texture into the views and add the residual (Landweber 1951); one takes out what
    resampling lost, more would only chase the views' contradictions."""
    refine_every: int = 1  # use every n-th view for refinement; 1 uses all views
    refine_min_cosine: float = 0.05  # views at a more grazing angle do not take part in it


@dataclass(frozen=True, eq=False)
class BakedTexture:
    """mesh: textured. seen_area: share of the texels that at least one view saw. gains: colour factors, 1 ± 0.1."""

    mesh: Mesh
    seen_area: float
    gains: Float[np.ndarray, "n 3"]


@dataclass(frozen=True, eq=False)
class _Bands:
    """Low and high frequencies of one view, and how far each pixel can be trusted, 0 to 1."""

    low: Float[np.ndarray, "h w 3"]
    high: Float[np.ndarray, "h w 3"]
    trust: Float[np.ndarray, "h w 1"]


@dataclass(frozen=True, eq=False)
class _Problem:
    """Views of one surface. priors: weight of each view."""

    views: Views
    scene: RayScene
    bands: list[_Bands]
    priors: Float[np.ndarray, " n"]
    config: BakeConfig


@dataclass(frozen=True, eq=False)
class _Points:
    """Surface points in the world and their unit normals."""

    at: Float[np.ndarray, "p 3"]
    normals: Float[np.ndarray, "p 3"]

    def __len__(self) -> int:
        return len(self.at)

    def ray_epsilon(self, share: float) -> float:
        """`share` of the diagonal of the points' box, world units."""
        return share * float(np.linalg.norm(np.ptp(self.at, axis=0))) if len(self) else 0.0


@dataclass(frozen=True, eq=False)
class _Seen:
    """Points that one view sees: their indices, cosines to the camera, pixels, and the trust in these pixels, 0 outside
    of the frame."""

    index: Int[np.ndarray, " s"]
    cosine: Float[np.ndarray, " s"]
    pixel: Float[np.ndarray, "s 2"]
    trust: Float[np.ndarray, " s"]


@dataclass(frozen=True, eq=False)
class _Observations:
    """What all views say about p points. weights: prior · cos² · trust, 0 where hidden. low: their low bands."""

    seen: list[_Seen]
    weights: Float[np.ndarray, "n p"]
    low: Float[np.ndarray, "n p 3"]


def _threads() -> int:
    return torch.get_num_threads()


def unwrap(
    vertices: Vertices, faces: Faces, texture_size: int
) -> tuple[Int[np.ndarray, " w"], Faces, Float[np.ndarray, "w 2"]]:
    """UV charts by xatlas on one square page: (old vertex of each new vertex, faces, uv in [0, 1]).

    Raises InputError where the charts do not fit the page, however small they are drawn.
    """
    import xatlas  # noqa: PLC0415

    def packed(atlas: Any, density: float) -> bool:
        pack = xatlas.PackOptions()
        pack.padding, pack.resolution, pack.bilinear = PADDING, texture_size, True
        pack.texels_per_unit = density
        atlas.generate(pack_options=pack)
        return atlas.atlas_count == 1 and max(atlas.width, atlas.height) <= texture_size

    area = 0.5 * float(np.linalg.norm(face_normals(vertices, faces), axis=1).sum())
    density = texture_size * float(np.sqrt(0.4 / max(area, 1e-12)))  # nearly always fits
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices, faces.astype(np.uint32))
    fits = packed(atlas, density)
    source, corners, uv = atlas[0]
    if not fits:
        # Cutting charts takes seconds, packing hardly any time: the charts are cut once.
        flat = _pages_apart(atlas, corners, uv) / np.float32(density)
        for _ in range(_SMALLER):
            density *= 0.85
            atlas = xatlas.Atlas()
            atlas.add_uv_mesh(flat, corners)
            fits = packed(atlas, density)
            if fits:
                break
        else:
            raise InputError(
                f"unwrap: {len(faces)} faces do not fit one {texture_size} texture; raise --texture-size or lower --faces"
            )
        again, corners, uv = atlas[0]
        source = source[again]
    uv = uv * np.array([atlas.width, atlas.height], np.float32) / texture_size
    return source.astype(np.int64), corners.astype(np.int32), np.clip(uv, 0, 1).astype(np.float32)


def _pages_apart(
    atlas: Any, faces: UInt32[np.ndarray, "f 3"], uv: Float[np.ndarray, "v 2"]
) -> Float[np.ndarray, "v 2"]:
    """The charts of an atlas in texels, its pages beside each other."""
    flat = uv * np.array([atlas.width, atlas.height], np.float32)
    for chart in (atlas.get_mesh_chart(0, k) for k in range(atlas.get_mesh_chart_count(0))):
        flat[np.unique(faces[np.asarray(chart.faces)]), 0] += np.float32(chart.atlas_index * 2 * atlas.width)
    return flat


def _uncut_first(faces: Faces, quads: int) -> tuple[Faces, int]:
    """Quads whose halves still share two vertices first, and how many they are."""
    halves, others = np.split(faces, [2 * quads])
    pairs = halves.reshape(-1, 2, 3)
    cut = (pairs[:, 0, [0, 2]] != pairs[:, 1, [0, 1]]).any(1)
    return np.concatenate([pairs[~cut].reshape(-1, 3), pairs[cut].reshape(-1, 3), others]), int((~cut).sum())


def texel_map(
    uv: Float[np.ndarray, "v 2"], faces: Faces, size: int
) -> tuple[Bool[np.ndarray, "s s"], Int[np.ndarray, " t"], Float[np.ndarray, "t 3"]]:
    """Which texel centres lie on a face: (mask, face, barycentric weights), by casting rays onto the UV plane."""
    flat = np.concatenate([uv * size, np.zeros((len(uv), 1), np.float32)], 1)
    scene = RayScene(flat, faces)
    ys, xs = np.mgrid[:size, :size]
    origins = np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5, np.ones(size * size)], 1).astype(np.float32)
    hits = scene.first_hits(origins, np.tile(np.array([0, 0, -1], np.float32), (size * size, 1)))
    found = hits.face >= 0
    return found.reshape(size, size), hits.face[found], hits.bary[found]


def bake(
    vertices: Vertices,
    faces: Faces,
    views: Views,
    distances: Float[np.ndarray, "n h w"],
    config: BakeConfig,
    *,
    quads: int = 0,
) -> BakedTexture:
    """Unwrap a closed mesh and bake its texture from the views.

    distances: signed distances to the silhouettes' edges, pixels (`silhouette_distance`).
    quads: the first faces are halves of so many quads (`Mesh.quads`); those that charts cut are two triangles from then
    on, after all others.
    Raises InputError where the charts do not fit one texture.
    """
    size = config.texture_size
    scene = RayScene(vertices, faces)
    normals = smooth_normals(vertices, faces)
    bands = in_threads(
        lambda view: _bands(views, view, distances[view], scene, config), range(len(views)), _threads()
    )
    priors = np.ones(len(views), np.float32)
    if views.input_view is not None:
        priors[views.input_view] = config.input_preference
    problem = _Problem(views, scene, bands, priors, config)
    epsilon = _Points(vertices, normals).ray_epsilon(config.ray_epsilon)
    seen = _observe(problem, _Points(vertices, normals), epsilon)[0]
    gains = _solve_gains(problem, seen)
    color, certainty = _robust_mean(problem, seen, gains)
    color = _fill_by_diffusion(color, certainty > config.seen, faces)

    old, new_faces, uv = unwrap(vertices, faces, size)
    new_faces, quads = _uncut_first(new_faces, quads)
    mask, face, bary = texel_map(uv, new_faces, size)
    corners = old[new_faces[face]]
    normal = at_corners(normals, corners, bary)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    points = _Points(at_corners(vertices, corners, bary), normal)
    fallback = at_corners(color, corners, bary)
    texel = np.empty_like(fallback)
    certainty = np.empty(len(points), np.float32)
    sights: list[list[_Seen]] = [[] for _ in bands]
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        seen, sighted = _observe(problem, _Points(points.at[part], points.normals[part]), epsilon)
        for view, one in enumerate(sighted):
            sights[view].append(replace(one, index=one.index + start))
        agreed, certainty[part] = _robust_mean(problem, seen, gains)
        blend = np.clip(certainty[part] / config.certain, 0, 1)[:, None]
        texel[part] = agreed * blend + fallback[part] * (1 - blend)
    mesh = Mesh(
        vertices[old], new_faces, normals=normals[old], uv=uv, texture=padded(mask, texel, size), quads=quads
    )
    if config.refine_rounds:
        chosen = {view: sights[view] for view in range(len(views) - 1, -1, -config.refine_every)}
        for _ in range(config.refine_rounds):
            texel = np.clip(texel + _residual(problem, mesh, chosen, len(points)), 0, 1)
            mesh = replace(mesh, texture=padded(mask, texel, size))
    return BakedTexture(mesh, float((certainty > config.seen).mean()) if len(points) else 0.0, gains)


def _bands(
    views: Views, view: int, distance: Float[np.ndarray, "h w"], scene: RayScene, config: BakeConfig
) -> _Bands:
    image, cameras = views.images[view], views.cameras
    half = cameras.resized(max(2, cameras.width // 2), max(2, cameras.height // 2))
    hits = scene.first_hits(*half.rays(view))
    depth = np.where(np.isfinite(hits.distance), hits.distance, 0).reshape(half.height, half.width)
    jump = ndimage.maximum_filter(depth, 3) - ndimage.minimum_filter(depth, 3)
    edge = jump > config.depth_edge * max(float(np.linalg.norm(cameras.centers[view])), 1e-6)
    away = distance_to_false(~edge) * 2 if edge.any() else np.full(edge.shape, 1e3)
    ys = np.minimum(np.arange(cameras.height) * half.height // cameras.height, half.height - 1)
    xs = np.minimum(np.arange(cameras.width) * half.width // cameras.width, half.width - 1)
    clear = np.minimum(distance, away[np.ix_(ys, xs)])
    trust = np.clip((clear - config.edge_px) / config.edge_ramp_px, 0, 1).astype(np.float32)
    solid = (distance > config.edge_px / 2).astype(np.float32)
    sigma = config.blur_px * cameras.width / 576
    norm = ndimage.gaussian_filter(solid, sigma)
    rgb = image[..., :3]
    low = np.stack([ndimage.gaussian_filter(rgb[..., k] * solid, sigma) for k in range(3)], -1)
    low /= np.maximum(norm, 1e-3)[..., None]
    return _Bands(planar(low), planar(rgb - low), trust[..., None])


def _visible(
    problem: _Problem,
    view: int,
    points: _Points,
    least_cosine: float,
    epsilon: float,
) -> _Seen:
    """The points that one view sees at more than `least_cosine`, by rays that start `epsilon` off the surface."""
    cameras = problem.views.cameras
    # Column by column: numpy is slow on rows of three.
    toward = np.float32(cameras.centers[view][:, None]) - points.at.T.astype(np.float32)
    distance = np.sqrt(toward[0] ** 2 + toward[1] ** 2 + toward[2] ** 2)
    toward /= distance
    x, y, z = points.normals.T
    cosine = toward[0] * x + toward[1] * y + toward[2] * z
    index = np.flatnonzero(cosine > least_cosine)
    at = np.take(points.at, index, 0)
    pixel, depth = cameras.project(at.astype(np.float32), view)
    trust = np.zeros(len(index), np.float32)
    in_frame = (depth > 0) & (pixel[:, 0] > 0) & (pixel[:, 1] > 0)
    in_frame &= (pixel[:, 0] < cameras.width) & (pixel[:, 1] < cameras.height)
    trust[in_frame] = sample_bilinear(problem.bands[view].trust, pixel[in_frame])[:, 0]
    start = at + np.take(points.normals, index, 0) * np.float32(epsilon)
    free = np.flatnonzero(~problem.scene.blocked(start, toward[:, index].T, distance[index]))
    return _Seen(index[free], cosine[index[free]], pixel[free], trust[free])


def _observe(problem: _Problem, points: _Points, epsilon: float) -> tuple[_Observations, list[_Seen]]:
    """What the views say about points, and what each sees of them, also at angles and pixels that give no colour.

    epsilon: see `_visible`.
    """
    config = problem.config
    least = min(config.min_cosine, config.refine_min_cosine)
    weights = np.zeros((len(problem.bands), len(points)), np.float32)
    low = np.zeros((*weights.shape, 3), np.float32)

    def observed(view: int) -> tuple[_Seen, _Seen]:
        every = _visible(problem, view, points, least, epsilon + 1e-6)
        used = np.flatnonzero((every.trust > 0) & (every.cosine > config.min_cosine))
        one = _Seen(every.index[used], every.cosine[used], every.pixel[used], every.trust[used])
        ramp = np.clip((one.cosine - config.min_cosine) / config.cosine_ramp, 0, 1)
        weights[view, one.index] = problem.priors[view] * one.cosine**2 * ramp * one.trust
        low[view, one.index] = sample_bilinear(problem.bands[view].low, one.pixel)
        return one, every

    pairs = in_threads(observed, range(len(problem.bands)), _threads())
    return _Observations([one for one, _ in pairs], weights, low), [every for _, every in pairs]


def _robust_mean(
    problem: _Problem, seen: _Observations, gains: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "p 3"], Float[np.ndarray, " p"]]:
    """One colour per point, and the sum of the weights before they were made robust.

    Low frequencies: the mean that outlier views hardly move. High frequencies: from the best one or two views.
    """
    config, weights = problem.config, seen.weights
    low = seen.low * gains[:, None]
    mean = _mean(low, weights)
    robust = weights
    for _ in range(config.robust_rounds):
        difference = np.abs(low - mean)
        residual = np.maximum(np.maximum(difference[..., 0], difference[..., 1]), difference[..., 2])
        robust = weights / (1 + (residual / config.disagreement) ** 2)
        mean = _mean(low, robust)
    best = (robust / np.maximum(robust.max(0), 1e-9)) ** config.sharpness
    best = best * (best > config.least_share)
    high = np.zeros_like(mean)
    for view, one in enumerate(seen.seen):
        used = one.index[best[view, one.index] > 0]
        found = sample_bilinear(problem.bands[view].high, one.pixel[best[view, one.index] > 0])
        high[used] += best[view, used][:, None] * found * gains[view]
    high /= np.maximum(best.sum(0), 1e-9)[:, None]
    certainty = weights.sum(0)
    return np.clip(mean + high, 0, 1), np.where(certainty > 1e-8, certainty, 0)


def _mean(colors: Float[np.ndarray, "n p 3"], weights: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "p 3"]:
    return np.einsum("np,npk->pk", weights, colors) / np.maximum(weights.sum(0), 1e-9)[:, None]


def _solve_gains(problem: _Problem, seen: _Observations) -> Float[np.ndarray, "n 3"]:
    """Per view and channel a factor that brings it to the mean colours; the input view keeps 1.

    Half of the way only, and at most 10 %: what moves with the camera on a glossy object is its highlights, and
    a factor cannot take them out without staining the rest.
    """
    low, weights, most = seen.low, seen.weights, problem.config.most_gain
    gains = np.ones((len(weights), 3), np.float32)
    total = np.maximum(weights.sum(0), 1e-9)[:, None]
    for _ in range(problem.config.gain_rounds):
        mean = (weights[..., None] * low * gains[:, None]).sum(0) / total
        for view in range(len(weights)):
            if view == problem.views.input_view:
                continue
            w = weights[view][:, None]
            # One brightness for all channels plus a ridge toward 1: a small overlap has no say.
            power = float((w * low[view] ** 2).sum())
            gain = (float((w * low[view] * mean).sum()) + power + 1e-6) / (2 * power + 1e-6)
            gains[view] = np.clip(gain, 1 - most, 1 + most)
    return gains


def _residual(
    problem: _Problem, mesh: Mesh, sights: dict[int, list[_Seen]], count: int
) -> Float[np.ndarray, "t 3"]:
    """Per texel the mean over the views, by projected area, of view less re-rendered texture; pixels that only
    one of the two covers say nothing."""
    total, weight = np.zeros((count, 3), np.float32), np.full((count, 1), 1e-3, np.float32)

    def missing(view: int) -> Float[np.ndarray, "h w 3"]:
        image = problem.views.images[view]
        again = render_view(mesh, problem.views.cameras, view, scene=problem.scene)
        both = (image[..., 3:] > 0.5) & (again[..., 3:] > 0.5)
        return planar(np.where(both, image[..., :3] - again[..., :3], 0).astype(np.float32))

    residuals = in_threads(missing, sights, _threads())
    for residual, parts in zip(residuals, sights.values(), strict=True):
        for one in parts:
            total[one.index] += one.cosine[:, None] * sample_bilinear(residual, one.pixel)
            weight[one.index] += one.cosine[:, None]
    return total / weight


def _fill_by_diffusion(color: Vertices, known: Bool[np.ndarray, " v"], faces: Faces) -> Vertices:
    """Harmonic fill over the mesh's edges: every unknown vertex becomes the mean of its neighbours."""
    if known.all():
        return color
    if not known.any():
        return np.full_like(color, 0.5)
    count = len(color)
    links = vertex_links(count, faces)
    degree = np.asarray(links.sum(1)).ravel()
    # A whisper of the mean keeps components without any known vertex solvable.
    laplacian = (sparse.diags(degree + 1e-4) - links).tocsr()
    unknown = np.flatnonzero(~known)
    mean = color[known].mean(0)
    system = laplacian[unknown][:, unknown]
    answer = color.copy()
    for channel in range(3):
        right = links[unknown][:, np.flatnonzero(known)] @ color[known, channel] + 1e-4 * mean[channel]
        solution, _ = cg(system, right, x0=np.full(len(unknown), mean[channel]), rtol=1e-4, maxiter=2000)
        answer[unknown, channel] = np.clip(solution, 0, 1)
    return answer


def padded(
    mask: Bool[np.ndarray, "s s"],
    texel: Float[np.ndarray, "t 3"],
    size: int,
    *,
    elsewhere: tuple[float, float, float] | None = None,
) -> UInt8[np.ndarray, "s s 3"]:
    """Texture of values 0..1 with every chart's carried outward; far from all charts `elsewhere`, by default the mean,
    never the background."""
    mean = texel.mean(0) if len(texel) else np.full(3, 0.5)
    page = np.tile(np.asarray(mean if elsewhere is None else elsewhere, np.float32), (size, size, 1))
    page[mask] = texel
    distance = distance_to_false(~mask)
    rows, columns = nearest_true(mask)
    near = distance <= 2 * PADDING
    page[near] = page[rows[near], columns[near]]
    return (np.clip(page, 0, 1) * 255 + 0.5).astype(np.uint8)
