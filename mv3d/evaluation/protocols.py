"""Protocols for comparing meshes: our own, and the published ones as far as papers and code define them.

Figures of different protocols are not comparable. Each record of ours carries the whole protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mv3d.core.errors import UsageError
from mv3d.evaluation.alignment import check_steps


@dataclass(frozen=True)
class MeshProtocol:
    """Settings of `evaluate_mesh`."""

    name: str = "mv3d"
    source: str = "mv3d"
    align: tuple[str, ...] = ("none",)
    """Steps of `alignment.align`, in order."""
    side: float | None = 1.0
    """Length of gt's largest side, which sets the unit of all figures; None: the unit of gt's file."""
    samples: int = 100_000
    """Points on each surface."""
    outer: bool = True
    """Sample only the surface that is visible from outside."""
    voxel: float | None = None
    """Thin the samples to one in each cube of this side."""
    thresholds: tuple[float, ...] = (0.01, 0.02, 0.05)
    """Thresholds of the F-score."""
    iou_resolution: int = 128
    """Samples of the solids along the longest side."""
    render_elevations_deg: tuple[float, ...] = (-10.0, 35.0)
    """Elevations of the novel views."""
    render_azimuths: int = 8
    """Views at each elevation, from 22.5 degrees on; 0 renders none."""
    render_size: int = 256
    """Side of the novel views, pixels."""
    seed: int = 0
    """Seed of all sampling."""
    remark: str = ""
    """Departures from the publication, and what it leaves open."""

    def __post_init__(self) -> None:
        check_steps(self.align)
        for name, low, high in (
            ("samples", 100, 10_000_000),
            ("iou_resolution", 8, 512),
            ("render_azimuths", 0, 360),
            ("render_size", 32, 4096),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"--{name.replace('_', '-')}: expected {low} to {high}, got {value}")
        if not self.thresholds or any(not t > 0 for t in self.thresholds):
            raise UsageError(
                f"--thresholds: expected lengths above 0, got {','.join(f'{t:g}' for t in self.thresholds) or 'none'}"
            )
        if self.side is not None and not self.side > 0:
            raise UsageError(f"side: expected a length above 0, got {self.side:g}")


ProtocolName = Literal["mv3d", "syncdreamer", "sv3d", "spar3d", "meshformer", "grm"]
PROTOCOLS: dict[ProtocolName, MeshProtocol] = {
    "mv3d": MeshProtocol(
        remark="The cameras are known, so pred stands in gt's frame already and nothing is aligned.",
    ),
    "syncdreamer": MeshProtocol(
        name="syncdreamer",
        source="SyncDreamer, arXiv 2309.03453, eval_mesh.py (also Wonder3D, HarmonyView, Hi3D, MVDiffusion++)",
        voxel=0.01,
        iou_resolution=64,
        remark="There, points are 16 depth maps of 256x256 and the inside is mesh2sdf's; here, samples by area of the outer "
        "surface and ray parity.",
    ),
    "sv3d": MeshProtocol(
        name="sv3d",
        source="SV3D, arXiv 2403.12008, tables 5 and 6",
        remark="The paper gives neither alignment nor sampling, and renders on its own dynamic orbit; here, as in mv3d.",
    ),
    "spar3d": MeshProtocol(
        name="spar3d",
        source="SPAR3D, arXiv 2501.04689, table 1 (also Stable Fast 3D)",
        align=("scale", "rotation-search", "icp"),
        side=2.0,
        outer=False,
        thresholds=(0.1, 0.2, 0.5),
        remark="The length of the normalised side is not stated; 2 (the cube from -1 to 1) is our reading. Its objects have "
        "boxes and cylinders removed.",
    ),
    "meshformer": MeshProtocol(
        name="meshformer",
        source="MeshFormer, arXiv 2408.10198, table 1 and supplement (also MeshLRM)",
        align=("scale", "rotation-search", "icp-scale"),
        outer=False,
        thresholds=(0.05,),
        render_elevations_deg=(-20.0, 0.0, 30.0),
        render_size=320,
        remark="There, the start with the best inlier ratio is kept, and 24 views are rendered by BlenderProc, at "
        "poses that are not stated; here, the start with the least Chamfer distance, and 24 unlit views.",
    ),
    "grm": MeshProtocol(
        name="grm",
        source="GRM, arXiv 2403.14621, supplement, table 3",
        align=("icp",),
        side=None,
        outer=False,
        thresholds=(0.01, 0.025),
        remark="Lengths are those of the GSO files; pred must be in their scale.",
    ),
}


def protocol(name: ProtocolName) -> MeshProtocol:
    """The protocol of this name. Raises UsageError for an unknown one."""
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol: expected one of {', '.join(PROTOCOLS)}, got {name}")
    return PROTOCOLS[name]
