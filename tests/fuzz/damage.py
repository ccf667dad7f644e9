"""Ways to damage a file, drawn by a seeded generator. Every function takes valid content and returns other content."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BAIT = "../bait"
"""A folder beside the input's own, as seen from it: no path inside a file may lead a reader there."""
_DEEP = "@deep@"  # json.dumps would recurse; put in as text
_DEPTH = 100_000
_PATHS = (
    f"{BAIT}/secret.png",
    f"{BAIT}/secret.bin",
    f"./x/../{BAIT}/secret.mtl",
    f"/../..{BAIT}/secret.png",
    "/etc/passwd",
    "/dev/zero",
    "http://127.0.0.1:9/secret.png",
    "file:///etc/passwd",
    "data:,",
    "data:image/png;base64,AAAA",
    "data:image/png;base64,%%%%",
    "links/secret.png",  # a link that leads to the bait
    "links/secret.bin",
    "a\0b",
    "a\nb",
    "\ud800",
    "",
    "x" * 5000,
)
_NUMBERS = (
    float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 1e-320, 0, -1, 1, 2, 3.5, 255, 256, 65535, 65536, 2**31 - 1,
    2**31, 2**32 - 1, 2**32, 2**53, 2**63, -(2**63), 10**30, 10**400,
)  # fmt: skip
_WORDS = (
    "NaN",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e400",
    "-1",
    "0",
    "1e-400",
    "99999999999999999999",
    "",
    "x",
    "\0",
    '"',
)
_JUNK = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b'"',
    b"{",
    b"[",
    b"../",
    b"\x89PNG",
    b"\x80\x04",
    b"PK\x03\x04",
)


def pick(rng: np.random.Generator, options: Any) -> Any:
    """One of a sequence, as it is (numpy's own choice would make arrays of it)."""
    return options[int(rng.integers(len(options)))]


def bad_path(rng: np.random.Generator) -> str:
    return pick(rng, _PATHS)


# -- bytes


def bent_bytes(data: bytes, rng: np.random.Generator, other: bytes = b"") -> bytes:
    """Flipped, cut off, longer, shorter, blanked, or spliced with `other` (a valid file of the same kind)."""
    if not data:
        return rng.bytes(int(rng.integers(1, 64)))
    way = int(rng.integers(8))
    if way == 0:
        bent = bytearray(data)
        for place in rng.integers(len(data), size=int(rng.integers(1, 17))):
            bent[place] ^= 1 << int(rng.integers(8))
        return bytes(bent)
    return _cut(data, way, rng, other)


def _cut(data: bytes, way: int, rng: np.random.Generator, other: bytes) -> bytes:
    """All around one place."""
    at = int(rng.integers(len(data)))
    size = int(min(len(data) - at, 2 ** int(rng.integers(0, 11))))
    if way == 1:
        return data[:at]
    if way == 2:
        junk = pick(rng, _JUNK) * int(rng.integers(1, 4)) if rng.random() < 0.5 else rng.bytes(size)
        return data[:at] + junk + data[at:]
    if way in (3, 4):
        return data[:at] + pick(rng, (b"\0", b"\xff")) * (size * (way - 3)) + data[at + size :]
    if way == 5 and other:
        return data[:at] + other[int(rng.integers(len(other))) :]
    if way == 6:  # one word of four bytes, as lengths, counts and offsets are
        at -= at % 4
        word = int(pick(rng, (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, int(rng.integers(2**32)))))
        return data[:at] + struct.pack("<I", word) + data[at + 4 :]
    # The beginning, where headers are.
    at = int(rng.integers(min(64, len(data))))
    return data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at + int(rng.integers(1, 9)) :]


# -- JSON


def bent_json(value: Any, rng: np.random.Generator) -> Any:
    """A JSON value with one to three things changed: values of other kinds and sizes, lengths off by some, keys gone."""
    value = json.loads(json.dumps(value))
    holder = [value]  # so that the whole value can be replaced, too
    for _ in range(int(rng.integers(1, 4))):
        places = _places(holder)
        names = [place for place in places if place[0] is not holder]
        owner, key = pick(rng, names if names and rng.random() < 0.97 else places)
        _bend(owner, key, rng)
    return holder[0]


def json_text(value: Any) -> str:
    """With the deep nestings put in."""
    return json.dumps(value).replace(f'"{_DEEP}"', "[" * _DEPTH + "]" * _DEPTH)


