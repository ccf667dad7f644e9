"""Training: from orbit shards or video clips to a model folder or an adapter.

The names below load their modules when first used: `import mv3d.training` does not load torch.
"""
# ruff: noqa: F401 - type checkers read the imports

from __future__ import annotations

from typing import TYPE_CHECKING

from mv3d.core.lazy import lazy_names

if TYPE_CHECKING:
    from mv3d.training.config import PRESETS, TrainConfig, preset
    from mv3d.training.loss import orbit_loss
    from mv3d.training.run import TrainResult, plan, train

__all__, __getattr__, __dir__ = lazy_names(
    __name__, {"config": "PRESETS TrainConfig preset", "loss": "orbit_loss", "run": "TrainResult plan train"}
)
