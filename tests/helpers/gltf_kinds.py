"""One small glTF file of each kind that readers disagree about: squares, unlike on all four quarters."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.gltf_files import Document
from helpers.gltf_quads import CORNERS, UV, add_texture, quad, quarters

RED, GREEN, BLUE, YELLOW, DARK = (220, 40, 40), (40, 180, 60), (50, 70, 220), (240, 200, 40), (20, 20, 20)
FOUR = quarters(RED, GREEN, BLUE, YELLOW, side=16)
_MIRRORED_S, _CLAMPED = 33648, 33071
_TRANSFORM = "KHR_texture_transform"


def write_kinds(folder: Path) -> list[Path]:
    """One .glb for every kind, in a folder that is there."""
    return [document.write(folder / f"{name}.glb") for name, document in kinds()]


def kinds() -> Iterator[tuple[str, Document]]:
    """Names and documents."""
    yield from _placed()
    yield from _pictures()
    yield from _looks()
    yield from _shapes()


def _based(picture: Any = FOUR, **reference: Any) -> Document:
    document = quad(pbrMetallicRoughness={"metallicFactor": 0})
    document.attribute("TEXCOORD_1", 1 - UV, "VEC2")
    index = add_texture(document, picture)
    material = document.json["materials"][0]
    material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": index, **reference}
    return document


def _placed() -> Iterator[tuple[str, Document]]:
    for name, transform in (
        ("offset", {"offset": [0.25, 0.5]}),
        ("scale", {"scale": [2, -3]}),
        ("rotation", {"rotation": 0.4}),
        ("all", {"offset": [0.1, 0.2], "rotation": -0.7, "scale": [1.5, 0.5]}),
        ("set", {"texCoord": 1}),
    ):
        yield f"transform-{name}", _based(extensions={_TRANSFORM: transform})
        document = _based()  # of the emission alone
        patch = add_texture(document, quarters(DARK, BLUE, DARK, DARK, side=16))
        document.json["materials"][0] |= {
            "emissiveTexture": {"index": patch, "extensions": {_TRANSFORM: transform}},
            "emissiveFactor": [0.7, 0.7, 0.7],
        }
        yield f"emission-{name}", document
    for name, wrap in (("repeat", 10497), ("mirror", _MIRRORED_S), ("clamp", _CLAMPED)):
        document = _based(extensions={_TRANSFORM: {"scale": [2.5, 2.5], "offset": [-0.4, -0.4]}})
        document.json["samplers"] = [{"wrapS": wrap, "wrapT": wrap}]
        document.json["textures"][0]["sampler"] = 0
        yield f"wrap-{name}", document
    document = _based()
    document.attribute("TEXCOORD_0", (UV * 65535).astype(np.uint16), "VEC2", normalized=True)
    yield "uv-16-bits", document


def _pictures() -> Iterator[tuple[str, Document]]:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    out = io.BytesIO()
    Image.fromarray(ramp).save(out, "PNG")
    yield "grey-16-bits", _based(out.getvalue())
    yield "grey", _based(Image.fromarray(FOUR).convert("L"))
    yield "palette", _based(Image.fromarray(FOUR).quantize(16))
    for kind, options in (("WEBP", {"lossless": True}), ("JPEG", {"quality": 95, "subsampling": 0})):
        document, out = _based(), io.BytesIO()
        Image.fromarray(FOUR).save(out, kind, **options)
        document.json["images"][0] = {
            "bufferView": document.view(out.getvalue()),
            "mimeType": f"image/{kind.lower()}",
        }
        if kind == "WEBP":
            document.json["textures"][0] = {"extensions": {"EXT_texture_webp": {"source": 0}}}
            document.json["extensionsUsed"] = document.json["extensionsRequired"] = ["EXT_texture_webp"]
        yield kind.lower(), document


def _looks() -> Iterator[tuple[str, Document]]:
    document = quad(pbrMetallicRoughness={"baseColorFactor": [0.2, 0.5, 0.8, 1], "metallicFactor": 0})
    yield "factor", document
    document = quad(emissiveFactor=[0.1, 0.2, 0.3], pbrMetallicRoughness={"baseColorFactor": [0, 0, 0, 1]})
    document.json["materials"][0]["extensions"] = {
        "KHR_materials_emissive_strength": {"emissiveStrength": 2.5}
    }
    document.json["extensionsUsed"] = ["KHR_materials_emissive_strength"]
    yield "emissive-strength", document
    document = _based()
    document.json["materials"][0]["extensions"] = {"KHR_materials_unlit": {}}
    document.json["extensionsUsed"] = ["KHR_materials_unlit"]
    yield "unlit", document
    clear = np.dstack([FOUR, quarters((0,), (80,), (160,), (255,), side=16)])
    for mode in ("OPAQUE", "MASK", "BLEND"):
        document = _based(clear)
        document.json["materials"][0] |= (
            {"alphaMode": mode, "alphaCutoff": 0.5} if mode == "MASK" else {"alphaMode": mode}
        )
        yield f"alpha-{mode.lower()}", document
    document = quad(pbrMetallicRoughness={"metallicFactor": 0})
    colours = np.array([RED, GREEN, BLUE, YELLOW], np.float32) / 255
    document.attribute("COLOR_0", colours, "VEC3")
    yield "vertex-colours", document
    for name, values in (
        ("paint", {"diffuseFactor": [0.7, 0.2, 0.1, 1], "specularFactor": [0.04] * 3}),
        ("paint-texture", {"specularFactor": [0, 0, 0], "diffuseTexture": {"index": 0}}),
        ("gold", {"diffuseFactor": [0, 0, 0, 1], "specularFactor": [1, 0.76, 0.33]}),
    ):
        document = _based()
        document.json["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": values}}]
        document.json["extensionsUsed"] = ["KHR_materials_pbrSpecularGlossiness"]
        yield f"glossy-{name}", document


def _shapes() -> Iterator[tuple[str, Document]]:
    document = _based()
    document.json["nodes"] = [
        {"children": [1], "rotation": [0, 0.3, 0, 0.95], "scale": [1, 2, 1]},
        {"children": [2], "translation": [0.2, 0, 0], "scale": [-1, 1, 1]},
        {"mesh": 0, "matrix": [1, 0.2, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0.3, 0, 1]},
    ]
    yield "nested-mirrored", document
    document = _based()
    moved = (CORNERS * [0.5, 1, 1] + 0.1).astype(np.float32)
    document.primitive["targets"] = [{"POSITION": document.accessor(moved, "VEC3")}]
    document.json["accessors"][-1] |= {"min": [0, 0, 0], "max": [1, 1, 1]}
    document.json["meshes"][0]["weights"] = [0.5]
    yield "morph", document
    document = _based()
    document.attribute("JOINTS_0", np.array([[0, 1, 0, 0]] * 4, np.uint8), "VEC4")
    share = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]], np.float32)
    document.attribute("WEIGHTS_0", share, "VEC4")
    document.json["nodes"] = [
        {"mesh": 0, "skin": 0},
        {"children": [2]},
        {"translation": [0.5, 0.3, 0], "rotation": [0, 0, 0.2, 0.98]},
    ]
    document.json["scenes"] = [{"nodes": [0, 1]}]
    bind = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)).reshape(2, 16)
    document.json["skins"] = [{"joints": [1, 2], "inverseBindMatrices": document.accessor(bind, "MAT4")}]
    yield "skin", document
    document = _based()
    quantized = np.zeros((4, 4), np.int16)
    quantized[:, :3] = (CORNERS * 2000).astype(np.int16)
    document.json["accessors"].append(
        {
            "bufferView": document.view(quantized.tobytes(), byteStride=8),
            "componentType": 5122,
            "count": 4,
            "type": "VEC3",
            "min": [-1000, -1000, 0],
            "max": [1000, 1000, 0],
        }
    )
    document.primitive["attributes"]["POSITION"] = len(document.json["accessors"]) - 1
    document.json["nodes"][0]["scale"] = [0.001] * 3
    document.json["extensionsUsed"] = document.json["extensionsRequired"] = ["KHR_mesh_quantization"]
    yield "quantized", document
    document = _based()
    document.primitive["indices"] = document.accessor(np.array([0, 1, 3, 2], np.uint8), "SCALAR")
    document.primitive["mode"] = 5
    yield "strip", document
    document = _based()
    document.primitive["indices"] = document.accessor(np.array([0, 1, 2, 3], np.uint32), "SCALAR")
    document.primitive["mode"] = 6
    yield "fan", document
    document = _based()
    places = document.accessor(np.array([[0, 0, 0], [0.3, 1.2, 0.2]], np.float32), "VEC3")
    turned = document.accessor(np.array([[0, 0, 0, 1], [0, 0.38, 0, 0.92]], np.float32), "VEC4")
    document.json["nodes"][0]["extensions"] = {
        "EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": places, "ROTATION": turned}}
    }
    document.json["extensionsUsed"] = document.json["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    yield "instances", document


def write_unpadded(path: Path) -> Path:
    """A GLB whose JSON chunk has an odd length, and no padding."""
    document = _based()
    document.json["buffers"] = [{"byteLength": len(document.binary)}]
    text = json.dumps(document.json).encode()
    text += b" " * (-len(text) % 4 + 1)
    chunk = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunk += struct.pack("<II", len(document.binary), 0x004E4942) + document.binary
    path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunk)) + chunk)
    return path
