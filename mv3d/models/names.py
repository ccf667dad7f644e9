"""The models that have names. Imports nothing heavy, so that the command line can list them at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_FOLDER = Path(__file__).with_name("default")


@dataclass(frozen=True)
class Alias:
    """A released model on the hub. file: a checkpoint in the original's form, or None for a whole repository."""

    repo: str
    file: str | None
    takes: str
    licence: str = "Stability AI's, see the page"


_SVD, _BASE = "stabilityai/stable-video-diffusion-img2vid", "no camera: a base for training"
ALIASES = {
    "sv3d_p": Alias("stabilityai/sv3d", "sv3d_p.safetensors", "a camera per view"),
    "sv3d_u": Alias("stabilityai/sv3d", "sv3d_u.safetensors", "the static orbit"),
    "svd": Alias(_SVD, None, _BASE),
    "svd_xt": Alias(f"{_SVD}-xt", None, _BASE),
}
