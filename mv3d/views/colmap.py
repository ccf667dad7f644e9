"""COLMAP's sparse models, text and binary (https://colmap.github.io/format.html), as cameras of image files."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, shown
from mv3d.render.cameras import invert_rigid, opengl_from_opencv
from mv3d.views.lens import CAMERA_MODELS, Lens
from mv3d.views.posed import PosedFrame, check_count
from mv3d.views.transforms import checked_lens, file_inside

MODEL_PLACES = ("sparse", "colmap/sparse", "")
"""Where a model lies in the folder that is read, or in numbered folders there (sparse/0)."""
IMAGE_FOLDERS = ("images", "input", "")
_BY_ID = dict(enumerate(CAMERA_MODELS))
_BY_ID |= {7: "FOV", 8: "SIMPLE_RADIAL_FISHEYE", 9: "RADIAL_FISHEYE", 10: "THIN_PRISM_FISHEYE"}
_MAX_BYTES = 1_000_000_000
_MOST = 10_000  # cameras and images; what is read at last is far less


@dataclass(frozen=True)
class ColmapImage:
    """w2c: world to camera, OpenCV axes. camera: a number."""

    name: str
    w2c: Float[np.ndarray, "4 4"]
    camera: int


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """cameras: by number. images: in the order of their names. points: positions in the world, maybe none."""

    cameras: dict[int, Lens]
    images: list[ColmapImage]
    points: Float[np.ndarray, "p 3"]


def find_model(folder: Path) -> Path | None:
    """The folder of a model below `folder`; of several in sparse/, the one with the largest images file."""
    for place in MODEL_PLACES:
        numbered = sorted((folder / place).glob("[0-9]*")) if place else []
        found = [
            path for path in (*numbered, folder / place) if _file(path, "cameras") and _file(path, "images")
        ]
        if found:
            return max(found, key=lambda path: _existing(path, "images").stat().st_size)
    return None


def read_model(folder: Path) -> ColmapModel:
    """A model's files, each in its binary or its text form. Raises InputError for what is damaged or unknown."""
    cameras = dict(_read(folder, "cameras", _cameras_bin, _cameras_txt))
    images = sorted(_read(folder, "images", _images_bin, _images_txt), key=lambda image: _natural(image.name))
    points = _read(folder, "points3D", _points_bin, _points_txt) if _file(folder, "points3D") else []
    positions = np.array(points, np.float64).reshape(-1, 3)
    return ColmapModel(cameras, images, positions[np.isfinite(positions).all(1)])


def posed_frames(model: ColmapModel, folder: Path, root: Path) -> list[PosedFrame]:
    """Its images as files within `root`. Raises InputError for absent files, and for a model of fewer than three."""
    check_count(folder, len(model.images))
    names = [image.name.replace("\\", "/") for image in model.images]
    place = next(
        (f for f in IMAGE_FOLDERS if all(os.path.isfile(root / f / name) for name in names)), IMAGE_FOLDERS[0]
    )
    frames = []
    for index, (image, name) in enumerate(zip(model.images, names, strict=True)):
        where = f"{folder}: image {shown(image.name)}"
        if image.camera not in model.cameras:
            raise InputError(f"{where}: expected camera {image.camera} in the cameras file, found none")
        c2w = opengl_from_opencv(invert_rigid(image.w2c))
        path = file_inside(root, f"{place}/{name}" if place else name, folder, index)
        frames.append(PosedFrame(path, None, c2w, model.cameras[image.camera], where))
    return frames


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in re.split(r"(\d{1,18})", name)
    ]


def _file(folder: Path, stem: str) -> Path | None:
    return next((p for suffix in (".bin", ".txt") if (p := folder / f"{stem}{suffix}").is_file()), None)


def _existing(folder: Path, stem: str) -> Path:
    path = _file(folder, stem)
    assert path is not None, "looked for before"
    return path


