"""The container of a glTF 2.0 file: its JSON, its buffers, and the arrays that they hold."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from mv3d.core.errors import InputError
from mv3d.render.limits import LoadLimits
from mv3d.render.resources import Resources

_TYPES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_COMPONENTS = {
    5120: np.int8,
    5121: np.uint8,
    5122: np.int16,
    5123: np.uint16,
    5125: np.uint32,
    5126: np.float32,
}


class GltfFile:
    """The JSON of a .glb or .gltf file and the bytes behind it, checked before they are used.

    Its methods raise InputError for what the file says wrongly, and Python's own errors for JSON of a wrong shape.
    """

    def __init__(self, resources: Resources, limits: LoadLimits) -> None:
        self.resources, self.limits, self.name = resources, limits, resources.name
        self.json, self._binary = gltf_document(resources.main(), resources.name)
        self._buffers: dict[int, bytes] = {}

    def buffer(self, index: int) -> bytes:
        """The bytes of a buffer: the binary chunk, or a file beside this one."""
        index = self.index("buffers", index)
        if index not in self._buffers:
            entry = self.json["buffers"][index]
            if "uri" in entry:
                data = self.resources.named(entry["uri"], f"buffer {index}")
            elif index == 0 and self._binary is not None:
                data = self._binary
            else:
                raise InputError(f"{self.name}: buffer {index} has no data")
            if len(data) < int(entry["byteLength"]):
                raise InputError(
                    f"{self.name}: buffer {index}: expected {int(entry['byteLength']):,} bytes, got {len(data):,}"
                )
            self._buffers[index] = data
        return self._buffers[index]

    def view_bytes(self, index: int) -> memoryview:
        """The bytes of a bufferView."""
        view = self.json["bufferViews"][self.index("bufferViews", index)]
        if "EXT_meshopt_compression" in view.get("extensions", {}):
            raise InputError(f"{self.name}: meshopt compression is not supported; export the file without it")
        data = self.buffer(view["buffer"])
        start, length = int(view.get("byteOffset", 0)), int(view["byteLength"])
        if start < 0 or length < 0 or start + length > len(data):
            raise InputError(
                f"{self.name}: bufferView {index}: expected bytes within 0..{len(data):,}, got {start:,}.."
                f"{start + length:,}"
            )
        return memoryview(data)[start : start + length]

    def index(self, what: str, index: Any) -> int:
        """The index itself. Raises InputError where the JSON has no such entry of `what`."""
        count = len(self.json.get(what, []))
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise InputError(
                f"{self.name}: {what}: expected an index in 0..{count - 1}, got {str(index)[:20]}"
            )
        return index

    def accessor(self, index: int) -> np.ndarray:
        """(count, width) as float32 (normalized integers in [-1, 1] or [0, 1]) or as integers."""
        entry = self.json["accessors"][self.index("accessors", index)]
        width, kind = _TYPES[entry["type"]], np.dtype(_COMPONENTS[entry["componentType"]])
        count = int(entry["count"])
        most = max(self.limits.vertices, 3 * self.limits.faces)
        if not 0 <= count <= most:
            raise InputError(
                f"{self.name}: accessor {index}: expected at most {most:,} entries, got {count:,}"
            )
        if "bufferView" in entry:
            view = self.json["bufferViews"][self.index("bufferViews", entry["bufferView"])]
            values = self._strided(entry, count, width, kind, index, view.get("byteStride"))
        else:
            values = np.zeros((count, width), kind)
        if "sparse" in entry:
            values = self._sparse(values.copy(), entry["sparse"], width, kind, index)
        if kind == np.float32:
            return values
        if entry.get("normalized", False):
            scale = np.float32(np.iinfo(kind).max)
            return np.maximum(values.astype(np.float32) / scale, -1)
        return values

    def _strided(
        self, place: dict, count: int, width: int, kind: np.dtype, index: int, stride: Any = None
    ) -> np.ndarray:
        """(count, width) values from the bufferView and the offset that `place` names."""
        data, start = self.view_bytes(place["bufferView"]), int(place.get("byteOffset", 0))
        size = width * kind.itemsize
        stride = size if stride is None else int(stride)
        needed = start + (count - 1) * stride + size if count else start
        if start < 0 or stride < size or needed > len(data):
            raise InputError(
                f"{self.name}: accessor {index}: expected {count:,} entries of {size} bytes within {len(data):,} "
                f"bytes, they need {needed:,}"
            )
        if stride == size:
            return np.frombuffer(data, kind, count * width, start).reshape(count, width)
        raw = np.frombuffer(data, np.uint8)
        places = start + np.arange(count)[:, None] * stride + np.arange(size)
        return raw[places].reshape(count, size).copy().view(kind).reshape(count, width)

    def _sparse(self, values: np.ndarray, entry: dict, width: int, kind: np.dtype, index: int) -> np.ndarray:
        count = int(entry["count"])
        if not 0 <= count <= len(values):
            raise InputError(
                f"{self.name}: accessor {index}: {count} sparse entries for {len(values)} values"
            )
        numbers = np.dtype(_COMPONENTS[entry["indices"]["componentType"]])
        where = self._strided(entry["indices"], count, 1, numbers, index)[:, 0].astype(np.int64)
        if count and where.max() >= len(values):
            raise InputError(f"{self.name}: accessor {index}: a sparse index is out of range")
        values[where] = self._strided(entry["values"], count, width, kind, index)
        return values


def gltf_document(data: bytes, name: str) -> tuple[dict[str, Any], bytes | None]:
    """The JSON and the binary chunk."""
    text, binary = _chunks(data, name) if data[:4] == b"glTF" else (data, None)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: expected glTF (JSON), got something else ({str(error)[:80]})") from error
    if not isinstance(document, dict) or "asset" not in document:
        raise InputError(f"{name}: expected a glTF document with an asset block, got other JSON")
    if not str(document["asset"].get("version", "")).startswith("2"):
        raise InputError(f"{name}: expected glTF version 2, got {document['asset'].get('version')!r}")
    return document, binary


def _chunks(data: bytes, name: str) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a GLB."""
    if len(data) < 20:
        raise InputError(
            f"{name}: expected a GLB header of 20 bytes, got a file of {len(data)}; it is cut off"
        )
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise InputError(f"{name}: expected glTF version 2, got {version}")
    if length > len(data):
        raise InputError(f"{name}: expected {length:,} bytes, got {len(data):,}; the file is cut off")
    text, binary, at = None, None, 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        if at + 8 + size > length:
            raise InputError(f"{name}: a chunk of {size:,} bytes runs over the end of the file")
        chunk = data[at + 8 : at + 8 + size]
        if kind == 0x4E4F534A and text is None:
            text = chunk
        elif kind == 0x004E4942 and binary is None:
            binary = chunk
        at += 8 + size + (-size) % 4
    if text is None:
        raise InputError(f"{name}: expected a JSON chunk, got none")
    return text, binary
