"""What contradicts its views is said, with the reading that would fit; a result that does not fit is no success."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from helpers.shapes import cube, orbit_of

import mv3d
from mv3d.core.errors import InputError, Mv3dWarning
from mv3d.recon.config import ReconConfig
from mv3d.recon.doubts import doubts, fits
from mv3d.recon.other_readings import fitting_reading
from mv3d.recon.pipeline import run
from mv3d.recon.representation import METHODS
from mv3d.render.cameras import invert_rigid, opencv_from_opengl
from mv3d.render.raycast import render_views

QUICK = ReconConfig(quality="draft", faces=2000, texture_size=256)

READINGS = {
    "inverted": ("the masks are inverted", lambda v: replace(v, images=_inverted(v.images))),
    "opencv": ("the poses have OpenCV axes", lambda v: _posed(v, opencv_from_opengl)),
    "w2c": ("the poses are world to camera, camera to world", lambda v: _posed(v, invert_rigid)),
    "w2c opencv": (
        "world to camera with OpenCV axes",
        lambda v: _posed(v, lambda c2w: invert_rigid(opencv_from_opengl(c2w))),
    ),
    "turned": (
        "turn them by 90 degrees clockwise",
        lambda v: replace(v, images=np.rot90(v.images, 1, (1, 2))),
    ),
    "upside down": ("turn them by 180 degrees", lambda v: replace(v, images=np.rot90(v.images, 2, (1, 2)))),
    "mirrored": ("mirrored left to right, or", lambda v: replace(v, images=v.images[:, :, ::-1])),
    "right": (None, lambda v: v),
}


def _inverted(images):
    return np.concatenate([images[..., :3], 1 - images[..., 3:]], -1)


def _posed(views, change):
    return replace(views, cameras=replace(views.cameras, c2w=change(views.cameras.c2w)))


@pytest.fixture(scope="module")
def lopsided():
    """Views of a shape without symmetry."""
    parts = [cube(0.3), cube(0.2)]
    tall = replace(parts[0], vertices=parts[0].vertices * [0.6, 0.6, 2.5])
    arm = replace(parts[1], vertices=parts[1].vertices * [2.2, 0.5, 0.5] + [0.25, 0.1, 0.28])
    faces = np.concatenate([tall.faces, arm.faces + len(tall.vertices)])
    assert tall.vertex_colors is not None and arm.vertex_colors is not None
    colors = np.concatenate([tall.vertex_colors, arm.vertex_colors])
    shape = replace(
        tall, vertices=np.concatenate([tall.vertices, arm.vertices]), faces=faces, vertex_colors=colors
    )
    return orbit_of(shape, count=7, size=48, elevation_deg=15.0)


@pytest.mark.parametrize("case", READINGS)
def test_the_reading_that_fits_is_named(case, lopsided):
    expected, change = READINGS[case]
    found = fitting_reading(change(replace(lopsided, orbit=None, input_view=None)))
    if expected is None:
        assert found is None
    else:
        assert found is not None and found[0] > 0.95 and expected in found[1]


def test_an_empty_hull_says_which_axes_fit(lopsided, tmp_path):
    with pytest.raises(InputError, match=r"empty hull.*; the poses have OpenCV axes"):
        run(QUICK, _posed(replace(lopsided, orbit=None, input_view=None), opencv_from_opengl), tmp_path / "o")


def test_little_coverage_is_no_success(lopsided):
    views = replace(lopsided, orbit=None, input_view=None)
    report = {"iou_mean": 0.97, "iou": [0.97] * 7, "coverage": 0.5}
    assert fits(report) and not fits(report | {"coverage": 0.1}) and not fits(report | {"iou_mean": 0.7})
    assert "they see 10% of its surface, expected 20%" in doubts(views, report | {"coverage": 0.1})[0]


@dataclass(frozen=True)
class Fixed:
    """A mesh whatever the views show; its own reconstructor."""

    mesh: mv3d.Mesh
    makes_mesh: bool = True

    def fit(self, views: Any, clock: Any) -> Any:
        return self

    def render(self, cameras: Any) -> np.ndarray:
        return render_views(self.mesh, cameras)

    def to_mesh(self) -> mv3d.Mesh:
        return self.mesh

    def details(self) -> dict[str, Any]:
        return {}


def test_warnings_and_changes_of_reading_are_in_the_record(cube_views, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "fixed", lambda config: Fixed(cube(0.6)))
    views = replace(cube_views, warnings=("the masks were turned over",), reading={"turned_by_exif": 12})
    report = run(ReconConfig(method="fixed", quality="draft"), views, tmp_path / "o").report
    assert report["warnings"] == ["the masks were turned over"] and report["reading"] == {
        "turned_by_exif": 12
    }


def test_the_api_warns_of_a_mesh_that_does_not_fit(lopsided, monkeypatch):
    monkeypatch.setitem(METHODS, "fixed", lambda config: Fixed(cube(0.6)))
    with pytest.warns(Mv3dWarning, match="the result does not fit its views: mean silhouette IoU 0"):
        mv3d.reconstruct(replace(lopsided, orbit=None, input_view=None), method="fixed")
