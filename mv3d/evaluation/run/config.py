"""The settings of `mv3d eval run`. Each field is a flag. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

import tyro

from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.evaluation.bootstrap import RESAMPLES
from mv3d.evaluation.perceptual import PerceptualConfig
from mv3d.generation.config import GenerateConfig
from mv3d.render.trajectories import LIMIT_DEG
from mv3d.views.metrics import SSIM_WINDOW


@dataclass(frozen=True)
class EvalRunConfig:
    """One model on one set of objects: the orbit, the truth, the sampler and the metrics."""

    model: str = "default"
    """default, sv3d_u, sv3d_p, a hub id (owner/name), or a model folder."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    lora: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE[:WEIGHT]"), tyro.conf.UseAppendAction] = ()
    """An adapter, with its weight (default 1). Give the flag several times to mix several."""
    orbit: Literal["static", "dynamic"] = "static"
    """static: one elevation, equal steps. dynamic: SV3D's random smooth path, another for each object."""
    elevation: Annotated[float, tyro.conf.arg(metavar="DEG")] = 10.0
    """Degrees up; the mean of a dynamic orbit."""
    views: Annotated[int | None, SAID] = None
    """Number of views. Default: as many as the model was trained for."""
    environment: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "studio_softbox"
    """The light: uniform, a built-in one, or a .hdr or .exr file; turned about the vertical for each object, by seed
    and uid."""
    samples: int = 4
    """Camera samples a pixel of the truth."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS"), SAID] = None
    """Side at which views are compared. Default: the model's resolution, at which the truth is rendered."""
    baseline: bool = True
    """Evaluate the repeated input view, too: a figure means little without it."""
    steps: Annotated[int | None, SAID] = None
    """Noise levels of the sampler. Default: the model's."""
    sampler: Annotated[Literal["euler", "heun", "dpmpp_2m"] | None, SAID] = None
    """Default: the model's."""
    guidance: Annotated[float | None, tyro.conf.arg(metavar="MAX"), SAID] = None
    """Largest guidance scale. Default: the model's."""
    seed: int = 0
    """Seed of paths, lights, the model's noise and the bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Number format of the network. auto: fp16 on CUDA, fp32 on the CPU."""
    offload: Literal["none", "model"] = "none"
    """model: only the part at work is on the GPU; less memory, a little slower."""
    decode_chunk: int = 7
    """Views decoded at a time: fewer need less memory."""
    perceptual: Annotated[PerceptualConfig, tyro.conf.arg(name="")] = field(default_factory=PerceptualConfig)
    resamples: int = RESAMPLES
    """Resamples of the bootstrap over objects."""

    def __post_init__(self) -> None:
        self.generation()  # checks what the two have in common
        if self.orbit not in ("static", "dynamic"):
            raise UsageError(f"--orbit: expected one of static, dynamic, got {self.orbit}")
        if not abs(self.elevation) < LIMIT_DEG:
            raise UsageError(
                f"--elevation: expected less than {LIMIT_DEG:g} degrees up or down, got {self.elevation}"
            )
        for name, number, low, high in (
            ("views", self.views, 2, 1000),
            ("samples", self.samples, 1, 256),
            ("size", self.size, SSIM_WINDOW, 4096),
            ("resamples", self.resamples, 1, 1_000_000),
        ):
            if number is not None and not low <= number <= high:
                raise UsageError(f"--{name}: expected {low} to {high}, got {number}")

    def generation(self) -> GenerateConfig:
        """The settings of every object's generation, without a dynamic path, which each object has of its own. `size` is
        that of the comparison: views are generated at the model's."""
        shared = {f.name for f in fields(self)} & {f.name for f in fields(GenerateConfig)} - {"size"}
        return GenerateConfig(**{name: getattr(self, name) for name in shared})
