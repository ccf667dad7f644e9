"""A job's own process, run in this one: what it tells and what it leaves in its folder."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.lifted import SIDE, sphere_at_hand
from helpers.shapes import sphere
from PIL import Image

from mv3d.app.job import Job, write_job
from mv3d.app.job_process import run_job
from mv3d.app.uploads import Upload, fill_views
from mv3d.core.errors import UsageError
from mv3d.views.readers import read_views
from mv3d.views.views import Views

pytestmark = pytest.mark.usefixtures("one_thread")


def test_views_alone_are_previewed_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sphere_at_hand(tmp_path, monkeypatch)
    settings = {"model": str(tmp_path / "model"), "views": 4, "device": "cpu", "mesh": False}
    write_job(tmp_path, Job(tmp_path.name, "photo", 0.0, settings))
    (tmp_path / "x.png").rename(tmp_path / "photo")
    (tmp_path / "previews").mkdir()
    (tmp_path / "previews" / "009.png").write_bytes(b"of a process that was killed")
    there, stages = [], []

    def tell(stage: str = "", **values: object) -> None:
        found = sorted(path.name for path in (tmp_path / "previews").glob("*"))
        stages.append(stage)
        if stage == "render" and found not in there:
            there.append(found)
            pictures.update({name: np.asarray(Image.open(tmp_path / "previews" / name)) for name in found})

    pictures: dict[str, np.ndarray] = {}
    run_job(tmp_path, tell)
    names = [f"00{index}.png" for index in range(4)]
    assert there[0] == [] and there[-1] == names, "they come one by one, and none of an earlier process stays"
    assert not (tmp_path / "previews").exists()
    views = read_views(tmp_path / "out")
    for name, rgba in zip(names[:-1], views.images, strict=False):
        on_white = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        assert pictures[name].shape == (SIDE, SIDE, 3)
        assert np.abs(pictures[name] / 255 - on_white).max() < 0.02
    assert not list((tmp_path / "out").glob("mesh*")) and "write" in stages


def test_a_zip_of_views_brings_their_solid(ball_views: Views, tmp_path: Path):
    folder = replace(ball_views, solid=sphere()).save(tmp_path / "v")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
    packed.seek(0)
    fill_views(tmp_path, [Upload("v.zip", packed)])
    got = read_views(tmp_path / "views")
    assert got.solid is not None and len(got.solid.vertices) == len(sphere().vertices)
    record = json.loads((tmp_path / "views" / "run.json").read_text())
    (tmp_path / "views" / "run.json").write_text(json.dumps(record | {"outputs": {}}))
    assert read_views(tmp_path / "views").solid is None, "the record decides"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"mesh": False, "quality": "instant"}, "mesh: expected true with quality instant"),
        ({"mesh": False, "faces": 900}, "settings without a mesh: unknown setting faces"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings: dict, says: str):
    from mv3d.app.job_settings import checked_settings

    with pytest.raises(UsageError, match=says):
        checked_settings(settings, "photo", ["default"])
