"""Pictures and videos of an asset, as small as a page needs them."""

from __future__ import annotations

import base64
import io
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import glb_bytes, without_degenerate
from mv3d.render.turntable import turntable
from mv3d.render.video import encode_mp4
from mv3d.views.folder import to_uint8
from mv3d.views.views import Views, composite

VIDEO_BYTES = 180_000
"""Most that a page takes of a turntable as it is."""
_SIDES = (256, 192, 128, 96, 64, 48)
_QUALITIES = (85, 70, 50, 30)
# What GLTFLoader cannot read without a decoder of its own.
_DECODERS = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression", "KHR_texture_basisu"}  # fmt: skip


def data_uri(content: bytes, kind: str) -> str:
    """kind: the media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def thumbnails(images: Float[np.ndarray, "n h w 4"], most_bytes: int) -> list[bytes]:
    """WebP pictures of RGBA images, alpha kept, as large as they may be together: at most 256 pixels a side."""
    made: list[bytes] = []
    for side in _SIDES:
        small = [_fitted(image, side) for image in images]
        for quality in _QUALITIES:
            made = [_webp(picture, quality) for picture in small]
            if sum(map(len, made)) <= most_bytes:
                return made
    return made


def _fitted(image: Float[np.ndarray, "h w 4"], side: int) -> Image.Image:
    picture = Image.fromarray(to_uint8(image))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def _webp(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, alpha_quality=80, method=4)
    return buffer.getvalue()


def turntable_video(mesh: Mesh, made: Path | None) -> bytes:
    """An mp4 of one turn: the one that was made of the mesh where it is small, else a new one."""
    if made is not None and made.stat().st_size <= VIDEO_BYTES:
        return made.read_bytes()
    for frames, size in ((24, 256), (18, 160), (12, 96)):
        with tempfile.TemporaryDirectory() as folder:
            video = encode_mp4(turntable(mesh, frames=frames, size=size), Path(folder) / "turntable.mp4")
            content = video.read_bytes()
        if len(content) <= VIDEO_BYTES:
            break
    return content


def views_video(views: Views) -> bytes:
    """An mp4 of the views on white, in their order."""
    content = b""
    for side in (256, 160, 96):
        frames = [_even(Image.fromarray(to_uint8(composite(image))), side) for image in views.images]
        with tempfile.TemporaryDirectory() as folder:
            content = encode_mp4(np.stack(frames), Path(folder) / "turntable.mp4").read_bytes()
        if len(content) <= VIDEO_BYTES:
            break
    return content


def _even(picture: Image.Image, side: int) -> np.ndarray:
    """At most so large, with even sides, which the video's colours ask for."""
    scale = min(1.0, side / max(picture.size))
    width, height = (max(2, round(length * scale / 2) * 2) for length in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def self_contained_glb(mesh: Mesh, file: Path | None) -> bytes:
    """A binary glTF that a browser shows without another file: the file itself where it is one, else made of the mesh."""
    if file is not None and file.suffix.lower() == ".glb":
        content = file.read_bytes()
        if _stands_alone(content):
            return content
    return glb_bytes(without_degenerate(mesh), jpeg_quality=90)


def _stands_alone(content: bytes) -> bool:
    """Whether a GLB that our reader has read needs neither other files nor a decoder."""
    (length,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + length])
    if _DECODERS & {*document.get("extensionsRequired", ()), *document.get("extensionsUsed", ())}:
        return False
    parts = [*document.get("buffers", ()), *document.get("images", ())]
    return all(str(part.get("uri", "data:")).startswith("data:") for part in parts)
