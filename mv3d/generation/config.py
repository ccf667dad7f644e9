"""The settings of `mv3d generate`. Each field is a flag. Loads nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mv3d.core.errors import UsageError

SAMPLERS = ("euler", "heun", "dpmpp_2m")
DTYPES = ("auto", "fp32", "fp16", "bf16")


@dataclass(frozen=True)
class GenerateConfig:
    """What to generate and how. None: as the model's own description says."""

    model: str = "default"
    """default, sv3d_u, sv3d_p, a hub id, or a model folder."""
    revision: str | None = None
    """Of a hub id."""
    lora: tuple[str, ...] = ()
    """Adapters: FILE or FILE:WEIGHT each; several add up."""
    views: int | None = None
    """At most as many as the model was trained for, which is the default."""
    elevation: float | Literal["auto"] | None = None
    """Of the photo's camera, degrees up. auto: found by trial, see `generation.find_elevation`. None: 10 for a model
    that takes it, as SV3D's scripts; for one that does not, measured on the silhouettes of what it made."""
    trajectory: str = "static"
    """static, dynamic, dynamic-release, sine, or a JSON file with elevations_deg and azimuths_deg."""
    steps: int | None = None
    """Noise levels."""
    sampler: Literal["euler", "heun", "dpmpp_2m"] | None = None
    """euler: the original's. heun: second order, two network calls per step. dpmpp_2m: second order, one call."""
    guidance: float | None = None
    """Largest guidance scale over the orbit; it is 1 at the photo."""
    seed: int = 0
    """Of the noise, for every image alike."""
    foreground_ratio: float = 0.917
    """Share of the frame that the object's larger side fills."""
    matting: Literal["auto", "rembg", "colour"] = "auto"
    """How a photo without transparency is cut out."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. A device that is asked for and missing is an error."""
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Of the network. auto: fp16 on CUDA, as the original; fp32 on the CPU. Everything else runs in fp32."""
    offload: Literal["none", "model"] = "none"
    """model: only the part at work is on the device, and guidance runs one branch at a time: less memory."""
    decode_chunk: int = 7
    """Views decoded at a time: fewer need less memory."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("sampler", self.sampler, (None, *SAMPLERS)),
            ("matting", self.matting, ("auto", "rembg", "colour")),
            ("dtype", self.dtype, DTYPES),
            ("offload", self.offload, ("none", "model")),
        ):
            if value not in known:
                choices = ", ".join(str(k) for k in known if k is not None)
                raise UsageError(f"--{name}: expected one of {choices}, got {value}")
        for name, number, low, high in (
            ("views", self.views, 1, 1000),
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
