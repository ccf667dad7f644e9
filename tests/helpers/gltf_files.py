"""glTF documents written by hand, good and bad."""

from __future__ import annotations

import base64
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)


class Document:
    """Collects buffers and accessors."""

    def __init__(self) -> None:
        self.binary = b""
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {}}]}],
            "bufferViews": [],
            "accessors": [],
        }

    @property
    def primitive(self) -> dict[str, Any]:
        return self.json["meshes"][0]["primitives"][0]

    def view(self, data: bytes, **extra: Any) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        self.json["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), **extra}
        )
        self.binary += data
        return len(self.json["bufferViews"]) - 1

    def accessor(self, values: np.ndarray, kind: str, **extra: Any) -> int:
        component = {"f4": 5126, "u1": 5121, "i1": 5120, "u2": 5123, "i2": 5122, "u4": 5125}[
            values.dtype.str[1:]
        ]
        self.json["accessors"].append(
            {
                "bufferView": self.view(values.tobytes()),
                "componentType": component,
                "count": len(values),
                "type": kind,
                **extra,
            }
        )
        return len(self.json["accessors"]) - 1

    def attribute(self, name: str, values: np.ndarray, kind: str, **extra: Any) -> int:
        index = self.accessor(values, kind, **extra)
        self.primitive["attributes"][name] = index
        return index

    def write(self, path: Path) -> Path:
        """As .glb, or as .gltf with the buffer inside as base64."""
        if path.suffix == ".gltf":
            uri = "data:application/octet-stream;base64," + base64.b64encode(self.binary).decode()
            buffers = self.json.get("buffers", [{"byteLength": len(self.binary)}])
            buffers = [{"uri": uri, **buffer} for buffer in buffers]
            path.write_text(json.dumps({**self.json, "buffers": buffers}))
            return path
        whole = {"buffers": [{"byteLength": len(self.binary)}], **self.json}
        return write_glb(path, json.dumps(whole).encode(), self.binary)


def write_glb(path: Path, text: bytes, binary: bytes, *, length: int | None = None) -> Path:
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    body = (
        struct.pack("<II", len(text), 0x4E4F534A)
        + text
        + struct.pack("<II", len(binary), 0x004E4942)
        + binary
    )
    path.write_bytes(struct.pack("<III", 0x46546C67, 2, length or 12 + len(body)) + body)
    return path


def triangle(vertices: np.ndarray = TRIANGLE) -> Document:
    """One triangle in the plane z = 0 of glTF."""
    document = Document()
    document.attribute("POSITION", vertices.astype(np.float32), "VEC3")
    document.primitive["indices"] = document.accessor(np.array([0, 1, 2], np.uint16), "SCALAR")
    return document


def textured(png: bytes | None = None) -> Document:
    document = triangle()
    document.attribute("TEXCOORD_0", np.array([[0, 1], [1, 1], [0, 0]], np.float32), "VEC2")
    document.json["images"] = [{"bufferView": document.view(png or png_bytes()), "mimeType": "image/png"}]
    document.json["textures"] = [{"source": 0}]
    document.json["materials"] = [
        {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0}}
    ]
    document.primitive["material"] = 0
    return document


def png_bytes(size: tuple[int, int] = (4, 4), color: tuple[int, ...] = (200, 100, 50, 255)) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", size, color).save(out, "PNG")
    return out.getvalue()
