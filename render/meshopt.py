"""Decoder of meshopt bufferViews (EXT_meshopt_compression and KHR_meshopt_compression).

Written from the text of the two extensions (Khronos glTF registry; appendix A, bitstream, and appendix B, filters),
versions 0 and 1 of the attribute stream. Streams are judged as the text demands: too short, too long and what reads
before it wrote is an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt32

from mv3d.render.meshopt_filters import FILTERS

MODES = ("ATTRIBUTES", "TRIANGLES", "INDICES")
_GROUP = 16  # deltas in a group
_BLOCK_BYTES, _BLOCK_ELEMENTS = 8192, 256
# Bits of a delta by the two header bits of its group: version 0, and control modes 0 and 1 of version 1.
_V0, _CONTROLS = (0, 2, 4, 8), ((0, 1, 2, 4), (1, 2, 4, 8))
_MASK = 0xFFFFFFFF


def decode_view(data: bytes, entry: dict[str, Any]) -> bytes:
    """The bytes of a bufferView, count · byteStride of them.

    data: the compressed stream. entry: the extension's JSON (mode, filter, count, byteStride), which the caller has
    bounded. Raises ValueError for a stream or settings that are not as the extension says.
    """
    mode, name = entry["mode"], entry.get("filter", "NONE")
    count, stride = int(entry["count"]), int(entry["byteStride"])
    if mode not in MODES:
        raise ValueError(f"mode: expected {', '.join(MODES)}, got {str(mode)[:20]!r}")
    if mode == "ATTRIBUTES":
        if stride % 4 or not 4 <= stride <= 256:
            raise ValueError(f"byteStride of attributes: expected a multiple of 4 up to 256, got {stride}")
        if name not in FILTERS:
            raise ValueError(f"filter: expected {', '.join(FILTERS)}, got {str(name)[:20]!r}")
        strides, apply = FILTERS[name]
        if strides and stride not in strides:
            raise ValueError(f"byteStride of filter {name}: expected {strides}, got {stride}")
        return apply(decode_attributes(data, count, stride)).tobytes()
    if stride not in (2, 4) or name != "NONE":
        raise ValueError(f"expected indices of 2 or 4 bytes without a filter, got {stride}, {str(name)[:20]}")
    if mode == "TRIANGLES" and count % 3:
        raise ValueError(f"count of triangles: expected a multiple of 3, got {count}")
    indices = decode_triangles(data, count) if mode == "TRIANGLES" else decode_indices(data, count)
    return indices.astype(np.uint16 if stride == 2 else np.uint32).tobytes()


# -- attributes


def decode_attributes(data: bytes, count: int, stride: int) -> UInt8[np.ndarray, "count stride"]:
    """Mode ATTRIBUTES before its filter. Raises ValueError for a broken stream."""
    version = _version(data, 0xA0, 0xA1) - 0xA0
    tail = max(24, stride + stride // 4) if version else max(32, stride)
    if len(data) < 1 + tail:
        raise ValueError(f"expected at least {1 + tail} bytes, got {len(data)}")
    end = len(data) - tail
    channels = data[len(data) - stride // 4 :] if version else bytes(stride // 4)
    first_byte = len(data) - stride - (stride // 4 if version else 0)
    baseline = np.frombuffer(data, np.uint8, stride, first_byte)
    # The most a stream of that length can hold, so that no count makes room for what is not there: a byte is the
    # control of four bytes of 256 elements (version 1), or the header of four groups of one byte (version 0).
    if count * stride > (end - 1) * (4 * _BLOCK_ELEMENTS if version else 4 * _GROUP):
        raise ValueError(f"{len(data)} bytes cannot hold {count:,} elements")
    deltas = _group_deltas(data[:end], count, stride, version)
    return _summed(deltas, baseline, channels)


def _version(data: bytes, *known: int) -> int:
    """The header byte."""
    if not data or data[0] not in known:
        raise ValueError(f"header byte: expected {known[-1]:#x}, got {hex(data[0]) if data else 'nothing'}")
    return data[0]


def _group_deltas(data: bytes, count: int, stride: int, version: int) -> UInt8[np.ndarray, "count stride"]:
    """The stored deltas of every byte of every element.

    Where a group begins depends on all groups before it: one walk finds the places, numpy reads them by kind.
    """
    raw = np.frombuffer(data, np.uint8)
    sizes = _group_sizes(raw)
    block = min((_BLOCK_BYTES // stride) & ~15, _BLOCK_ELEMENTS)
    columns = -(-count // block) * -(-block // _GROUP)  # groups of a byte, the last block counted as full
    kinds = np.full((stride, columns), -1, np.int8)
    places = np.zeros((stride, columns), np.int64)
    at, end, column = 1, len(data), 0
    for start in range(0, count, block):
        elements = min(block, count - start)
        groups = -(-elements // _GROUP)
        controls = b""
        if version:
            controls, at = data[at : at + stride // 4], at + stride // 4
            if len(controls) < stride // 4:
                raise ValueError("the stream ends within a block")
        for byte in range(stride):
            control = (controls[byte // 4] >> (2 * (byte % 4))) & 3 if version else 0
            if control == 2:  # no deltas at all
                continue
            part = slice(column, column + groups)
            if control == 3:  # as they are; the last group is not filled up here
                kinds[byte, part], places[byte, part] = 8, range(at, at + groups * _GROUP, _GROUP)
                at += elements
            else:
                bits = _CONTROLS[control] if version else _V0
                kinds[byte, part], places[byte, part], at = _walk(data, at, groups, bits, sizes)
            if at > end:
                raise ValueError("the stream ends within a block")
        column += groups
    if at != end:
        raise ValueError(f"{end - at} bytes are left over before the tail")
    values = np.zeros((stride, columns, _GROUP), np.uint8)
    for kind in (1, 2, 4, 8):
        chosen = kinds == kind
        if chosen.any():
            values[chosen] = _unpacked(raw, places[chosen], kind)
    # Blocks hold whole groups of elements, so these follow one another; the last group may hold some too many.
    return values[:, :column].reshape(stride, -1)[:, :count].T


def _walk(
    data: bytes, at: int, groups: int, bits: tuple[int, ...], sizes: dict[int, list[int]]
) -> tuple[list[int], list[int], int]:
    """Of the groups of one byte, after their header: bits a delta, and places; and where the next byte begins."""
    header, at = data[at : at + (groups + 3) // 4], at + (groups + 3) // 4
    if at > len(data):
        raise ValueError("the stream ends within a block")
    kinds = [bits[(header[group // 4] >> (2 * (group % 4))) & 3] for group in range(groups)]
    places = []
    for kind in kinds:
        places.append(at)
        if kind:
            if at >= len(data):
                raise ValueError("the stream ends within a block")
            at += sizes[kind][at]
    return kinds, places, at


def _group_sizes(raw: UInt8[np.ndarray, " n"]) -> dict[int, list[int]]:
    """How many bytes a group of 1, 2 or 4 bits a delta takes if it begins at a byte, sentinels counted."""
    byte = np.arange(256)
    sizes: dict[int, list[int]] = {8: [_GROUP] * len(raw)}
    for bits in (1, 2, 4):
        sentinel = (1 << bits) - 1
        of_byte = sum(((byte >> shift) & sentinel) == sentinel for shift in range(0, 8, bits))
        total = np.concatenate([[0], np.cumsum(np.asarray(of_byte)[raw])])
        length = 2 * bits
        last = np.minimum(np.arange(len(raw)) + length, len(raw))
        sizes[bits] = (length + total[last] - total[: len(raw)]).tolist()
    return sizes


def _unpacked(raw: UInt8[np.ndarray, " n"], places: np.ndarray, bits: int) -> UInt8[np.ndarray, "g 16"]:
    """The 16 deltas of groups of one kind."""
    length = 2 * bits
    packed = raw[np.minimum(places[:, None] + np.arange(length), len(raw) - 1)]
    if bits == 8:
        return packed
    shifts = np.arange(0, 8, bits) if bits == 1 else np.arange(8 - bits, -1, -bits)
    sentinel = (1 << bits) - 1
    values = ((packed[:, :, None] >> shifts.astype(np.uint8)) & np.uint8(sentinel)).reshape(-1, _GROUP)
    full = values == sentinel
    rank = np.cumsum(full, 1) - 1
    where = places[:, None] + length + rank
    return np.where(full, raw[np.minimum(where, len(raw) - 1)], values)


def _summed(
    deltas: UInt8[np.ndarray, "n s"], baseline: UInt8[np.ndarray, " s"], channels: bytes
) -> UInt8[np.ndarray, "n s"]:
    """Elements from their deltas, channel by channel (four bytes of every element each)."""
    result = np.empty(deltas.shape, np.uint8)
    for channel, mode in enumerate(channels):
        part = slice(4 * channel, 4 * channel + 4)
        kind, turn = mode & 15, mode >> 4
        if kind > 2 or (kind < 2 and turn):
            raise ValueError(f"channel mode: expected 0, 1 or 2, got {mode:#x}")
        dtype = (np.uint8, np.uint16, np.uint32)[kind]
        delta = np.ascontiguousarray(deltas[:, part]).view(dtype)
        first = np.ascontiguousarray(baseline[part]).view(dtype)
        if kind == 2:
            turned = (delta >> np.uint32(turn)) | (delta << np.uint32((32 - turn) & 31)) if turn else delta
            values = np.bitwise_xor.accumulate(turned, 0) ^ first
        else:
            one = dtype(1)
            step = (delta >> one) ^ (np.zeros_like(delta) - (delta & one))
            values = np.cumsum(step, 0, dtype=dtype) + first
        result[:, part] = np.ascontiguousarray(values, dtype).view(np.uint8).reshape(len(deltas), 4)
    return result


# -- indices


class _Bytes:
    """Reads single bytes and LEB128 numbers of a stream. Raises ValueError at its end."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def byte(self) -> int:
        if self.at >= self.end:
            raise ValueError("the stream ends within an index")
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """Unsigned, 32 bits, of one to five bytes of seven bits, the lowest first."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value & _MASK
        raise ValueError("an index takes more than five bytes")


def decode_indices(data: bytes, count: int) -> UInt32[np.ndarray, " count"]:
    """Mode INDICES. Raises ValueError for a broken stream."""
    _version(data, 0xD1)
    stream = _Bytes(data, 1, len(data) - 4)
    if count > max(0, stream.end - 1):
        raise ValueError(f"{len(data)} bytes cannot hold {count:,} indices")
    last, values = [0, 0], []
    for _ in range(count):
        code = stream.number()
        delta = code >> 2
        if code & 2:
            delta = ~delta
        last[code & 1] = (last[code & 1] + delta) & _MASK
        values.append(last[code & 1])
    if stream.at != stream.end:
        raise ValueError(f"{stream.end - stream.at} bytes are left over before the tail")
    return np.array(values, np.uint32)


def decode_triangles(data: bytes, count: int) -> UInt32[np.ndarray, " count"]:
    """Mode TRIANGLES: count indices, three a triangle. Raises ValueError for a broken stream."""
    _version(data, 0xE1)
    triangles = count // 3
    end = len(data) - 16
    if end < 1 + triangles:
        raise ValueError(f"{len(data)} bytes cannot hold {triangles:,} triangles")
    codes, table = data[1 : 1 + triangles], data[end:]
    stream = _Bytes(data, 1 + triangles, end)
    reader = _Triangles(stream, table)
    result = np.fromiter(reader.indices(codes), np.uint32, count)
    if stream.at != end:
        raise ValueError(f"{end - stream.at} bytes are left over before the tail")
    return result


class _Triangles:
    """The state of the triangle codec: the next new vertex, the last one given in full, and two short memories."""

    def __init__(self, stream: _Bytes, table: bytes) -> None:
        self.stream, self.table = stream, table
        self.next = self.last = 0
        self.edges: list[tuple[int, int] | None] = [None] * 16
        self.vertices: list[int | None] = [None] * 16
        self.edge_at = self.vertex_at = 0

    def indices(self, codes: bytes):
        """The vertices of one triangle after the other."""
        for code in codes:
            high, low = code >> 4, code & 15
            a, b, c = self._whole(low) if high == 15 else self._beside_edge(high, low)
            yield a
            yield b
            yield c

    def _beside_edge(self, high: int, low: int) -> tuple[int, int, int]:
        edge = self.edges[(self.edge_at - 1 - high) & 15]
        if edge is None:
            raise ValueError("a triangle lies at an edge that was not there yet")
        a, b = edge
        if low == 0:
            c = self._new()
            self._remember(c)
        elif low < 13:
            c = self._recent(low)
        elif low < 15:
            c = self.last = (self.last + (-1 if low == 13 else 1)) & _MASK
            self._remember(c)
        else:
            c = self._given()
            self._remember(c)
        self._push(c, b)
        self._push(a, c)
        return a, b, c

    def _whole(self, low: int) -> tuple[int, int, int]:
        code = self.table[low] if low < 14 else self.stream.byte()
        if low >= 14 and code == 0:
            self.next = 0
        # The memory is read before anything of this triangle goes in.
        a = self._new() if low < 15 else self._given()
        b, c = self._corner(code >> 4), self._corner(code & 15)
        self._push(b, a)
        self._push(c, b)
        self._push(a, c)
        self._remember(a)
        for vertex, part in ((b, code >> 4), (c, code & 15)):
            if part in (0, 15):
                self._remember(vertex)
        return a, b, c

    def _corner(self, part: int) -> int:
        if part == 0:
            return self._new()
        return self._recent(part - 1) if part < 15 else self._given()

    def _new(self) -> int:
        vertex, self.next = self.next, (self.next + 1) & _MASK
        return vertex

    def _given(self) -> int:
        code = self.stream.number()
        delta = ~(code >> 1) if code & 1 else code >> 1
        self.last = (self.last + delta) & _MASK
        return self.last

    def _recent(self, back: int) -> int:
        vertex = self.vertices[(self.vertex_at - 1 - back) & 15]
        if vertex is None:
            raise ValueError("a triangle names a vertex that was not there yet")
        return vertex

    def _remember(self, vertex: int) -> None:
        self.vertices[self.vertex_at & 15] = vertex
        self.vertex_at += 1

    def _push(self, a: int, b: int) -> None:
        self.edges[self.edge_at & 15] = (a, b)
        self.edge_at += 1
