"""benchmarks/recon.py's ground truth: drifted views, hollow volume."""

from __future__ import annotations

from dataclasses import replace

import drift
import ground_truth
import numpy as np
import pytest
from drift import Drift, drifted
from part import kept_rows, write_rows

from mv3d.render.cameras import Orbit
from mv3d.render.mesh import Mesh

STILL = Drift(shift_px=0, scale=0, gain=0, wobble=0)


@pytest.fixture(scope="module")
def truth():
    return ground_truth.truth_of_mesh("mug", ground_truth.built_in_mug(48))


@pytest.fixture(scope="module")
def views(truth):
    return ground_truth.truth_views(truth, "sine", 96)


@pytest.fixture(scope="module")
def depths(truth, views):
    return ground_truth.true_depths(truth, views.cameras)


def test_no_drift_changes_nothing(views, depths):
    same = drifted(views, depths, STILL)
    np.testing.assert_allclose(same.images[..., 3], views.images[..., 3], atol=1e-5)
    opaque = views.images[..., 3] == 1
    np.testing.assert_allclose(same.images[opaque], views.images[opaque], atol=1e-5)


def test_drift_is_seeded_bounded_and_spares_the_input(views, depths):
    once, again, other = (drifted(views, depths, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.images, again.images)
    assert views.input_view == 20
    np.testing.assert_array_equal(once.images[20], views.images[20])
    assert (np.abs(once.images[:20] - other.images[:20]).max((1, 2, 3)) > 0.01).all()
    middles = [
        [np.argwhere(view[..., 3] > 0.5).mean(0) for view in images.images] for images in (views, once)
    ]
    moved = np.abs(np.subtract(middles[0], middles[1]))
    # In a frame of 96 pixels: a shift of 2 of 576, and a wobble of 0.008 of a side of about 60 pixels.
    assert 0.1 < moved.max() < 2 / 576 * 96 + 0.008 * 60 + 0.3


def test_a_gain_alone_multiplies_colours(views, depths):
    bright = drifted(views, depths, replace(STILL, gain=0.05), seed=3)
    opaque = (views.images[0, ..., 3] == 1) & (views.images[0, ..., :3].max(-1) < 0.95)
    ratio = bright.images[0][opaque][:, :3] / np.maximum(views.images[0][opaque][:, :3], 1e-3)
    assert np.ptp(ratio, axis=0).max() < 1e-3
    assert 0 < np.abs(ratio.mean(0) - 1).max() <= 0.05


def test_the_wobble_keeps_its_bound():
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (2000, 3))
    moved = drift.wobble(points, Drift(), np.random.default_rng(1))
    assert 0.3 * Drift.wobble < np.abs(moved).max() <= Drift.wobble


def test_a_mug_is_hollow_and_a_box_is_not(truth):
    assert truth.hollow is not None
    inside = (2 * np.argwhere(truth.hollow) + 0.5) * 1.04 / 96 - 0.52
    # The mug's room is a cylinder of radius 0.26 above its floor; a few samples beside the handle are hollow too.
    assert np.ptp(np.quantile(inside[:, :2], [0.03, 0.97], axis=0), axis=0).max() < 0.65
    volume = truth.hollow.sum() * (2.08 / 96) ** 3
    assert 0.5 < volume / (np.pi * 0.26**2 * 0.72 / 0.8**3) < 1.3
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-0.5, 0.5)], np.float64)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = np.array([f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))], np.int32)
    assert ground_truth.truth_of_mesh("box", Mesh(corners, faces)).hollow is None


def test_filling_the_mug_opens_nothing(truth):
    assert ground_truth.score_shape(truth, truth.mesh, 5000)["opened"] > 0.97
    used = truth.mesh.vertices
    center, radius = used.mean(0), 0.7
    sphere = ground_truth.extract_mesh(*_ball(center, radius))
    assert ground_truth.score_shape(truth, Mesh(*sphere), 5000)["opened"] < 0.01


def test_what_cameras_see_bounds_the_iou(truth):
    """From above the room of the mug is open; from its side and from below it stays filled."""
    occupied = truth.occupied[::2, ::2, ::2].sum()
    filled = occupied / (occupied + truth.hollow.sum())
    above, below = (
        ground_truth.seen_iou(
            truth, Orbit((*[first] * 4, *[-40.0] * 4), tuple(range(0, 720, 90)), 3.0).cameras(9, 9)
        )
        for first in (70.0, 0.0)
    )
    assert above > 0.95 and filled - 0.05 < below < filled + 0.05 and below < above - 0.2


def test_rows_are_kept_and_those_of_other_settings_refused(tmp_path):
    path, rows = tmp_path / "a.json", [{"name": "mug", "iou": 0.5}]
    assert kept_rows(path, {"seed": "0"}) == []
    write_rows(path, {"seed": "0"}, rows)
    assert kept_rows(path, {"seed": "0"}) == rows and [p.name for p in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(SystemExit, match=r"a\.json: expected rows with"):
        kept_rows(path, {"seed": "1"})


def _ball(center, radius):
    import torch

    from mv3d.views.grid import Grid

    grid = Grid.around([-1.0] * 3, [1.0] * 3, 40)
    points = grid.points(torch.device("cpu"))
    return (points - torch.tensor(center)).norm(dim=1).reshape(grid.shape).float() - radius, grid
