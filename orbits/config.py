"""The settings of `mv3d orbits render`. Each field is a flag, and all of them are in the index of the shards."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from mv3d.core.errors import InputError, UsageError
from mv3d.core.flags import SAID
from mv3d.orbits.decontamination import read_evaluation_list
from mv3d.orbits.gate import GateConfig
from mv3d.render.cameras import SV3D_FOV_DEG
from mv3d.render.renderer import RenderSettings
from mv3d.render.skies import BUILTIN
from mv3d.render.trajectories import LIMIT_DEG, NAMED, RANDOM, load_orbit

BUILTIN_LIGHTS = "builtin"
UNIFORM_LIGHT = "uniform"
TRAJECTORIES = (*NAMED, RANDOM)
_LIGHT_SUFFIXES = (".hdr", ".exr")
_ADDITIONS = ("light_samples", "geometry", "depth_size", "solid_cells", "solid_colors", "normals", "albedo")


@dataclass(frozen=True)
class OrbitConfig:
    """What every orbit of a data set has in common."""

    views: int = 84
    """Frames an orbit; SV3D takes every fourth of 84."""
    size: int = 576
    """Side of the square frames, pixels."""
    elevation_deg: tuple[float, float] = (-5.0, 30.0)
    """The (mean) elevation is drawn from this range, degrees. On the command line LOW:HIGH, or one number for a fixed one;
    write --elevation=-5:30 where your shell or a leading minus gets in the way."""
    trajectory: str = "static"
    """static, dynamic (as SV3D's paper says), dynamic-release (as its published helper does), sine, random (every
    view from its own elevation in the range and any azimuth), or a JSON file with elevations_deg and azimuths_deg."""
    fov_deg: float = SV3D_FOV_DEG
    """Field of view, degrees."""
    margin: float = 0.05
    """Share of half a side that stays free at the nearest border of the fullest frame."""
    environments: tuple[str, ...] = (BUILTIN_LIGHTS,)
    """Lights to draw from, one an orbit: builtin, uniform, names of built-in ones, .hdr or .exr files, or folders
    of such files. On the command line with commas between them."""
    samples: int = 4
    """Camera samples a pixel."""
    light_samples: int = RenderSettings.light_samples
    """Shadow rays a shading point; fewer are faster and noisier."""
    backend: Literal["embree", "pytorch3d", "blender"] = "embree"
    """The renderer."""
    shard_size: int = 64
    """Objects a shard, counted before rejects."""
    seed: int = 0
    """Seed of elevations, lights and trajectories, together with each object's uid."""
    variants: Literal["keep", "reject"] = "keep"
    """An object with the shape of an earlier one in other colours."""
    evaluation: tuple[str, ...] = ()
    """Evaluation lists (`mv3d orbits guard`): their objects are rejected."""
    gate: GateConfig = field(default_factory=GateConfig)
    """What is rejected."""
    geometry: bool = False
    """Add what a 3D prior learns from to each sample: the depth of every view, and the solid."""
    depth_size: Annotated[int | None, SAID] = None
    """Side of the depth maps of --geometry, pixels. Default: as the frames."""
    solid_cells: int = 96
    """Cells along a side of the solid's grid of --geometry."""
    solid_colors: bool = False
    """Add the base colours of the solid's surface cells to --geometry."""
    normals: bool = False
    """Add the normals of every view."""
    albedo: bool = False
    """Add the base colours of every view, without light."""

    def __post_init__(self) -> None:
        low, high = self.elevation_deg
        if not (-LIMIT_DEG < low <= high < LIMIT_DEG):
            raise UsageError(
                f"--elevation: expected LOW:HIGH inside -{LIMIT_DEG:g}:{LIMIT_DEG:g} degrees, got {low:g}:{high:g}",
                fields={"elevation": "elevation_deg"},
            )
        for name, value, least, most in (
            ("views", self.views, 1, 1000),
            ("size", self.size, 8, 4096),
            ("samples", self.samples, 1, 256),
            ("light-samples", self.light_samples, 1, 65536),
            ("shard-size", self.shard_size, 1, 100_000),
            ("depth-size", self.size if self.depth_size is None else self.depth_size, 1, self.size),
            ("solid-cells", self.solid_cells, 8, 512),
        ):
            if not least <= value <= most:
                raise UsageError(f"--{name}: expected {least} to {most}, got {value}")
        if not 1 <= self.fov_deg <= 120:
            raise UsageError(f"--fov: expected 1 to 120, got {self.fov_deg:g}", fields={"fov": "fov_deg"})
        if not (0 <= self.margin < 0.9 and math.isfinite(self.margin)):
            raise UsageError(f"--margin: expected 0 or more and less than 0.9, got {self.margin:g}")
        if self.solid_colors and not self.geometry:
            raise UsageError("--solid-colors: expected --geometry beside it, which makes the solid")
        if self.variants not in ("keep", "reject"):
            raise UsageError(f"--variants: expected keep or reject, got {self.variants}")
        if not self.environments:
            raise UsageError("--environments: expected at least one light, got none")

    def resolved(self) -> OrbitConfig:
        """With files found and lights named one by one. Raises InputError, UsageError."""
        trajectory = self.trajectory
        if trajectory not in TRAJECTORIES:
            count = len(load_orbit(trajectory).azimuths_deg)
            if count != self.views:
                raise UsageError(f"--views: expected {count}, as many as {trajectory} has, got {self.views}")
            trajectory = str(Path(trajectory).resolve())
        for path in self.evaluation:
            read_evaluation_list(path)
        return replace(
            self,
            trajectory=trajectory,
            environments=_lights(self.environments),
            evaluation=tuple(str(Path(path).resolve()) for path in self.evaluation),
            depth_size=None if self.depth_size == self.size else self.depth_size,
        )


def identity(config: OrbitConfig) -> dict[str, Any]:
    """What decides the bytes of the shards: the settings, files by their content and not by their place."""
    document = json.loads(json.dumps(asdict(config)))
    for name in _ADDITIONS:  # data sets without them are what they were before there were any
        if document[name] == getattr(OrbitConfig, name):
            del document[name]
    if config.trajectory not in TRAJECTORIES:
        document["trajectory"] = _content(config.trajectory)
    document["environments"] = [
        _content(name) if Path(name).suffix.lower() in _LIGHT_SUFFIXES else name
        for name in config.environments
    ]
    document["evaluation"] = [_content(path) for path in config.evaluation]
    return document


def sha256_of_json(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _content(path: str) -> str:
    try:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return f"{Path(path).name} sha256:{digest}"


def _lights(names: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        path = Path(name)
        if name == BUILTIN_LIGHTS:
            found += BUILTIN
        elif name == UNIFORM_LIGHT or name in BUILTIN:
            found.append(name)
        elif path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix.lower() in _LIGHT_SUFFIXES)
            if not files:
                raise InputError(f"{path}: expected {' or '.join(_LIGHT_SUFFIXES)} files, found none")
            found += [str(p.resolve()) for p in files]
        elif path.suffix.lower() in _LIGHT_SUFFIXES and path.is_file():
            found.append(str(path.resolve()))
        else:
            raise InputError(
                f"--environments: expected {BUILTIN_LIGHTS}, {UNIFORM_LIGHT}, {', '.join(BUILTIN)}, "
                f"or existing {' or '.join(_LIGHT_SUFFIXES)} files, got {name}"
            )
    return tuple(dict.fromkeys(found))
