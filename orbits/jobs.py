"""One object, from its file to a sample of a shard. The same object, settings and seed give the same bytes on every
worker, in any order."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mv3d.core.errors import InputError
from mv3d.core.files import sha256
from mv3d.core.version import __version__
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import UNIFORM_LIGHT, OrbitConfig
from mv3d.orbits.decontamination import read_evaluation_list
from mv3d.orbits.duplicates import fingerprint
from mv3d.orbits.gate import check_file, check_frames, check_model, used_vertices
from mv3d.orbits.geometry import PICTURES, geometry_members, opened_picture
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import tar_fragment
from mv3d.render.cameras import Cameras, Orbit
from mv3d.render.environment import Environment, exposed, load_environment, uniform_environment
from mv3d.render.loading import load_model
from mv3d.render.model import Model, normalize_model
from mv3d.render.renderer import FrameByFrame, Output, Rendered, RenderSettings, get_renderer
from mv3d.render.skies import BUILTIN, builtin_environment
from mv3d.render.trajectories import fitted, named_orbit

SAMPLE_SCHEMA = 1
_SUMMARY = ("uid", "licence", "author", "source", "title", "faces", "geometry", "texture", "warnings")


def object_rng(seed: int, uid: str) -> np.random.Generator:
    """The random numbers of one object: of the seed and the uid, of nothing else."""
    digest = hashlib.sha256(f"{seed}\0{uid}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def render_object(item: CatalogueItem, config: OrbitConfig) -> Sample:
    """Load, judge, normalize, light, render, judge again, pack.

    Raises InputError for a file that cannot be used and `mv3d.orbits.gate.Rejected` for an object that should not.
    """
    if item.path is None or not item.path.is_file():
        raise InputError(f"{item.uid}: expected a file at {item.path}, found none; fetch it first")
    digest = sha256(item.path)
    if item.sha256 is not None and digest != item.sha256:
        raise InputError(f"{item.path.name}: expected sha256 {item.sha256}, got {digest}; fetch it again")
    held_out = [_evaluation_list(path) for path in config.evaluation]
    for entries in held_out:
        entries.check_file(digest)
    check_file(item.path, config.gate)
    model = load_model(item.path, root=item.root)
    check_model(model, config.gate)
    found = fingerprint(model)
    for entries in held_out:
        entries.check_model(found)
    model, normalization = normalize_model(model)
    rng = object_rng(config.seed, item.uid)
    light = config.environments[int(rng.integers(len(config.environments)))]
    turn_deg = float(rng.uniform(0, 360))
    orbit = named_orbit(config.trajectory, config.views, rng, elevation_range_deg=config.elevation_deg)
    orbit = fitted(orbit, model.vertices[used_vertices(model)], fov_deg=config.fov_deg, margin=config.margin)
    cameras = orbit.cameras(config.size, config.size)
    further: list[Output] = [name for name in PICTURES if getattr(config, name)]
    settings = RenderSettings(
        samples=config.samples, light_samples=config.light_samples, outputs=("rgba", *further)
    )
    frames: list[np.ndarray] = []
    packed: list[Future[bytes]] = []
    pictures: list[tuple[str, Future[bytes]]] = []
    with ThreadPoolExecutor(max_workers=1) as packer:  # compressing leaves the interpreter to the next frame
        for shot in _views(model, cameras, _light(light).turned(turn_deg), settings, config.backend):
            pictures += [
                (f"{len(frames):03d}.{name}.png", packer.submit(PICTURES[name], getattr(shot, name)))
                for name in further
            ]
            frames.append(_bytes(shot.rgba))
            packed.append(packer.submit(encode_frame, frames[-1]))
    check_frames(frames, config.gate)
    document = {
        "schema": SAMPLE_SCHEMA,
        **{name: getattr(item, name) for name in ("uid", "title", "licence", "author", "source", "category")},
        "sha256": digest,
        "faces": len(model.faces),
        "geometry": found.geometry,
        "texture": found.texture,
        "normalization": {"center": list(normalization.center), "scale": normalization.scale},
        "cameras": cameras_document(orbit, cameras),
        "environment": {"name": Path(light).name, "turn_deg": turn_deg},
        "renderer": {"backend": config.backend, **asdict(settings)},
        "warnings": [warning.document() for warning in model.warnings],
        "mv3d": __version__,
    }
    members = [(f"{index:03d}.webp", content.result()) for index, content in enumerate(packed)]
    members += [(name, content.result()) for name, content in pictures]
    if config.geometry:
        size = config.depth_size or config.size
        facts, files = geometry_members(
            model, cameras.resized(size, size), cells=config.solid_cells, colors=config.solid_colors
        )
        document |= facts
        members += files
    members.insert(0, ("json", json.dumps(document).encode()))
    return Sample(tar_fragment(item.uid, members), {name: document[name] for name in _SUMMARY})


def cameras_document(orbit: Orbit, cameras: Cameras) -> dict[str, Any]:
    """Angles, distance, intrinsics in pixels, and c2w (OpenGL axes) of every frame."""
    return {
        **orbit.to_dict(),
        "w": cameras.width,
        "h": cameras.height,
        **{name: float(getattr(cameras, name)[0]) for name in ("fl_x", "fl_y", "cx", "cy")},
        "c2w": cameras.c2w.tolist(),
    }


def encode_frame(frame: UInt8[np.ndarray, "h w 4"]) -> bytes:
    """Lossless WebP. Method 2 at effort 10: 3 % larger than method 4 and decoded as fast, for 60 % of its time."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "WEBP", lossless=True, method=2, quality=10, exact=True)
    return buffer.getvalue()


def decode_frame(content: bytes | memoryview) -> UInt8[np.ndarray, "h w 4"]:
    """The inverse of `encode_frame`; RGB becomes RGBA. Raises InputError."""
    with opened_picture(content, "WEBP", "frame") as picture:
        return np.asarray(picture if picture.mode == "RGBA" else picture.convert("RGBA"))


def _views(
    model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings, backend: str
) -> Iterator[Any]:
    """One view after the other: arrays as in `Rendered`, without the first axis."""
    renderer = get_renderer(backend)
    if isinstance(renderer, FrameByFrame):
        yield from renderer.frames(model, cameras, environment, settings)
        return
    whole = renderer.render(model, cameras, environment, settings)
    for view in range(len(cameras)):
        further = (
            None if part is None else part[view] for part in (whole.depth, whole.normals, whole.albedo)
        )
        yield Rendered(whole.rgba[view], *further)


def _bytes(picture: Float[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    frame = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    frame[frame[..., 3] == 0] = 0  # what nobody sees costs no bytes
    return frame


_evaluation_list = lru_cache(maxsize=4)(read_evaluation_list)


@lru_cache(maxsize=4)
def _light(name: str) -> Environment:
    if name == UNIFORM_LIGHT:
        return uniform_environment()
    # Files are as bright as their makers left them: exposed so that white is not burnt out.
    return builtin_environment(name) if name in BUILTIN else exposed(load_environment(Path(name)))
