"""What a run survives, and what it is warned of: a gradient that is no number, readers that do not keep up."""

from __future__ import annotations

import math
import warnings
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from mv3d.core.errors import Mv3dError, Mv3dWarning, shown
from mv3d.training.config import TrainConfig

MOST_WAITING = 0.05
"""Share of the time that a run may wait for data before it is warned."""
_LEAST_SECONDS = 20.0  # of a window that says something


class FiniteGuard:
    """Leaves out a batch whose gradient is no number, once between two checkpoints.

    The weights are as they were before it: no step is taken with such a gradient, so there is nothing to roll back.
    A second one is no accident of a sample, and ends the run.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._earlier = ""

    def takes(self, norm: float, loss: float, names: list[str], step: int) -> bool:
        """Whether step number `step` may be taken. norm: of the whole gradient, the same in all processes. loss, names:
        of this process' samples. Raises Mv3dError with the samples' names the second time.
        """
        if math.isfinite(norm):
            return True
        guilty = gather_object([] if math.isfinite(loss) else names) or gather_object(names)
        found = f"step {step} ({shown(', '.join(guilty), 300)})"
        if self._earlier:
            raise Mv3dError(
                f"the gradient is no number at {found}, nor was it at {self._earlier}: try a lower --lr or --precision "
                "fp32, or remove these objects; the last checkpoint is kept"
            )
        self._earlier = found
        if self._accelerator.is_main_process:
            text = f"the gradient is no number at {found}; this batch is left out"
            warnings.warn(text, Mv3dWarning, stacklevel=2)
        return False

    def saved(self) -> None:
        """A checkpoint is kept: from here on one batch may be left out again."""
        self._earlier = ""


def sample_names(raw: dict[str, Any]) -> list[str]:
    """The objects of a micro-batch, or the samples' numbers where they have no names."""
    if "uid" in raw:
        return [str(uid) for uid in raw["uid"]]
    return [f"sample {int(index)}" for index in raw.get("index", ())]


def wait_share(waits: list[tuple[float, float]]) -> float:
    """Share of the time that was spent on waiting for data. waits: (seconds of it, seconds) of each step."""
    total = sum(seconds for _, seconds in waits)
    return sum(waited for waited, _ in waits) / total if total else 0.0


class WaitingWatch:
    """Warns once where the steps wait for data, and says which knob helps."""

    def __init__(self, config: TrainConfig) -> None:
        self._config, self._warned = config, False

    def see(self, waits: list[tuple[float, float]]) -> None:
        """waits: (seconds of waiting for data, seconds) of the last steps."""
        share, seconds = wait_share(waits), sum(whole for _, whole in waits)
        if self._warned or seconds < _LEAST_SECONDS or share <= MOST_WAITING:
            return
        self._warned = True
        warnings.warn(
            f"{100 * share:.0f} % of the last {len(waits)} steps was waiting for data: give more than --workers "
            f"{self._config.workers} where there are cores, or prepare the data once (mv3d orbits encode; --layers for a "
            "prior)",
            Mv3dWarning,
            stacklevel=2,
        )
