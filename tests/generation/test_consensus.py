"""Alphas made consistent: one solid casts them all, and what one solid has cast stays."""

from __future__ import annotations

import numpy as np
import pytest

from mv3d.core.errors import InputError
from mv3d.evaluation import silhouette_recall
from mv3d.generation.consensus import consistent_alpha
from mv3d.render.cameras import Cameras, orbit_cameras

SIDE, RADIUS = 48, 0.35


@pytest.fixture(scope="module")
def ball() -> tuple[np.ndarray, Cameras]:
    """Silhouettes of a ball in closed form: a ray meets it where it passes its centre closely enough."""
    azimuths = [45.0 * n for n in range(8)]
    cameras = orbit_cameras([10.0] * 8, azimuths, width=SIDE, height=SIDE)
    ys, xs = np.mgrid[:SIDE, :SIDE]
    alphas = np.zeros((8, SIDE, SIDE), np.float32)
    for view in range(8):
        origins, directions = cameras.rays(view, np.stack([xs.ravel(), ys.ravel()], 1) + 0.5)
        passing = np.linalg.norm(np.cross(-origins, directions), axis=-1)
        alphas[view] = (passing < RADIUS).reshape(SIDE, SIDE)
    return alphas, cameras


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    one, two = a > 0.5, b > 0.5
    return float((one & two).sum() / (one | two).sum())


def by_hand(alphas: np.ndarray, cameras: Cameras, view: int, x: int, y: int, steps: int = 400) -> float:
    """The same of one pixel, point after point, with the alphas of the nearest pixels."""
    origin, direction = (a[0] for a in cameras.rays(view, np.array([[x + 0.5, y + 0.5]])))
    best = 0.0
    middle = float(np.linalg.norm(origin))
    for depth in np.linspace(middle - 1, middle + 1, steps):
        point, least = origin + depth * direction, 1.0
        for other in range(len(cameras)):
            (column, row), _ = (part[0] for part in cameras.project(point[None], other))
            inside = 0 <= column < SIDE and 0 <= row < SIDE
            least = min(least, float(alphas[other, int(row), int(column)]) if inside else 0.0)
        best = max(best, least)
    return min(best, float(alphas[view, y, x]))


def test_what_one_solid_has_cast_stays(ball):
    alphas, cameras = ball
    assert agreement(consistent_alpha(alphas, cameras), alphas) > 0.95


def test_what_one_view_alone_grants_goes_and_scales_keep_their_order(ball):
    alphas, cameras = ball
    wrong = alphas.copy()
    wrong[2, 4:10, 4:10] = 1  # nowhere on the other views' object
    found = consistent_alpha(wrong, cameras)
    assert found[2, 4:10, 4:10].max() < 0.5
    assert agreement(found, alphas) > 0.95
    faint = consistent_alpha(0.4 * alphas, cameras)
    np.testing.assert_allclose(faint, 0.4 * consistent_alpha(alphas, cameras), atol=1e-5)


def test_at_every_threshold_one_solid_casts_them(ball):
    alphas, cameras = ball
    rng = np.random.default_rng(0)
    rough = np.stack([0.5 * a + 0.5 * np.roll(a, rng.integers(-7, 8, 2), (0, 1)) for a in alphas])
    found = consistent_alpha(rough, cameras, resolution=96)
    for threshold in (0.25, 0.75):
        before = silhouette_recall((rough > threshold).astype(np.float32), cameras).mean()
        after = silhouette_recall((found > threshold).astype(np.float32), cameras).mean()
        assert after > 0.97 > before


def test_as_by_hand(ball):
    alphas, cameras = ball
    rng = np.random.default_rng(1)
    # Smooth alphas: nearest pixels and bilinear ones then differ little.
    levels = rng.uniform(0.4, 1, 8).astype(np.float32)
    soft = alphas * levels[:, None, None]
    found = consistent_alpha(soft, cameras, resolution=128, samples=256)
    errors = [
        abs(by_hand(soft, cameras, view, x, y) - float(found[view, y, x]))
        for view, x, y in ((0, 24, 24), (1, 20, 26), (5, 28, 22), (7, 2, 2))
    ]
    assert max(errors) < 0.03
    assert found.max() == pytest.approx(levels.min(), abs=0.01)


def test_views_without_a_common_object_are_refused(ball):
    alphas, cameras = ball
    with pytest.raises(InputError, match="expected 8 of 48x48"):
        consistent_alpha(alphas[:4], cameras)
    with pytest.raises(InputError, match="view 3"):
        consistent_alpha(np.where(np.arange(8)[:, None, None] == 3, 0, alphas), cameras)
