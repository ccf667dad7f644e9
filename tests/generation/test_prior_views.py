"""`mv3d generate` with a 3D prior: the views of a lifted sphere are those of the sphere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.lifted import SIDE, disc, off_the_sphere, sphere_at_hand

import mv3d
from mv3d.cli.main import main
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


def test_the_elevation_costs_no_trial(capsys):
    assert main([*COMMAND, "--elevation", "auto", "--views", "2"]) == 0
    error = capsys.readouterr().err
    assert "--elevation auto: 25 degrees as the 3D prior sees the photo, give or take 4" in error
    record = json.loads(Path("out/run.json").read_text())
    assert record["elevation_trial"] == {"chosen_deg": 25.0, "std_deg": 4.0} and record["elevation_deg"] == 25
    assert main([*COMMAND, "--elevation", "auto", "--views", "2"]) == 0
    assert "done already" in capsys.readouterr().err


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
