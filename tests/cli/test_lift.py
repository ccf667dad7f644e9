"""`mv3d lift`: a photo in, a mesh out, without any view between."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.lifted import off_the_sphere, sphere_at_hand
from helpers.stand_ins import write_photo_and_model
from PIL import Image

import mv3d
from mv3d.cli.main import main
from mv3d.core.errors import UsageError
from mv3d.render.mesh_io import load_mesh

pytestmark = pytest.mark.usefixtures("one_thread")
COMMAND = ["lift", "x.png", "--model", "model", "--device", "cpu", "--texture-size", "128"]
QUICK = [*COMMAND, "--no-turntable", "--faces", "4000"]


@pytest.fixture(autouse=True)
def sphere(tmp_path, monkeypatch):
    sphere_at_hand(tmp_path, monkeypatch)


def test_a_photo_becomes_a_mesh(capsys):
    assert main([*COMMAND, "--faces", "5000"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "out/x-lift/mesh.glb\n"
    assert (
        "elevation: 25 degrees as the 3D prior sees the photo, give or take 4; set another with --elevation"
        in captured.err
    )
    assert "watertight, 1 shell(s)" in captured.err and "warning" not in captured.err
    out = Path("out/x-lift")
    assert sorted(path.name for path in out.iterdir()) == [
        "mesh.glb",
        "preview.png",
        "run.json",
        "turntable.mp4",
    ]
    mesh = load_mesh(out / "mesh.glb")
    assert off_the_sphere(mesh) < 0.015
    assert 1000 < len(mesh.faces) <= 6000
    record = json.loads((out / "run.json").read_text())
    assert set(record["outputs"]) == {"mesh.glb", "preview.png", "turntable.mp4"}
    with Image.open(out / "preview.png") as preview:
        assert preview.size[0] == 2 * preview.size[1]
    assert b'"nodes":[{"mesh":0,"name":"x"}]' in (out / "mesh.glb").read_bytes().replace(b" ", b"")
    assert record["command"] == "lift" and record["elevation_deg"] == 25 and record["iou_mean"] > 0.97
    # The same request is done; another one is refused, and replaced when asked for.
    assert main([*COMMAND, "--faces", "5000"]) == 0 and "done already" in capsys.readouterr().err
    assert main(QUICK) == 1 and "--overwrite" in capsys.readouterr().err
    assert main([*QUICK, "--format", "obj", "--overwrite", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert set(files) == {"mesh.obj", "mesh.mtl", "mesh_texture.png", "run.json"}
    assert not (out / "mesh.glb").exists() and not (out / "turntable.mp4").exists()


def test_the_photo_faces_its_camera():
    """Red in front and blue behind: a photo from above makes the top red."""
    for elevation, top in ((60, "red"), (-60, "blue")):
        mesh = mv3d.lift("x.png", model="model", device="cpu", texture_size=128, elevation=elevation)
        highest = mesh.uv[mesh.vertices[:, 2].argmax()] * len(mesh.texture)
        color = mesh.texture[int(highest[1]), int(highest[0])]
        assert ("red" if color[0] > color[2] else "blue") == top


def test_the_quality_of_make_that_makes_no_views(capsys):
    assert main(["make", *COMMAND[1:], "--quality", "instant"]) == 0
    assert capsys.readouterr().out == "out/x-lift/mesh.glb\n"
    assert json.loads(Path("out/x-lift/run.json").read_text())["settings"]["texture_size"] == 128
    assert main(["make", *COMMAND[1:], "--quality", "instant", "--views", "4"]) == 2
    assert "--quality instant: expected no --views: no views are made" in capsys.readouterr().err
    mesh = mv3d.make("x.png", quality="instant", model="model", device="cpu", texture_size=128)
    assert off_the_sphere(mesh) < 0.015
    with pytest.raises(UsageError, match="unknown setting facs; did you mean faces"):
        mv3d.make("x.png", quality="instant", model="model", facs=3)


def test_what_cannot_be_lifted(tmp_path, monkeypatch, capsys):
    (tmp_path / "other").mkdir()
    write_photo_and_model(tmp_path / "other", monkeypatch)
    assert main(["lift", "x.png", "--model", "other/model"]) == 1
    assert "model other/model: expected a 3D prior in it, found none" in capsys.readouterr().err
    assert main(["lift", "none.png", "--model", "model"]) == 1 and "no such file" in capsys.readouterr().err
    assert main(["lift", "model", "--model", "model"]) == 2 and "one photo" in capsys.readouterr().err
    assert main([*QUICK, "--texture-size", "100"]) == 2 and "power of two" in capsys.readouterr().err
    assert not Path("out").exists()


def test_it_starts_without_diffusers():
    script = "import sys, mv3d.cli.main, mv3d.generation.lifting; print(*{'diffusers', 'transformers'} & set(sys.modules))"
    made = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == ""
