"""A square of glTF that faces the camera at azimuth 0, and its colours as they are rendered."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.gltf_files import Document
from helpers.models import front
from mv3d.core.colors import linear_from_srgb
from mv3d.render.embree import EmbreeRenderer
from mv3d.render.environment import uniform_environment
from mv3d.render.loading import load_model
from mv3d.render.model import Model
from mv3d.render.renderer import RenderSettings

CORNERS = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], np.float32)
UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
"""The picture upright."""


def quad(**material: Any) -> Document:
    """Corners and UV as above, one material, no texture yet."""
    document = Document()
    document.attribute("POSITION", CORNERS, "VEC3")
    document.attribute("TEXCOORD_0", UV, "VEC2")
    document.primitive["indices"] = document.accessor(np.array([0, 1, 2, 0, 2, 3], np.uint16), "SCALAR")
    document.json |= {"materials": [material], "textures": [], "images": [], "samplers": []}
    document.primitive["material"] = 0
    return document


def add_texture(document: Document, picture: np.ndarray | bytes | Image.Image, **extra: Any) -> int:
    """The number of a new texture. Arrays and images are stored as PNG."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    if isinstance(picture, Image.Image):
        out = io.BytesIO()
        picture.save(out, "PNG")
        picture = out.getvalue()
    document.json["images"].append({"bufferView": document.view(picture), "mimeType": "image/png"})
    document.json["textures"].append({"source": len(document.json["images"]) - 1, **extra})
    return len(document.json["textures"]) - 1


def quarters(top_left: Any, top_right: Any, bottom_left: Any, bottom_right: Any, side: int = 8) -> np.ndarray:
    """A picture of four squares of one colour each (three or four numbers of 0 to 255)."""
    rows = np.array([[top_left, top_right], [bottom_left, bottom_right]], np.uint8)
    return rows.repeat(side, 0).repeat(side, 1)


def rendered(model: Model, size: int = 48) -> np.ndarray:
    """(4, 3) linear colours at the middles of the quarters, top left first, without the light of other faces: under
    a white uniform environment a white diffuse surface is 1."""
    settings = RenderSettings(outputs=("rgba",), light_samples=16, samples=4)
    done = EmbreeRenderer().render(model, front(size, radius=2.0), uniform_environment(1.0), settings)
    picture = linear_from_srgb(done.rgba[0, ..., :3])
    # A side of 1 at a distance of 2 with 33.8 degrees fills 0.82 of the picture.
    near, far = round(size * (0.5 - 0.205)), round(size * (0.5 + 0.205))
    return np.stack(
        [picture[y - 1 : y + 1, x - 1 : x + 1].mean((0, 1)) for y in (near, far) for x in (near, far)]
    )


def rendered_file(document: Document, path: Path) -> tuple[Model, np.ndarray]:
    """A document written, read and rendered."""
    model = load_model(document.write(path))
    return model, rendered(model)
