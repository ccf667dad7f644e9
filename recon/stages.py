"""What each quality level means, and the stages from views to a textured mesh in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mv3d.core.devices import pick_device
from mv3d.core.errors import InputError
from mv3d.core.progress import Clock
from mv3d.recon.config import ReconConfig
from mv3d.recon.field import Field, FieldConfig, fit_field
from mv3d.recon.hull import Hull, HullConfig, visual_hull
from mv3d.recon.outline import fit_outlines
from mv3d.recon.surface import mesh_within
from mv3d.recon.texture import BakeConfig, bake
from mv3d.recon.tighten import TightenConfig, carve, tighten
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh
from mv3d.views.silhouettes import Silhouettes
from mv3d.views.views import Views


@dataclass(frozen=True)
class QualityPreset:
    """What a quality means. hull: samples along the longest side. tighten, fit: settings, fit None where the hull is enough.
    turntable: frames, pixels. supersample: of the re-render that is measured. refine_every: see BakeConfig."""

    hull: int
    tighten: TightenConfig
    fit: FieldConfig | None
    turntable: tuple[int, int]
    supersample: int
    refine_every: int = 1


PRESETS = {
    "draft": QualityPreset(96, TightenConfig(levels=((32, 120),)), None, (24, 256), 1, 3),
    "standard": QualityPreset(128, TightenConfig(), FieldConfig(), (30, 320), 2),
    "high": QualityPreset(
        192, TightenConfig(), FieldConfig(levels=((48, 60), (96, 100), (160, 120))), (48, 480), 2
    ),
}


@dataclass(frozen=True, eq=False)
class Geometry:
    """What the geometry stages found. cameras: the views' cameras, moved by the fitted 2D shifts."""

    silhouettes: Silhouettes
    hull: Hull
    field: Field | None
    cameras: Cameras


def solve_geometry(config: ReconConfig, views: Views, clock: Clock) -> Geometry:
    """Hull → tightened hull → fitted field (always for `nerf`, by quality for `mesh`)."""
    preset = PRESETS[config.quality]
    device = pick_device(config.device)
    silhouettes = Silhouettes(views.images[..., 3], views.cameras)
    with clock.stage("hull"):
        hull = visual_hull(silhouettes, HullConfig(resolution=preset.hull), device=device)
    with clock.stage("tighten") as on_progress:
        hull = tighten(silhouettes, hull, preset.tighten, on_progress=on_progress)
    fit = preset.fit or (FieldConfig(levels=((48, 60),)) if config.method == "nerf" else None)
    if fit is None:
        return Geometry(silhouettes, hull, None, views.cameras)
    with clock.stage("field") as on_progress:
        found = fit_field(views, hull, replace(fit, seed=config.seed), on_progress=on_progress)
    shifts = found.shifts.cpu().double().numpy()
    # A pixel shows what projects `shift` beside it: the principal point moves the other way.
    moved = replace(views.cameras, cx=views.cameras.cx - shifts[:, 0], cy=views.cameras.cy - shifts[:, 1])
    return Geometry(silhouettes, hull, found, moved)


@dataclass(frozen=True, eq=False)
class Textured:
    """seen_area: share of the surface that some view saw. gains: (n, 3) colour factors of the views."""

    mesh: Mesh
    seen_area: float
    gains: list[list[float]]


def texture_geometry(config: ReconConfig, views: Views, geometry: Geometry, clock: Clock) -> Textured:
    """Field (or hull) → closed mesh → decimated → unwrapped and baked. `config` must be resolved."""
    if config.faces is None or config.texture_size is None:
        raise InputError("config: expected resolved settings; call ReconConfig.resolved() first")
    with clock.stage("mesh"):
        smallest = 1.0 if config.profile == "print" else 0.02
        hull = geometry.hull
        if geometry.field is not None:
            hull = carve(geometry.silhouettes, hull, geometry.field.sdf, geometry.field.grid)
    with clock.stage("decimate"):
        vertices, faces = mesh_within(hull.sdf, hull.grid, config.faces, smallest=smallest)
    with clock.stage("outline"):
        vertices = fit_outlines(vertices, faces, geometry.silhouettes)
    with clock.stage("texture"):
        settings = BakeConfig(
            texture_size=config.texture_size, refine_every=PRESETS[config.quality].refine_every
        )
        distances = geometry.silhouettes.distances
        baked = bake(vertices, faces, replace(views, cameras=geometry.cameras), distances, settings)
    return Textured(baked.mesh, baked.seen_area, baked.gains.round(4).tolist())
