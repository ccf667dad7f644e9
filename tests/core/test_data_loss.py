"""What mv3d did not write stays: photos beside exports, files in output folders, results of a process at work."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.moments import Killed, killed, watched
from helpers.shapes import cube, textured_quad
from helpers.tiny_model import write_model
from helpers.training_data import quick, save_base, save_orbits
from PIL import Image

from mv3d.cli.main import main
from mv3d.core import files
from mv3d.core.errors import OutputError
from mv3d.core.locking import LOCK_NAME, folder_lock
from mv3d.core.outputs import Output
from mv3d.core.records import RunRecord
from mv3d.evaluation.run.folders import write_object
from mv3d.generation.batch import generate_to
from mv3d.generation.config import GenerateConfig
from mv3d.models.convert import convert
from mv3d.models.network import MicroConditioning
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.fetch import FetchConfig, fetch
from mv3d.recon.config import ReconConfig
from mv3d.recon.pipeline import run
from mv3d.render.mesh_io import load_mesh
from mv3d.training.encode_shards import encode_shards
from mv3d.training.run import train
from mv3d.views.readers import load_views

pytestmark = pytest.mark.usefixtures("one_thread")

DRAFT = ReconConfig(quality="draft", faces=500, texture_size=64, formats=("glb",))
HOLDER = """
import sys, time
from pathlib import Path
from mv3d.core.locking import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> GenerateConfig:
    vector = MicroConditioning(("cond_aug", "polar", "azimuth"), (16, 32, 32))
    folder = write_model(tmp_path_factory.mktemp("models") / "camera", vector)
    return GenerateConfig(model=str(folder), device="cpu")


@pytest.fixture
def photo(tmp_path) -> Path:
    return save_photo(tmp_path / "chair.png")


def save_photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", (60, 40))
    image.paste((200, 60, 40, 255), (10, 12, 50, 30))
    image.save(path)
    return path


