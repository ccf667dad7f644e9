"""`mv3d make`: a photo in, a mesh out; what is finished is not made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.stand_ins import Box, write_photo_and_model

import mv3d
from mv3d.cli.main import main
from mv3d.core.errors import UsageError
from mv3d.recon.representation import METHODS

COMMAND = [
    "make",
    "x.png",
    "--model",
    "model",
    "--device",
    "cpu",
    "--views",
    "4",
    "--quality",
    "draft",
    "--accept",
]


@pytest.fixture(autouse=True)
def stand_ins(tmp_path, monkeypatch):
    write_photo_and_model(tmp_path, monkeypatch)
    monkeypatch.setitem(METHODS, "mesh", lambda config: Box(makes_mesh=True))
    monkeypatch.chdir(tmp_path)


def test_what_is_finished_stays(capsys):
    assert main([*COMMAND, "--seed", "2", "--json"]) == 0
    captured = capsys.readouterr()
    answer, told = json.loads(captured.out), captured.err.splitlines()
    # What is doubtful about the photo is said at the end, once.
    (doubt,) = [place for place, line in enumerate(told) if "nothing new was seen" in line]
    assert doubt > next(place for place, line in enumerate(told) if "views in" in line)
    assert (answer["out"], answer["already_done"]) == ("out/x", False) and Path("out/x/mesh.glb").is_file()
    assert answer["views"] == json.loads(Path("out/x/run.json").read_text())
    assert answer["mesh"] == json.loads(Path("out/x/recon.json").read_text())
    assert answer["mesh"]["settings"]["seed"] == answer["views"]["settings"]["seed"] == 2
    views = Path("out/x/run.json").stat().st_mtime_ns
    # The two commands by hand find nothing left to do, and neither does the same command.
    assert main([*COMMAND, "--seed", "2"]) == 0
    captured = capsys.readouterr()
    assert "done already: the same photo and settings\n" in captured.err and "out/x/mesh.glb" in captured.out
    generate = ["generate", *COMMAND[1:-3], "--seed", "2", "--out", "out/x"]
    recon = ["recon", "out/x", "--quality", "draft", "--seed", "2", "--device", "cpu", "--accept"]
    for command in (generate, recon):
        assert main(command) == 0 and "done already" in capsys.readouterr().err
    # Other settings of the mesh: refused first, then the mesh alone is made again.
    other = [*COMMAND, "--seed", "2", "--format", "glb,ply"]
    assert main(other) == 1 and "--overwrite" in capsys.readouterr().err
    assert main([*other, "--overwrite"]) == 0 and "views in" not in capsys.readouterr().err
    assert Path("out/x/mesh.ply").is_file() and Path("out/x/run.json").stat().st_mtime_ns == views
    # Other settings of the views: both.
    assert main([*COMMAND, "--seed", "3"]) == 1
    assert main([*COMMAND, "--seed", "3", "--overwrite"]) == 0 and "views in" in capsys.readouterr().err
    assert Path("out/x/run.json").stat().st_mtime_ns != views


def test_python_call(capsys):
    with pytest.warns(UserWarning, match="nothing new was seen"):
        mesh = mv3d.make("x.png", model="model", views=4, quality="draft", device="cpu")
    assert mesh.vertices.max() == pytest.approx(0.3) and not Path("out").exists()
    with pytest.raises(UsageError, match=r"^--trajectory sine: the model takes"):  # not for the mesh
        mv3d.make("x.png", model="model", trajectory="sine", device="cpu")
    with pytest.raises(UsageError, match="make: unknown setting qualty; did you mean quality"):
        mv3d.make("x.png", qualty="draft")
    with pytest.raises(UsageError, match="method nerf makes no mesh"):
        mv3d.make("x.png", model="nowhere", method="nerf")


def test_one_photo(capsys):
    assert main(COMMAND[:-1]) == 1 and "--accept takes it" in capsys.readouterr().err  # a box is no fit
    assert main(["make", "model"]) == 2 and "mv3d generate takes folders" in capsys.readouterr().err
    assert main(["make", "none.png", "--model", "model"]) == 1 and "no such file" in capsys.readouterr().err
