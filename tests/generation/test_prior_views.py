"""`mv3d generate` with a 3D prior: the views of a lifted sphere are those of the sphere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.lifted import SIDE, SpherePrior, disc, off_the_sphere, sphere_at_hand

import mv3d
from mv3d.cli.main import main
from mv3d.models.prior.network import Prediction
from mv3d.render.mesh_io import load_mesh
from mv3d.views.metrics import mask_iou

pytestmark = pytest.mark.usefixtures("one_thread")
COMMAND = ["generate", "x.png", "--model", "model", "--device", "cpu"]


@pytest.fixture(autouse=True)
def sphere(tmp_path, monkeypatch):
    sphere_at_hand(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("path", "side", "views"),
    [
        (["--trajectory", "dynamic", "--views", "25", "--size", "96"], 96, 25),
        (["--elevation", "80", "--views", "3"], SIDE, 3),
    ],
)
def test_the_views_of_a_sphere_are_those_of_a_sphere(path, side, views):
    assert main([*COMMAND, *path]) == 0
    made = mv3d.load_views("out")
    assert made.images.shape == (views, side, side, 4)
    assert min(mask_iou(image[..., 3], disc(side)) for image in made.images) > 0.95
    middle = side // 2
    assert made.images[-1, middle, middle].tolist() == [1, 0, 0, 1]  # the photo itself
    # Opposite the photo the prior's own colour shows.
    behind = int(np.argmin(np.abs(np.array(made.orbit.azimuths_deg) - 180)))
    assert made.images[behind, middle, middle, 2] > 0.9 or views == 3
    # The solid lies in the world of the cameras, and the record lists it.
    solid = load_mesh("out/prior.glb")
    assert off_the_sphere(solid) < 0.015
    record = json.loads(Path("out/run.json").read_text())
    assert "prior.glb" in record["outputs"] and record["settings"]["size"] == side
    assert record["settings"]["steps"] is None and record["warnings"] == []


@pytest.fixture
def runs(monkeypatch) -> list[int]:
    """Grows by one with each run of the network."""
    made: list[int] = []
    forward = SpherePrior.forward

    def counted(self: SpherePrior, rgba: torch.Tensor) -> Prediction:
        made.append(len(rgba))
        return forward(self, rgba)

    monkeypatch.setattr(SpherePrior, "forward", counted)
    return made


@pytest.mark.parametrize("flags", [[], ["--elevation", "auto"]])
def test_the_elevation_is_the_priors_and_costs_nothing(flags, runs, capsys):
    assert main([*COMMAND, *flags, "--views", "2"]) == 0
    error = capsys.readouterr().err
    said = (
        "elevation: 25 degrees as the 3D prior sees the photo, give or take 4; set another with --elevation"
    )
    assert error.count(said) == 1 and len(runs) == 1
    record = json.loads(Path("out/run.json").read_text())
    assert record["elevation_estimate"] == {"chosen_deg": 25.0, "std_deg": 4.0}
    assert record["elevation_deg"] == 25 and record["elevation_trial"] is None and record["warnings"] == []
    assert main([*COMMAND, "--elevation", "auto", "--views", "2"]) == 0
    assert "done already" in capsys.readouterr().err


def test_a_given_elevation_is_taken_as_it_is(runs, capsys):
    assert main([*COMMAND, "--elevation", "10", "--views", "2"]) == 0
    record = json.loads(Path("out/run.json").read_text())
    assert record["elevation_deg"] == 10 and record["elevation_estimate"] is None and len(runs) == 1
    assert "as the 3D prior sees" not in capsys.readouterr().err
    # The default is another request.
    assert main([*COMMAND, "--views", "2"]) == 1 and "--overwrite" in capsys.readouterr().err


def test_two_photos_are_seen_one_by_one(runs):
    shutil.copy("x.png", "y.png")
    assert main(["generate", "x.png", "y.png", *COMMAND[2:], "--views", "2"]) == 0
    assert len(runs) == 2


def test_the_api_takes_the_estimate_too():
    settings = {"model": "model", "device": "cpu", "views": 2}
    assert set(mv3d.generate("x.png", **settings).orbit.elevations_deg) == {25.0}
    assert set(mv3d.generate("x.png", **settings, elevation=10).orbit.elevations_deg) == {10.0}
    path = {"elevations_deg": [5, 7], "azimuths_deg": [180, 0]}
    Path("path.json").write_text(json.dumps(path))
    views = mv3d.generate("x.png", **settings, trajectory="path.json")
    assert views.orbit.elevations_deg == (5, 7)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "5"], "--steps: expected none: the model (prior) renders a solid"),
        (["--guidance", "2"], "--guidance: expected none"),
        (["--lora", "x.png"], "--lora: expected none: the model (prior) has no network"),
        (["--size", "600"], "--size: expected 64 to 576, got 600"),
        (["--views", "1001"], "--views: expected 1 to 1000"),
    ],
)
def test_what_has_no_meaning_is_refused(flags, message, capsys):
    assert main([*COMMAND, *flags]) == 2
    assert message in capsys.readouterr().err and not Path("out").exists()


def test_another_file_of_that_name_stays(capsys):
    Path("out").mkdir()
    Path("out/prior.glb").write_bytes(b"mine")
    assert main([*COMMAND, "--views", "2", "--overwrite"]) == 1
    assert "holds prior.glb, which no record of this command lists" in capsys.readouterr().err
