"""What each quality level means, and the stages from views to a textured mesh in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mv3d.core.devices import pick_device
from mv3d.core.errors import InputError
from mv3d.core.progress import Clock
from mv3d.recon.config import ReconConfig
from mv3d.recon.field import Field, FieldConfig, fit_field
from mv3d.recon.hull import Hull, visual_hull
from mv3d.recon.outline import fit_outlines
from mv3d.recon.surface import mesh_within
from mv3d.recon.texture import BakeConfig, bake
from mv3d.recon.tighten import TightenConfig, carve, tighten
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh
from mv3d.views.views import Views


@dataclass(frozen=True)
class Level:
    """hull: samples along the longest side. tighten, fit: settings, fit None where the hull is enough.
    turntable: frames, pixels. supersample: of the re-render that is measured. refine_every: see BakeConfig."""

    hull: int
    tighten: TightenConfig
    fit: FieldConfig | None
    turntable: tuple[int, int]
    supersample: int
    refine_every: int = 1


LEVELS = {
    "draft": Level(96, TightenConfig(levels=((32, 120),)), None, (24, 256), 1, 3),
    "standard": Level(128, TightenConfig(), FieldConfig(), (30, 320), 2),
    "high": Level(192, TightenConfig(), FieldConfig(levels=((48, 60), (96, 100), (160, 120))), (48, 480), 2),
}


@dataclass(frozen=True, eq=False)
class Solid:
    """What the geometry stages found. cameras: the views' cameras, moved by the fitted 2D shifts."""

    hull: Hull
    field: Field | None
    cameras: Cameras


def solve_geometry(config: ReconConfig, views: Views, clock: Clock) -> Solid:
    """Hull → tightened hull → fitted field (always for `nerf`, by quality for `mesh`)."""
    level = LEVELS[config.quality]
    device = pick_device(config.device)
    alphas = views.images[..., 3]
    with clock.stage("hull"):
        hull = visual_hull(alphas, views.cameras, resolution=level.hull, device=device)
    with clock.stage("tighten") as tick:
        hull = tighten(alphas, views.cameras, hull, level.tighten, progress=tick)
    fit = level.fit or (FieldConfig(levels=((48, 60),)) if config.method == "nerf" else None)
    if fit is None:
        return Solid(hull, None, views.cameras)
    with clock.stage("field") as tick:
        found = fit_field(
            views.images,
            views.cameras,
            hull,
            replace(fit, seed=config.seed),
            input_view=views.input_view,
            device=device,
            progress=tick,
        )
    shifts = found.shifts.cpu().double().numpy()
    # A pixel shows what projects `shift` beside it: the principal point moves the other way.
    moved = replace(views.cameras, cx=views.cameras.cx - shifts[:, 0], cy=views.cameras.cy - shifts[:, 1])
    return Solid(hull, found, moved)


@dataclass(frozen=True, eq=False)
class Textured:
    """coverage: share of the surface that some view saw. gains: (n, 3) colour factors of the views."""

    mesh: Mesh
    coverage: float
    gains: list[list[float]]


def texture_solid(config: ReconConfig, views: Views, solid: Solid, clock: Clock) -> Textured:
    """Field (or hull) → closed mesh → decimated → unwrapped and baked. `config` must be resolved."""
    if config.faces is None or config.texture_size is None:
        raise InputError("config: expected resolved settings; call ReconConfig.resolved() first")
    with clock.stage("mesh"):
        smallest = 1.0 if config.profile == "print" else 0.02
        hull = solid.hull
        if solid.field is not None:
            hull = carve(views.images[..., 3], views.cameras, hull, solid.field.sdf, solid.field.grid)
    with clock.stage("decimate"):
        vertices, faces = mesh_within(hull.sdf, hull.grid, config.faces, smallest=smallest)
    with clock.stage("outline"):
        vertices = fit_outlines(vertices, faces, views.images[..., 3], views.cameras)
    with clock.stage("texture"):
        baked = bake(
            vertices,
            faces,
            views.images,
            solid.cameras,
            BakeConfig(texture_size=config.texture_size, refine_every=LEVELS[config.quality].refine_every),
            input_view=views.input_view,
        )
    return Textured(baked.mesh, baked.coverage, baked.gains.round(4).tolist())
