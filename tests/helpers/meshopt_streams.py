"""A plain encoder of meshopt streams, and a slow decoder that reads them byte by byte. For tests: correct, not small."""

from __future__ import annotations

import numpy as np


def encode_attributes(values: np.ndarray, *, version: int) -> bytes:
    """values: (n, stride) uint8. Byte deltas; every kind of group that the version has where it fits."""
    count, stride = values.shape
    before = np.concatenate([np.zeros((1, stride), np.uint8), values[:-1]])
    delta = values - before
    coded = np.where(delta & 0x80, ~(delta << 1), delta << 1).astype(np.uint8)
    out = bytearray([0xA0 + version])
    block = min((8192 // stride) & ~15, 256)
    for start in range(0, count, block):
        part = coded[start : start + block]
        groups = -(-len(part) // 16)
        padded = np.zeros((groups * 16, stride), np.uint8)
        padded[: len(part)] = part
        controls, streams = [], []
        for byte in range(stride):
            column = padded[:, byte].reshape(groups, 16)
            if version == 1 and not column.any():
                control, stream = 2, b""
            elif version == 1 and byte % 4 == 3:
                control, stream = 3, padded[: len(part), byte].tobytes()
            else:
                control = byte % 2 if version else -1
                stream = _groups(column, {-1: (0, 2, 4, 8), 0: (0, 1, 2, 4), 1: (1, 2, 4, 8)}[control])
            controls.append(max(control, 0))
            streams.append(stream)
        if version:
            for first in range(0, stride, 4):
                out.append(sum(controls[first + k] << (2 * k) for k in range(4)))
        out += b"".join(streams)
    tail = bytes(stride) + bytes(
        stride // 4 if version else 0
    )  # the baseline is zero, channels hold byte deltas
    least = 24 if version else 32
    return bytes(out) + bytes(max(0, least - len(tail))) + tail


def _groups(column: np.ndarray, kinds: tuple[int, ...]) -> bytes:
    header, body = [], b""
    for group in column:
        encoded = [_group(group, bits) for bits in kinds]
        fitting = [(len(data), code) for code, data in enumerate(encoded) if data is not None]
        _, code = min(fitting)
        header.append(code)
        body += encoded[code] or b""
    header += [0] * (-len(header) % 4)
    packed = bytes(sum(header[k + i] << (2 * i) for i in range(4)) for k in range(0, len(header), 4))
    return packed + body


def _group(group: np.ndarray, bits: int) -> bytes | None:
    if bits == 0:
        return None if group.any() else b""
    if bits == 8:
        return group.tobytes()
    sentinel, per_byte = (1 << bits) - 1, 8 // bits
    short = np.minimum(group, sentinel)
    packed = bytearray()
    for first in range(0, 16, per_byte):
        places = range(per_byte) if bits == 1 else range(per_byte - 1, -1, -1)
        packed.append(sum(int(short[first + k]) << (bits * at) for k, at in enumerate(places)))
    return bytes(packed) + bytes(int(value) for value in group if value >= sentinel)


def slow_attributes(stream: bytes, count: int, stride: int) -> np.ndarray:
    """Decode byte deltas, one byte of one element after the other."""
    version, at, done = stream[0] - 0xA0, 1, 0
    tail = stream[len(stream) - stride - (stride // 4 if version else 0) :]
    last, result = list(tail[:stride]), np.zeros((count, stride), np.uint8)
    block = min((8192 // stride) & ~15, 256)
    while done < count:
        size = min(block, count - done)
        groups = (size + 15) // 16
        controls = stream[at : at + stride // 4] if version else b""
        at += len(controls)
        for byte in range(stride):
            control = (controls[byte // 4] >> (2 * (byte % 4))) & 3 if version else None
            deltas: list[int] = []
            if control == 2:
                deltas = [0] * size
            elif control == 3:
                deltas, at = list(stream[at : at + size]), at + size
            else:
                kinds = {None: (0, 2, 4, 8), 0: (0, 1, 2, 4), 1: (1, 2, 4, 8)}[control]
                header, at = stream[at : at + (groups + 3) // 4], at + (groups + 3) // 4
                for group in range(groups):
                    bits = kinds[(header[group // 4] >> (2 * (group % 4))) & 3]
                    packed, at = stream[at : at + 2 * bits], at + 2 * bits
                    for k in range(16):
                        if bits in (0, 8):
                            deltas.append(packed[k] if bits else 0)
                            continue
                        place = k % (8 // bits)
                        shift = bits * (place if bits == 1 else 8 // bits - 1 - place)
                        value = (packed[k * bits // 8] >> shift) & ((1 << bits) - 1)
                        if value == (1 << bits) - 1:
                            value, at = stream[at], at + 1
                        deltas.append(value)
            for k in range(size):
                step = ~(deltas[k] >> 1) if deltas[k] & 1 else deltas[k] >> 1
                last[byte] = (last[byte] + step) & 255
                result[done + k, byte] = last[byte]
        done += size
    return result


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _zigzag(delta: int, bits: int) -> int:
    """A difference of numbers of 32 bits, its sign in the lowest bit."""
    delta = (delta + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    return ~(delta << 1) if delta < 0 else delta << 1


def encode_indices(indices: np.ndarray) -> bytes:
    """The two baselines take turns."""
    last, out = [0, 0], bytearray([0xD1])
    for number, index in enumerate(map(int, indices)):
        which = number & 1
        out += _leb128(_zigzag(index - last[which], 31) << 1 | which)
        last[which] = index
    return bytes(out) + bytes(4)


def encode_triangles(indices: np.ndarray) -> bytes:
    """Triangles beside the last edge as such, all others with their vertices in full."""
    codes, data, last, edge = bytearray(), bytearray(), 0, None
    for a, b, c in np.asarray(indices, np.int64).reshape(-1, 3).tolist():
        if edge is not None and (a, b) == edge:
            codes.append(0x0F)
            data += _leb128(_zigzag(c - last, 32))
            last = c
        else:
            codes.append(0xFF)
            data.append(0xFF)
            for vertex in (a, b, c):
                data += _leb128(_zigzag(vertex - last, 32))
                last = vertex
        edge = (a, c)
    return b"\xe1" + bytes(codes) + bytes(data) + bytes(16)
