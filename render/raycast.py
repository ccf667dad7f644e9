"""Ray casting on the CPU with Embree: visibility, depth, and pictures of textured meshes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from mv3d.core.colors import linear_from_srgb, srgb_from_linear
from mv3d.core.threads import in_threads
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh, face_normals

_RAYS_AT_ONCE = 250_000  # of a picture: bounds the memory


@dataclass(frozen=True, eq=False)
class Hits:
    """First hits of rays. face: (r,) int32, -1 where nothing was hit. u, v: (r,) float32 weights of the face's second
    and third corner. distance: (r,) float32 in lengths of the direction, inf where nothing was hit. back: (r,) bool,
    the face was hit from behind."""

    face: Int[np.ndarray, " r"]
    u: Float[np.ndarray, " r"]
    v: Float[np.ndarray, " r"]
    distance: Float[np.ndarray, " r"]
    back: Bool[np.ndarray, " r"]

    @property
    def bary(self) -> Float[np.ndarray, "r 3"]:
        """Weights of the face's corners, float32."""
        return np.stack([1 - self.u - self.v, self.u, self.v], 1).astype(np.float32)


class Caster(Protocol):
    """Whatever finds the first hits of rays."""

    def first_hits(self, origins: Float[np.ndarray, "r 3"], directions: Float[np.ndarray, "r 3"]) -> Hits: ...


class RayScene:
    """Triangles in Embree's acceleration structure. Build once, ask often."""

    def __init__(self, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> None:
        from embreex import rtcore_scene  # noqa: PLC0415 - a native library, only where rays are cast
        from embreex.mesh_construction import TriangleMesh  # noqa: PLC0415

        self._scene = rtcore_scene.EmbreeScene()  # pyright: ignore[reportAttributeAccessIssue]
        # The constructor attaches the mesh to the scene; the mesh keeps its buffers alive.
        self._mesh = TriangleMesh(
            self._scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32)
        )

    def first_hits(self, origins: Float[np.ndarray, "r 3"], directions: Float[np.ndarray, "r 3"]) -> Hits:
        """First hit of each ray; directions may have any length."""
        answer = self._scene.run(
            np.ascontiguousarray(origins, np.float32),
            np.ascontiguousarray(directions, np.float32),
            query="INTERSECT",
            output=True,
        )
        face, normal = answer["primID"].astype(np.int32), answer["Ng"]
        # Embree's Ng points so that a face seen counter-clockwise has it towards the viewer.
        facing = normal[:, 0] * directions[:, 0]
        facing += normal[:, 1] * directions[:, 1]
        facing += normal[:, 2] * directions[:, 2]
        distance = np.where(face >= 0, answer["tfar"], np.float32(np.inf))
        return Hits(face, answer["u"], answer["v"], distance, facing > 0)

    def blocked(
        self,
        origins: Float[np.ndarray, "r 3"],
        directions: Float[np.ndarray, "r 3"],
        limit: Float[np.ndarray, " r"] | float = np.inf,
    ) -> Bool[np.ndarray, " r"]:
        """Whether anything lies on the ray nearer than `limit`, in lengths of the direction."""
        distance = self._scene.run(
            np.ascontiguousarray(origins, np.float32),
            np.ascontiguousarray(directions, np.float32),
            query="DISTANCE",
        )
        return np.asarray(distance) < np.minimum(limit, 1e30)


