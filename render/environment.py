"""Light from all around: equirectangular radiance, sampled by direction.

Row 0 is straight up (+Z). Column u of [0, 1) is azimuth 2π·(0.5 - u): the middle of the picture is +X (the
side of the input view), a quarter from the left is +Y, as one sees it standing inside and looking along +X,
and as Blender maps an environment texture.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, MissingPartError
from mv3d.core.installing import install_command


@dataclass(frozen=True, eq=False)
class Environment:
    """radiance: (h, w, 3) float32, linear, finite, not negative, equirectangular (see the module)."""

    name: str
    radiance: Float[np.ndarray, "h w 3"]

    def __post_init__(self) -> None:
        radiance = np.ascontiguousarray(self.radiance, np.float32)
        if radiance.ndim != 3 or radiance.shape[2] != 3 or min(radiance.shape[:2]) < 1:
            raise InputError(f"environment {self.name}: expected shape (h, w, 3), got {radiance.shape}")
        if not np.isfinite(radiance).all() or radiance.min() < 0:
            raise InputError(f"environment {self.name}: expected finite radiance of 0 or more")
        object.__setattr__(self, "radiance", radiance)

    def scaled(self, factor: float) -> Environment:
        """The same light, brighter or darker."""
        return replace(self, radiance=self.radiance * np.float32(factor))

    def turned(self, azimuth_deg: float) -> Environment:
        """The same light turned counter-clockwise seen from above, to the nearest column."""
        columns = round(azimuth_deg / 360 * self.radiance.shape[1])
        return replace(self, radiance=np.roll(self.radiance, -columns, axis=1))


def texel_directions(height: int, width: int) -> Float[np.ndarray, "h w 3"]:
    """Unit directions in the world of the texels' centres of an equirectangular picture."""
    down = (np.arange(height) + 0.5) / height * np.pi
    azimuth = 2 * np.pi * (0.5 - (np.arange(width) + 0.5) / width)
    ring = np.sin(down)[:, None]
    up = np.broadcast_to(np.cos(down)[:, None], (height, width))
    return np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), up], -1)


def texel_solid_angles(height: int, width: int) -> Float[np.ndarray, "h w"]:
    """Steradians of the texels, 4π in total."""
    edges = np.cos(np.arange(height + 1) / height * np.pi)
    return np.broadcast_to(((edges[:-1] - edges[1:]) * 2 * np.pi / width)[:, None], (height, width))


def uniform_environment(value: float = 1.0) -> Environment:
    """White light of the same radiance from everywhere."""
    return Environment("uniform", np.full((16, 32, 3), value, np.float32))


