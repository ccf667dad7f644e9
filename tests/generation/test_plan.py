"""The planned cameras, and the angles that the network gets."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mv3d.core.errors import InputError, UsageError
from mv3d.generation.config import GenerateConfig
from mv3d.generation.plan import nearest_elevation, plan_orbit
from mv3d.generation.svd import angles_rad, network_order
from mv3d.models.folder import ModelInfo, camera_support, read_info, write_info
from mv3d.models.network import SV3D_P, SV3D_U, SVD, SVD_MV


def info_of(micro, **changes):
    return ModelInfo("some", **camera_support(micro.names), **changes)


def plan(micro=SV3D_P, elevation_deg=None, limits=(-89.0, 89.0), **settings):
    return plan_orbit(GenerateConfig(**settings), info_of(micro, elevations_deg=limits), elevation_deg)


def test_static_orbit_tells_the_network_what_the_original_does():
    orbit = plan()
    order = network_order(orbit, info_of(SV3D_P))
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


@pytest.mark.parametrize("name", ["static", "sine", "dynamic"])
@pytest.mark.parametrize("seen_deg", [-40.0, 8.0, 70.0])
def test_an_estimated_elevation_is_moved_into_the_range(name, seen_deg):
    info, config = info_of(SV3D_P, elevations_deg=(-30.0, 60.0)), GenerateConfig(trajectory=name, seed=3)
    taken_deg = nearest_elevation(config, info, seen_deg)
    assert taken_deg == seen_deg or not 0 < seen_deg < 20
    orbit = plan_orbit(config, info, taken_deg)  # is not refused
    assert orbit.elevations_deg[-1] == pytest.approx(taken_deg)
    if seen_deg > 60:
        assert max(orbit.elevations_deg) == pytest.approx(60, abs=0.02)
    with pytest.raises(UsageError, match="the model takes elevations of"):
        plan_orbit(config, info, 75.0)


def test_own_angles_with_the_photo_anywhere(tmp_path):
    path = tmp_path / "path.json"
    angles = {"elevations_deg": [5, 10, 15, 20], "azimuths_deg": [100, 190, 280, 10], "input_view": 1}
    path.write_text(json.dumps(angles))
    orbit = plan(trajectory=str(path), elevation_deg=0.0)
    assert orbit.azimuths_deg == (270, 0, 90, 180) and orbit.elevations_deg == (5, 10, 15, 20)
    order = network_order(orbit, info_of(SV3D_P))
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
    assert network_order(orbit, info_of(SVD)) == list(range(21))


@pytest.mark.parametrize(
    ("micro", "changes", "message"),
    [
        (SV3D_P, {"views": 22}, "--views: expected at most 21, as many as the model was trained for, got 22"),
        (SV3D_U, {"views": 20}, "--views: expected 21, got 20: the model takes no azimuths"),
        (SVD_MV, {"views": 20}, "--views: expected 21, got 20"),
        (SV3D_U, {"trajectory": "dynamic"}, "--trajectory: expected static, got dynamic"),
        (SVD_MV, {"trajectory": "sine"}, "takes no azimuths"),
        (SVD, {"trajectory": "dynamic"}, "takes no camera"),
        (SV3D_P, {"elevation_deg": 89.0}, "elevation: expected less than 89"),
        (SV3D_P, {"limits": (-5, 30), "elevation_deg": 31.0}, "-5 to 30 degrees"),
    ],
)  # fmt: skip
def test_refusals(micro, changes, message):
    with pytest.raises(UsageError, match=message):
        plan(micro, **changes)


def test_a_file_that_is_not_there():
    with pytest.raises(UsageError, match="trajectory: expected one of static"):
        plan(trajectory="spiral")
    with pytest.raises(
        InputError, match=r"spiral\.json: expected a JSON file of an orbit, found no such file"
    ):
        plan(trajectory="spiral.json")


def test_fewer_views_than_trained_for():
    assert plan(views=7).azimuths_deg[0] == pytest.approx(360 / 7)


@pytest.mark.parametrize(
    ("micro", "camera", "takes_elevation"),
    [
        (SVD, "none", False),
        (SV3D_U, "fixed turn", False),
        (SVD_MV, "fixed turn", True),
        (SV3D_P, "orbit", True),
    ],
)
def test_a_description_without_a_camera_gets_that_of_its_network(micro, camera, takes_elevation, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"vector_names": micro.names}))
    (tmp_path / "mv3d.json").write_text(json.dumps({"schema": 1, "kind": "old"}))
    info = read_info(tmp_path)
    assert (info.camera, info.takes_elevation) == (camera, takes_elevation)
    write_info(tmp_path, ModelInfo("new", camera="none", takes_elevation=False))
    assert read_info(tmp_path).camera == "none"  # what the file says goes first
    write_info(tmp_path, ModelInfo("new", camera="some"))
    with pytest.raises(InputError, match="camera: expected one of none, fixed turn, orbit, got some"):
        read_info(tmp_path)
