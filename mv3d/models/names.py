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
    licence: str


_LICENCE = "Stability AI's, see the page"
ALIASES = {
    "sv3d_p": Alias("stabilityai/sv3d", "sv3d_p.safetensors", "a camera per view", _LICENCE),
    "sv3d_u": Alias("stabilityai/sv3d", "sv3d_u.safetensors", "the static orbit", _LICENCE),
    "svd": Alias(
        "stabilityai/stable-video-diffusion-img2vid", None, "no camera: a base for training", _LICENCE
    ),
    "svd_xt": Alias(
        "stabilityai/stable-video-diffusion-img2vid-xt", None, "no camera: a base for training", _LICENCE
    ),
}


def default_hint() -> str:
    """What to do where no default model is installed."""
    return (
        "no model comes with this installation; use --model sv3d_p, a hub id or a folder (mv3d models list)"
    )
