"""What each quality level means, and the stages from views to a textured mesh in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mv3d.core.devices import pick_device
from mv3d.core.progress import Clock
from mv3d.recon.albedo import without_light
from mv3d.recon.config import ReconConfig
from mv3d.recon.field import Field, FieldConfig, fit_field
from mv3d.recon.hull import Hull, HullConfig, visual_hull
from mv3d.recon.leading import follow
from mv3d.recon.normal_map import bake_normal_map
from mv3d.recon.novel import render_field
from mv3d.recon.outline import fit_outlines
from mv3d.recon.quads import check_quads, remeshed
from mv3d.recon.stereo import StereoConfig, open_hollows
from mv3d.recon.surface import meshes_within
from mv3d.recon.texture import BakeConfig, bake
from mv3d.recon.tighten import TightenConfig, carve, tighten
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import render_views
from mv3d.views.silhouettes import Silhouettes
from mv3d.views.views import Views


@dataclass(frozen=True)
class QualityPreset:
    """What a quality means. hull: samples along the longest side. tighten, stereo, fit: settings, None where a stage is left out.
    turntable: frames, pixels. supersample: of the re-render that is measured. refine_every: see BakeConfig."""

    hull: int
    tighten: TightenConfig
    stereo: StereoConfig | None
    fit: FieldConfig | None
    turntable: tuple[int, int]
    supersample: int
    refine_every: int = 1


PRESETS = {
    "draft": QualityPreset(96, TightenConfig(levels=((32, 120),)), None, None, (24, 256), 1, 3),
    "standard": QualityPreset(128, TightenConfig(), StereoConfig(), FieldConfig(), (30, 320), 2),
    "high": QualityPreset(
        192,
        TightenConfig(),
        StereoConfig(),
        FieldConfig(levels=((48, 60), (96, 100), (160, 120))),
        (48, 480),
        2,
    ),
}


_REACH = (
    3.0  # samples of the grid: so far from its simplified mesh, fitted to the outlines, the field's may lie
)

_NO_QUADS = (
    "--topology quads: no closed mesh of quads could be made, the walls are thinner than a quad, so the mesh is of "
    "triangles; more --faces make finer quads"
)


@dataclass(frozen=True, eq=False)
class Geometry:
    """What the geometry stages found. cameras: the views' cameras, moved by the fitted 2D shifts. led: a solid known
    beforehand decided what the views leave open."""

    silhouettes: Silhouettes
    hull: Hull
    field: Field | None
    cameras: Cameras
    led: bool = False

    def details(self) -> dict[str, Any]:
        """Figures for recon.json."""
        found: dict[str, Any] = {
            "hull_dropped": round(self.hull.outlier_share, 5),
            "hull_swell": round(self.hull.dilation, 6),
        }
        if self.led:
            found["led_by_prior"] = True
        if self.field is not None:
            found["shifts_px"] = self.field.shifts.cpu().numpy().round(3).tolist()
        return found


def solve_geometry(config: ReconConfig, views: Views, fit: FieldConfig | None, clock: Clock) -> Geometry:
    """Hull → tightened hull with its hollows opened, or one led by the views' solid → fitted field; the stages that
    look at colours where there is a `fit`."""
    preset = PRESETS[config.quality]
    device = pick_device(config.device)
    silhouettes = Silhouettes(views.images[..., 3], views.cameras)
    with clock.stage("hull"):
        hull = visual_hull(silhouettes, HullConfig(resolution=preset.hull), device=device)
    led = None
    if config.prior and views.solid is not None:
        with clock.stage("prior"):
            led = follow(silhouettes, hull, views.solid)
    if led is None:
        with clock.stage("tighten") as on_progress:
            hull = tighten(silhouettes, hull, preset.tighten, on_progress=on_progress)
    else:
        hull = led
    if led is None and fit is not None and preset.stereo is not None:
        with clock.stage("stereo"):
            hull = open_hollows(views, silhouettes, hull, preset.stereo)
    if fit is None:
        return Geometry(silhouettes, hull, None, views.cameras, led is not None)
    with clock.stage("field") as on_progress:
        found = fit_field(views, hull, replace(fit, seed=config.seed), on_progress=on_progress)
    shifts = found.shifts.cpu().double().numpy()
    # A pixel shows what projects `shift` beside it: the principal point moves the other way.
    moved = replace(views.cameras, cx=views.cameras.cx - shifts[:, 0], cy=views.cameras.cy - shifts[:, 1])
    return Geometry(silhouettes, hull, found, moved, led is not None)


@dataclass(frozen=True, eq=False)
class TexturedMesh:
    """A closed mesh with a baked texture. seen_area: share of the surface that some view saw. gains: (n, 3) colour
    factors of the views. figures: of the steps that were asked for, for recon.json."""

    geometry: Geometry
    mesh: Mesh
    seen_area: float
    gains: list[list[float]]
    figures: dict[str, Any] = field(default_factory=dict)

    def render(self, cameras: Cameras) -> Float[np.ndarray, "n h w 4"]:
        return render_views(self.mesh, cameras, supersample=2)

    def to_mesh(self) -> Mesh:
        return self.mesh

    def details(self) -> dict[str, Any]:
        return {
            "coverage": round(self.seen_area, 4),
            "gains": self.gains,
            **self.figures,
            **self.geometry.details(),
        }


@dataclass(frozen=True, eq=False)
class FittedField:
    """The field itself, rendered as in NeuS."""

    geometry: Geometry
    field: Field

    def render(self, cameras: Cameras) -> Float[np.ndarray, "n h w 4"]:
        return np.stack([render_field(self.field, cameras, view) for view in range(len(cameras))])

    def to_mesh(self) -> None:
        return None

    def details(self) -> dict[str, Any]:
        return self.geometry.details()


@dataclass(frozen=True, eq=False)
class Shape:
    """A mesh that has no colours yet. fine: the mesh before its decimation. quads: how many pairs of its first faces
    are quads. warnings: about what was asked for and could not be made."""

    geometry: Geometry
    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    fine: tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"]]
    quads: int
    warnings: list[str]


@dataclass(frozen=True)
class MeshReconstructor:
    """Hull, from standard quality on carved by a field, as a decimated mesh with a baked texture."""

    config: ReconConfig
    makes_mesh = True

    def shape(self, views: Views, clock: Clock) -> Shape:
        """All stages but those of the texture."""
        config = self.config.resolved()
        preset = PRESETS[config.quality]
        if config.topology == "quads":
            check_quads()
        assert config.faces is not None
        geometry = solve_geometry(config, views, preset.fit, clock)
        silhouettes, hull, field = geometry.silhouettes, geometry.hull, geometry.field
        with clock.stage("mesh"):
            if field is not None:
                hull = carve(silhouettes, hull, field.sdf, field.grid)
        with clock.stage("decimate"):
            smallest = 1.0 if config.profile == "print" else 0.02
            fine, (vertices, faces) = meshes_within(
                hull.sdf, hull.grid, config.faces, smallest=smallest, faithful=geometry.led
            )
        quads, warnings = 0, []
        if config.topology == "quads":
            with clock.stage("quads"):
                made = remeshed(*fine, config.faces // 2)
            if made is None:
                warnings.append(_NO_QUADS)
            else:
                vertices, faces, quads = made
        with clock.stage("outline"):
            vertices = fit_outlines(vertices, faces, silhouettes)
        return Shape(geometry, vertices, faces, fine, quads, warnings)

    def fit(self, views: Views, clock: Clock) -> TexturedMesh:
        config = self.config.resolved()
        preset = PRESETS[config.quality]
        assert config.texture_size is not None
        shape = self.shape(views, clock)
        geometry, quads = shape.geometry, shape.quads
        figures: dict[str, Any] = {"warnings": shape.warnings} if shape.warnings else {}
        with clock.stage("texture"):
            settings = BakeConfig(texture_size=config.texture_size, refine_every=preset.refine_every)
            moved = replace(views, cameras=geometry.cameras)
            baked = bake(
                shape.vertices,
                shape.faces,
                moved,
                geometry.silhouettes.distances,
                settings,
                quads=quads,
            )
        mesh = baked.mesh
        if quads:
            figures["quads"] = mesh.quads
        if config.albedo:
            with clock.stage("albedo"):
                delit = without_light(mesh, seed=config.seed)
            mesh = delit.mesh
            figures["light"] = {
                "contrast": round(delit.contrast, 3),
                "harmonics": delit.coefficients.round(4).tolist(),
            }
        if config.normal_map:
            with clock.stage("normal map"):
                relief = bake_normal_map(
                    mesh, *shape.fine, size=config.texture_size, reach=_REACH * geometry.hull.grid.spacing
                )
            mesh = relief.mesh
            figures["normal_map"] = {"found": round(relief.found, 4), "bend_deg": round(relief.bend_deg, 3)}
        return TexturedMesh(geometry, mesh, baked.seen_area, baked.gains.round(4).tolist(), figures)


@dataclass(frozen=True)
class FieldReconstructor:
    """Hull and field; no mesh."""

    config: ReconConfig
    makes_mesh = False

    def fit(self, views: Views, clock: Clock) -> FittedField:
        fit = PRESETS[self.config.quality].fit or FieldConfig(levels=((48, 60),))
        geometry = solve_geometry(self.config, views, fit, clock)
        assert geometry.field is not None
        return FittedField(geometry, geometry.field)
