"""Orbits are closed, seeded, inside their limits, and nothing is clipped."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.shapes import cube, orbit_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mv3d.core.errors import InputError, UsageError
from mv3d.render.cameras import Orbit, sine_orbit
from mv3d.render.trajectories import (
    LIMIT_DEG,
    dynamic_orbit,
    fit_radius,
    fitted,
    load_orbit,
    named_orbit,
    static_orbit,
)
from mv3d.views.readers import load_views


def steps_of(orbit: Orbit) -> np.ndarray:
    """Azimuth steps, the one from the last frame to the first included, each in [0, 360)."""
    azimuths = np.array(orbit.azimuths_deg)
    return (azimuths - np.roll(azimuths, 1)) % 360.0


def test_a_static_orbit_ends_at_the_input_view():
    orbit = static_orbit(21, 12.0)
    assert orbit.azimuths_deg[-1] == 0.0 and orbit.input_view == 20
    np.testing.assert_allclose(orbit.azimuths_deg[:3], 360 / 21 * np.array([1, 2, 3]))
    np.testing.assert_allclose(steps_of(orbit), 360 / 21)
    assert set(orbit.elevations_deg) == {12.0}


def test_step_and_start_of_a_static_orbit():
    orbit = static_orbit(4, 0.0, step_deg=-10.0, start_deg=90.0)
    np.testing.assert_allclose(orbit.azimuths_deg, [80, 70, 60, 50])
    assert static_orbit(84, 0.0, start_deg=30.0).azimuths_deg[-1] == 30.0


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["paper", "release"]),
    st.sampled_from([21, 84]),
    st.floats(-5, 30),
)
def test_dynamic_orbits_close(seed, variant, count, elevation_deg):
    orbit = dynamic_orbit(count, np.random.default_rng(seed), elevation_deg=elevation_deg, variant=variant)
    elevations, steps = np.array(orbit.elevations_deg), steps_of(orbit)
    assert np.abs(elevations).max() < LIMIT_DEG
    assert abs(steps.sum() - 360) < 1e-6  # every step is forward: together they make one turn, not two
    assert orbit.azimuths_deg[-1] == 0.0
    # Smooth across the seam: the step of the elevation there is within what the other steps do.
    rises = np.abs(elevations - np.roll(elevations, 1))
    bends = np.abs(np.roll(rises, 1) - rises)
    assert rises[0] <= rises[1:].max() + bends[1:].max() + 1e-9


def spectrum(values: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(values)) / len(values)


@pytest.mark.parametrize(("variant", "last_period"), [("paper", 5), ("release", 4)])
def test_dynamic_elevations_have_whole_periods_only(variant, last_period):
    """A sum of sinusoids with whole periods has nothing above its last period: an open curve would leak everywhere."""
    for seed in range(20):
        orbit = dynamic_orbit(84, np.random.default_rng(seed), elevation_deg=10.0, variant=variant)
        power = spectrum(np.array(orbit.elevations_deg))
        assert power[1 : last_period + 1].max() > 0.1
        assert power[last_period + 1 :].max() < 1e-9


def test_the_variants_differ_as_documented():
    paper = [dynamic_orbit(84, np.random.default_rng(s), variant="paper") for s in range(60)]
    release = [dynamic_orbit(84, np.random.default_rng(s), variant="release") for s in range(60)]
    step = 360 / 84
    jitter = [np.concatenate([steps_of(o) for o in group]) / step for group in (paper, release)]
    assert 0.45 < jitter[0].min() and jitter[0].max() < 1.55
    assert jitter[1].min() < 0.1 and jitter[1].max() > 1.9
    swing = [np.mean([np.ptp(o.elevations_deg) for o in group]) for group in (paper, release)]
    assert 15 < swing[0] < 60 < swing[1]
    # Phases 0 or π: up to the smoothing the released helper passes the asked elevation at the input view.
    assert np.mean([abs(o.elevations_deg[-1]) for o in release]) < 8


def test_a_seed_gives_one_orbit():
    for variant in ("paper", "release"):
        first, again, other = (
            dynamic_orbit(84, np.random.default_rng(s), variant=variant) for s in (1, 1, 2)
        )
        assert first == again and first != other


def test_the_clamp_holds():
    orbit = dynamic_orbit(84, np.random.default_rng(0), elevation_deg=88.0)
    assert np.abs(orbit.elevations_deg).max() < LIMIT_DEG


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.2]), st.floats(20, 90))
def test_nothing_is_clipped_and_the_frame_is_full(seed, margin, fov_deg):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.5, 0.5, (200, 3)) * rng.uniform(0.05, 1, 3)
    orbit = fitted(dynamic_orbit(21, rng), points, fov_deg=fov_deg, margin=margin)
    cameras = orbit.cameras(100, 100)
    border = 0.0
    for view in range(len(cameras)):
        xy, depth = cameras.project(points, view)
        assert (depth > 0).all()
        border = max(border, float(np.abs(xy - 50).max()))
    assert border == pytest.approx(50 * (1 - margin), rel=1e-6)


def test_the_radius_of_a_needle_seen_end_on_keeps_the_camera_outside():
    needle = np.array([[-0.5, 0, 0], [0.5, 0, 0]])
    assert fit_radius(needle, static_orbit(4, 0.0)) > 0.5


def test_many_points_go_in_pieces(monkeypatch):
    points = np.random.default_rng(0).normal(size=(1000, 3))
    whole = fit_radius(points, sine_orbit())
    monkeypatch.setattr("mv3d.render.trajectories._CHUNK", 7)
    assert fit_radius(points, sine_orbit()) == pytest.approx(whole, rel=1e-12)


def test_an_orbit_from_a_file(tmp_path):
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"elevations_deg": [0, 10], "azimuths_deg": [180, 0], "input_view": 1}))
    assert load_orbit(path) == Orbit((0.0, 10.0), (180.0, 0.0), input_view=1)
    assert named_orbit(str(path), 2, np.random.default_rng(0), elevation_range_deg=(0, 0)).input_view == 1
    with pytest.raises(UsageError, match="expected 2, as many as"):
        named_orbit(str(path), 3, np.random.default_rng(0), elevation_range_deg=(0, 0))


def test_an_orbit_survives_its_document():
    orbit = Orbit((-90.0, 90.0), (0.0, -720.0), 1e-3, 179.0, 0)
    assert Orbit.from_dict(json.loads(json.dumps(orbit.to_dict()))) == orbit
    assert Orbit.from_dict({"elevations_deg": [1], "azimuths_deg": [2]}, radius=3, fov_deg=4) == Orbit(
        (1.0,), (2.0,), 3.0, 4.0
    )


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"fov_deg": 0.5}, True),
        ({"fov_deg": 179}, True),
        ({"fov_deg": 180}, False),
        ({"elevations_deg": [90] * 4}, True),
        ({"elevations_deg": [90.1] * 4}, False),
        ({"radius": 0}, False),
        ({"input_view": -1}, False),
    ],
)
def test_every_reader_of_an_orbit_has_the_same_limits(tmp_path, change, valid):
    views = orbit_of(cube(0.5), count=4, size=16)
    views.save(tmp_path / "views")
    path = tmp_path / "views" / "transforms.json"
    document = json.loads(path.read_text())
    document["orbit"].update(change)
    path.write_text(json.dumps(document))
    for read in (load_orbit, load_views):
        if valid:
            read(path)
        else:
            with pytest.raises(InputError, match=r"transforms\.json: orbit: "):
                read(path)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "{",
        '{"elevations_deg": [], "azimuths_deg": []}',
        '{"elevations_deg": [1], "azimuths_deg": [1, 2]}',
        '{"elevations_deg": [NaN], "azimuths_deg": [1]}',
        '{"elevations_deg": [91], "azimuths_deg": [1]}',
        '{"elevations_deg": [1], "azimuths_deg": [1], "input_view": 1}',
        '{"elevations_deg": [1], "azimuths_deg": [1], "fov_deg": 0}',
        '{"elevations_deg": [1], "azimuths_deg": [1], "input_view": Infinity}',
        f'{{"elevations_deg": [1{"0" * 400}], "azimuths_deg": [1]}}',
        "[" * 100_000,
    ],
)
def test_a_bad_orbit_file_costs_one_line(tmp_path, text):
    path = tmp_path / "path.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"path\.json"):
        load_orbit(path)


def test_an_unknown_trajectory_names_the_known_ones():
    with pytest.raises(UsageError, match="static, dynamic, dynamic-release, sine"):
        named_orbit("spiral", 21, np.random.default_rng(0), elevation_range_deg=(0, 0))


def test_random_views_are_drawn_one_by_one():
    orbit = named_orbit("random", 40, np.random.default_rng(0), elevation_range_deg=(-10.0, 60.0))
    assert orbit.input_view is None and len(set(orbit.elevations_deg)) == 40
    assert -10 <= min(orbit.elevations_deg) < 0 and 50 < max(orbit.elevations_deg) <= 60
    assert min(orbit.azimuths_deg) < 30 and max(orbit.azimuths_deg) > 330
    first = np.random.default_rng(0).uniform(-10.0, 60.0)
    assert orbit.elevations_deg[0] == first  # the draw of every other name