def content(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != LOCK_NAME)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@contextmanager
def held_elsewhere(folder: Path):
    """Another process at work in the folder; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process.pid
        os.kill(process.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


# Exports


def test_an_export_never_replaces_the_photo_beside_it(photo, tmp_path):
    before = photo.read_bytes()
    (tmp_path / "chair.mtl").write_text("of a modeller")
    (tmp_path / "chair_texture.png").write_bytes(b"a scan")
    path = textured_quad().export(tmp_path / "chair.obj")
    assert photo.read_bytes() == before
    assert (tmp_path / "chair.mtl").read_text() == "of a modeller"
    assert (tmp_path / "chair_texture.png").read_bytes() == b"a scan"
    assert {p.name for p in tmp_path.iterdir()} == {
        "chair.png",
        "chair.mtl",
        "chair_texture.png",
        "chair.obj",
        "chair.2.mtl",
        "chair_texture.2.png",
    }
    assert (load_mesh(path).texture == textured_quad().texture).all()


def test_an_export_over_an_earlier_one_piles_nothing_up(tmp_path):
    path = tmp_path / "chair.obj"
    (tmp_path / "chair_texture.png").write_bytes(b"a scan")
    for _ in range(3):
        textured_quad().export(path)
    (tmp_path / "chair_texture.png").unlink()
    textured_quad().export(path)
    assert {p.name for p in tmp_path.iterdir()} == {"chair.obj", "chair.mtl", "chair_texture.2.png"}
    cube().export(path)  # of no texture: the earlier one belongs to nothing any more
    assert {p.name for p in tmp_path.iterdir()} == {"chair.obj", "chair.mtl"}


def test_a_texture_painted_over_and_a_renamed_export_keep_theirs(tmp_path):
    path = textured_quad().export(tmp_path / "chair.obj")
    texture = next(tmp_path.glob("*.png"))
    texture.write_bytes(b"painted over")
    textured_quad().export(path)
    assert texture.read_bytes() == b"painted over"
    assert (load_mesh(path).texture == textured_quad().texture).all()
    path.rename(tmp_path / "best.obj")
    before = content(tmp_path)
    textured_quad().export(path)
    assert before.items() <= content(tmp_path).items()


def test_a_file_that_is_named_is_replaced(tmp_path):
    (tmp_path / "chair.glb").write_bytes(b"of another program")
    assert len(load_mesh(cube().export(tmp_path / "chair.glb")).faces)


# Output folders


def test_generate_never_removes_files_of_the_users(config, tmp_path, capsys):
    out = tmp_path / "q"
    photo = save_photo(out / "images" / "holiday.png")
    other = save_photo(tmp_path / "chair.png")
    before = content(out)
    for image, said in ((photo, "is an input"), (other, "images/holiday.png, which no record")):
        for more in ([], ["--overwrite"]):
            command = ["generate", str(image), "--model", config.model, "--out", str(out), "--device", "cpu"]
            assert main([*command, *more]) == 1
            error = capsys.readouterr().err
            assert said in error and "choose another --out" in error and error.count("\n") == 1
            assert content(out) == before


def test_generate_replaces_what_its_record_lists_and_nothing_else(config, photo, tmp_path):
    out = tmp_path / "out"
    generate_to([photo], out, config)
    (out / "images" / "000.png").write_bytes(b"retouched")
    edited = content(out)
    result = generate_to([photo], out, config)[0]
    assert "--overwrite" in str(result.error) and content(out) == edited
    (out / "images" / "mine.png").write_bytes(b"mine")
    result = generate_to([photo], out, config, overwrite=True)[0]
    assert (
        "images/mine.png" in str(result.error) and (out / "images" / "000.png").read_bytes() == b"retouched"
    )
    (out / "images" / "mine.png").unlink()
    assert generate_to([photo], out, config, overwrite=True)[0].error is None
    assert (out / "images" / "000.png").read_bytes() != b"retouched"
    for name in ("input.png", "images/000.png"):
        result = generate_to([out / name], out, config, overwrite=True)[0]
        assert "is an input" in str(result.error) and (out / name).exists()
    path = replace(config, trajectory=str(out / "transforms.json"))
    assert "is an input" in str(generate_to([photo], out, path, overwrite=True)[0].error)


def test_saved_views_replace_saved_views_alone(ball_views, tmp_path):
    save_photo(tmp_path / "images" / "holiday.png")
    with pytest.raises(OutputError, match=r"images/holiday\.png"):
        ball_views.save(tmp_path, overwrite=True)
    ball_views.save(tmp_path / "v")
    ball_views.save(tmp_path / "v", overwrite=True)
    (tmp_path / "v" / "contact.png").unlink()
    shutil.rmtree(tmp_path / "v" / "images")
    (tmp_path / "v" / "images").symlink_to(tmp_path / "images")
    with pytest.raises(OutputError, match="images"):
        ball_views.save(tmp_path / "v", overwrite=True)
    assert (tmp_path / "images" / "holiday.png").exists()


def write(output: Output, **texts: str) -> None:
    """A run that writes files of these stems."""
    with output.opened() as staged:
        for name, text in texts.items():
            (staged / f"{name}.txt").write_text(text)
        output.publish(staged, RunRecord.of("recon", settings={}))


def test_recon_refuses_files_of_the_users(cube_views, tmp_path):
    for name in ("mesh.png", "mesh_texture.png", "turntable.mp4"):
        (tmp_path / name).write_bytes(b"mine")
    before = content(tmp_path)
    with pytest.raises(OutputError, match=r"holds mesh_texture\.png, turntable\.mp4, which no record"):
        run(replace(DRAFT, formats=("glb", "obj")), cube_views, tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="is an input"):
        run(DRAFT, cube_views, tmp_path, overwrite=True, source=str(tmp_path / "turntable.mp4"))
    assert content(tmp_path) == before


def test_earlier_results_that_are_not_made_again_go_unless_somebody_changed_them(tmp_path):
    write(Output(tmp_path, "run.json", ("a.txt", "b.txt", "c.txt")), a="1", b="1", c="1")
    (tmp_path / "b.txt").write_text("repaired by hand")
    (tmp_path / "notes.txt").write_text("mine")
    write(Output(tmp_path, "run.json", ("a.txt",), overwrite=True), a="2")
    left = content(tmp_path)
    assert left.pop("run.json") and left == {
        "a.txt": b"2",
        "b.txt": b"repaired by hand",
        "notes.txt": b"mine",
    }


def test_a_run_killed_while_its_results_are_moved_can_be_made_again(tmp_path, monkeypatch):
    output = Output(tmp_path, "run.json", ("a.txt", "b.txt", "c.txt"), overwrite=True)
    write(output, a="1", b="1", c="1")

    def killed(source, target):
        if Path(target) == tmp_path / "b.txt":
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.os, "replace", killed)
        write(output, a="2", b="2")
    with output.claimed():
        left = content(tmp_path)
        assert left.pop("run.json") and left == {"a.txt": b"2", "b.txt": b"2"}
    write(output, a="3", b="3")
    left = content(tmp_path)
    assert left.pop("run.json") and left == {"a.txt": b"3", "b.txt": b"3"}


def test_who_reads_what_a_killed_run_was_moving_reads_all_of_it(ball_views, cube_views, tmp_path):
    cube_views.save(tmp_path / "earlier")
    shutil.copytree(tmp_path / "earlier", tmp_path / "timed")
    events = [""]
    with watched(tmp_path / "timed", lambda number, event: events.append(event)):
        ball_views.save(tmp_path / "timed", overwrite=True)
    cube, ball = load_views(tmp_path / "earlier"), load_views(tmp_path / "timed")
    found = []
    for moment in [number for number, event in enumerate(events) if event == "os.rename"]:
        out = shutil.copytree(tmp_path / "earlier", tmp_path / f"{moment}")
        with watched(out, killed(moment)), pytest.raises(Killed):
            ball_views.save(out, overwrite=True)
        gc.collect()  # what a dead process had open is closed
        views = load_views(out)
        found.append(np.array_equal(views.images, ball.images))
        assert np.array_equal(views.images, (ball if found[-1] else cube).images), moment
        assert np.array_equal(views.cameras.c2w, (ball if found[-1] else cube).cameras.c2w), moment
    assert found == sorted(found) and set(found) == {False, True}


def test_what_a_killed_run_left_goes_with_the_next_one(tmp_path):
    (tmp_path / ".mv3d-abcdefgh").mkdir()
    (tmp_path / ".mv3d-abcdefgh" / "a.txt").touch()
    write(Output(tmp_path, "run.json", ("a.txt",)), a="1")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "run.json"}


def test_results_of_one_command_are_not_replaced_by_another(tmp_path):
    record = {"schema": 1, "command": "train", "outputs": {"model": "0"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    output = Output(tmp_path, "run.json", ("images",), overwrite=True)
    with pytest.raises(OutputError, match=r"holds run\.json, which no record"), output.opened():
        pass
    staged = tmp_path / "aside"
    staged.mkdir()
    with pytest.raises(OutputError, match=r"run\.json"):
        output.publish(staged, RunRecord.of("generate"))
    assert json.loads((tmp_path / "run.json").read_text()) == record


def test_a_file_that_appears_during_the_work_stays(tmp_path):
    output = Output(tmp_path, "run.json", ("a.txt",))
    with pytest.raises(OutputError, match=r"a\.txt"), output.opened() as staged:
        (staged / "a.txt").write_text("ours")
        (tmp_path / "a.txt").write_text("mine")
        output.publish(staged, RunRecord.of("generate"))
    assert content(tmp_path) == {"a.txt": b"mine"}


def test_convert_replaces_a_conversion_alone(config, tmp_path):
    mine = shutil.copytree(config.model, tmp_path / "mine")
    before = content(mine)
    with pytest.raises(OutputError, match="no record"):
        convert(config.model, mine, overwrite=True)
    with pytest.raises(OutputError, match="is an input"):
        convert(mine, mine, overwrite=True)
    assert content(mine) == before
    out = convert(mine, tmp_path / "out")
    (out / "unet" / "config.json").write_text("{}")
    assert convert(mine, out, overwrite=True) == out
    (out / "unet" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"unet/notes\.txt"):
        convert(mine, out, overwrite=True)


def test_training_removes_no_checkpoints_of_other_programs(tmp_path):
    data, base, out = save_orbits(tmp_path / "data"), save_base(tmp_path / "base"), tmp_path / "out"
    config = quick(steps=2)
    (out / "checkpoints" / "best").mkdir(parents=True)
    (out / "checkpoints" / "best" / "model.pt").write_bytes(b"of another program")
    with pytest.raises(OutputError, match=r"checkpoints/best/model\.pt"):
        train(config, data, str(base), out, overwrite=True)
    assert (out / "checkpoints" / "best" / "model.pt").exists()
    shutil.rmtree(out)
    train(config, data, str(base), out)
    (out / "model" / "README.md").write_text("my own card")
    with pytest.raises(OutputError, match="changed since"):
        train(config, data, str(base), out)
    with pytest.raises(OutputError, match="is an input"):
        train(config, data, str(out / "model"), out, overwrite=True)
    (out / "validation").mkdir(exist_ok=True)
    (out / "validation" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"validation/notes\.txt"):
        train(config, data, str(base), out, overwrite=True)
    with held_elsewhere(out) as pid, pytest.raises(OutputError, match=rf"pid {pid}"):
        train(config, data, str(base), out, overwrite=True)


@pytest.mark.parametrize(
    "name", ["shard-000000.tar", "photos.tar", "run.json", "rejects.jsonl", "ATTRIBUTION.md"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_data_set_replaces_a_data_set_alone(name, overwrite, tmp_path):
    (tmp_path / name).write_bytes(b"mine")
    items, config = [CatalogueItem("a", licence="MIT")], OrbitConfig(views=4, size=16)
    with pytest.raises(OutputError, match="which no record"):
        build_shards(items, tmp_path, config, overwrite=overwrite)
    assert {path.name for path in tmp_path.iterdir()} == {name} and (tmp_path / name).read_bytes() == b"mine"


def test_a_shard_of_other_origin_stays_in_a_finished_data_set(tmp_path):
    data = save_orbits(tmp_path / "data")
    (data / "shard-000099.tar").write_bytes(b"mine")
    before = content(data)
    with pytest.raises(OutputError, match=r"shard-000099\.tar"):
        build_shards([CatalogueItem("a", licence="MIT")], data, OrbitConfig(views=4, size=16), overwrite=True)
    with pytest.raises(OutputError, match="is an input"):
        encode_shards(data, tmp_path, tmp_path, data, overwrite=True)
    assert content(data) == before


def test_lists_are_no_place_for_results(tmp_path, capsys):
    path = tmp_path / "objects.jsonl"
    path.write_text(json.dumps({"uid": "a", "path": str(tmp_path / "a.glb"), "licence": "MIT"}) + "\n")
    before = path.read_bytes()
    assert main(["orbits", "fetch", str(path), "--out", str(tmp_path)]) == 1
    assert main(["orbits", "select", str(path), "--out", str(path), "--overwrite"]) == 1
    assert capsys.readouterr().err.count("is an input") == 2 and path.read_bytes() == before
    with pytest.raises(OutputError, match=r"objects\.jsonl"):
        fetch([CatalogueItem("a", path=tmp_path / "a.glb")], tmp_path, FetchConfig())
    assert path.read_bytes() == before


def test_an_evaluation_removes_no_files_of_the_users(cube_views, tmp_path):
    folder = tmp_path / "truth" / "cup"

    def write_cup(**flags):
        write_object(cube_views, folder, command="generate", settings={}, input_sha256="0", **flags)

    write_cup(overwrite=False)
    before = content(folder / "images")
    (folder / "images" / "001.png").unlink()  # what is missing is no loss
    write_cup(overwrite=False)
    assert content(folder / "images") == before
    (folder / "images" / "000.png").write_bytes(b"retouched")
    with pytest.raises(OutputError, match=r"holds images/000\.png .*changed since\); use --overwrite"):
        write_cup(overwrite=False)
    write_cup(overwrite=True)
    assert content(folder / "images") == before
    (folder / "images" / "mine.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"images/mine\.png, which no record"):
        write_cup(overwrite=True)
    assert (folder / "images" / "mine.png").read_bytes() == b"mine"


# Two at once


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path):
    folder = tmp_path / "out"
    with (
        held_elsewhere(folder) as pid,
        pytest.raises(OutputError, match=rf"another mv3d process \(pid {pid}\)"),
    ):
        folder_lock(folder).__enter__()
    with folder_lock(folder), pytest.raises(OutputError, match=f"pid {os.getpid()}"):
        folder_lock(folder).__enter__()
    assert not (folder / LOCK_NAME).exists()
    with folder_lock(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_a_second_run_in_a_folder_changes_nothing(config, photo, cube_views, tmp_path, capsys):
    out = cube_views.save(tmp_path / "out")
    before = content(out)
    commands = (
        ["generate", str(photo), "--model", config.model, "--device", "cpu"],
        ["recon", str(out), "--quality", "draft"],
    )
    with held_elsewhere(out) as pid:
        for command in commands:
            assert main([*command, "--out", str(out), "--overwrite"]) == 1
            error = capsys.readouterr().err.splitlines()[-1]
            assert f"another mv3d process (pid {pid}) is writing here" in error
        with pytest.raises(OutputError, match="another mv3d process"):
            cube_views.save(out, overwrite=True)
        with pytest.raises(OutputError, match="another mv3d process"):
            convert(config.model, out, overwrite=True)
        assert content(out) == before
    with held_elsewhere(tmp_path / "many" / "chair") as pid:  # the other photos have folders of their own
        results = generate_to([photo, photo], tmp_path / "many", config)
    assert f"(pid {pid})" in str(results[0].error) and results[1].error is None
    assert content(tmp_path / "many" / "chair") == {}
