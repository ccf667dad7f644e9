"""Splat files: 3DGS `.ply`, `.splat` and `.spz`, written and read.

Axes. `.ply` and `.splat` have none in their layout; what trainings and viewers have made of them is x right, y down,
z away from the viewer of the front, as COLMAP's worlds. `.spz` is x right, y up, z towards the viewer, as glTF's, by its
specification. Here all of them show the side of the input photo in front. Lengths are those of the world.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.files import write_files
from mv3d.recon.splats.cloud import Splats, turned, with_large_w

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic ½·√(1/π): colour = ½ + SH_C0 · f_dc (Kerbl et al. 2023)."""
_GLTF_FROM_WORLD = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
_RDF_FROM_WORLD = np.diag([1.0, -1, -1]) @ _GLTF_FROM_WORLD
_PLY_FIELDS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
_OPACITY = (1 / 255, 254 / 255)  # whose logit is finite in a file of 8 bits
_RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])
_SPZ_MAGIC, _SPZ_VERSION = 0x5053474E, 2
_SPZ_COLOR, _SPZ_BITS = 0.15, 20


def save_splats(splats: Splats, path: str | os.PathLike[str]) -> Path:
    """Write `.ply`, `.splat` or `.spz`, chosen by the suffix; written aside, then renamed.

    Raises UsageError for an unknown suffix, OutputError where the file cannot be written or its format cannot hold
    what is asked.
    """
    path = Path(path)
    encode, _ = _codec(path)
    write_files({path: encode(splats)})
    return path


