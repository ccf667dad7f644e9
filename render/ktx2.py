"""KTX2 pictures with Basis Universal data (KHR_texture_basisu), decoded by opengl_basisu where it is installed."""

from __future__ import annotations

import struct

import numpy as np
from jaxtyping import UInt8

from mv3d.core.errors import MissingPartError

MAGIC = b"\xabKTX 20\xbb\r\n\x1a\n"
# Stands in records of data sets, which are the same on every machine.
_HINT = (
    'install the decoder: python -m pip install "opengl-basisu>=0.1.0a2", or convert the file: '
    "gltf-transform ktxdecompress in.glb out.glb"
)


class Ktx2Error(ValueError):
    """A KTX2 picture that cannot be decoded."""


def ktx2_size(data: bytes) -> tuple[int, int]:
    """Width and height, from the header. Raises Ktx2Error for less than a header and for what is not one picture."""
    if len(data) < 80:
        raise Ktx2Error("its header is cut off")
    width, height, depth, layers, faces = struct.unpack_from("<5I", data, 20)
    if not width or not height or depth or layers > 1 or faces != 1:
        raise Ktx2Error(f"expected one plain picture, got {layers} layers and {faces} faces")
    return width, height


def decode_ktx2(data: bytes, name: str, *, most: int) -> UInt8[np.ndarray, "h w 4"]:
    """The largest level that is at most `most` on its longer side, or the smallest there is.

    Raises Ktx2Error for broken data and for KTX2 without Basis Universal, MissingPartError without the decoder. name:
    of the file and the texture, for its message.
    """
    try:
        import opengl_basisu  # noqa: PLC0415 - an extra  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPartError(
            f"{name}: its picture is KTX2 (Basis Universal), whose decoder is not installed; {_HINT}"
        ) from error
    try:
        texture = opengl_basisu.open(data)
        sizes = [texture.level_size(level) for level in range(texture.levels)]
        fitting = [level for level, size in enumerate(sizes) if max(size) <= most]
        level = fitting[0] if fitting else len(sizes) - 1
        pixels = texture.transcode("rgba8", level).data
        width, height = sizes[level]
        return np.ascontiguousarray(pixels, np.uint8).reshape(height, width, 4)
    except (opengl_basisu.BasisuError, ValueError) as error:
        raise Ktx2Error(" ".join(str(error).split())[:120]) from error
