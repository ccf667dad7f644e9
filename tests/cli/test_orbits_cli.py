"""`mv3d orbits render`, `encode` and `info`: exit codes, what is printed where, one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trimesh
from helpers.objects import colourful

from mv3d.cli.main import main
from mv3d.orbits.gate import LET_IN, REASONS
from mv3d.orbits.sample import FaultReason

SMALL = ["--views", "4", "--size", "32", "--workers", "1", "--environments", "uniform", "--shard-size", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    colourful(trimesh.creation.box((1, 2, 3)).subdivide().subdivide(), folder / "block.glb")
    colourful(trimesh.creation.torus(2.0, 0.7), folder / "torus.glb")
    (folder / "noise.glb").write_bytes(b"glTF" + bytes(range(200)))
    return folder


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "shards"
    command = ["orbits", "render", str(folder), "--out", str(out), "--elevation", "-5:30", *SMALL]
    assert main(command) == 0
    return out


def test_render_writes_shards_and_says_so(folder, tmp_path, capsys):
    command = ["orbits", "render", str(folder), "--out", str(tmp_path), "--elevation=-5:30", *SMALL]
    assert main(command) == 0
    captured = capsys.readouterr()
    paths = captured.out.split()
    assert paths and all(Path(path).is_file() for path in paths)
    assert "2 of 3 objects" in captured.err and "1 unreadable" in captured.err
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert document["already_done"] and document["config"]["elevation_deg"] == [-5.0, 30.0]
    assert "done already" in captured.err


def test_info_prints_counts_and_writes_sheets(shards, tmp_path, capsys):
    assert main(["orbits", "info", str(shards), "--sheets", str(tmp_path), "--verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 samples") and (tmp_path / "sheet-00.png").is_file()
    assert main(["orbits", "info", str(shards), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 2


def test_info_fails_where_a_shard_is_gone(shards, tmp_path, capsys):
    import shutil

    folder = shutil.copytree(shards, tmp_path / "x")
    (folder / "shard-000000.tar").unlink()
    assert main(["orbits", "info", str(folder)]) == 1
    assert "problem: shard-000000.tar: missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--elevation", "30:-5"], 2, "--elevation: expected LOW:HIGH"),
        (["--elevation", "up"], 2, "--elevation: expected LOW:HIGH"),
        (["--elevation", "0:90"], 2, "--elevation"),
        (["--views", "0"], 2, "--views"),
        (["--size", "5"], 2, "--size"),
        (["--workers", "0"], 2, "--workers"),
        (["--timeout-s", "0"], 2, "--timeout-s"),
        (["--memory-mb", "1"], 2, "--memory-mb"),
        (["--trajectory", "spiral"], 2, "--trajectory: expected one of static"),
        (["--environments", "moon.hdr"], 1, "--environments: expected builtin"),
        (["--environments", ","], 2, "--environments: expected at least one"),
        (["--evaluation-list", "gone.json"], 1, "gone.json: expected an evaluation list"),
        (["--fov", "0"], 2, "--fov"),
        (["--margin", "1"], 2, "--margin"),
    ],
)
def test_a_mistake_costs_one_line_and_writes_nothing(folder, tmp_path, capsys, arguments, code, words):
    out = tmp_path / "out"
    assert main(["orbits", "render", str(folder), "--out", str(out), *arguments]) == code
    captured = capsys.readouterr()
    assert words in captured.err and len(captured.err.strip().splitlines()) == 1 and captured.out == ""
    assert not out.exists()


def test_bad_catalogues(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").write_text("")
    for source in ("empty", "empty.jsonl", "gone"):
        assert main(["orbits", "render", str(tmp_path / source), "--out", str(tmp_path / "out")]) == 1
        assert source in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_flag_that_lets_an_object_in_is_there(capsys):
    assert main(["orbits", "render", "--help"]) == 0
    text = capsys.readouterr().out
    for words in LET_IN.values():
        flags = [word for word in words.split() if word.startswith("--")]
        assert flags and all(f"{flag} " in text or f"{flag}," in text for flag in flags), flags


def test_all_rejected_is_a_failure(tmp_path):
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "noise.glb").write_bytes(b"noise")
    assert main(["orbits", "render", str(folder), "--out", str(tmp_path / "out"), *SMALL]) == 1
    assert (tmp_path / "out" / "rejects.jsonl").read_text().count("\n") == 1


def test_an_output_that_is_a_file(folder, tmp_path, capsys):
    (tmp_path / "out").write_text("precious")
    assert main(["orbits", "render", str(folder), "--out", str(tmp_path / "out"), *SMALL]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "precious"


def test_groups_and_unknown_commands(capsys):
    assert main(["orbits", "--help"]) == 0 and "render" in capsys.readouterr().out
    assert main(["orbits"]) == 2
    assert main(["orbits", "fly"]) == 2 and "see mv3d orbits --help" in capsys.readouterr().err
    assert main(["--help"]) == 0 and "orbits" in capsys.readouterr().out


def test_help_loads_no_torch():
    script = (
        "import sys; from mv3d.cli.main import main;"
        "codes = [main(['orbits', name, '--help']) for name in ('render', 'encode', 'info', 'select')];"
        "print(codes, 'torch' in sys.modules, 'trimesh' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("[0, 0, 0, 0] False False")


def test_encode_through_the_command_line(shards, tmp_path, capsys):
    from helpers.networks import save_networks

    vae, clip = save_networks(tmp_path)
    command = ["orbits", "encode", str(shards), "--vae", str(vae), "--image-encoder", str(clip)]
    assert main([*command, "--out", str(tmp_path / "latents"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 2
    assert main(["orbits", "info", str(tmp_path / "latents")]) == 0
    assert "orbit latents" in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path / "latents"), "--seed", "1"]) == 1
    assert "holds another data set (seed: there 0, asked for 1)" in capsys.readouterr().err


def test_reasons_have_different_names():
    from typing import get_args

    assert not set(REASONS) & set(get_args(FaultReason))
