"""mv3d: one photo in, a textured 3D asset out.

The names below load their modules when first used: `import mv3d` loads neither torch nor diffusers.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mv3d.core.version import __version__

if TYPE_CHECKING:
    from mv3d.api import generate as generate
    from mv3d.api import make as make
    from mv3d.api import reconstruct as reconstruct
    from mv3d.core.errors import Mv3dError as Mv3dError
    from mv3d.generation.config import GenerateConfig as GenerateConfig
    from mv3d.orbits.build import build_shards as build_shards
    from mv3d.orbits.config import OrbitConfig as OrbitConfig
    from mv3d.orbits.dataset import OrbitSet as OrbitSet
    from mv3d.recon.config import ReconConfig as ReconConfig
    from mv3d.render.cameras import Cameras as Cameras
    from mv3d.render.mesh import Mesh as Mesh
    from mv3d.training.config import TrainConfig as TrainConfig
    from mv3d.training.encode_shards import encode_shards as encode_shards
    from mv3d.training.run import train as train
    from mv3d.views.readers import load_views as load_views
    from mv3d.views.views import Views as Views

# In a checkout the rooms lie beside this folder, not in it. A child process that starts at the checkout's root (a
# worker of Ray, a spawned reader) meets this file first, installed or not, and must find them all the same.
if not (Path(__file__).parent / "render").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

_HOMES = {
    "Cameras": "mv3d.render.cameras",
    "GenerateConfig": "mv3d.generation.config",
    "Mesh": "mv3d.render.mesh",
    "Views": "mv3d.views.views",
    "load_views": "mv3d.views.readers",
    "ReconConfig": "mv3d.recon.config",
    "generate": "mv3d.api",
    "make": "mv3d.api",
    "reconstruct": "mv3d.api",
    "OrbitConfig": "mv3d.orbits.config",
    "OrbitSet": "mv3d.orbits.dataset",
    "build_shards": "mv3d.orbits.build",
    "encode_shards": "mv3d.training.encode_shards",
    "TrainConfig": "mv3d.training.config",
    "train": "mv3d.training.run",
    "Mv3dError": "mv3d.core.errors",
}
__all__ = [
    "Cameras",
    "GenerateConfig",
    "Mesh",
    "Mv3dError",
    "OrbitConfig",
    "OrbitSet",
    "ReconConfig",
    "TrainConfig",
    "Views",
    "__version__",
    "build_shards",
    "encode_shards",
    "generate",
    "load_views",
    "make",
    "reconstruct",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mv3d' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
