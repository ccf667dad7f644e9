"""Makes examples/chair.png, the picture that README and `make demo` begin with: a procedural chair that no model of ours
was trained on, with transparency.

Run: python examples/make_example_photo.py examples/chair.png
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mv3d.orbits.procedural.generate import make_object
from mv3d.render.cameras import SV3D_FOV_DEG, Orbit
from mv3d.render.loading import load_model
from mv3d.render.model import normalize_model
from mv3d.render.renderer import RenderSettings, get_renderer
from mv3d.render.skies import builtin_environment
from mv3d.render.trajectories import fitted

FAMILY, SEED = "chair", 777_000_000
SIZE, ELEVATION_DEG, AZIMUTH_DEG = 512, 10.0, 30.0


def photo() -> Image.Image:
    """The chair from in front and a little above, in studio light."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chair.glb"
        path.write_bytes(make_object(FAMILY, SEED).glb())
        model, _ = normalize_model(load_model(path))
    orbit = fitted(Orbit((ELEVATION_DEG,), (AZIMUTH_DEG,)), model.vertices, fov_deg=SV3D_FOV_DEG, margin=0.05)
    rendered = get_renderer().render(
        model, orbit.cameras(SIZE, SIZE), builtin_environment(0), RenderSettings(samples=16)
    )
    return Image.fromarray((rendered.rgba[0].clip(0, 1) * 255 + 0.5).astype(np.uint8))


if __name__ == "__main__":
    photo().save(sys.argv[1], optimize=True)
