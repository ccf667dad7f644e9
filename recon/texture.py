"""UV unwrap, and a texture baked from the views.

Every surface point gets one agreed colour: views vote by viewing angle (cos²), those that contradict the vote
lose weight, low frequencies come from all of them, high frequencies from the best one or two. Visibility is
ray cast; pixels next to the silhouette or to a depth edge are not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh, face_normals, vertex_normals
from mv3d.render.raycast import RayScene, render_view, sample_bilinear
from mv3d.render.topology import vertex_links
from mv3d.views.morphology import distance_to_false, nearest_true
from mv3d.views.silhouettes import silhouette_distance

PADDING = 8  # texels between charts


@dataclass(frozen=True)
class BakeConfig:
    """Numbers of the texture bake."""

    texture_size: int = 1024
    blur_px: float = 4.0
    """Border between low and high frequencies, in pixels of a view 576 wide."""
    edge_px: float = 1.0
    """Pixels nearer than this to the silhouette or to a depth edge are not used."""
    input_preference: float = 1.5
    """How much more the photo counts than a generated view."""
    disagreement: float = 0.6
    """A view this far (sRGB, 0 to 1) from the agreed colour has half its weight."""
    sharpness: float = 2.0
    """High frequencies: weight relative to the best view, to this power."""
    min_cosine: float = 0.12
    refine_rounds: int = 1
    """Passes that render the texture into the views and give back what it misses there (Landweber's iteration);
    one takes out what resampling lost, more would only chase the views' quarrels."""
    refine_every: int = 1
    """Of the views, each how manieth takes part in that."""


@dataclass(frozen=True, eq=False)
class BakedTexture:
    """mesh: textured. coverage: share of the surface's area that at least one view saw."""

    mesh: Mesh
    coverage: float
    gains: Float[np.ndarray, "n 3"]


@dataclass(frozen=True, eq=False)
class _Source:
    low: Float[np.ndarray, "h w 3"]
    high: Float[np.ndarray, "h w 3"]
    trust: Float[np.ndarray, "h w 1"]


def unwrap(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], texture_size: int
) -> tuple[Int[np.ndarray, " w"], Int[np.ndarray, "f 3"], Float[np.ndarray, "w 2"]]:
    """UV charts by xatlas on one square page: (old vertex of each new vertex, faces, uv in [0, 1])."""
    import xatlas  # noqa: PLC0415

    # xatlas cuts charts anew on every call, seconds each: start from a density that nearly always fits.
    area = 0.5 * float(np.linalg.norm(face_normals(vertices, faces), axis=1).sum())
    density = texture_size * float(np.sqrt(0.4 / max(area, 1e-12)))
    for _ in range(12):
        atlas = xatlas.Atlas()
        atlas.add_mesh(vertices, faces.astype(np.uint32))
        pack = xatlas.PackOptions()
        pack.padding, pack.resolution, pack.bilinear = PADDING, texture_size, True
        pack.texels_per_unit = density
        atlas.generate(pack_options=pack)
        if atlas.atlas_count == 1 and max(atlas.width, atlas.height) <= texture_size:
            break
        density *= 0.85
    else:
        raise InputError(
            f"unwrap: {len(faces)} faces do not fit one {texture_size} texture; raise --texture-size or lower --faces"
        )
    source, new_faces, uv = atlas[0]
    uv = uv * np.array([atlas.width, atlas.height], np.float32) / texture_size
    return source.astype(np.int64), new_faces.astype(np.int32), np.clip(uv, 0, 1).astype(np.float32)


