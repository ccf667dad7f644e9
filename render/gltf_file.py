"""The container of a glTF 2.0 file: its JSON, its buffers, and the arrays that they hold."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from mv3d.core.errors import InputError
from mv3d.render.gltf_extensions import MESHOPT
from mv3d.render.limits import LoadLimits
from mv3d.render.meshopt import decode_view
from mv3d.render.resources import Resources

_JSON, _BINARY = 0x4E4F534A, 0x004E4942
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
        self._decoded: dict[int, bytes] = {}
        self._decoded_bytes = 0

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
                raise _NoDataError(f"{self.name}: buffer {index} has no data")
            if len(data) < int(entry["byteLength"]):
                raise InputError(
                    f"{self.name}: buffer {index}: expected {int(entry['byteLength']):,} bytes, got {len(data):,}"
                )
            self._buffers[index] = data
        return self._buffers[index]

    def view_bytes(self, index: int) -> memoryview:
        """The bytes of a bufferView, decoded where they are compressed."""
        index = self.index("bufferViews", index)
        view = self.json["bufferViews"][index]
        extensions = view.get("extensions", {})
        for name in MESHOPT:
            if name in extensions:
                return memoryview(self._meshopt(index, view, extensions[name]))
        return self._slice(view, index)

    def _slice(self, place: dict[str, Any], index: int) -> memoryview:
        """The bytes at a buffer, an offset and a length."""
        data = self.buffer(place["buffer"])
        start, length = int(place.get("byteOffset", 0)), int(place["byteLength"])
        if start < 0 or length < 0 or start + length > len(data):
            raise InputError(
                f"{self.name}: bufferView {index}: expected bytes within 0..{len(data):,}, got {start:,}.."
                f"{start + length:,}"
            )
        return memoryview(data)[start : start + length]

    def _meshopt(self, index: int, view: dict[str, Any], entry: dict[str, Any]) -> bytes:
        """A compressed bufferView. Where its stream is broken and the file holds the plain data, too, these."""
        if index not in self._decoded:
            size, most = int(entry["count"]) * int(entry["byteStride"]), self.limits.file_bytes
            self._decoded_bytes += max(size, 0)
            if not 0 <= size <= most or self._decoded_bytes > most:
                raise InputError(
                    f"{self.name}: bufferView {index}: expected at most {most / 2**20:.0f} MiB of decoded data, got "
                    f"{max(size, self._decoded_bytes) / 2**20:.0f}"
                )
            try:
                if size != int(view["byteLength"]):
                    raise ValueError(f"{size:,} bytes for a bufferView of {int(view['byteLength']):,}")
                data = decode_view(bytes(self._slice(entry, index)), entry)
            except (ValueError, InputError) as error:
                data = self._fallback(index, view, error)
            self._decoded[index] = data
        return self._decoded[index]

    def _fallback(self, index: int, view: dict[str, Any], error: Exception) -> bytes:
        broken = InputError(f"{self.name}: bufferView {index}: its meshopt data is broken ({error})")
        try:
            data = bytes(self._slice(view, index))
        except _NoDataError:  # a placeholder, as the extension allows
            raise broken from error
        self.resources.warnings.add(
            "values_left_out",
            f"meshopt data of bufferView {index} is broken: the plain data beside it is read",
        )
        return data

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


class _NoDataError(InputError):
    """A buffer without data: a placeholder for what is compressed elsewhere."""


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
        # Some writers count a padding of up to three bytes that they do not write.
        if at + 8 + size >= length + 4:
            raise InputError(f"{name}: a chunk of {size:,} bytes runs over the end of the file")
        chunk = data[at + 8 : min(at + 8 + size, length)]
        if kind == _JSON and text is None:
            text = chunk
        elif kind == _BINARY and binary is None:
            binary = chunk
        at = _next_chunk(data, at + 8 + size, length)
    if text is None:
        raise InputError(f"{name}: expected a JSON chunk, got none")
    return text, binary


def _next_chunk(data: bytes, end: int, length: int) -> int:
    """Where the next chunk begins. A length counts the padding, and the next chunk follows at once (glTF 2.0, 4.4.3);
    writers that do not pad at all, and writers that pad without counting it, are told by the header that they leave."""
    for at in (end, end + (-end) % 4):
        if at + 8 <= length and struct.unpack_from("<II", data, at)[1] in (_JSON, _BINARY):
            return at
    return end
