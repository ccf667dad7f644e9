"""How well opaque photos are cut out by the colour of their background: objects with a true alpha, laid on one colour.

    python benchmarks/cutouts.py examples/chair.png PHOTO... --objects EVAL

PHOTO: images with alpha, such as those of `examples/make_gallery_photos.py`. EVAL: a folder of meshes, rendered from one
side. Each on white, grey and blue, without loss and as JPEG of quality 85. IoU: of the soft alphas, the sum of the lesser
over the sum of the greater. Stays: share of the true background inside the object's outline, gaps and holes, that was left in
the object. Lost: share of the object that was taken for background.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from ground_truth import normalized
from PIL import Image
from scipy import ndimage

from mv3d.core.errors import InputError
from mv3d.generation.photo import cut_out
from mv3d.render.cameras import orbit_cameras
from mv3d.render.mesh_io import load_mesh
from mv3d.render.raycast import render_views
from mv3d.views.images import read_rgba

BACKGROUNDS = {"white": (255, 255, 255), "grey": (150, 150, 150), "blue": (40, 120, 200)}
SIDE = 512
MARGIN = 24


def photo_of(path: Path) -> np.ndarray:
    """(h, w, 4) with room on all sides; a mesh is rendered from the front right, from 15 degrees."""
    if path.suffix == ".glb":
        mesh = normalized(load_mesh(path))
        return render_views(mesh, orbit_cameras([15.0], [30.0], width=SIDE, height=SIDE), supersample=3)[0]
    return np.pad(read_rgba(path), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))


def laid_on(photo: np.ndarray, color: tuple[int, int, int], *, jpeg: bool) -> np.ndarray:
    """The photo on one colour, opaque, in steps of 1/255."""
    alpha = photo[..., 3:]
    mixed = photo[..., :3] * alpha + np.asarray(color) / 255 * (1 - alpha)
    picture = Image.fromarray((mixed * 255 + 0.5).astype(np.uint8))
    if jpeg:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=85)
        picture = Image.open(file)
    rgb = np.asarray(picture, np.float32) / 255
    return np.concatenate([rgb, np.ones_like(rgb[..., :1])], -1)


def scores(made: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """IoU, stays, lost."""
    inside = np.asarray(ndimage.binary_fill_holes(true > 0.5)) & (true < 0.02)
    stays = made[inside].mean() if inside.sum() >= 20 else np.nan
    lost = 1 - np.minimum(made, true).sum() / true.sum()
    return float(np.minimum(made, true).sum() / np.maximum(made, true).sum()), float(stays), float(lost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--objects", type=Path, default=None)
    options = parser.parse_args()
    paths = options.photos + sorted(options.objects.glob("*.glb") if options.objects else [])
    names = [f"{color}{', JPEG' if jpeg else ''}" for jpeg in (False, True) for color in BACKGROUNDS]
    print("| |", " | ".join(names), "|\n|---" + "|---" * len(names) + "|")
    rows = []
    for path in paths:
        photo, row = photo_of(path), []
        for jpeg in (False, True):
            for color in BACKGROUNDS.values():
                try:
                    made = cut_out(laid_on(photo, color, jpeg=jpeg), path.stem, "colour")[0]
                    row.append(scores(made[..., 3], photo[..., 3]))
                except InputError:
                    row.append((np.nan, np.nan, np.nan))
        rows.append(row)
        shown = [f"{iou:.3f}, {stays:.0%}, {lost:.1%}".replace("nan%", "-") for iou, stays, lost in row]
        print(f"| {path.stem} |", " | ".join(shown), "|", flush=True)
    table = np.asarray(rows)
    with np.errstate(invalid="ignore"):
        means = np.nanmean(table, 0)
    print("| mean |", " | ".join(f"{i:.3f}, {s:.0%}, {lost:.1%}" for i, s, lost in means), "|")
    print(f"not cut out: {int(np.isnan(table[..., 0]).sum())} of {table[..., 0].size}")


if __name__ == "__main__":
    main()
