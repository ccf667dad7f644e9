"""Mesh files: glb, obj (+ mtl + png), ply, stl out; those, gltf and off in. 3mf and usdz have modules of their own.

glb and obj are Y up with the front along +Z, as viewers expect; ply and stl keep the world's Z up.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mv3d.core.colors import linear_from_srgb, srgb_from_linear
from mv3d.core.errors import InputError
from mv3d.core.files import sha256, write_files
from mv3d.render.cameras import gltf_from_world
from mv3d.render.flattening import mesh_of_model
from mv3d.render.limits import LoadLimits
from mv3d.render.loading import load_model
from mv3d.render.mesh import Mesh, face_normals, smooth_normals, unit_vectors
from mv3d.render.raycast import sample_bilinear
from mv3d.render.writers import NORMAL_MAP, WriteOptions

_SIDE = re.compile(rb"# sha256 ([0-9a-f]{64}) ([^/\\\r\n]+)")
_ARRAY, _ELEMENTS = 34962, 34963  # glTF bufferView targets
# A mesh is measured, not rendered a thousand times over: it may be larger than an object of the training set, and its
# texture is read as fine as it is.
_LIMITS = LoadLimits(file_bytes=2**32, faces=20_000_000, vertices=60_000_000, texture_size=16_384)
_LEAST_NORMAL_QUALITY = 85  # of a normal map as JPEG: coarser blocks show as facets
_COMPONENTS = {"float32": 5126, "uint16": 5123, "uint32": 5125}


def write_glb(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    """Write a binary glTF."""
    write_files({path: glb_bytes(mesh, name=options.name, jpeg_quality=options.jpeg_quality)})


def write_obj(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    """Write an OBJ with its MTL and texture; see `mv3d.render.writers.save_mesh`."""
    earlier = _side_files(path)
    files = _obj_files(mesh, path, options.name, earlier)
    write_files(files)
    for stale in set(earlier) - files.keys():
        stale.unlink()


def write_ply(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    """Write a binary PLY with vertex colours."""
    write_files({path: _ply_bytes(mesh)})


def write_stl(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    """Write a binary STL, scaled."""
    write_files({path: _stl_bytes(mesh, options.scale)})


def without_degenerate(mesh: Mesh) -> Mesh:
    """The mesh without faces of zero area (they have no normal, and validators object)."""
    size = np.linalg.norm(face_normals(mesh.vertices, mesh.faces), axis=1)
    if (size > 0).all():
        return mesh
    kept, pairs = size > 0, 2 * mesh.quads
    whole = np.repeat(kept[:pairs].reshape(-1, 2).all(1), 2)
    halves, rest = mesh.faces[:pairs], mesh.faces[pairs:][kept[pairs:]]
    faces = np.concatenate([halves[whole], halves[~whole & kept[:pairs]], rest])
    return replace(mesh, faces=faces, quads=int(whole.sum()) // 2)


def glb_bytes(mesh: Mesh, *, name: str = "mv3d", jpeg_quality: int | None = None) -> bytes:
    """A binary glTF 2.0: one node, one indexed primitive, PBR material, embedded texture."""
    if not len(mesh.faces):
        raise InputError("mesh: expected at least one face, got none")
    buffer = GlbBuffer()
    normals = mesh.normals if mesh.normals is not None else smooth_normals(mesh.vertices, mesh.faces)
    normals = unit_vectors(normals, least=1e-6)
    positions = gltf_from_world(mesh.vertices).astype(np.float32)
    attributes = {
        "POSITION": buffer.accessor(positions, "VEC3", bounds=True),
        "NORMAL": buffer.accessor(gltf_from_world(normals).astype(np.float32), "VEC3"),
    }
    # A missing metallicFactor means 1 to every viewer: the object would turn to chrome.
    pbr: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 0.9}
    document: dict[str, Any] = {}
    material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": pbr}
    pictures: list[tuple[str, bytes, int | None]] = []
    if mesh.texture is not None and mesh.uv is not None:
        attributes["TEXCOORD_0"] = buffer.accessor(mesh.uv.astype(np.float32), "VEC2")
        pbr["baseColorTexture"] = {"index": 0}
        pictures.append((f"{name}_albedo", image_bytes(mesh.texture, jpeg_quality), jpeg_quality))
    if mesh.normal_map is not None and mesh.uv is not None and mesh.tangents is not None:
        turned = gltf_from_world(unit_vectors(mesh.tangents[:, :3], least=1e-6))
        tangents = np.concatenate([turned, mesh.tangents[:, 3:]], 1).astype(np.float32)
        attributes["TANGENT"] = buffer.accessor(tangents, "VEC4")
        if "TEXCOORD_0" not in attributes:
            attributes["TEXCOORD_0"] = buffer.accessor(mesh.uv.astype(np.float32), "VEC2")
        material["normalTexture"] = {"index": len(pictures)}
        quality = max(jpeg_quality, _LEAST_NORMAL_QUALITY) if jpeg_quality else None
        pictures.append((f"{name}_normals", image_bytes(mesh.normal_map, quality), quality))
    if pictures:
        document["images"] = [
            {
                "bufferView": buffer.view(data),
                "mimeType": "image/jpeg" if quality else "image/png",
                "name": title,
            }
            for title, data, quality in pictures
        ]
        document["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}]
        document["textures"] = [{"sampler": 0, "source": number} for number in range(len(pictures))]
    if mesh.vertex_colors is not None:
        linear = linear_from_srgb(mesh.vertex_colors.astype(np.float64) / 255).astype(np.float32)
        attributes["COLOR_0"] = buffer.accessor(linear, "VEC3")
    indices = buffer.accessor(mesh.faces.reshape(-1).astype(np.uint32), "SCALAR")
    document = {
        "asset": {"version": "2.0", "generator": "mv3d"},
        "scene": 0,
        "scenes": [{"nodes": [0], "name": name}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [
            {"name": name, "primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}
        ],
        "materials": [material],
        **document,
    }
    return pack_glb(document, buffer)


class GlbBuffer:
    """The only buffer of a binary glTF while it is filled, and what the JSON says of its parts."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes; the number of their bufferView."""
        self.blob.extend(b"\0" * (-len(self.blob) % 4))
        entry = {"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data)}
        self._views.append(entry if target is None else {**entry, "target": target})
        self.blob.extend(data)
        return len(self._views) - 1

    def accessor(self, values: np.ndarray, kind: str, *, bounds: bool = False) -> int:
        """Append float32 attributes, or uint16 or uint32 indices; the number of their accessor."""
        target = _ELEMENTS if values.dtype.kind == "u" else _ARRAY
        entry: dict[str, Any] = {
            "bufferView": self.view(np.ascontiguousarray(values).tobytes(), target),
            "componentType": _COMPONENTS[values.dtype.name],
            "count": len(values),
            "type": kind,
        }
        if bounds:
            # Python floats of float32 values: the validator compares exactly.
            entry["min"], entry["max"] = values.min(0).tolist(), values.max(0).tolist()
        self._accessors.append(entry)
        return len(self._accessors) - 1

    def entries(self) -> dict[str, Any]:
        """What the JSON has to say of it."""
        return {"accessors": self._accessors, "bufferViews": self._views}


def pack_glb(document: dict[str, Any], buffer: GlbBuffer) -> bytes:
    """The container of a binary glTF 2.0 from its JSON without what says of the buffer, and that buffer."""
    blob = bytes(buffer.blob) + b"\0" * (-len(buffer.blob) % 4)
    document = {**document, **buffer.entries(), "buffers": [{"byteLength": len(blob)}]}
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(blob)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, total),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(blob), b"BIN\0"),
            blob,
        ]
    )


