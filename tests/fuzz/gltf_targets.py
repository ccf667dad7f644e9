"""Inputs of the glTF reader's newer paths: textures on coordinates of their own, specular-glossiness, compressed
bufferViews, KTX2; and of the meshopt decoder alone."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def gltf_seeds(folder: Path) -> None:
    from helpers.gltf_quads import UV, add_texture, quad, quarters
    from helpers.meshopt_streams import encode_attributes, encode_triangles

    rng = np.random.default_rng(0)
    picture = quarters((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), side=2)
    placed = {"KHR_texture_transform": {"offset": [0.5, 0], "scale": [2, 1], "rotation": 0.3, "texCoord": 1}}
    document = quad()
    document.attribute("TEXCOORD_1", UV, "VEC2")
    document.json["samplers"] = [{"wrapS": 33071, "wrapT": 33648}]
    base, other = add_texture(document, picture), add_texture(document, picture, sampler=0)
    document.json["materials"] = [
        {
            "pbrMetallicRoughness": {
                "baseColorTexture": {"index": base},
                "metallicRoughnessTexture": {"index": other, "texCoord": 1},
            },
            "emissiveTexture": {"index": other, "extensions": placed},
            "emissiveFactor": [1, 1, 1],
            "normalTexture": {"index": base, "texCoord": 1, "scale": 0.5},
        }
    ]
    document.write(_new(folder / "sets") / "model.gltf")

    document = quad()
    index = add_texture(document, np.dstack([picture, rng.integers(0, 255, (4, 4), np.uint8)]))
    shine = {
        "diffuseFactor": [1, 0.5, 0.2, 0.9],
        "specularFactor": [0.5, 0.5, 0.1],
        "glossinessFactor": 0.8,
        "diffuseTexture": {"index": index},
        "specularGlossinessTexture": {"index": index},
    }
    document.json["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": shine}}]
    document.write(_new(folder / "glossy") / "model.gltf")

    for name, version in (("EXT_meshopt_compression", 0), ("KHR_meshopt_compression", 1)):
        document = quad()
        for accessor in (document.primitive["attributes"]["POSITION"], document.primitive["indices"]):
            entry = document.json["accessors"][accessor]
            view = document.json["bufferViews"][entry["bufferView"]]
            start, length = view["byteOffset"], view["byteLength"]
            plain = np.frombuffer(document.binary[start : start + length], np.uint8)
            if entry["type"] == "VEC3":
                mode, stride = "ATTRIBUTES", 12
                stream = encode_attributes(plain.reshape(-1, 12), version=version)
            else:
                mode, stride, stream = "TRIANGLES", 2, encode_triangles(plain.view(np.uint16))
            place = document.json["bufferViews"][document.view(stream)]
            packed = {k: place[k] for k in ("buffer", "byteOffset", "byteLength")}
            packed |= {"mode": mode, "count": length // stride, "byteStride": stride}
            view |= {"buffer": version, "extensions": {name: packed}}
        document.json["buffers"] = [{"byteLength": len(document.binary)}, {"byteLength": 999}]
        document.write(_new(folder / name) / "model.glb")

    document = quad()
    header = b"\xabKTX 20\xbb\r\n\x1a\n" + struct.pack("<9I", 0, 1, 8, 8, 0, 0, 1, 1, 0) + bytes(60)
    stored = sorted((Path(__file__).parents[1] / "render" / "data").glob("*.ktx2"))
    contents = [header, *(path.read_bytes() for path in stored)]
    for content in contents:
        add_texture(document, content)
    document.json["materials"] = [
        {
            "pbrMetallicRoughness": {"baseColorTexture": {"index": len(contents) - 1}},
            "emissiveTexture": {"index": len(contents) - 2},
            "emissiveFactor": [1, 1, 1],
            "normalTexture": {"index": 0},
        }
    ]
    document.write(_new(folder / "ktx2") / "model.glb")


def read_gltf_look(folder: Path) -> Any:
    """As far as a pixel: what the surface is at points of its faces."""
    from mv3d.core.errors import MissingPartError
    from mv3d.render.limits import LoadLimits
    from mv3d.render.loading import load_model
    from mv3d.render.surface import Points, Surface

    files = sorted(path for path in folder.glob("model.*") if path.suffix in (".glb", ".gltf"))
    try:
        model = load_model(files[0] if files else folder / "model.gone", LoadLimits(file_bytes=2**22))
    except MissingPartError:  # KTX2 where its decoder is not installed
        return None
    surface, face = Surface(model), np.arange(min(len(model.faces), 64), dtype=np.int32)
    third = np.full(len(face), 1 / 3, np.float32)
    points = Points(face, third, third, np.zeros(len(face), bool), np.full(len(face), 0.01, np.float32))
    looks = [*surface.base(points), *surface.emission(points), *surface.normal(points)]
    looks += surface.metallic_roughness(points)
    if not np.isfinite(looks).all():
        raise AssertionError("a look is not finite")
    return looks


def meshopt_seeds(folder: Path) -> None:
    """Streams of a real encoder, of every mode and filter."""
    streams = json.loads((Path(__file__).parents[1] / "render" / "data" / "meshopt_streams.json").read_text())
    for number, entry in enumerate(streams):
        place = _new(folder / f"{number:02d}")
        (place / "stream.bin").write_bytes(base64.b64decode(entry["stream"]))
        kept = {key: entry[key] for key in ("mode", "filter", "count", "byteStride")}
        (place / "entry.json").write_text(json.dumps(kept))


def read_meshopt(folder: Path) -> Any:
    """The decoder as the glTF reader calls it: wrong JSON and broken streams are its caller's to name."""
    from mv3d.core.errors import InputError
    from mv3d.render.meshopt import decode_view

    try:
        entry, stream = json.loads((folder / "entry.json").read_text()), (folder / "stream.bin").read_bytes()
        if not 0 <= int(entry["count"]) * int(entry["byteStride"]) <= 2**22:
            return None
        data = decode_view(stream, entry)
    except (ValueError, KeyError, TypeError, OSError, OverflowError, RecursionError) as error:
        raise InputError(f"stream: {' '.join(str(error).split())[:120]}") from error
    if len(data) != int(entry["count"]) * int(entry["byteStride"]):
        raise AssertionError(f"{len(data)} bytes instead of {entry['count']} of {entry['byteStride']}")
    return data
