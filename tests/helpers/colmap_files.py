"""Views written as COLMAP models, text and binary, and bent as a lens would."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from mv3d.render.cameras import Cameras, opencv_from_opengl
from mv3d.views.folder import to_uint8
from mv3d.views.lens import CAMERA_MODELS, Lens
from mv3d.views.views import Views, composite

_IDS = {"SIMPLE_RADIAL_FISHEYE": 8, "RADIAL_FISHEYE": 9}


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """w, x, y, z of a rotation matrix, by the eigenvector of its quadratic form (Bar-Itzhack 2000)."""
    r = rotation
    form = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[2, 1] - r[1, 2]],
            [0, r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
            [0, 0, r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [0, 0, 0, r.trace()],
        ]
    )
    vector = np.linalg.eigh((form + np.triu(form, 1).T) / 3)[1][:, -1]
    return vector[[3, 0, 1, 2]]


def write_model(
    folder: Path,
    cameras: Cameras,
    names: list[str],
    points: np.ndarray,
    *,
    binary: bool,
    model: str = "PINHOLE",
    coefficients: dict[str, float] | None = None,
) -> None:
    """cameras: as mv3d has them. One COLMAP camera for all images, of the first one's intrinsics."""
    folder.mkdir(parents=True)
    known = {"f": cameras.fl_x[0], "fl_x": cameras.fl_x[0], "fl_y": cameras.fl_y[0], "cx": cameras.cx[0], "cy": cameras.cy[0]}  # fmt: skip
    values = [float({**known, **(coefficients or {})}.get(name, 0.0)) for name in CAMERA_MODELS[model]]
    w2c = np.linalg.inv(opencv_from_opengl(cameras.c2w))
    poses = [(*quaternion(m[:3, :3]), *m[:3, 3]) for m in w2c]
    if binary:
        kind = _IDS.get(model, list(CAMERA_MODELS).index(model))
        data = struct.pack("<QiiQQ", 1, 7, kind, cameras.width, cameras.height)
        (folder / "cameras.bin").write_bytes(data + struct.pack(f"<{len(values)}d", *values))
        data = struct.pack("<Q", len(names))
        for index, (name, pose) in enumerate(zip(names, poses, strict=True)):
            data += (
                struct.pack("<I7dI", index + 1, *pose, 7)
                + name.encode()
                + b"\0"
                + struct.pack("<Qddq", 1, 1.0, 2.0, -1)
            )
        (folder / "images.bin").write_bytes(data)
        data = struct.pack("<Q", len(points))
        for index, point in enumerate(points):
            data += struct.pack("<Q3d3BdQii", index, *point, 1, 2, 3, 0.5, 1, 1, 0)
        (folder / "points3D.bin").write_bytes(data)
        return
    lines = ["# Camera list", f"7 {model} {cameras.width} {cameras.height} {' '.join(map(repr, values))}"]
    (folder / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = ["# Image list with two lines of data per image"]
    for index, (name, pose) in enumerate(zip(names, poses, strict=True)):
        numbers = " ".join(repr(float(v)) for v in pose)
        lines += [f"{index + 1} {numbers} 7 {name}", "" if index % 2 else "1.0 2.0 -1"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    lines = [
        f"{i} {p[0]!r} {p[1]!r} {p[2]!r} 1 2 3 0.5 1 0" for i, p in enumerate(points.astype(float).tolist())
    ]
    (folder / "points3D.txt").write_text("\n".join(["# 3D point list", *lines]) + "\n")


def write_images(folder: Path, views: Views, names: list[str], *, on: float | None = None) -> None:
    """The views as files, on a grey of `on` and without alpha where it is given."""
    for image, name in zip(views.images, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_uint8(image if on is None else composite(image, on))).save(folder / name)


def bent_images(images: np.ndarray, straight: Lens, lens: Lens) -> np.ndarray:
    """Images of a pinhole camera as `lens` would take them: every pixel unbent by bisection, sampled by splines."""
    height, width = images.shape[1:3]
    ys, xs = np.mgrid[:height, :width] + 0.5
    plane = lens.plane(np.stack([xs.ravel(), ys.ravel()], 1))
    source = straight.pixels(unbent_slowly(lens, plane)) - 0.5
    where = [source[:, 1].reshape(height, width), source[:, 0].reshape(height, width)]
    made = np.empty_like(images)
    for image, out in zip(images, made, strict=True):
        alpha = ndimage.map_coordinates(image[..., 3], where, order=1)
        color = [ndimage.map_coordinates(image[..., c] * image[..., 3], where, order=1) for c in range(3)]
        out[..., :3] = np.stack(color, -1) / np.maximum(alpha, 1e-3)[..., None]
        out[..., 3] = alpha
    return made.clip(0, 1)


def unbent_slowly(lens: Lens, plane: np.ndarray) -> np.ndarray:
    """The inverse of `Lens.bent` by Newton's method with numerical derivatives."""
    guess, step = plane.copy(), 1e-6
    for _ in range(30):
        error = lens.bent(guess) - plane
        across = [(lens.bent(guess + np.eye(2)[k] * step) - plane - error) / step for k in range(2)]
        jacobian = np.stack(across, -1)
        guess = guess - np.linalg.solve(jacobian, error[..., None])[..., 0]
    return guess
