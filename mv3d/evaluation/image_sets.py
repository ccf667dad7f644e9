"""Sets of images to compare: by name, with masks, and with cameras if they are known."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, UsageError
from mv3d.core.locking import mend
from mv3d.render.cameras import Cameras, Orbit
from mv3d.views.images import MAX_FRAMES, MAX_TOTAL_PIXELS, image_files, read_rgba, stack_frames
from mv3d.views.views import Views

_CAMERA_FILES = ("transforms.json", "transforms_train.json")
# Images in a views folder that are no views.
_NOT_VIEWS = ("input", "contact")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one object to compare.

    names: one for each image, unique; the names pair the images of two sets.
    images: (n, h, w, 4) float32 in [0, 1], sRGB, straight alpha as in the file: 1 if it has no alpha.
    masks: (n, h, w) float32 in [0, 1], or None if there is neither alpha nor a uniform background.
    masks_from: "alpha", "background", or the reason why there are none.
    cameras, orbit, input_view: as in Views, if known. notes: whole sentences about what could not be used of a file.
    """

    names: tuple[str, ...]
    images: Float[np.ndarray, "n h w 4"]
    masks: Float[np.ndarray, "n h w"] | None
    masks_from: str
    cameras: Cameras | None = None
    orbit: Orbit | None = None
    input_view: int | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def width(self) -> int:
        return self.images.shape[2]

    @property
    def height(self) -> int:
        return self.images.shape[1]


def image_set(views: Views, names: tuple[str, ...] | None = None, *, with_alpha: bool = False) -> ImageSet:
    """Views in memory. Raises InputError for NaN.

    names: by default 000, 001, … as in a views folder. with_alpha: alpha holds the masks, even if all of it is opaque;
    otherwise opaque images get masks from their uniform background.
    """
    if not np.isfinite(views.images).all():
        bad = int(np.flatnonzero(~np.isfinite(views.images).all((1, 2, 3)))[0])
        raise InputError(f"view {bad}: expected finite values, got NaN or infinity")
    names = names or tuple(f"{index:03d}" for index in range(len(views)))
    masks, origin = (views.images[..., 3], "alpha") if with_alpha else _masks(views.images)
    return ImageSet(names, views.images, masks, origin, views.cameras, views.orbit, views.input_view)


def read_image_set(path: str | os.PathLike[str]) -> ImageSet:
    """Read a views folder, another folder with transforms.json, such a file, or a plain folder of images.

    Raises InputError for what is missing, damaged or of several sizes, with the name of the file.
    """
    path = Path(path)
    mend(path, path.parent)
    if not path.exists():
        raise InputError(f"{path}: expected a folder of views or of pictures, found nothing there")
    if path.is_file() and path.suffix.lower() != ".json":
        raise InputError(
            f"{path}: expected a folder of views or of pictures, got a file; a mesh is taken for GT alone"
        )
    for camera_file in [path] if path.is_file() else [path / name for name in _CAMERA_FILES]:
        if camera_file.is_file():
            return _posed(camera_file)
    files = image_files(path)
    files = [p for p in files if p.stem not in _NOT_VIEWS] or files
    if not files:
        raise InputError(f"{path}: expected transforms.json or pictures, found none of them")
    if len(files) > MAX_FRAMES:
        raise InputError(f"{path}: expected at most {MAX_FRAMES} images, got {len(files)}; thin them out")
    names = _unique_names(files, path)
    images = _read_all(files, path)
    masks, origin = _masks(images)
    return ImageSet(names, images, masks, origin)


def rendered_image_set(
    path: Path, like: ImageSet, *, side: float | None = None, supersample: int = 3
) -> ImageSet:
    """Render a mesh with the cameras of `like`: unlit sRGB albedo, `supersample`² rays a pixel.

    side: centre the mesh and scale its largest side to this length; None keeps the file's coordinates (glTF and OBJ
    turned to the world's Z up). Raises InputError if `like` has no cameras or a camera sees nothing of the mesh.
    """
    from mv3d.evaluation.surfaces import normalized  # noqa: PLC0415
    from mv3d.render.mesh_io import load_mesh  # noqa: PLC0415
    from mv3d.render.raycast import render_views  # noqa: PLC0415 - a native library

    if like.cameras is None:
        raise InputError(
            f"{path}: a mesh as GT is seen by the cameras of PRED, and PRED has none; give a folder with transforms.json"
        )
    mesh = load_mesh(path)
    if side is not None:
        mesh = normalized(mesh, side)
    images = render_views(mesh, like.cameras, supersample=supersample)
    for name, image in zip(like.names, images, strict=True):
        if not (image[..., 3] > 0).any():
            raise InputError(
                f"{path}: not in sight of the camera of view {name}; check the pose, or scale the mesh with --gt-side"
            )
    views = Views(images, like.cameras, like.orbit, like.input_view)
    notes = tuple(f"{path.name}: {warning}" for warning in mesh.warnings)
    return replace(image_set(views, like.names, with_alpha=True), notes=notes)