def _places(holder: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below."""
    found: list[tuple[Any, Any]] = []
    stack = [holder]
    while stack:
        value = stack.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            found.append((value, key))
            if isinstance(value[key], dict | list):
                stack.append(value[key])
    return found


def _bend(owner: Any, key: Any, rng: np.random.Generator) -> None:
    value = owner[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    way = rng.random()
    if number and way < 0.4:
        owner[key] = value + int(pick(rng, (-3, -2, -1, 1, 2, 3, 4, 8, 1000)))
    elif number and way < 0.7:
        owner[key] = pick(rng, _NUMBERS)
    elif isinstance(value, str) and way < 0.5:
        owner[key] = bad_path(rng)
    elif way < 0.75 and isinstance(owner, dict):
        del owner[key]
    elif isinstance(value, list) and way < 0.8:
        owner[key] = value[: int(rng.integers(len(value) + 1))] if rng.random() < 0.5 else value * 2
    else:
        owner[key] = pick(
            rng,
            (
                *_NUMBERS,
                None,
                True,
                "text",
                [],
                {},
                [[]],
                {"a": 1},
                [0] * 200_000,
                _DEEP,
                [None],
                [float("nan")] * 16,
            ),
        )


# -- text of words and numbers


def bent_words(text: str, rng: np.random.Generator) -> str:
    """Some words of a text exchanged: numbers for other numbers, names for paths; lines doubled or gone."""
    pieces = re.split(r"([\s,]+)", text)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(pieces)))
        way = rng.random()
        if way < 0.4:
            pieces[at] = pick(rng, _WORDS)
        elif way < 0.55:
            pieces[at] = bad_path(rng)
        elif way < 0.75 and re.fullmatch(r"-?\d+", pieces[at]):
            pieces[at] = str(int(pieces[at]) + int(pick(rng, (-1, 1, 2, 1000, 10**6, 10**9))))
        elif way < 0.9:
            pieces.insert(at, pieces[int(rng.integers(len(pieces)))])
        else:
            del pieces[at]
        pieces = pieces or [""]
    return "".join(pieces)


# -- containers


def bent_glb(data: bytes, rng: np.random.Generator) -> bytes:
    """The JSON changed, or the lengths and kinds of the chunks."""
    length, kind = struct.unpack_from("<II", data, 12)
    text, rest = data[20 : 20 + length], data[20 + length :]
    if rng.random() < 0.75:
        text = json_text(bent_json(json.loads(text), rng)).encode()
        text += b" " * (-len(text) % 4)
    words = [2, 20 + len(text) + len(rest), len(text), kind]
    if rng.random() < 0.3:
        at = int(rng.integers(4))
        words[at] = (words[at] + int(pick(rng, (-8, -4, -1, 1, 4, 8, 2**31, 2**32 - 1)))) % 2**32
    return b"glTF" + struct.pack("<IIII", *words) + text + rest


def bent_safetensors(data: bytes, rng: np.random.Generator) -> bytes:
    """The header changed (shapes, types, offsets, metadata), or its length."""
    length = int.from_bytes(data[:8], "little")
    text, rest = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.8:
        text = json_text(bent_json(json.loads(text), rng)).encode()
        length = len(text)
    if rng.random() < 0.3:
        length += int(pick(rng, (-8, -1, 1, 8, 2**20, 2**40, 2**63 - 2**41)))
    return (length % 2**64).to_bytes(8, "little") + text + rest


def bent_values(data: bytes, rng: np.random.Generator) -> bytes:
    """A safetensors file of the same form with NaN among its values."""
    length = 8 + int.from_bytes(data[:8], "little")
    at = length + 4 * int(rng.integers(max(1, (len(data) - length) // 4)))
    return data[:at] + struct.pack("<f", float("nan")) + data[at + 4 :]


def bent_tar(data: bytes, rng: np.random.Generator) -> bytes:
    """A member's header changed (name, size, kind), its checksum put right; or a member's content changed."""
    headers = _tar_headers(data)
    if not headers:
        return bent_bytes(data, rng)
    at, size = pick(rng, headers)
    header = bytearray(data[at : at + 512])
    way = int(rng.integers(4))
    if way == 0:
        name = pick(
            rng, (f"{BAIT}/x.json", "/etc/passwd", "..", ".", "", "x", "a.b.c.json", "ü.json")
        ).encode()
        header[:100] = name[:100].ljust(100, b"\0")
    elif way == 1:
        sizes = (
            b"-0000001000",
            b"-0000000200",
            b"77777777777",
            b"00000000000",
            b"99999999999",
            b"x" * 11,
            b"1_0".ljust(11),
        )
        header[124:136] = pick(rng, sizes) + b"\0"
    elif way == 2:
        header[156:157] = pick(rng, (b"0", b"1", b"2", b"5", b"g", b"x", b"L", b"K", b"S", b"\0", b"\xff"))
    else:
        begin = at + 512
        content = bent_content(data[begin : begin + size], rng)
        content = content[:size].ljust(size, b"\0")  # the container itself stays whole
        return data[:begin] + content + data[begin + size :]
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return data[:at] + bytes(header) + data[at + 512 :]


def bent_content(data: bytes, rng: np.random.Generator) -> bytes:
    """Content without a name: JSON and .npy files by their structure, others by their bytes."""
    if data[:1] in (b"{", b"[") and rng.random() < 0.8:
        try:
            return json_text(bent_json(json.loads(data), rng)).encode()
        except ValueError:
            return bent_bytes(data, rng)
    if data[:6] == b"\x93NUMPY" and rng.random() < 0.8:
        length = int.from_bytes(data[8:10], "little")
        header = (
            bent_npy_header(data[10 : 10 + length].decode("latin1"), rng)
            .encode("latin1")[:length]
            .ljust(length)
        )
        return data[:10] + header + data[10 + length :]
    return bent_bytes(data, rng)


def bent_npy_header(header: str, rng: np.random.Generator) -> str:
    changes = (
        ("<f2", "|O"), ("<f2", "|V0"), ("<f2", "<f8"), ("<f2", "<M8[s]"), ("<f2", "x" * 8), ("'descr'", "'d'"),
        ("(", "(-"), ("(", "(0, "), ("(", "(10**9,"), ("(", "(" * 60), ("(", "[" * 60), ("False", "True"), ("{", "("),
        ("'shape': ", "'shape': 1 or "), ("}", ""), ("{", "-" * 60 + "{"),
    )  # fmt: skip
    old, new = pick(rng, changes)
    return header.replace(old, new, 1)


def bent_png(data: bytes, rng: np.random.Generator) -> bytes:
    """Width, height, depth and colour type changed, their checksum put right."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return bent_bytes(data, rng)
    head = bytearray(data[16:29])
    way = int(rng.integers(3))
    if way < 2:
        head[4 * way : 4 * way + 4] = struct.pack(
            ">I", int(pick(rng, (0, 1, 3, 5000, 65535, 2**31 - 1, 2**32 - 1)))
        )
    else:
        head[8], head[9] = int(pick(rng, (1, 2, 4, 8, 16, 32))), int(pick(rng, (0, 2, 3, 4, 6, 7)))
    check = struct.pack(">I", zlib.crc32(b"IHDR" + bytes(head)))
    return data[:16] + bytes(head) + check + data[33:]


def _tar_headers(data: bytes) -> list[tuple[int, int]]:
    found, at = [], 0
    while at + 512 <= len(data) and data[at : at + 512].count(0) < 512:
        size = int(data[at + 124 : at + 136].rstrip(b"\0 ") or b"0", 8)
        found.append((at, size))
        at += 512 + size + (-size % 512)
    return found


# -- files and folders


def bent_file(path: Path, rng: np.random.Generator, other: Path | None = None) -> str:
    """Damage one file, by its structure or by its bytes. What was done, in a few words."""
    data = path.read_bytes()
    way = _by_structure(path.suffix.lower(), rng)
    if way is not None:
        try:
            path.write_bytes(way(data, rng))
            return f"{path.name}: {way.__name__}"
        except (ValueError, LookupError, TypeError, RecursionError, struct.error):
            pass  # it was damaged before, and has no structure any more
    path.write_bytes(bent_bytes(data, rng, other.read_bytes() if other else b""))
    return f"{path.name}: bent_bytes"


def _by_structure(
    suffix: str, rng: np.random.Generator
) -> Callable[[bytes, np.random.Generator], bytes] | None:
    ways: dict[str, tuple[float, Callable[[bytes, np.random.Generator], bytes]]] = {
        ".glb": (0.65, bent_glb),
        ".safetensors": (0.65, bent_values if rng.random() < 0.15 else bent_safetensors),
        ".tar": (0.75, bent_tar),
        ".png": (0.5, bent_png),
        ".json": (0.85, bent_document),
        ".gltf": (0.85, bent_document),
        ".jsonl": (0.85, bent_lines),
        ".csv": (0.8, bent_text),
        ".obj": (0.8, bent_text),
        ".mtl": (0.8, bent_text),
        ".ply": (0.5, bent_ply),
        ".stl": (0.3, bent_text),
    }
    share, way = ways.get(suffix, (0.0, bent_text))
    return way if rng.random() < share else None


def bent_document(data: bytes, rng: np.random.Generator) -> bytes:
    return json_text(bent_json(json.loads(data), rng)).encode()


def bent_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """JSON lines."""
    changed = bent_json([json.loads(line) for line in data.splitlines()], rng)
    return "\n".join(map(json_text, changed if isinstance(changed, list) else [changed])).encode()


def bent_text(data: bytes, rng: np.random.Generator) -> bytes:
    return bent_words(data.decode("latin1"), rng).encode("latin1", "replace")


def bent_ply(data: bytes, rng: np.random.Generator) -> bytes:
    """Its header."""
    head, mark, rest = data.partition(b"end_header")
    return bent_text(head, rng) + mark + rest