def load_splats(path: str | os.PathLike[str]) -> Splats:
    """Read what `save_splats` and other writers of these formats make, into the world frame; colours of degree 0.

    `.ply`: binary little-endian floats. `.spz`: version 2. Raises UsageError for an unknown suffix, InputError for a
    file that is missing, damaged or of another version.
    """
    path = Path(path)
    _, decode = _codec(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a file of splats ({error.strerror})") from error
    try:
        return decode(data)
    except InputError as error:  # of a value
        raise InputError(f"{path}: {error}") from error
    except (ValueError, KeyError, EOFError, OSError, struct.error) as error:
        raise InputError(f"{path}: expected a whole {path.suffix} file of 3D Gaussians ({error})") from error


def ply_bytes(splats: Splats) -> bytes:
    """The layout of 3DGS (Kerbl et al. 2023, its reference code) without the coefficients of view-dependent colour:
    float32; opacity as its logit, scales as natural logarithms, rotations w x y z, normals zero."""
    out = with_large_w(turned(splats, _RDF_FROM_WORLD))
    rows = np.zeros((len(out), len(_PLY_FIELDS)), "<f4")
    rows[:, :3], rows[:, 6:9] = out.means, (out.colors - 0.5) / SH_C0
    opacity = np.clip(out.opacities.astype(np.float64), *_OPACITY)
    rows[:, 9] = np.log(opacity / (1 - opacity))
    rows[:, 10:13], rows[:, 13:] = np.log(out.scales), out.rotations
    header = ["ply", "format binary_little_endian 1.0", "comment mv3d, y down, z away from the viewer"]
    header += [
        f"element vertex {len(out)}",
        *(f"property float {name}" for name in _PLY_FIELDS),
        "end_header",
    ]
    return ("\n".join(header) + "\n").encode() + rows.tobytes()


def splat_bytes(splats: Splats) -> bytes:
    """antimatter15's layout, 32 bytes a Gaussian: float32 place and standard deviations, 8-bit sRGB and opacity, and
    a rotation w x y z in bytes of (q + 1) · 128. The most visible come first (volume · opacity), as viewers show what
    has arrived."""
    out = with_large_w(turned(splats, _RDF_FROM_WORLD))
    order = np.argsort(-out.scales.prod(1) * out.opacities, kind="stable")
    rows = np.zeros(len(out), _RECORD)
    rows["mean"], rows["scale"] = out.means[order], out.scales[order]
    rows["rgba"][:, :3], rows["rgba"][:, 3] = (
        _byte(out.colors[order] * 255),
        _byte(out.opacities[order] * 255),
    )
    rows["rotation"] = _byte(out.rotations[order] * 128 + 128)
    return rows.tobytes()


def spz_bytes(splats: Splats) -> bytes:
    """Niantic's format, version 2, gzipped: 24-bit fixed-point places, 8 bits for everything else, by attribute
    (github.com/nianticlabs/spz, README). The same splats give the same bytes."""
    out = with_large_w(turned(splats, _GLTF_FROM_WORLD))
    reach = float(np.abs(out.means).max(initial=1e-9))
    bits = min(_SPZ_BITS, int(np.floor(np.log2((2**23 - 1) / reach))))
    if bits < 0:
        raise OutputError(
            f"spz: expected coordinates below 8.3 million, got {reach:.3g}; move the world's origin"
        )
    fixed = np.round(out.means.astype(np.float64) * 2**bits).astype("<i4")
    parts = (
        struct.pack("<IIIBBBB", _SPZ_MAGIC, _SPZ_VERSION, len(out), 0, bits, 0, 0),
        fixed.view("u1").reshape(-1, 4)[:, :3].tobytes(),
        _byte(np.clip(out.opacities, *_OPACITY) * 255).tobytes(),
        _byte((out.colors - 0.5) / SH_C0 * (_SPZ_COLOR * 255) + 127.5).tobytes(),
        _byte((np.log(out.scales) + 10) * 16).tobytes(),
        _byte(out.rotations[:, 1:] * 127.5 + 127.5).tobytes(),
    )
    return gzip.compress(b"".join(parts), 9, mtime=0)


def _splats_from_ply(data: bytes) -> Splats:
    head, found, body = data.partition(b"end_header\n")
    lines = head.decode("ascii", "replace").split("\n")
    if not found or "format binary_little_endian 1.0" not in lines:
        raise ValueError("no header of a binary little-endian PLY")
    elements = [line.split() for line in lines if line.startswith("element ")]
    properties = [line.split() for line in lines if line.startswith("property ")]
    if len(elements) != 1 or any(len(line) != 3 or line[1] != "float" for line in properties):
        raise ValueError("other elements than vertices of floats")
    names = [line[2] for line in properties]
    count = int(elements[0][2])
    if len(body) != 4 * count * len(names):
        raise ValueError(f"{len(body)} bytes for {count} vertices of {len(names)} floats")
    rows = np.frombuffer(body, "<f4").reshape(count, len(names)).astype(np.float64)

    def columns(stem: str, endings: str) -> Float[np.ndarray, "n k"]:
        return rows[:, [names.index(stem + ending) for ending in endings]]

    return _in_world(
        _RDF_FROM_WORLD,
        means=columns("", "xyz"),
        scales=np.exp(columns("scale_", "012")),
        rotations=columns("rot_", "0123"),
        opacities=1 / (1 + np.exp(-rows[:, names.index("opacity")])),
        colors=0.5 + SH_C0 * columns("f_dc_", "012"),
    )


def _splats_from_records(data: bytes) -> Splats:
    rows = np.frombuffer(data, _RECORD)
    return _in_world(
        _RDF_FROM_WORLD,
        means=rows["mean"],
        scales=rows["scale"],
        rotations=(rows["rotation"].astype(np.float32) - 128) / 128,
        opacities=rows["rgba"][:, 3] / 255,
        colors=rows["rgba"][:, :3] / 255,
    )


def _splats_from_spz(data: bytes) -> Splats:
    data = gzip.decompress(data)
    magic, version, count, degree, bits, _, _ = struct.unpack_from("<IIIBBBB", data)
    if (magic, version) != (_SPZ_MAGIC, _SPZ_VERSION):
        raise ValueError(f"magic {magic:#x} of version {version}, expected {_SPZ_MAGIC:#x} of {_SPZ_VERSION}")
    extra = 3 * ((degree + 1) ** 2 - 1)
    if len(data) != 16 + count * (19 + extra):
        raise ValueError(f"{len(data)} bytes for {count} Gaussians of degree {degree}")
    body = np.frombuffer(data, "u1", offset=16)
    ends = np.cumsum([9, 1, 3, 3, 3]) * count
    places, opacities, colors, scales, rotations = np.split(body[: ends[-1]], ends[:-1])
    wide = np.zeros((3 * count, 4), "u1")
    wide[:, 1:] = places.reshape(-1, 3)
    fixed = wide.view("<i4")[:, 0] >> 8  # the sign goes along
    xyz = rotations.reshape(-1, 3) / 127.5 - 1
    w = np.sqrt(np.maximum(1 - (xyz**2).sum(1, keepdims=True), 0))
    return _in_world(
        _GLTF_FROM_WORLD,
        means=fixed.reshape(-1, 3) / 2.0**bits,
        scales=np.exp(scales.reshape(-1, 3) / 16 - 10),
        rotations=np.concatenate([w, xyz], 1),
        opacities=opacities / 255,
        colors=0.5 + SH_C0 * ((colors.reshape(-1, 3) / 255 - 0.5) / _SPZ_COLOR),
    )


def _in_world(file_from_world: Float[np.ndarray, "3 3"], **values: np.ndarray) -> Splats:
    values["colors"] = np.clip(values["colors"], 0, 1)  # wider in files, and no more than that on a screen
    return turned(Splats(**values), file_from_world.T)


def _byte(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype("u1")


_CODECS: dict[str, tuple[Callable[[Splats], bytes], Callable[[bytes], Splats]]] = {
    ".ply": (ply_bytes, _splats_from_ply),
    ".splat": (splat_bytes, _splats_from_records),
    ".spz": (spz_bytes, _splats_from_spz),
}


def _codec(path: Path) -> tuple[Callable[[Splats], bytes], Callable[[bytes], Splats]]:
    if path.suffix.lower() not in _CODECS:
        raise UsageError(
            f"{path.name}: expected one of {', '.join(_CODECS)}, got {path.suffix or 'no suffix'}"
        )
    return _CODECS[path.suffix.lower()]