def image_bytes(texture: np.ndarray, jpeg_quality: int | None = None) -> bytes:
    """PNG, or JPEG of that quality without chroma subsampling (charts are small and colourful)."""
    buffer = io.BytesIO()
    if jpeg_quality:
        Image.fromarray(texture).save(buffer, "JPEG", quality=jpeg_quality, subsampling=0, optimize=True)
    else:
        Image.fromarray(texture).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _side_files(path: Path) -> list[Path]:
    """The material and the texture of an earlier obj at `path`, which names them and their sha256 in its first lines.
    A file that was changed since is not among them."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        found = [_SIDE.match(line) for line in itertools.takewhile(lambda line: line[:1] == b"#", file)]
    sides = [(path.with_name(os.fsdecode(match[2])), match[1].decode()) for match in found if match]
    return [side for side, digest in sides if side.is_file() and sha256(side) == digest]


def _side_file(path: Path, ending: str, earlier: list[Path]) -> Path:
    """The earlier file of this kind, or a free name."""
    plain = path.with_name(path.stem + ending)
    same = [side for side in earlier if side.suffix == plain.suffix and side.stem.startswith(plain.stem)]
    later = (plain.with_stem(f"{plain.stem}.{number}") for number in itertools.count(2))
    return next(s for s in itertools.chain(same, [plain], later) if s in same or not os.path.lexists(s))


def _obj_files(mesh: Mesh, path: Path, name: str, earlier: list[Path]) -> dict[Path, bytes]:
    files: dict[Path, bytes] = {}
    material_file, texture_file, normal_file = (
        _side_file(path, end, earlier) for end in (".mtl", "_texture.png", NORMAL_MAP)
    )
    positions = gltf_from_world(mesh.vertices)
    normals = mesh.normals if mesh.normals is not None else smooth_normals(mesh.vertices, mesh.faces)
    lines = io.StringIO()
    textured = mesh.texture is not None and mesh.uv is not None
    lines.write(f"mtllib {material_file.name}\no {name}\n")
    np.savetxt(lines, positions, "v %.7g %.7g %.7g")
    if textured and mesh.uv is not None and mesh.texture is not None:
        # OBJ counts v from the bottom of the image.
        np.savetxt(lines, np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], 1), "vt %.7g %.7g")
        files[texture_file] = image_bytes(mesh.texture)
    np.savetxt(lines, gltf_from_world(normals), "vn %.5g %.5g %.5g")
    lines.write(f"usemtl {name}\n")
    corner = "%d/%d/%d" if textured else "%d//%d"
    repeat = 3 if textured else 2
    halves, others = np.split(mesh.faces + 1, [2 * mesh.quads])
    quads = np.concatenate([halves[::2], halves[1::2, 2:]], 1)
    for polygons in (quads, others):
        if len(polygons):
            sides = polygons.shape[1]
            np.savetxt(lines, np.repeat(polygons, repeat, axis=1), "f " + " ".join([corner] * sides))
    material = f"newmtl {name}\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\n"
    if textured:
        material += f"map_Kd {texture_file.name}\n"
    if textured and mesh.normal_map is not None:
        material += f"norm {normal_file.name}\n"  # of the PBR extension of MTL, read by Blender among others
        files[normal_file] = image_bytes(mesh.normal_map)
    files[material_file] = material.encode()
    hashes = [f"# sha256 {hashlib.sha256(data).hexdigest()} {side.name}\n" for side, data in files.items()]
    files[path] = "".join(["# mv3d: Y up, front along +Z\n", *hashes, lines.getvalue()]).encode()
    return files


def sampled_vertex_colors(mesh: Mesh) -> UInt8[np.ndarray, "v 3"] | None:
    """sRGB: the texture at the vertices times the mesh's own colours, or whichever of them there is."""
    if mesh.texture is None or mesh.uv is None:
        return mesh.vertex_colors
    size = np.array([mesh.texture.shape[1], mesh.texture.shape[0]], np.float32)
    sampled = sample_bilinear(mesh.texture, mesh.uv * size)
    if mesh.vertex_colors is not None:
        product = linear_from_srgb(sampled / 255) * linear_from_srgb(mesh.vertex_colors / 255)
        sampled = srgb_from_linear(product) * 255
    return (sampled + 0.5).astype(np.uint8)


