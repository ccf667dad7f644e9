"""`mv3d eval consistency`: views of one object agree, views of several do not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.places import SHARED
from helpers.shapes import cube, orbit_of, sphere

from mv3d.cli.main import main
from mv3d.core.errors import InputError
from mv3d.evaluation import evaluate_consistency, silhouette_recall
from mv3d.views.readers import load_views


def test_rendered_silhouettes_agree(cube_views, ball_views):
    for views in (cube_views, ball_views):
        recall = silhouette_recall(views.images[..., 3], views.cameras)
        assert recall.shape == (12,) and recall.min() > 0.995


def test_one_small_silhouette_is_paid_for_by_the_others():
    """One view, at 90 degrees, shows a cube of half the side. Its cone widens by 0.15 / 1.85 a unit of depth (the near
    face of the small cube), and the cube of side 0.6 spans its depths 1.7 to 2.3. What is left is, in the mean,
    `half` = twice the widening thick to either side. The opposite view sees it end at depth 2.3, on the face that is
    near to it; the view at a right angle sees it full in length, low, and farther away than the cube's face was. The
    small silhouette itself is wholly covered."""
    views = orbit_of(cube(0.6), size=256, elevation_deg=0.0)
    small = orbit_of(cube(0.3), size=256, elevation_deg=0.0)
    alphas = views.images[..., 3].copy()
    alphas[2] = small.images[2, ..., 3]
    recall = silhouette_recall(alphas, views.cameras)
    assert recall[2] == pytest.approx(1, abs=0.005)
    widening = 0.15 / 1.85 + 1 / views.cameras.fl_x[0]  # a pixel is let pass
    half = 2 * widening
    assert recall[5] == pytest.approx(half / (2 - half) * 0.3 / (2 - half) / (0.3 / 1.7) ** 2, abs=0.04)
    assert recall[8] == pytest.approx((widening * 2.3 / 0.3) ** 2, abs=0.04)
    assert np.delete(recall, 2).max() < 0.6


def test_wrong_cameras_are_found_out(cube_views):
    turned = cube_views.cameras[[*range(1, 12), 0]]
    shape = orbit_of(sphere(0.2)).images[..., 3]
    assert silhouette_recall(shape, turned).min() > 0.99  # a ball looks the same from everywhere
    mixed = orbit_of(cube(0.7), elevation_deg=10)
    wrong = orbit_of(cube(0.7), elevation_deg=50)
    assert silhouette_recall(mixed.images[..., 3], wrong.cameras).mean() < 0.97


def test_halves_foretell_each_other_only_where_the_views_agree(tmp_path, capsys):
    views = orbit_of(cube(), count=12, size=64)
    views.save(tmp_path / "good")
    assert main(["eval", "consistency", str(tmp_path / "good"), "--json"]) == 0
    good = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in good["reprojection"]["views"]] == [f"{k:03d}" for k in range(12)]
    images = views.images.copy()
    images[1::2, ..., :3] = 1 - images[1::2, ..., :3]  # every other view in the opposite colours
    bad = evaluate_consistency(replace(views, images=images), halves="one")
    assert len(bad["reprojection"]["views"]) == 6
    assert good["reprojection"]["mean"]["psnr"] > bad["reprojection"]["mean"]["psnr"] + 5
    assert bad["silhouette_recall_mean"] == pytest.approx(good["silhouette_recall_mean"], abs=0.01)


def test_mistakes(cube_views, tmp_path, capsys):
    alphas = cube_views.images[..., 3]
    with pytest.raises(InputError, match="view 3 is empty"):
        empty = alphas.copy()
        empty[3] = 0
        silhouette_recall(empty, cube_views.cameras)
    with pytest.raises(InputError, match="at least 2"):
        silhouette_recall(alphas[:1], cube_views.cameras[0])
    with pytest.raises(InputError, match="NaN"):
        silhouette_recall(np.full_like(alphas, np.nan), cube_views.cameras)
    with pytest.raises(InputError, match="at least 6"):
        evaluate_consistency(cube_views.subset([0, 4, 8]))
    assert main(["eval", "consistency", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("mv3d: ")


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "sv3d_orbits").is_dir(), reason="no shared orbits")
def test_orbits_of_sv3d_agree_nearly():
    found = [
        evaluate_consistency(load_views(path), halves="none")["silhouette_recall_mean"]
        for path in sorted((SHARED / "sv3d_orbits").glob("*.gif"))[:4]
    ]
    assert min(found) > 0.95