def sample_bilinear(image: np.ndarray, xy: Float[np.ndarray, "p 2"]) -> Float[np.ndarray, "p c"]:
    """Bilinear samples at pixel positions (centres at +0.5), clamped at the border. image: (h, w, c)."""
    height, width = image.shape[:2]
    x = np.clip(xy[:, 0] - 0.5, 0, width - 1).astype(np.float32)
    y = np.clip(xy[:, 1] - 0.5, 0, height - 1).astype(np.float32)
    x0 = np.minimum(x.astype(np.int32), max(width - 2, 0))
    y0 = np.minimum(y.astype(np.int32), max(height - 2, 0))
    fx, fy = x - x0, y - y0
    right, down = int(width > 1), width * int(height > 1)
    top_left = y0 * width + x0
    corners = (top_left, top_left + right, top_left + down, top_left + down + right)
    weights = ((1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy)
    planes = np.ascontiguousarray(image.reshape(height * width, -1).T)  # a view where the image is `planar`
    # A channel at a time: numpy is slow on rows of three, and on fancy indices.
    answer = np.empty((len(x), len(planes)), np.float32)
    for channel, plane in enumerate(planes):
        total = np.take(plane, corners[0]) * weights[0]
        for corner, weight in zip(corners[1:], weights[1:], strict=True):
            total += np.take(plane, corner) * weight
        answer[:, channel] = total
    return answer


def planar(image: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """The same image with each channel in one piece, as `sample_bilinear` reads it: for more than one reading."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(image, -1, 0)), 0, -1)


def at_corners(
    values: Float[np.ndarray, "v c"], corners: Int[np.ndarray, "p 3"], bary: Float[np.ndarray, "p 3"]
) -> Float[np.ndarray, "p c"]:
    """Values of vertices between the three corners of a face, by their weights."""
    first, second, third = (np.take(values, corners[:, k], 0) * bary[:, k, None] for k in range(3))
    first += second
    first += third
    return first


def mesh_colors(
    mesh: Mesh, hits: Hits, hit: Bool[np.ndarray, " r"] | Int[np.ndarray, " k"]
) -> Float[np.ndarray, "k 3"]:
    """sRGB albedo in [0, 1] at the rays where `hit` is true, or of these numbers: texture or vertex colours, their product as light where
    there are both, grey where there is neither."""
    corners = np.take(mesh.faces, hits.face[hit], 0)
    u, v = hits.u[hit], hits.v[hit]
    bary = np.stack([1 - u - v, u, v], 1).astype(np.float32)
    tint = None
    if mesh.vertex_colors is not None:
        tint = at_corners(mesh.vertex_colors.astype(np.float32) / 255, corners, bary)
    if mesh.texture is not None and mesh.uv is not None:
        uv = at_corners(mesh.uv, corners, bary)
        size = np.array([mesh.texture.shape[1], mesh.texture.shape[0]], np.float32)
        color = sample_bilinear(mesh.texture, uv * size) / 255
        if tint is None:
            return color
        return srgb_from_linear(linear_from_srgb(color) * linear_from_srgb(tint)).astype(np.float32)
    return np.full((len(corners), 3), 0.7, np.float32) if tint is None else tint


def render_view(
    mesh: Mesh,
    cameras: Cameras,
    view: int,
    *,
    supersample: int = 1,
    scene: RayScene | None = None,
    headlight: float = 0.0,
) -> Float[np.ndarray, "h w 4"]:
    """One view of a mesh: (h, w, 4) float32 sRGB in [0, 1], straight alpha, unlit albedo.

    `supersample`: rays per pixel side; the average is taken of premultiplied sRGB values, as viewers do.
    `headlight`: 0 shows the albedo alone, 1 darkens it fully by the angle between face and ray, so that the
    shape shows.
    """
    scene = scene or RayScene(mesh.vertices, mesh.faces)
    big = cameras.resized(cameras.width * supersample, cameras.height * supersample)
    picture = np.zeros((big.height, big.width, 4), np.float32)
    normals = face_normals(mesh.vertices, mesh.faces) if headlight else None
    left, top, right, bottom = _window(mesh, big, view)
    rows = max(1, _RAYS_AT_ONCE // max(right - left, 1))
    for start in range(top, bottom, rows):
        ys, xs = np.mgrid[start : min(start + rows, bottom), left:right]
        origins, directions = big.rays(view, np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5], 1))
        hits = scene.first_hits(origins, directions)
        hit = np.flatnonzero(hits.face >= 0)
        color = mesh_colors(mesh, hits, hit)
        if normals is not None:
            normal = normals[hits.face[hit]]
            length = np.maximum(np.linalg.norm(normal, axis=1), 1e-20)
            cosine = np.abs((normal * directions[hit]).sum(1)) / length
            color = color * (1 - headlight + headlight * cosine[:, None])
        part = np.zeros((xs.size, 4), np.float32)
        part[hit, :3], part[hit, 3] = color, 1
        picture[start : start + len(ys), left:right] = part.reshape(*ys.shape, 4)
    if supersample > 1:
        # Not `mean` over two axes, which takes ten times as long.
        across = picture[:, ::supersample].copy()
        for column in range(1, supersample):
            across += picture[:, column::supersample]
        picture = across[::supersample].copy()
        for row in range(1, supersample):
            picture += across[row::supersample]
        picture /= supersample**2
    alpha = picture[..., 3:]
    picture[..., :3] /= np.maximum(alpha, 1e-6)  # misses are black, so the mean is premultiplied
    return picture


def _window(mesh: Mesh, cameras: Cameras, view: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels whose rays can hit a mesh; right and bottom are exclusive."""
    xy, depth = cameras.project(np.asarray(mesh.vertices, np.float64), view)
    if not len(xy) or depth.min() <= 1e-6:  # behind the camera a projection means nothing
        return 0, 0, cameras.width, cameras.height
    size = (cameras.width, cameras.height)
    # Two pixels more than float32 rays can stray.
    left, top = np.clip(np.floor(xy.min(0)) - 2, 0, size).astype(int).tolist()
    right, bottom = np.clip(np.ceil(xy.max(0)) + 2, 0, size).astype(int).tolist()
    return left, top, right, bottom


def render_views(
    mesh: Mesh, cameras: Cameras, *, supersample: int = 1, headlight: float = 0.0, threads: int = 1
) -> Float[np.ndarray, "n h w 4"]:
    """`render_view` for every camera, `threads` of them at a time."""
    scene = RayScene(mesh.vertices, mesh.faces)
    options: dict[str, Any] = {"supersample": supersample, "scene": scene, "headlight": headlight}
    draw = partial(render_view, mesh, cameras, **options)
    return np.stack(in_threads(draw, range(len(cameras)), threads))
