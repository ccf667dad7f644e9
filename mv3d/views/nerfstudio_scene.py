"""Views as the arrays and files that a dataparser of nerfstudio hands on. Needs no nerfstudio."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mv3d.core.caches import cache_dir
from mv3d.core.errors import UsageError
from mv3d.core.files import atomic_path
from mv3d.render.cameras import Cameras
from mv3d.render.points import PointCloud, sample_surface
from mv3d.views.folder import to_uint8
from mv3d.views.handing_on import POINTS
from mv3d.views.readers import load_views
from mv3d.views.silhouettes import common_box


@dataclass(frozen=True, eq=False)
class NerfstudioScene:
    """Views in their own world, Z up and neither moved, turned nor scaled, beside what nerfstudio asks for.

    image_files: RGBA, in the order of `cameras`. box: corners of a cube around the object (low, high). points: on the
    solid of the views, from which splats begin, where there is one.
    """

    image_files: tuple[Path, ...]
    cameras: Cameras
    box: Float[np.ndarray, "2 3"]
    points: PointCloud | None

    def split(self, split: str, eval_every: int) -> list[int]:
        """The views of "train", "val" or "test". eval_every: each so-many-th view is for evaluation alone, 0: all views
        are for both. Raises UsageError for 1 and below 0, and where nothing would be left."""
        count = len(self.cameras)
        if eval_every == 0:
            return list(range(count))
        if not 2 <= eval_every <= count:
            raise UsageError(f"--eval-every: expected 0, or 2 to {count}, got {eval_every}")
        held_out = range(eval_every - 1, count, eval_every)
        return [index for index in range(count) if (index in held_out) != (split == "train")]


def nerfstudio_scene(path: str | os.PathLike[str], *, cache: Path | None = None) -> NerfstudioScene:
    """Read views of any kind that `load_views` takes, and write their pictures as they were read: straight, cut out, the
    masks as alpha. The files are named by their content, in `cache`, by default MV3D_CACHE/nerfstudio; they may be removed.

    Raises InputError for what cannot be used, OutputError for errors of the disk.
    """
    views = load_views(path)
    pixels = to_uint8(views.images)
    names = _written(pixels, cache or cache_dir("nerfstudio"))
    center, half = common_box(views.images[..., 3], views.cameras)
    points = None if views.solid is None else sample_surface(views.solid, POINTS)
    return NerfstudioScene(names, views.cameras, np.stack([center - half, center + half]), points)


def _written(pixels: UInt8[np.ndarray, "n h w 4"], cache: Path) -> tuple[Path, ...]:
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    folder = cache / digest.hexdigest()[:32]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder, hint="free some space or set MV3D_CACHE") as part:
            part.mkdir()
            for index, image in enumerate(pixels):
                Image.fromarray(image).save(part / f"{index:03d}.png")
    return tuple(folder / f"{index:03d}.png" for index in range(len(pixels)))
