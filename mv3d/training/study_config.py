"""The settings of a study of starts. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from mv3d.core.errors import UsageError


@dataclass(frozen=True)
class StudyConfig:
    """What is compared. Raises UsageError for values out of range."""

    every: int = 250
    """Steps between two points of a curve."""
    seeds: int = 3
    """Runs of each start, with other orders, noise and new weights."""
    evaluation_orbits: int = 8
    """Held-out orbits that views are compared on."""
    image_share: float = 0.95
    """Share of a block's output that comes from its spatial layers at the image model's start, in (0, 1): temporal layers that
    know nothing are let in slowly."""

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("seeds", 1), ("evaluation_orbits", 1)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"--{name.replace('_', '-')}: expected at least {least}, got {getattr(self, name)}"
                )
        if not 0 < self.image_share < 1:
            raise UsageError(f"--image-share: expected a number between 0 and 1, got {self.image_share}")
