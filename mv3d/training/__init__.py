"""Training: from orbit shards or video clips to a model folder or an adapter.

The names below load their modules when first used: `import mv3d.training` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mv3d.training.config import PRESETS as PRESETS
    from mv3d.training.config import TrainConfig as TrainConfig
    from mv3d.training.config import preset as preset
    from mv3d.training.loss import orbit_loss as orbit_loss
    from mv3d.training.run import TrainResult as TrainResult
    from mv3d.training.run import plan as plan
    from mv3d.training.run import train as train

_HOMES = {
    "PRESETS": "config",
    "TrainConfig": "config",
    "TrainResult": "run",
    "orbit_loss": "loss",
    "plan": "run",
    "preset": "config",
    "train": "run",
}
__all__ = ["PRESETS", "TrainConfig", "TrainResult", "orbit_loss", "plan", "preset", "train"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"mv3d.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mv3d.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
