"""Named parts with looks → a `Model`, or the bytes of a GLB file with a node for each name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.solids import Solid, joined, subdivided
from mv3d.render.cameras import gltf_from_world
from mv3d.render.mesh_io import GlbBuffer, image_bytes, pack_glb
from mv3d.render.model import Material, Model

MIN_FACES, MAX_FACES = 500, 20_000
_JPEG_QUALITY = 92


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of an object. Pieces of the same name and look become one node of the file."""

    name: str
    solid: Solid
    look: Look


def finished(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Pieces of the same name and look joined, refined until there are MIN_FACES, standing on the ground with the
    middle of the box over the origin."""
    groups: dict[tuple[str, int], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault((piece.name, id(piece.look)), []).append(piece)
    merged = [_merged(group) for group in groups.values()]
    while sum(len(piece.solid.faces) for piece in merged) < MIN_FACES:
        merged = [replace(piece, solid=subdivided(piece.solid)) for piece in merged]
    low = np.min([piece.solid.low for piece in merged], axis=0)
    high = np.max([piece.solid.high for piece in merged], axis=0)
    foot = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return tuple(
        replace(piece, solid=replace(piece.solid, vertices=piece.solid.vertices - foot)) for piece in merged
    )


def _merged(group: list[Piece]) -> Piece:
    """One piece whose uv are repeats of the texture (they do not close any more)."""
    first = group[0]
    solid = joined(
        replace(piece.solid, uv=_repeats(piece.solid, piece.look), closes_u=0.0) for piece in group
    )
    return replace(first, solid=solid)


def _repeats(solid: Solid, look: Look) -> Float[np.ndarray, "v 2"]:
    """Lengths → repeats of the look's texture: a whole number of them where u closes."""
    extent = np.maximum(solid.uv.max(0), 1e-9)
    if look.tile == 0:
        uv = solid.uv / extent
    else:
        scale = np.full(2, 1 / look.tile)
        if solid.closes_u:
            scale[0] = max(1, round(solid.closes_u / look.tile)) / solid.closes_u
        uv = solid.uv * scale
    return uv[:, ::-1] if look.turned else uv


def model_of(pieces: Sequence[Piece]) -> Model:
    """The object in the world frame, as a renderer takes it."""
    materials, numbers = _materials(pieces)
    whole = joined(piece.solid for piece in pieces)
    counts = [len(piece.solid.faces) for piece in pieces]
    return Model(
        whole.vertices.astype(np.float32),
        whole.faces,
        normals=whole.normals.astype(np.float32),
        uv=whole.uv.astype(np.float32),
        face_material=np.repeat(np.array(numbers, np.int32), counts),
        materials=materials,
    )


def glb_of(
    pieces: Sequence[Piece], name: str, *, copyright: str = "CC0-1.0", extras: Mapping[str, Any] | None = None
) -> bytes:
    """A binary glTF 2.0, Y up with the front along +Z: a root node of that name, a named child for each piece,
    textures embedded as JPEG. extras: of the asset, for whoever reads the file's JSON."""
    buffer = GlbBuffer()
    materials, numbers = _materials(pieces)
    meshes = []
    for piece, number in zip(pieces, numbers, strict=True):
        solid = piece.solid
        small = len(solid.vertices) < 65_535
        attributes = {
            "POSITION": buffer.accessor(
                gltf_from_world(solid.vertices).astype(np.float32), "VEC3", bounds=True
            ),
            "NORMAL": buffer.accessor(gltf_from_world(solid.normals).astype(np.float32), "VEC3"),
            "TEXCOORD_0": buffer.accessor(solid.uv.astype(np.float32), "VEC2"),
        }
        indices = buffer.accessor(solid.faces.reshape(-1).astype(np.uint16 if small else np.uint32), "SCALAR")
        primitive = {"attributes": attributes, "indices": indices, "material": number}
        meshes.append({"name": piece.name, "primitives": [primitive]})
    images = []
    for material in materials:
        assert material.base_color_texture is not None
        picture = image_bytes(material.base_color_texture[..., :3], _JPEG_QUALITY)
        images.append({"bufferView": buffer.view(picture), "mimeType": "image/jpeg", "name": material.name})
    children = list(range(1, len(pieces) + 1))
    document = {
        "asset": {
            **{"version": "2.0", "generator": "mv3d", "copyright": copyright},
            **({"extras": extras} if extras else {}),
        },
        "scene": 0,
        "scenes": [{"nodes": [0], "name": name}],
        "nodes": [
            {"name": name, "children": children},
            *({"name": piece.name, "mesh": k} for k, piece in enumerate(pieces)),
        ],
        "meshes": meshes,
        "materials": [_material_entry(material, k) for k, material in enumerate(materials)],
        "textures": [{"sampler": 0, "source": k} for k in range(len(images))],
        "images": images,
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497}],
    }
    return pack_glb(document, buffer)


def _materials(pieces: Sequence[Piece]) -> tuple[tuple[Material, ...], list[int]]:
    """The materials in order of their first use, and each piece's number among them."""
    unique: dict[int, Material] = {}
    for piece in pieces:
        unique.setdefault(id(piece.look.material), piece.look.material)
    places = {key: k for k, key in enumerate(unique)}
    return tuple(unique.values()), [places[id(piece.look.material)] for piece in pieces]


def _material_entry(material: Material, index: int) -> dict[str, Any]:
    return {
        "name": material.name,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": index},
            "metallicFactor": round(material.metallic, 4),
            "roughnessFactor": round(material.roughness, 4),
        },
    }
