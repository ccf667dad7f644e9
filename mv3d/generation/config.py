"""The settings of `mv3d generate`. Each field is a flag. Loads nothing heavy."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, get_args

import tyro

from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.models.names import ALIASES
from mv3d.recon.config import FORMATS, Profile, Quality, ReconConfig
from mv3d.render.cameras import FOREGROUND_RATIO

Sampler = Literal["euler", "heun", "dpmpp_2m"]
Matting = Literal["auto", "rembg", "colour"]
Dtype = Literal["auto", "fp32", "fp16", "bf16"]
Offload = Literal["none", "model"]
PhotoQuality = Literal["instant", Quality]
"""What a mesh of a photo may be asked for: instant is that of `mv3d lift`, without views."""


def _degrees_or_word(words: list[str]) -> float | str:
    try:
        return float(words[0])
    except ValueError:
        return words[0]  # `GenerateConfig` refuses any but "auto"


_ELEVATION = tyro.constructors.PrimitiveConstructorSpec[Any](
    nargs=1,
    metavar="DEG|auto",
    instance_from_str=_degrees_or_word,
    is_instance=lambda value: value is None or value == "auto" or isinstance(value, float | int),
    str_from_instance=lambda value: [str(value)],
)


@dataclass(frozen=True)
class GenerateConfig:
    """What to generate and how. None stands for the model's own default. Raises UsageError for values out of range."""

    model: str = "default"
    """default, sv3d_u, sv3d_p, a hub id (owner/name), or a model folder."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    lora: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE[:WEIGHT]"), tyro.conf.UseAppendAction] = ()
    """An adapter, with its weight (default 1). Give the flag several times to add several."""
    views: Annotated[int | None, SAID] = None
    """Number of views. Default: as many as the model was trained for, which is also the most.
    A model that is a 3D prior makes up to 1000."""
    size: Annotated[int | None, SAID] = None
    """Side of the views of a model that is a 3D prior, 64 to 576 pixels. Default: the model's, as for all others."""
    elevation: Annotated[float | Literal["auto"] | None, _ELEVATION, SAID] = None
    """Elevation of the photo's camera, degrees up.
    auto: as a 3D prior in the model sees it, at no cost; without one by quick trials at up to six
    elevations, which take about 4.5 times as long as the sampling.
    Default: auto for a model with a 3D prior, 10 for another that takes it; otherwise measured on the views."""
    trajectory: Annotated[str, tyro.conf.arg(metavar="static|dynamic|sine|FILE.json")] = "static"
    """The cameras' path: one height, a smooth random path (--seed), a wave, or a file with angles.
    The file has lists elevations_deg and azimuths_deg. dynamic-release: SV3D's published random path."""
    steps: Annotated[int | None, SAID] = None
    """Noise levels of the sampler. Default: the model's (SV3D: 50)."""
    sampler: Annotated[Sampler | None, SAID] = None
    """euler: the original. dpmpp_2m: as good in fewer steps. heun: two network calls per step.
    Default: the model's."""
    guidance: Annotated[float | None, tyro.conf.arg(metavar="MAX"), SAID] = None
    """Largest guidance scale, opposite the photo; it is 1 at the photo. Default: the model's (SV3D: 2.5)."""
    seed: int = 0
    """Seed of the noise, the same for every photo. The same seed gives the same views."""
    foreground_ratio: float = FOREGROUND_RATIO
    """Share of the frame that the object's larger side fills, 0.2 to 1. Less for a 3D prior whose solid would reach past the
    frame in another view."""
    matting: Matting = "auto"
    """How photos without transparency are cut out. auto: rembg where it and its model are here, else by colour."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. A device that is asked for and missing is an error."""
    dtype: Dtype = "auto"
    """Precision of the network; the photo is encoded in fp32. auto: fp16 on CUDA, as the original; fp32 on the CPU."""
    decode_dtype: Dtype = "auto"
    """Precision in which latents become views. Half of it needs half the memory. auto: fp16 on CUDA where the network
    runs in half precision, too (bf16 would show as bands); else fp32."""
    offload: Offload = "none"
    """model: only the part at work is on the GPU, and guidance runs one branch at a time.
    Needs less memory and is a little slower."""
    decode_chunk: int = 7
    """Views decoded at a time: fewer need less memory."""

    def __post_init__(self) -> None:
        for name in ("model", "trajectory"):
            object.__setattr__(self, name, os.fspath(getattr(self, name)))
        object.__setattr__(self, "lora", tuple(map(os.fspath, self.lora)))
        for name, known in (
            ("sampler", (None, *get_args(Sampler))),
            ("matting", get_args(Matting)),
            ("dtype", get_args(Dtype)),
            ("decode_dtype", get_args(Dtype)),
            ("offload", get_args(Offload)),
        ):
            if getattr(self, name) not in known:
                choices = ", ".join(str(k) for k in known if k is not None)
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag}: expected one of {choices}, got {getattr(self, name)}")
        for name, number, low, high in (
            ("views", self.views, 1, 1000),
            ("size", self.size, 64, 576),
            ("steps", self.steps, 1, 1000),
            ("decode-chunk", self.decode_chunk, 1, 1000),
            ("seed", self.seed, 0, 2**63 - 1),
        ):
            if number is not None and not low <= number <= high:
                raise UsageError(f"--{name}: expected {low} to {high}, got {number}")
        if self.guidance is not None and not (math.isfinite(self.guidance) and 0 <= self.guidance <= 100):
            raise UsageError(f"--guidance: expected 0 to 100, got {self.guidance}")
        if isinstance(self.elevation, str) and self.elevation != "auto":
            raise UsageError(f"--elevation: expected a number of degrees or auto, got {self.elevation}")
        if isinstance(self.elevation, float | int) and not abs(self.elevation) < 89:
            raise UsageError(f"--elevation: expected less than 89 degrees up or down, got {self.elevation}")
        if not 0.2 <= self.foreground_ratio <= 1:
            raise UsageError(f"--foreground-ratio: expected 0.2 to 1, got {self.foreground_ratio}")

    def recorded(self) -> dict[str, Any]:
        """The settings that a record has as they were given; the model's defaults are not filled in."""
        return {
            name: value for name, value in asdict(self).items() if name not in ("model", "revision", "size")
        }

    def recorded_before_the_model(self) -> dict[str, Any]:
        """Those of `recorded` that no model changes."""
        by_model = ("lora", "elevation", "steps", "sampler", "guidance")
        return {name: value for name, value in self.recorded().items() if name not in by_model}


