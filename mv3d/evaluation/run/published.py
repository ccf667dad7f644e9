"""Published figures to compare with, marked as such.

SV3D (Voleti et al. 2024, arXiv 2403.12008), tables 1 and 2: 300 objects of Google Scanned Objects, filtered by its
authors, rendered by them; the last frame of each orbit is the condition. Neither the list of objects nor the renders
were published, so figures over other objects are not comparable with these; they show where the field stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OrbitKind = Literal["static", "dynamic"]
SV3D_PAPER = "arXiv 2403.12008"
REMARK = "published: other objects, renders and protocol"


@dataclass(frozen=True)
class PublishedRow:
    """One line of a published table, as printed there. table: its number. objects: how many it is a mean of."""

    method: str
    orbit: OrbitKind
    table: int
    lpips: float
    psnr: float
    ssim: float
    clip_s: float
    mse: float
    objects: int = 300
    source: str = SV3D_PAPER

    @property
    def metrics(self) -> dict[str, float]:
        """Values by the names of mv3d's own metrics."""
        return {name: getattr(self, name) for name in ("psnr", "ssim", "mse", "lpips", "clip_s")}


SV3D_ROWS = (
    PublishedRow("SV3D_u", "static", 1, lpips=0.09, psnr=21.14, ssim=0.87, clip_s=0.89, mse=0.02),
    PublishedRow("SV3D_c", "static", 1, lpips=0.09, psnr=20.56, ssim=0.87, clip_s=0.88, mse=0.02),
    PublishedRow("SV3D_p", "static", 1, lpips=0.08, psnr=21.26, ssim=0.88, clip_s=0.89, mse=0.02),
    PublishedRow("SV3D_c", "dynamic", 2, lpips=0.10, psnr=19.99, ssim=0.86, clip_s=0.87, mse=0.02),
    PublishedRow("SV3D_p", "dynamic", 2, lpips=0.09, psnr=20.38, ssim=0.87, clip_s=0.87, mse=0.02),
)


def published_rows(orbit: OrbitKind) -> tuple[PublishedRow, ...]:
    """The rows for one kind of orbit."""
    return tuple(row for row in SV3D_ROWS if row.orbit == orbit)
