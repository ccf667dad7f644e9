"""The smallest generator and the smallest reconstruction: stand-ins that go through the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.shapes import cube
from mv3d.core.progress import Clock
from mv3d.generation import generator
from mv3d.generation.generator import Frames
from mv3d.models.folder import ModelInfo, write_info
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import render_views
from mv3d.views.views import Views


class Repeat:
    """A generator that repeats the photo, with alpha."""

    def __init__(self, plan):
        self.info = plan.info

    def generate(self, photo, orbit, settings, on_progress=None, on_frame=None):
        if on_progress:
            on_progress("repeat", 1.0)
        cameras = orbit.cameras(*self.info.size)
        frames = np.repeat(photo.on_white(alpha=True)[None], len(cameras), axis=0)
        return Frames(frames, cameras, {"repeat": 0.5}, ("nothing new was seen",))


def write_photo_and_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`x.png`, and `model` for the generator above."""
    monkeypatch.setitem(generator.GENERATORS, "repeat", Repeat)
    (folder / "model").mkdir()
    info = ModelInfo("repeat", num_frames=6, resolution=24, elevations_deg=(-5, 10))
    write_info(folder / "model", info)
    (folder / "model" / "weights.safetensors").write_bytes(b"some")
    photo = Image.new("RGBA", (40, 40))
    photo.paste((200, 60, 40, 255), (12, 10, 28, 32))
    photo.save(folder / "x.png")


@dataclass(frozen=True)
class Box:
    """A box of the views' mean colour, whatever they show; it is its own reconstructor."""

    makes_mesh: bool
    color: tuple[int, ...] = ()

    def fit(self, views: Views, clock: Clock) -> Box:
        with clock.stage("box"):
            rgb = views.images[views.images[..., 3] > 0.5][:, :3].mean(0)
        return Box(self.makes_mesh, tuple((255 * rgb).astype(int).tolist()))

    def _mesh(self) -> Mesh:
        return cube(0.6, self.color)  # type: ignore[arg-type]

    def render(self, cameras: Cameras) -> np.ndarray:
        return render_views(self._mesh(), cameras)

    def to_mesh(self) -> Mesh | None:
        return self._mesh() if self.makes_mesh else None

    def details(self) -> dict[str, Any]:
        return {"color": list(self.color)}
