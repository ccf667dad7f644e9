"""The settings of `mv3d eval run`. Each field is a flag. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mv3d.core.errors import UsageError
from mv3d.evaluation.bootstrap import RESAMPLES
from mv3d.generation.config import GenerateConfig
from mv3d.render.trajectories import LIMIT_DEG
from mv3d.views.metrics import SSIM_WINDOW


@dataclass(frozen=True)
class EvalRunConfig:
    """One model on one set of objects: what it is asked for, and what its views are compared with."""

    model: str = "default"
    """default, sv3d_u, sv3d_p, a hub id, or a model folder."""
    revision: str | None = None
    """Of a hub id."""
    lora: tuple[str, ...] = ()
    """Adapters: FILE or FILE:WEIGHT each."""
    orbit: Literal["static", "dynamic"] = "static"
    """static: one elevation, equal steps. dynamic: SV3D's random smooth path, another for each object."""
    elevation: float = 10.0
    """Degrees up; of a dynamic orbit the mean."""
    views: int | None = None
    """Default: as many as the model was trained for."""
    environment: str = "studio_softbox"
    """The light: uniform, the name of a built-in one, or a .hdr or .exr file. It is turned about the vertical for
    each object, by seed and uid."""
    samples: int = 4
    """Camera samples a pixel of the truth."""
    size: int | None = None
    """Compare at this side, pixels; default: the model's resolution, at which the truth is rendered."""
    baseline: bool = True
    """Beside the model, the input view repeated."""
    steps: int | None = None
    """As in GenerateConfig, from here on."""
    sampler: Literal["euler", "heun", "dpmpp_2m"] | None = None
    guidance: float | None = None
    seed: int = 0
    """Of paths, lights, the model's noise and the bootstrap."""
    device: str = "auto"
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    offload: Literal["none", "model"] = "none"
    decode_chunk: int = 7
    lpips: Literal["auto", "yes", "no"] = "auto"
    """As in `mv3d.evaluation.perceptual_metrics`, and the next three."""
    lpips_weights: Path | None = None
    clip_s: Literal["auto", "yes", "no"] = "auto"
    clip_model: str | None = None
    resamples: int = RESAMPLES
    """Of the bootstrap over objects."""

    def __post_init__(self) -> None:
        self.generation()  # checks what the two have in common
        for name, value, known in (
            ("orbit", self.orbit, ("static", "dynamic")),
            ("lpips", self.lpips, ("auto", "yes", "no")),
            ("clip-s", self.clip_s, ("auto", "yes", "no")),
        ):
            if value not in known:
                raise UsageError(f"--{name}: expected one of {', '.join(known)}, got {value}")
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
        """What every object is generated with; a dynamic path is another one for each of them."""
        return GenerateConfig(
            model=self.model,
            revision=self.revision,
            lora=self.lora,
            views=self.views,
            elevation=self.elevation,
            steps=self.steps,
            sampler=self.sampler,
            guidance=self.guidance,
            seed=self.seed,
            device=self.device,
            dtype=self.dtype,
            offload=self.offload,
            decode_chunk=self.decode_chunk,
        )
