"""The seam: another generator runs through the command line with a folder and one entry of a dict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.stand_ins import write_photo_and_model

import mv3d
from mv3d.cli.main import main


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command line that calls it for a photo."""
    write_photo_and_model(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return ["generate", "x.png", "--model", "model", "--device", "cpu"]


def test_another_generator_through_the_command_line(command, capsys):
    assert main([*command, "--views", "4", "--elevation", "-3", "--json"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)["results"][0]["record"]
    assert record["seconds"]["repeat"] == 0.5 and "warning: nothing new was seen" in captured.err
    views = mv3d.load_views("out")
    assert len(views) == 4 and views.orbit.elevations_deg == (-3,) * 4
    assert np.abs(views.images[..., 3] - views.images[-1, ..., 3]).max() < 0.05
    assert main([*command, "--views", "7", "--out", "other"]) == 2  # the limits of its description hold
    Path("model/weights.safetensors").write_bytes(b"other")
    assert main([*command, "--views", "4", "--elevation", "-3"]) == 1
    assert "of another run" in capsys.readouterr().err


def test_elevation_by_trial_comes_with_its_doubt(command, capsys):
    assert main([*command, "--elevation", "auto"]) == 0
    trial = json.loads(Path("out/run.json").read_text())["elevation_trial"]
    assert set(trial["hull_recall"]) == {"0.0", "10.0"} and trial["chosen_deg"] == 0.0
    error = capsys.readouterr().err
    assert "--elevation auto: 0 degrees, where the silhouettes agree to" in error
    assert "; the runner-up, 10 degrees, has" in error