def _read(folder: Path, stem: str, binary, text) -> list:  # pyright: ignore[reportMissingParameterType]
    path = _existing(folder, stem)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: expected at most {_MAX_BYTES} bytes, got {path.stat().st_size}")
        if path.suffix == ".bin":
            return list(binary(_Bytes(path.read_bytes()), path))
        return list(text(path.read_text(encoding="utf-8-sig").splitlines(), path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise InputError(
            f"{path}: expected COLMAP's {stem}, got something cut off or damaged ({shown(error)})"
        ) from error


class _Bytes:
    """A cursor over little-endian values."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.skip(struct.calcsize(f"<{form}"))
        return values

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise ValueError("ends early")

    def text(self) -> str:
        end = self.data.index(b"\0", self.at)
        start, self.at = self.at, end + 1
        return self.data[start:end].decode()


def _checked_camera(
    number: int, model: str, size: tuple[int, int], values: list[float], path: Path
) -> tuple[int, Lens]:
    where = f"{path}: camera {number}"
    if model not in CAMERA_MODELS:
        raise InputError(
            f"{where}: expected a model of {', '.join(CAMERA_MODELS)}, got {shown(model)}; undistort the images with "
            "colmap image_undistorter first"
        )
    names = CAMERA_MODELS[model]
    if len(values) != len(names) or min(size) < 1:
        raise InputError(
            f"{where}: expected {len(names)} parameters and a size for {model}, got {len(values)} and {size[0]}x{size[1]}"
        )
    lens = checked_lens(model, dict(zip(names, values, strict=True)), float(size[0]), float(size[1]), where)
    return number, lens


def _cameras_bin(data: _Bytes, path: Path) -> Iterator[tuple[int, Lens]]:
    for _ in range(_few(data.take("Q")[0])):
        number, kind, width, height = data.take("iiQQ")
        model = _BY_ID.get(kind, f"number {kind}")
        values = list(data.take(f"{len(CAMERA_MODELS.get(model, ()))}d"))
        yield _checked_camera(number, model, (width, height), values, path)


def _cameras_txt(lines: list[str], path: Path) -> Iterator[tuple[int, Lens]]:
    for line in lines:
        words = line.split()
        if words and words[0][0] != "#":
            size = int(words[2]), int(words[3])
            yield _checked_camera(int(words[0]), words[1], size, [float(word) for word in words[4:]], path)


def _images_bin(data: _Bytes, path: Path) -> Iterator[ColmapImage]:
    for _ in range(_few(data.take("Q")[0])):
        pose, camera = data.take("I7d")[1:], data.take("I")[0]
        yield ColmapImage(data.text(), _w2c(pose), camera)
        data.skip(24 * data.take("Q")[0])  # the image's points


def _images_txt(lines: list[str], path: Path) -> Iterator[ColmapImage]:
    # Two lines an image; the second one, its points, may be empty.
    kept = iter(line for line in lines if not line.startswith("#"))
    for count, line in enumerate(kept):
        if line.strip():
            words = line.split(maxsplit=9)
            yield ColmapImage(words[9].strip(), _w2c(tuple(map(float, words[1:8]))), int(words[8]))
            next(kept, None)
        _few(count)


def _points_bin(data: _Bytes, path: Path) -> Iterator[tuple[float, ...]]:
    for _ in range(data.take("Q")[0]):
        yield data.take("Q3d3Bd")[1:4]
        data.skip(8 * data.take("Q")[0])  # the images that see it


def _points_txt(lines: list[str], path: Path) -> Iterator[tuple[float, ...]]:
    for line in lines:
        words = line.split(maxsplit=4)
        if words and words[0][0] != "#":
            yield float(words[1]), float(words[2]), float(words[3])


def _few(count: int) -> int:
    if count > _MOST:
        raise ValueError(f"{count} entries, at most {_MOST}")
    return count


def _w2c(pose: tuple[float, ...]) -> Float[np.ndarray, "4 4"]:
    """qw, qx, qy, qz, tx, ty, tz → a rigid matrix. Raises ValueError for no rotation."""
    values = np.array(pose, np.float64)
    length = float(np.linalg.norm(values[:4]))
    if not np.isfinite(values).all() or not 1e-6 < length < 1e6:
        raise ValueError("a pose that is no rotation and place")
    w, x, y, z = values[:4] / length
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = values[4:]
    return matrix
