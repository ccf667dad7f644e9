"""OpenEXR files for tests, written from the format's description (https://openexr.com)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def write_exr(path: Path, channels: dict[str, np.ndarray], *, compression: int = 0) -> None:
    """An uncompressed scan-line OpenEXR file, channels in the order of their names."""
    names = sorted(channels)
    height, width = channels[names[0]].shape
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    kinds = b"".join(name.encode() + b"\0" + struct.pack("<iiii", 2, 0, 1, 1) for name in names) + b"\0"
    header = struct.pack("<II", 20000630, 2)
    for name, kind, value in (
        ("channels", "chlist", kinds),
        ("compression", "compression", bytes([compression])),
        ("dataWindow", "box2i", box),
        ("displayWindow", "box2i", box),
    ):
        header += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
    header += b"\0"
    size = 8 + 4 * width * len(names)
    first = len(header) + 8 * height
    table = b"".join(struct.pack("<Q", first + row * size) for row in range(height))
    lines = b"".join(
        struct.pack("<ii", row, size - 8) + b"".join(channels[n][row].astype("<f4").tobytes() for n in names)
        for row in range(height)
    )
    path.write_bytes(header + table + lines)
