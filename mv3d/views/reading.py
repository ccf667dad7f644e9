"""How to read an orbit that comes without cameras. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.render.cameras import SV3D_FOV_DEG

_FIELDS = {"elevation": "elevation_deg", "fov": "fov_deg"}


@dataclass(frozen=True)
class OrbitReading:
    """The cameras of an orbit video or of numbered frames. Raises UsageError for values out of range."""

    elevation_deg: Annotated[float | None, tyro.conf.arg(name="elevation", metavar="DEG"), SAID] = None
    """Elevation of an orbit without cameras, degrees up. Default: estimated from the silhouettes."""
    fov_deg: Annotated[float, tyro.conf.arg(name="fov", metavar="DEG")] = SV3D_FOV_DEG
    """Horizontal field of view of an orbit without cameras, degrees."""
    azimuth_sign: Literal[1, -1] = 1
    """1: azimuth grows counter-clockwise seen from above, as in SV3D. -1: the other way round."""

    def __post_init__(self) -> None:
        if self.azimuth_sign not in (1, -1):
            raise UsageError(f"--azimuth-sign: expected 1 or -1, got {self.azimuth_sign}")
        if not 1 <= self.fov_deg <= 150:
            raise UsageError(f"--fov: expected 1 to 150 degrees, got {self.fov_deg:g}", fields=_FIELDS)
        if self.elevation_deg is not None and not -89 <= self.elevation_deg <= 89:
            raise UsageError(
                f"--elevation: expected -89 to 89 degrees, got {self.elevation_deg:g}", fields=_FIELDS
            )

    def changed(self) -> list[str]:
        """The flags of the fields that are not at their defaults."""
        flags = {"elevation_deg": "--elevation", "fov_deg": "--fov", "azimuth_sign": "--azimuth-sign"}
        return [flag for name, flag in flags.items() if getattr(self, name) != getattr(OrbitReading, name)]

    def __str__(self) -> str:
        """The part that it has in the hash of an input."""
        return f"{self.elevation_deg}:{self.fov_deg:g}:{self.azimuth_sign}"