def texel_map(
    uv: Float[np.ndarray, "v 2"], faces: Int[np.ndarray, "f 3"], size: int
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
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    images: Float[np.ndarray, "n h w 4"],
    cameras: Cameras,
    config: BakeConfig,
    *,
    input_view: int | None = None,
) -> BakedTexture:
    """Unwrap a closed mesh and bake its texture from the views."""
    size = config.texture_size
    scene = RayScene(vertices, faces)
    normals = vertex_normals(vertices, faces)
    sources = [_source(images[i], cameras, i, scene, config) for i in range(len(images))]
    priors = np.ones(len(images), np.float32)
    if input_view is not None:
        priors[input_view] = config.input_preference
    weights = _weights(vertices, normals, sources, cameras, scene, priors, config)
    gains = _solve_gains(vertices, sources, cameras, weights, input_view)
    color, certainty = _agree(vertices, weights, sources, cameras, gains, config)
    color = _fill_by_diffusion(color, certainty > 0.02, faces)

    old, new_faces, uv = unwrap(vertices, faces, size)
    mask, face, bary = texel_map(uv, new_faces, size)
    corners = old[new_faces[face]]
    points = (vertices[corners] * bary[:, :, None]).sum(1)
    normal = (normals[corners] * bary[:, :, None]).sum(1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    fallback = (color[corners] * bary[:, :, None]).sum(1)
    texel = np.empty_like(fallback)
    seen = np.empty(len(points), bool)
    for start in range(0, len(points), 200_000):
        part = slice(start, start + 200_000)
        w = _weights(points[part], normal[part], sources, cameras, scene, priors, config)
        agreed, certainty = _agree(points[part], w, sources, cameras, gains, config)
        blend = np.clip(certainty / 0.15, 0, 1)[:, None]
        texel[part] = agreed * blend + fallback[part] * (1 - blend)
        seen[part] = certainty > 0.02
    mesh = Mesh(vertices[old], new_faces, normals=normals[old], uv=uv, texture=_pad(mask, texel, size))
    if config.refine_rounds:
        chosen = range(len(cameras) - 1, -1, -config.refine_every)
        sight = {view: _sight(points, normal, cameras, view, scene) for view in chosen}
        for _ in range(config.refine_rounds):
            texel = np.clip(texel + _missed(mesh, images, cameras, sight, scene, len(points)), 0, 1)
            mesh = replace(mesh, texture=_pad(mask, texel, size))
    return BakedTexture(mesh, float(seen.mean()) if len(seen) else 0.0, gains)


def _sight(
    points: Float[np.ndarray, "t 3"],
    normals: Float[np.ndarray, "t 3"],
    cameras: Cameras,
    view: int,
    scene: RayScene,
) -> tuple[Int[np.ndarray, " s"], Float[np.ndarray, " s"], Float[np.ndarray, "s 2"]]:
    """Which points one view sees, each one's cosine to it, and where they project."""
    toward = (cameras.centers[view] - points).astype(np.float32)
    reach = np.linalg.norm(toward, axis=1)
    toward /= reach[:, None]
    cosine = (toward * normals).sum(1)
    facing = np.flatnonzero(cosine > 0.05)
    lift = 2e-3 * float(np.linalg.norm(np.ptp(points, axis=0)))
    start = points[facing] + normals[facing] * lift
    seen = facing[~scene.blocked(start, toward[facing], reach[facing])]
    return seen, cosine[seen], cameras.project(points[seen].astype(np.float32), view)[0]


def _missed(
    mesh: Mesh,
    images: Float[np.ndarray, "n h w 4"],
    cameras: Cameras,
    sight: dict[int, tuple[Int[np.ndarray, " s"], Float[np.ndarray, " s"], Float[np.ndarray, "s 2"]]],
    scene: RayScene,
    count: int,
) -> Float[np.ndarray, "t 3"]:
    """Per texel the mean over the views, by projected area, of view less re-rendered texture; pixels that only
    one of the two covers say nothing."""
    total, weight = np.zeros((count, 3), np.float32), np.full((count, 1), 1e-3, np.float32)
    for view, (seen, cosine, xy) in sight.items():
        again = render_view(mesh, cameras, view, scene=scene)
        both = (images[view][..., 3:] > 0.5) & (again[..., 3:] > 0.5)
        residual = np.where(both, images[view][..., :3] - again[..., :3], 0).astype(np.float32)
        total[seen] += cosine[:, None] * sample_bilinear(residual, xy)
        weight[seen] += cosine[:, None]
    return total / weight


def _source(
    image: Float[np.ndarray, "h w 4"], cameras: Cameras, view: int, scene: RayScene, config: BakeConfig
) -> _Source:
    """Bands of one view, and how far each pixel can be trusted."""
    alpha = image[..., 3]
    distance = silhouette_distance(alpha)
    half = cameras.resized(max(2, cameras.width // 2), max(2, cameras.height // 2))
    hits = scene.first_hits(*half.rays(view))
    depth = np.where(np.isfinite(hits.distance), hits.distance, 0).reshape(half.height, half.width)
    reach = float(np.linalg.norm(cameras.centers[view]))
    jump = ndimage.maximum_filter(depth, 3) - ndimage.minimum_filter(depth, 3)
    edge = jump > 0.03 * max(reach, 1e-6)
    away = distance_to_false(~edge) * 2 if edge.any() else np.full(edge.shape, 1e3)
    ys = np.minimum(np.arange(cameras.height) * half.height // cameras.height, half.height - 1)
    xs = np.minimum(np.arange(cameras.width) * half.width // cameras.width, half.width - 1)
    clear = np.minimum(distance, away[np.ix_(ys, xs)])
    trust = np.clip((clear - config.edge_px) / 3.0, 0, 1).astype(np.float32)
    solid = (distance > config.edge_px / 2).astype(np.float32)
    sigma = config.blur_px * cameras.width / 576
    norm = ndimage.gaussian_filter(solid, sigma)
    rgb = image[..., :3]
    low = np.stack([ndimage.gaussian_filter(rgb[..., k] * solid, sigma) for k in range(3)], -1)
    low /= np.maximum(norm, 1e-3)[..., None]
    return _Source(low, rgb - low, trust[..., None])


def _weights(points, normals, sources, cameras, scene, priors, config) -> Float[np.ndarray, "n p"]:
    """Per view and point: prior · cos² · trust, 0 where hidden."""
    weights = np.zeros((len(sources), len(points)), np.float32)
    lift = 2e-3 * float(np.linalg.norm(np.ptp(points, axis=0))) + 1e-6 if len(points) else 0.0
    for view, source in enumerate(sources):
        toward = (cameras.centers[view] - points).astype(np.float32)
        reach = np.linalg.norm(toward, axis=1)
        toward /= reach[:, None]
        cosine = (toward * normals).sum(1)
        facing = np.flatnonzero(cosine > config.min_cosine)
        xy, depth = cameras.project(points[facing].astype(np.float32), view)
        ok = (depth > 0) & (xy > 0).all(1) & (xy < [cameras.width, cameras.height]).all(1)
        trust = np.zeros(len(facing), np.float32)
        trust[ok] = sample_bilinear(source.trust, xy[ok])[:, 0]
        keep = facing[trust > 0]
        start = points[keep] + normals[keep] * lift
        free = ~scene.blocked(start, toward[keep], reach[keep])
        ramp = np.clip((cosine[keep] - config.min_cosine) / 0.2, 0, 1)
        weights[view, keep] = priors[view] * cosine[keep] ** 2 * ramp * trust[trust > 0] * free
    return weights


def _sample_band(points, weights, images, cameras) -> Float[np.ndarray, "n p 3"]:
    colors = np.zeros((*weights.shape, 3), np.float32)
    for view, image in enumerate(images):
        used = np.flatnonzero(weights[view] > 0)
        xy, _ = cameras.project(points[used].astype(np.float32), view)
        colors[view, used] = sample_bilinear(image, xy)
    return colors


def _agree(
    points, weights, sources, cameras, gains, config
) -> tuple[Float[np.ndarray, "p 3"], Float[np.ndarray, " p"]]:
    """One colour per point, and how much was seen of it (sum of weights before the vote)."""
    certainty = weights.sum(0)
    safe = np.maximum(certainty, 1e-9)
    low = _sample_band(points, weights, [s.low for s in sources], cameras) * gains[:, None]
    vote = weights
    for _ in range(3):
        agreed = (vote[..., None] * low).sum(0) / np.maximum(vote.sum(0), 1e-9)[:, None]
        miss = np.abs(low - agreed).max(-1)
        vote = weights / (1 + (miss / config.disagreement) ** 2)
    agreed = (vote[..., None] * low).sum(0) / np.maximum(vote.sum(0), 1e-9)[:, None]
    best = (vote / np.maximum(vote.max(0), 1e-9)) ** config.sharpness
    high = _sample_band(points, best * (best > 0.01), [s.high for s in sources], cameras) * gains[:, None]
    best = best * (best > 0.01)
    detail = (best[..., None] * high).sum(0) / np.maximum(best.sum(0), 1e-9)[:, None]
    return np.clip(agreed + detail, 0, 1), np.where(safe > 1e-8, certainty, 0)


def _solve_gains(points, sources, cameras, weights, input_view) -> Float[np.ndarray, "n 3"]:
    """Per view and channel a factor that brings it to the agreed colours; the input view keeps 1.

    Half of the way only, and at most 10 %: what moves with the camera on a glossy object is its highlights, and
    a factor cannot take them out without staining the rest."""
    low = _sample_band(points, weights, [s.low for s in sources], cameras)
    gains = np.ones((len(sources), 3), np.float32)
    total = np.maximum(weights.sum(0), 1e-9)[:, None]
    for _ in range(4):
        agreed = (weights[..., None] * low * gains[:, None]).sum(0) / total
        for view in range(len(sources)):
            if view == input_view:
                continue
            w = weights[view][:, None]
            # One brightness for all channels plus a ridge toward 1: a small overlap has no say.
            power = float((w * low[view] ** 2).sum())
            gain = (float((w * low[view] * agreed).sum()) + power + 1e-6) / (2 * power + 1e-6)
            gains[view] = np.clip(gain, 0.9, 1.1)
    return gains


def _fill_by_diffusion(
    color: Float[np.ndarray, "v 3"], known: Bool[np.ndarray, " v"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "v 3"]:
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


def _pad(
    mask: Bool[np.ndarray, "s s"], texel: Float[np.ndarray, "t 3"], size: int
) -> UInt8[np.ndarray, "s s 3"]:
    """Texture with every chart's colour carried outward; far from all charts the mean colour, never the background."""
    page = np.full((size, size, 3), texel.mean(0) if len(texel) else 0.5, np.float32)
    page[mask] = texel
    distance = distance_to_false(~mask)
    rows, columns = nearest_true(mask)
    near = distance <= 2 * PADDING
    page[near] = page[rows[near], columns[near]]
    return (np.clip(page, 0, 1) * 255 + 0.5).astype(np.uint8)