@dataclass(frozen=True)
class LiftConfig:
    """The mesh that a 3D prior makes of a photo. Raises UsageError for values out of range."""

    model: str = "default"
    """default, a hub id (owner/name), or a model folder. It has to hold a 3D prior."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    elevation: Annotated[float | Literal["auto"], _ELEVATION] = "auto"
    """Elevation of the photo's camera, degrees up: it decides what is upright. auto: as the prior sees it."""
    formats: Annotated[tuple[str, ...], FORMATS, tyro.conf.arg(name="format"), SAID] = ()
    """Files to write, with commas between them. Default: glb (stl for a print)."""
    profile: Profile = ReconConfig.profile
    """web: JPEG texture, at most 3 MB. print: closed, millimetres in STL."""
    faces: Annotated[int | None, SAID] = None
    """Triangles at most, about. Default: 40000; 30000 for web."""
    texture_size: int = 1024
    """Side of the square texture in texels, a power of two. The photo has a quarter of it."""
    print_size_mm: float = ReconConfig.print_size_mm
    """Largest side of a print and of a 3mf, millimetres."""
    turntable: bool = True
    """Write turntable.mp4 and preview.png, eight of its frames."""
    foreground_ratio: float = FOREGROUND_RATIO
    """Share of the frame that the object's larger side fills, 0.2 to 1."""
    matting: Matting = "auto"
    """How photos without transparency are cut out. auto: rembg where it and its model are here, else by colour."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. A device that is asked for and missing is an error."""

    def __post_init__(self) -> None:
        if self.model in ALIASES:
            raise UsageError(
                f"--model {self.model}: expected a model with a 3D prior, which it has not; use default, or a prior that "
                "mv3d train made"
            )
        self.for_photo()
        self.for_mesh()

    def for_photo(self) -> GenerateConfig:
        """The settings of the photo and the model."""
        names = ("model", "revision", "elevation", "foreground_ratio", "matting", "device")
        return GenerateConfig(**{name: getattr(self, name) for name in names})

    def recorded(self) -> dict[str, Any]:
        """The settings that a record has, every default filled in, without the model's."""
        filled = replace(self, formats=self.for_mesh().formats, faces=self.for_mesh().faces)
        return {name: value for name, value in asdict(filled).items() if name not in ("model", "revision")}

    def for_mesh(self) -> ReconConfig:
        """The settings of the files, with every default filled in."""
        faces = self.faces or (30_000 if self.profile == "web" else 40_000)
        names = ("formats", "profile", "texture_size", "print_size_mm", "device")
        return ReconConfig(
            quality="draft", faces=faces, **{name: getattr(self, name) for name in names}
        ).resolved()


def instant_settings(settings: Mapping[str, Any], caller: str) -> dict[str, Any]:
    """The settings of `LiftConfig` among those of views and mesh.

    Raises UsageError for one that is no longer at its default and has no meaning where nothing but a 3D prior runs.
    """
    known = {field.name for field in fields(LiftConfig)}
    defaults = {f.name: f.default for config in (ReconConfig, GenerateConfig) for f in fields(config)}
    given = {
        name: value
        for name, value in settings.items()
        if name != "quality" and (name not in defaults or value != defaults[name])
    }
    for name in given.keys() & (defaults.keys() - known):
        raise UsageError(f"{caller}: expected no --{name.replace('_', '-')}: no views are made")
    return given
