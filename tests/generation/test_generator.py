"""The seam: another generator runs through the command line with a folder and one entry of a dict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mv3d
from mv3d.cli.main import main
from mv3d.generation import generator
from mv3d.generation.generator import Frames
from mv3d.models.folder import ModelInfo, write_info


class Repeat:
    """A generator that repeats the photo, with alpha."""

    def __init__(self, plan):
        self.info = plan.info

    def generate(self, photo, orbit, settings, on_progress=None):
        if on_progress:
            on_progress("repeat", 1.0)
        cameras = orbit.cameras(*self.info.size)
        frames = np.repeat(photo.on_white(alpha=True)[None], len(cameras), axis=0)
        return Frames(frames, cameras, {"repeat": 0.5}, ("nothing new was seen",))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command line that calls it for a photo."""
    monkeypatch.setitem(generator.GENERATORS, "repeat", Repeat)
    (tmp_path / "model").mkdir()
    info = ModelInfo("repeat", num_frames=6, resolution=24, elevations_deg=(-5, 10))
    write_info(tmp_path / "model", info)
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"some")
    photo = Image.new("RGBA", (40, 40))
    photo.paste((200, 60, 40, 255), (12, 10, 28, 32))
    photo.save(tmp_path / "x.png")
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
    assert main([*command, "--views", "7"]) == 2  # the limits of its description hold
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
