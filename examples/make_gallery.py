"""Makes docs/gallery: photo, generated views and the reconstructed mesh, of objects that the model has never seen.

Run: python examples/make_gallery.py OUT [--model default] [--shards SHARDS] [PHOTO...]
SHARDS: held-out objects of mv3d orbits render, whose last view is the photo and whose true views are shown, too.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mv3d.api import reconstruct
from mv3d.core.errors import Mv3dError
from mv3d.generation.config import GenerateConfig
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.views import LoadedModel, generate_orbit, load_model
from mv3d.orbits.jobs import decode_frame
from mv3d.orbits.reading import OrbitStore
from mv3d.recon.config import ReconConfig
from mv3d.render.raycast import render_views
from mv3d.views.views import Views, composite

SHOWN = [20, 2, 5, 8, 11, 14, 17]
SIDE = 128


def row(images: np.ndarray) -> np.ndarray:
    """(n, h, w, 4) → (128, n·128, 3) uint8 on white."""
    white = (np.clip(composite(images), 0, 1) * 255 + 0.5).astype(np.uint8)
    tiles = [
        np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for image in white
    ]
    return np.concatenate(tiles, axis=1)


def picture(
    photo: Path | PreparedPhoto, truth: np.ndarray | None, model: LoadedModel, config: GenerateConfig
) -> Image.Image:
    """Rows: the true views where they are known, the generated views (the first one is the photo), the mesh."""
    views: Views = generate_orbit(photo, config, model).views
    mesh = reconstruct(views, ReconConfig(quality="draft"))
    rows = [] if truth is None else [row(truth[SHOWN])]
    rows += [row(views.images[SHOWN]), row(render_views(mesh, views.cameras[SHOWN], supersample=2))]
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--shards", type=Path, default=None)
    parser.add_argument("--count", type=int, default=10, help="objects of the shards, evenly spread")
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    config = GenerateConfig(model=options.model)
    model = load_model(config)
    jobs: list[tuple[str, Path | PreparedPhoto, np.ndarray | None]] = []
    for path in options.photos:
        jobs.append((path.stem, path, None))
    if options.shards is not None:
        store = OrbitStore(options.shards)
        for number in np.linspace(0, len(store.places) - 1, options.count).astype(int):
            members = store.members(store.places[number])
            document = json.loads(bytes(members["json"]))
            count = len(document["cameras"]["azimuths_deg"])
            frames = np.stack([decode_frame(members[f"{n:03d}.webp"]) for n in range(count)]) / np.float32(
                255
            )
            jobs.append((document["uid"], PreparedPhoto(frames[-1], "alpha"), frames))
    for name, photo, truth in jobs:
        settings = config if truth is None else replace(config, elevation=10.0)
        try:
            made = picture(photo, truth, model, settings)
        except Mv3dError as error:
            print(f"{name}: {error}")
            continue
        made.quantize(128).save(options.out / f"{name}.png", optimize=True)
        print(options.out / f"{name}.png", flush=True)


if __name__ == "__main__":
    main()
