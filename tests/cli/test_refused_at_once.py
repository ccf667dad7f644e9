"""What needs no model to be refused is refused before torch loads, let alone a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.stand_ins import write_photo_and_model
from PIL import Image

from mv3d.cli.main import main
from mv3d.core.records import RunRecord, write_record

PROGRAM = """
import json, sys
from mv3d.cli.main import main
codes = [main(arguments) for arguments in json.loads(sys.argv[1])]
print(codes, [name for name in ("torch", "diffusers", "scipy") if name in sys.modules])
"""


def test_before_torch_loads(tmp_path: Path):
    Image.new("RGB", (9, 9)).save(tmp_path / "white.bmp")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "frames.txt").write_text("hello")
    for place, record, settings in (
        ("out/white", "recon.json", {"quality": "draft"}),
        ("out/white-lift", "run.json", {"texture_size": 512}),
        ("out", "run.json", {"seed": 3}),
    ):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        write_record(tmp_path / place / record, RunRecord(command="x", settings=settings))
    commands = [
        *([verb, photo] for verb in ("lift", "make", "generate") for photo in ("none.png", "text.png")),
        ["recon", "none"],
        ["recon", "white.bmp"],
        ["recon", "frames.txt"],
        ["recon", "out/white"],
        ["make", "white.bmp"],
        ["lift", "white.bmp"],
        ["generate", "white.bmp"],
    ]
    ran = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, json.dumps(commands)],
        check=True, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.stdout == f"{[1] * len(commands)} []\n", ran.stderr
    told = ran.stderr.splitlines()
    assert len(told) == len(commands)
    assert told[7].startswith("mv3d: white.bmp: expected a folder, a transforms.json, or one of .gif")
    assert "quality: draft there, standard now" in told[9] and told[9] == told[10]
    assert "texture_size: 512 there, 1024 now" in told[11] and "seed: 3 there, 0 now" in told[12]


def test_a_foreign_mesh_is_refused_before_the_views_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_photo_and_model(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "mv3d.generation.batch.load_planned", lambda plan: pytest.fail("the model was loaded")
    )
    Path("out/x").mkdir(parents=True)
    Path("out/x/mesh.glb").write_bytes(b"mine")
    for more in ([], ["--overwrite"]):
        assert main(["make", "x.png", "--model", "model", "--device", "cpu", *more]) == 1
        assert "out/x: holds mesh.glb, which no record of this command lists" in capsys.readouterr().err
    assert Path("out/x/mesh.glb").read_bytes() == b"mine"
