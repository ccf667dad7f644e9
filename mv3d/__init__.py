"""mv3d: one photo in, a textured 3D asset out.

The names below load their modules when first used: `import mv3d` loads neither torch nor diffusers.
"""
# ruff: noqa: F401 - type checkers read the imports

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mv3d.core.lazy import lazy_names
from mv3d.core.version import __version__

if TYPE_CHECKING:
    from mv3d.api import generate, lift, make, reconstruct, reconstruct_to
    from mv3d.core.errors import Mv3dError, Mv3dWarning
    from mv3d.generation.config import GenerateConfig, LiftConfig
    from mv3d.orbits.build import build_shards
    from mv3d.orbits.config import OrbitConfig
    from mv3d.orbits.dataset import OrbitSet
    from mv3d.recon.config import ReconConfig
    from mv3d.render.cameras import Cameras
    from mv3d.render.mesh import Mesh
    from mv3d.training.config import TrainConfig
    from mv3d.training.encode_shards import encode_shards
    from mv3d.training.run import train
    from mv3d.views.readers import load_views
    from mv3d.views.views import Views

# In a checkout the rooms lie beside this folder, not in it. A child process that starts at the checkout's root (a
# worker of Ray, a spawned reader) meets this file first, installed or not, and must find them all the same.
if not (Path(__file__).parent / "render").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "api": "generate lift make reconstruct reconstruct_to",
        "core.errors": "Mv3dError Mv3dWarning",
        "core.version": "__version__",
        "generation.config": "GenerateConfig LiftConfig",
        "orbits.build": "build_shards",
        "orbits.config": "OrbitConfig",
        "orbits.dataset": "OrbitSet",
        "recon.config": "ReconConfig",
        "render.cameras": "Cameras",
        "render.mesh": "Mesh",
        "training.config": "TrainConfig",
        "training.encode_shards": "encode_shards",
        "training.run": "train",
        "views.readers": "load_views",
        "views.views": "Views",
    },
)