def vertex_rows(
    places: Float[np.ndarray, "v 3"],
    normals: Float[np.ndarray, "v 3"],
    colors: UInt8[np.ndarray, "v 3"] | None,
) -> tuple[np.ndarray, list[str]]:
    """The vertices of a binary little-endian PLY, and what its header says of them."""
    fields = [(n, "<f4") for n in ("x", "y", "z", "nx", "ny", "nz")]
    if colors is not None:
        fields += [(n, "u1") for n in ("red", "green", "blue")]
    rows = np.zeros(len(places), fields)
    for k, axis in enumerate("xyz"):
        rows[axis], rows["n" + axis] = places[:, k], normals[:, k]
    if colors is not None:
        for k, channel in enumerate(("red", "green", "blue")):
            rows[channel] = colors[:, k]
    kinds = {"<f4": "float", "u1": "uchar"}
    declared = [f"property {kinds[kind]} {field}" for field, kind in fields]
    return rows, [f"element vertex {len(rows)}", *declared]


def _ply_bytes(mesh: Mesh) -> bytes:
    normals = mesh.normals if mesh.normals is not None else smooth_normals(mesh.vertices, mesh.faces)
    rows, declared = vertex_rows(mesh.vertices, normals, sampled_vertex_colors(mesh))
    faces = np.zeros(len(mesh.faces), [("n", "u1"), ("i", "<i4", 3)])
    faces["n"], faces["i"] = 3, mesh.faces
    header = ["ply", "format binary_little_endian 1.0", "comment mv3d, Z up", *declared]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    return ("\n".join(header) + "\n").encode() + rows.tobytes() + faces.tobytes()


def _stl_bytes(mesh: Mesh, scale: float) -> bytes:
    normal = face_normals(mesh.vertices, mesh.faces)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    rows = np.zeros(len(mesh.faces), [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    rows["n"], rows["v"] = normal, mesh.triangles * scale
    return b"mv3d binary STL, Z up".ljust(80, b"\0") + struct.pack("<I", len(rows)) + rows.tobytes()


def load_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read .glb, .gltf, .obj, .ply, .stl or .off into the world frame, as `mesh_of_model` of what `load_model` reads,
    with its warnings.

    Raises InputError for missing, corrupt or empty files, MissingPartError where a decoder is not installed.
    """
    model = load_model(path, _LIMITS)
    return replace(mesh_of_model(model), warnings=model.warnings)
