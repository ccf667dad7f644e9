"""Which cameras are asked for, and what the network is told of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mv3d.core.errors import InputError, UsageError
from mv3d.generation.camera_path import angles_rad, conditioning_order, plan_orbit
from mv3d.models.folder import ModelInfo
from mv3d.models.network import SV3D_P, SV3D_U, SVD, SVD_MV

INFO = ModelInfo("some")


def plan(vector=SV3D_P, info=INFO, **changes):
    return plan_orbit(
        info, vector, **({"views": None, "trajectory": "static", "elevation_deg": 10.0} | changes)
    )


def test_static_orbit_tells_the_network_what_the_original_does():
    orbit = plan()
    order = conditioning_order(orbit, SV3D_P)
    assert order == list(range(21)) and orbit.input_view == 20 and orbit.radius == 2.0
    polars, azimuths = angles_rad(orbit, order)
    degrees = np.linspace(0, 360, 22)[1:] % 360  # as the original's script
    assert torch.allclose(azimuths, torch.tensor(np.deg2rad((degrees - degrees[-1]) % 360)).float())
    assert azimuths[-1] == 0 and torch.allclose(polars, torch.full((21,), np.deg2rad(80.0)).float())
    assert polars.dtype == azimuths.dtype == torch.float32


@pytest.mark.parametrize("name", ["dynamic", "dynamic-release", "sine"])
def test_moving_orbits_end_at_the_photo(name):
    orbit = plan(trajectory=name, elevation_deg=25.0, seed=3)
    assert orbit.elevations_deg[-1] == pytest.approx(25.0) and orbit.azimuths_deg[-1] == 0
    assert np.ptp(orbit.elevations_deg) > 3 and max(np.abs(orbit.elevations_deg)) < 89
    assert orbit == plan(trajectory=name, elevation_deg=25.0, seed=3)
    assert (plan(trajectory=name, elevation_deg=25.0, seed=4) != orbit) == (name != "sine")


def test_own_angles_with_the_photo_anywhere(tmp_path):
    path = tmp_path / "path.json"
    angles = {"elevations_deg": [5, 10, 15, 20], "azimuths_deg": [100, 190, 280, 10], "input_view": 1}
    path.write_text(json.dumps(angles))
    orbit = plan(trajectory=str(path), elevation_deg=0.0)
    assert orbit.azimuths_deg == (270, 0, 90, 180) and orbit.elevations_deg == (5, 10, 15, 20)
    order = conditioning_order(orbit, SV3D_P)
    assert order == [2, 3, 0, 1]  # the turn goes on, the photo is made last
    polars, azimuths = angles_rad(orbit, order)
    assert torch.rad2deg(azimuths).tolist() == pytest.approx([90, 180, 270, 0], abs=1e-4)
    assert torch.rad2deg(polars).tolist() == pytest.approx([75, 70, 85, 80], abs=1e-4)
    path.write_text(json.dumps({k: v for k, v in angles.items() if k != "input_view"}))
    assert plan(trajectory=str(path)).input_view == 3
    with pytest.raises(UsageError, match="--views: expected 4, as many as"):
        plan(trajectory=str(path), views=5)
    path.write_text("[1]")
    with pytest.raises(InputError, match="elevations_deg"):
        plan(trajectory=str(path))


def test_video_models_have_the_photo_first_and_no_orbit():
    orbit = plan(SVD, elevation_deg=0.0)
    assert orbit.input_view == 0 and set(orbit.azimuths_deg) == {0.0}
    assert conditioning_order(orbit, SVD) == list(range(21))


@pytest.mark.parametrize(
    ("vector", "changes", "message"),
    [
        (SV3D_P, {"views": 22}, "--views: expected at most 21, as many as the model was trained for, got 22"),
        (SV3D_U, {"views": 20}, "--views: expected 21, got 20: the model takes no azimuths"),
        (SVD_MV, {"views": 20}, "--views: expected 21, got 20"),
        (SV3D_U, {"trajectory": "dynamic"}, "--trajectory: expected static, got dynamic"),
        (SVD_MV, {"trajectory": "sine"}, "takes no azimuths"),
        (SVD, {"trajectory": "dynamic"}, "takes no camera"),
        (SV3D_P, {"elevation_deg": 89.0}, "elevation: expected less than 89"),
        (SV3D_P, {"info": ModelInfo("low", elevations_deg=(-5, 30)), "elevation_deg": 31.0}, "-5 to 30 degrees"),
    ],
)  # fmt: skip
def test_refusals(vector, changes, message):
    with pytest.raises(UsageError, match=message):
        plan(vector, **changes)


def test_a_file_that_is_not_there():
    with pytest.raises(InputError, match="trajectory: expected one of static"):
        plan(trajectory="spiral")


def test_fewer_views_than_trained_for():
    assert plan(views=7).azimuths_deg[0] == pytest.approx(360 / 7)
