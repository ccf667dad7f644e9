"""The model that comes with mv3d: whole, small, trained on no object that is measured on, and it works at once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.places import REPOSITORY

from mv3d.cli.main import main
from mv3d.models.names import DEFAULT_FOLDER
from mv3d.orbits.attribution import TABLE
from mv3d.orbits.licences import parse_licence
from mv3d.views.readers import load_views

ROOT = REPOSITORY
EVALUATION = ROOT.parent / "shared" / "assets" / "eval" / "SOURCES.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_weights_fit_into_the_repository():
    files = list(DEFAULT_FOLDER.rglob("*.safetensors"))
    assert len(files) == 1
    assert sum(path.stat().st_size for path in files) <= 12e6


def test_the_training_objects_may_be_used_and_are_credited():
    found = rows(DEFAULT_FOLDER / TABLE)
    assert len(found) > 1000
    assert len({row["sha256"] for row in found if row["sha256"]}) > 1000
    for row in found:
        licence = parse_licence(row["licence"])
        assert licence.commercial
        assert licence.derivatives
        assert not licence.share_alike
        assert row["author"]
    credits = (DEFAULT_FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert all(row["uid"] in credits for row in found if parse_licence(row["licence"]).attribution)


@pytest.mark.skipif(not EVALUATION.exists(), reason="no evaluation objects here")
def test_no_object_that_is_measured_on_was_trained_on():
    kept = rows(EVALUATION)
    trained = rows(DEFAULT_FOLDER / TABLE)
    assert len(kept) == 23
    assert not {row["sha256"] for row in kept} & {row["sha256"] for row in trained}
    names = {row["name"].lower() for row in kept}
    assert not names & {row["uid"].lower() for row in trained}


def test_the_example_photo_becomes_views_and_the_same_seed_the_same_ones(tmp_path, capsys):
    arguments = ["generate", str(ROOT / "examples" / "chair.png"), "--size", "128"]
    for name in ("a", "b"):
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
    first, second = (load_views(tmp_path / name) for name in ("a", "b"))
    assert first.images.shape[0] == 21
    np.testing.assert_array_equal(first.images, second.images)
    assert 0.02 < first.images[..., 3].mean() < 0.6
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["settings"]["model"]["kind"] == "prior"
    capsys.readouterr()


def test_the_legs_of_the_example_chair_stand_apart(tmp_path, capsys):
    """What the default is for: the solid of a chair has legs, seen from the side and from behind, too."""
    assert (
        main(["generate", str(ROOT / "examples" / "chair.png"), "--size", "128", "--out", str(tmp_path)]) == 0
    )
    capsys.readouterr()
    alpha = load_views(tmp_path).images[..., 3] > 0.5
    # A back that leans away from the photo rises above its outline: no view cuts it off.
    assert not any(alpha[:, row].any() or alpha[:, :, row].any() for row in (0, -1))
    apart = 0
    for view in alpha:
        rows = np.flatnonzero(view.any(1))
        low = view[rows[0] + int(0.85 * (rows[-1] - rows[0]))]
        apart += int((np.diff(low.astype(int)) == 1).sum() >= 2)
    assert apart >= 15
