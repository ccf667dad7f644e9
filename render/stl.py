"""STL → `Model`, with the colours that VisCAM and Materialise put into a face's attribute."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float

from mv3d.core.colors import linear_from_srgb
from mv3d.core.errors import InputError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.limits import LoadLimits
from mv3d.render.model import UNSTATED, Material, Model
from mv3d.render.resources import Resources

STL_COLOURS: dict[str, str] = {
    "VisCAM, SolidView": "15 bits a face, blue lowest, valid where the 16th is set",
    "Materialise Magics": "COLOR= in the header, 15 bits a face, red lowest, valid where the 16th is not set",
}
"""The two conventions of colour in binary STL files, for people."""
_FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_VERTEX = re.compile(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)
_HEADER = 84


def read_stl(resources: Resources, limits: LoadLimits) -> Model:
    """Z up, flat faces. Raises InputError for a broken file."""
    data, name = resources.main(), resources.name
    count = int.from_bytes(data[80:_HEADER], "little") if len(data) >= _HEADER else -1
    whole = count >= 0 and len(data) >= _HEADER + count * _FACE.itemsize
    text = data[:512].lstrip()[:5].lower() == b"solid" and b"vertex" in data.lower()
    assembly = Assembly(name, limits, resources.warnings)
    colors = None
    if whole and (len(data) == _HEADER + count * _FACE.itemsize or not text):
        assembly.check_room(count, 3 * count)
        rows = np.frombuffer(data, _FACE, count, _HEADER)
        corners, colors = rows["corners"].astype(np.float64), _colors(data[:80], rows["attribute"])
    elif text:
        corners = _text_corners(data, name, assembly)
    else:
        raise InputError(
            f"{name}: not a valid stl file (expected {max(count, 0):,} faces of 50 bytes behind 84, or text, got "
            f"{len(data):,} bytes)"
        )
    points = corners.reshape(-1, 3)
    faces = np.arange(len(points)).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise InputError(f"{name}: vertices: expected finite numbers, got NaN or infinity")
    tint = None if colors is None else np.repeat(colors, 3, axis=0)
    assembly.add(Part(points.astype(np.float32), faces, 0, None, None, tint))
    return assembly.model((UNSTATED if tint is None else Material(metallic=0.0, roughness=0.8),))


def _text_corners(data: bytes, name: str, assembly: Assembly) -> Float[np.ndarray, "f 3 3"]:
    assembly.check_room(data.lower().count(b"vertex") // 3, 0)
    found = _VERTEX.findall(data)
    try:
        if not found or len(found) % 3:
            raise ValueError(f"{len(found):,} vertices, which are no triangles")
        return np.array(found).astype(np.float64).reshape(-1, 3, 3)
    except ValueError as error:
        raise InputError(f"{name}: not a valid stl file ({' '.join(str(error).split())[:100]})") from error


def _colors(header: bytes, attribute: np.ndarray) -> Float[np.ndarray, "f 4"] | None:
    """Linear RGBA of the faces, or None where the file has no colours."""
    at = header.find(b"COLOR=")
    fifth = np.stack([attribute & 31, (attribute >> 5) & 31, (attribute >> 10) & 31], 1) / 31
    flagged = (attribute >> 15).astype(bool)
    if at >= 0 and at + 10 <= len(header):
        whole = np.frombuffer(header, np.uint8, 3, at + 6) / 255
        srgb = np.where(flagged[:, None], whole, fifth)
        if not flagged.any() and not attribute.any():  # no face has a colour of its own
            srgb = np.tile(whole, (len(attribute), 1))
    elif flagged.any():
        srgb = fifth[:, ::-1]
    else:
        return None
    linear = linear_from_srgb(srgb)
    if at < 0:
        linear = np.where(flagged[:, None], linear, np.array(UNSTATED.base_color[:3]))
    return np.concatenate([linear, np.ones((len(linear), 1))], 1).astype(np.float32)