def matched(pred: ImageSet, gt: ImageSet, pred_name: str, gt_name: str) -> ImageSet:
    """`gt` in the order of `pred`. Raises InputError if names or sizes differ, and says which."""
    lacking = [name for name in pred.names if name not in gt.names]
    surplus = [name for name in gt.names if name not in pred.names]
    if lacking or surplus:
        parts = [f"{gt_name} has no {some(lacking)}"] if lacking else []
        parts += [f"{pred_name} has no {some(surplus)}"] if surplus else []
        raise InputError(
            f"views: expected the same names on both sides, got {len(pred)} in {pred_name} and {len(gt)} in {gt_name}: "
            + "; ".join(parts)
        )
    if (pred.width, pred.height) != (gt.width, gt.height):
        raise InputError(
            f"views: expected one size, got {pred.width}x{pred.height} in {pred_name} and {gt.width}x{gt.height} in "
            f"{gt_name}; bring both to one with --size"
        )
    order, orbit = [gt.names.index(name) for name in pred.names], gt.orbit
    if orbit is not None:
        elevations, azimuths = (
            tuple(angles[i] for i in order) for angles in (orbit.elevations_deg, orbit.azimuths_deg)
        )
        orbit = replace(orbit, elevations_deg=elevations, azimuths_deg=azimuths)
    return replace(
        gt,
        names=pred.names,
        images=gt.images[order],
        masks=None if gt.masks is None else gt.masks[order],
        cameras=None if gt.cameras is None else gt.cameras[order],
        orbit=orbit,
        input_view=None if gt.input_view is None else order.index(gt.input_view),
    )


def resized(image_set: ImageSet, side: int) -> ImageSet:
    """All images at side x side pixels: Lanczos on premultiplied values, clipped to [0, 1].

    Raises UsageError for a side out of range, InputError for images that are not square.
    """
    if not 11 <= side <= 4096:
        raise UsageError(f"--size: expected 11 to 4096 pixels, got {side}")
    if image_set.width != image_set.height:
        raise InputError(
            f"--size: expected square pictures, got {image_set.width}x{image_set.height}; crop or pad them first"
        )
    if image_set.width == side:
        return image_set
    color, alpha = image_set.images[..., :3], image_set.images[..., 3]
    planes = [_resample(color[..., channel] * alpha, side) for channel in range(3)]
    alpha = np.clip(_resample(alpha, side), 0, 1)
    color = np.clip(np.stack(planes, -1), 0, 1) / np.maximum(alpha, 1e-6)[..., None]
    masks = None if image_set.masks is None else np.clip(_resample(image_set.masks, side), 0, 1)
    return replace(
        image_set,
        images=np.concatenate([np.clip(color, 0, 1), alpha[..., None]], -1).astype(np.float32),
        masks=masks,
        cameras=None if image_set.cameras is None else image_set.cameras.resized(side, side),
    )


def pose_difference_deg(a: Cameras, b: Cameras) -> float:
    """The largest angle between the orientations of corresponding cameras, degrees."""
    turn = np.einsum("nij,nik->njk", a.c2w[:, :3, :3], b.c2w[:, :3, :3])
    cosine = np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1)
    return float(np.degrees(np.arccos(cosine)).max())


def _posed(camera_file: Path) -> ImageSet:
    from mv3d.views.readers import load_views  # noqa: PLC0415 - loads torch

    views = load_views(camera_file)  # checks every field and path of the file
    document: dict[str, Any] = json.loads(camera_file.read_text(encoding="utf-8"))
    paths = [camera_file.parent / frame["file_path"] for frame in document["frames"]]
    paths = [p if p.suffix else p.with_name(p.name + ".png") for p in paths]
    names = _unique_names(paths, camera_file)
    masks, origin = views.images[..., 3], "alpha"
    images = views.images
    if not any(frame.get("mask_path") for frame in document["frames"]):
        # Pictures without alpha are compared as they are; the reader has taken their background out.
        images = _read_all(paths, camera_file)
        if not (images[..., 3] < 0.5).any():
            origin = "background"
    return ImageSet(names, images, masks, origin, views.cameras, views.orbit, views.input_view)


def _masks(images: Float[np.ndarray, "n h w 4"]) -> tuple[Float[np.ndarray, "n h w"] | None, str]:
    if (images[..., 3] < 0.5).any():
        return images[..., 3], "alpha"
    from mv3d.views.masks import foreground_alpha  # noqa: PLC0415 - slow to import

    try:
        return foreground_alpha(images[..., :3])[..., 3], "background"
    except InputError as error:
        return None, str(error)


def _read_all(files: list[Path], where: Path) -> Float[np.ndarray, "n h w 4"]:
    images: list[np.ndarray] = []
    for file in files:
        image = read_rgba(file)
        if images and image.shape != images[0].shape:
            raise InputError(
                f"{file}: expected {images[0].shape[1]}x{images[0].shape[0]} as {files[0].name}, got "
                f"{image.shape[1]}x{image.shape[0]}; resize them to one size"
            )
        images.append(image)
        if len(images) * image.shape[0] * image.shape[1] > MAX_TOTAL_PIXELS:
            raise InputError(
                f"{where}: expected at most {MAX_TOTAL_PIXELS} pixels in all, got more; scale them down"
            )
    return stack_frames(images, str(where))


def _unique_names(files: list[Path], where: Path) -> tuple[str, ...]:
    names = tuple(file.stem for file in files)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where}: expected one image of each name, got several called {twice}")
    return names


def some(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _resample(planes: Float[np.ndarray, "n h w"], side: int) -> Float[np.ndarray, "n s s"]:
    from PIL import Image  # noqa: PLC0415

    images = (Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in planes)
    return np.stack([np.asarray(im.resize((side, side), Image.Resampling.LANCZOS)) for im in images])