def exposed(environment: Environment, level: float = 0.95) -> Environment:
    """The same light, so bright that a white diffuse surface reaches `level` (linear) where it is lit most:
    well exposed, and clipped nowhere."""
    height, width = environment.radiance.shape[:2]
    rows, columns = max(1, height // 64), max(1, width // 128)
    radiance = environment.radiance[: height // rows * rows, : width // columns * columns].astype(np.float64)
    radiance = radiance.reshape(height // rows, rows, width // columns, columns, 3).mean((1, 3))
    directions = texel_directions(*radiance.shape[:2]).reshape(-1, 3)
    flux = (radiance * texel_solid_angles(*radiance.shape[:2])[..., None] / np.pi).reshape(-1, 3)
    normals = texel_directions(16, 32).reshape(-1, 3)
    cosines = np.maximum((normals @ directions.T).astype(np.float32), 0)
    brightest = float((cosines @ flux.astype(np.float32)).max())
    if not brightest > 0:
        raise InputError(f"environment {environment.name}: expected some light, got black")
    return environment.scaled(level / brightest)


def load_environment(path: str | os.PathLike[str]) -> Environment:
    """Read a .hdr (Radiance) or .exr file, at most 1024 texels wide; radiance as the file says (see `exposed`).

    Raises InputError for a file that cannot be read, MissingPartError for .exr without the OpenEXR package.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".hdr", ".exr"):
        raise InputError(f"{path.name}: expected a .hdr or .exr file, got {suffix or 'no suffix'}")
    if not path.is_file():
        raise InputError(f"{path}: expected an environment file, got nothing there")
    radiance = _read_exr(path) if suffix == ".exr" else _read_hdr(path.read_bytes(), path.name)
    # Suns are stored as infinity in half floats; there is no negative light.
    radiance = np.clip(np.nan_to_num(radiance, nan=0.0, posinf=65504.0, neginf=0.0), 0, 1e6)
    factor = max(1, -(-radiance.shape[1] // 1024))
    rows, columns = radiance.shape[0] // factor * factor, radiance.shape[1] // factor * factor
    if rows and columns:
        cells = radiance[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor, 3)
        radiance = cells.mean((1, 3), dtype=np.float64)
    return Environment(path.stem, radiance.astype(np.float32))


def _read_exr(path: Path) -> Float[np.ndarray, "h w 3"]:
    try:
        import OpenEXR  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingPartError(
            f"{path.name}: .exr files need OpenEXR; run: {install_command('OpenEXR')}"
        ) from error
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name: np.asarray(part.pixels, np.float32) for name, part in file.channels().items()}
    except Exception as error:  # the library raises several kinds
        raise InputError(
            f"{path.name}: not a readable .exr file ({' '.join(str(error).split())[:80]})"
        ) from error
    names = ["R", "G", "B"] if "R" in channels else [next(iter(channels), "")] * 3
    if any(name not in channels for name in names):
        raise InputError(f"{path.name}: expected channels R, G, B, got {', '.join(channels)}")
    return np.stack([channels[name] for name in names], -1)


def _read_hdr(data: bytes, name: str) -> Float[np.ndarray, "h w 3"]:
    """Radiance RGBE, flat or run-length encoded by component (Ward, "Real Pixels", Graphics Gems II, 1991)."""
    head, _, rest = data.partition(b"\n\n")
    line, _, body = rest.partition(b"\n")
    fields = line.split()
    if not head.startswith(b"#?") or len(fields) != 4 or fields[0] != b"-Y" or fields[2] != b"+X":
        raise InputError(f"{name}: expected a Radiance file with '-Y height +X width', got {line[:40]!r}")
    if b"32-bit_rle_xyze" in head:
        raise InputError(f"{name}: expected RGBE colours, got XYZE; convert the file")
    try:
        height, width = int(fields[1]), int(fields[3])
    except ValueError as error:
        raise InputError(f"{name}: expected a size in numbers, got {line[:40]!r}") from error
    if not (1 <= height <= 16384 and 1 <= width <= 32768 and height * width <= 16384 * 8192):
        raise InputError(f"{name}: expected at most 16384x8192 texels, got {width}x{height}")
    raw = np.frombuffer(body, np.uint8)
    if 8 <= width < 32768 and len(raw) >= 4 and raw[0] == 2 and raw[1] == 2:
        texels = _unpack_rows(raw, height, width, name)
    else:
        if len(raw) < height * width * 4:
            raise InputError(f"{name}: expected {height * width * 4:,} bytes of texels, got {len(raw):,}")
        texels = raw[: height * width * 4].reshape(height, width, 4)
    scale = np.where(texels[..., 3:] > 0, np.ldexp(1.0, texels[..., 3:].astype(np.int32) - 136), 0)
    return (texels[..., :3] * scale).astype(np.float32)


def _unpack_rows(raw: np.ndarray, height: int, width: int, name: str) -> np.ndarray:
    texels, at = np.empty((height, 4, width), np.uint8), 0
    broken = InputError(f"{name}: the run-length encoding is broken or cut off")
    for row in range(height):
        if at + 4 > len(raw) or raw[at] != 2 or (int(raw[at + 2]) << 8 | int(raw[at + 3])) != width:
            raise broken
        at += 4
        for component in range(4):
            column = 0
            while column < width:
                if at + 1 >= len(raw):
                    raise broken
                count = int(raw[at])
                run = count > 128
                count = count - 128 if run else count
                size = 1 if run else count
                if not count or column + count > width or at + 1 + size > len(raw):
                    raise broken
                texels[row, component, column : column + count] = raw[at + 1 : at + 1 + size]
                at += 1 + size
                column += count
    return texels.transpose(0, 2, 1)
