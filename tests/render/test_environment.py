"""Environments: files, built-in lights, and what shading makes of them."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from helpers.models import spot

from mv3d.core.errors import InputError, MissingPartError, UsageError
from mv3d.render.environment import (
    Environment,
    exposed,
    load_environment,
    texel_directions,
    texel_solid_angles,
    uniform_environment,
)
from mv3d.render.prefilter import LightField, octa_directions, sample_equirect
from mv3d.render.shading import ggx_energy
from mv3d.render.skies import BUILTIN, builtin_environment


def some_directions(count=500, seed=0):
    directions = np.random.default_rng(seed).normal(size=(count, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def sample(octa, directions):
    return np.stack(octa.sample(*directions.astype(np.float32).T), 1)


def test_directions_and_solid_angles():
    directions = texel_directions(8, 16)
    assert texel_solid_angles(8, 16).sum() == pytest.approx(4 * np.pi)
    assert directions[0, :, 2].min() > 0.9  # row 0 is up
    assert directions[4, 8] @ [1, 0, 0] > 0.9  # the middle is +X
    assert directions[4, 4] @ [0, 1, 0] > 0.9  # a quarter from the left is +Y
    back = sample_equirect(directions, some_directions())
    cosine = (back * some_directions()).sum(1) / np.linalg.norm(back, axis=1)
    assert np.median(cosine) > 0.999


def test_builtin_lights_are_exposed_and_differ():
    assert len(BUILTIN) == len(set(BUILTIN)) == 20
    from mv3d.render import skies

    assert tuple(skies._RECIPES) == BUILTIN
    means = []
    for name in BUILTIN:
        environment = builtin_environment(name)
        white = LightField(environment).irradiance.planes
        assert 0.85 < white.max() < 1.05, name  # bright, not clipped
        assert white.mean() > 0.25, name
        means.append(environment.radiance.mean((0, 1)))
    assert len(np.unique(np.round(means, 3), axis=0)) == 20
    np.testing.assert_array_equal(
        skies.procedural_radiance("sky_cloudy"), skies.procedural_radiance("sky_cloudy")
    )
    assert builtin_environment(3) is builtin_environment(BUILTIN[3]) or np.array_equal(
        builtin_environment(23).radiance, builtin_environment(BUILTIN[3]).radiance
    )
    with pytest.raises(UsageError, match="studio_softbox"):
        builtin_environment("moon")


def test_exposure_is_free_of_scale():
    bright = spot((1, 0, 1), 20, 0.1)
    np.testing.assert_allclose(exposed(bright).radiance, exposed(bright.scaled(100)).radiance, rtol=1e-4)
    with pytest.raises(InputError, match="black"):
        exposed(Environment("night", np.zeros((4, 8, 3))))


def test_irradiance_of_a_uniform_and_of_a_ramp_sky():
    directions = some_directions()
    np.testing.assert_allclose(
        sample(LightField(uniform_environment(0.7)).irradiance, directions), 0.7, rtol=1e-4
    )
    # L = 1 + z: E / π = 1 + 2/3 n_z (the cosine lobe's first harmonic).
    z = texel_directions(64, 128)[..., 2:]
    ramp = LightField(Environment("ramp", np.repeat(1 + z, 3, 2)))
    expected = np.repeat(1 + 2 / 3 * directions[:, 2:], 3, 1)
    np.testing.assert_allclose(sample(ramp.irradiance, directions), expected, atol=0.013)


def test_glossy_goes_from_mirror_to_wide():
    environment = spot((0.2, 0.9, 0.4), 20)
    light = LightField(environment)
    directions = some_directions(2000)
    towards = np.array([0.2, 0.9, 0.4]) / np.linalg.norm([0.2, 0.9, 0.4])
    mirror = sample(light.glossy(0.0), directions)[:, 0]
    inside = directions @ towards
    assert (mirror[inside > np.cos(np.radians(16))] > 0.9 * environment.radiance.max()).all()
    assert (mirror[inside < np.cos(np.radians(26))] < 0.02 * environment.radiance.max()).all()
    peaks = [sample(light.glossy(r), towards[None])[0, 0] for r in (0.0, 0.25, 0.5, 1.0)]
    assert peaks == sorted(peaks, reverse=True)
    for roughness in (0.1, 0.4, 0.8):
        np.testing.assert_allclose(
            sample(LightField(uniform_environment()).glossy(roughness), directions), 1, rtol=1e-5
        )


def test_ggx_energy_against_known_values():
    scale, bias = ggx_energy()
    assert scale[0, -1] + bias[0, -1] == pytest.approx(1, abs=0.01)  # a mirror loses nothing
    total = scale + bias
    assert (total <= 1 + 1e-6).all() and (total > 0.25).all()
    # Roughness 1 along the normal, height-correlated Smith: the integral of 2 - 1/w from 1/2 to 1 = 1 - ln 2.
    assert total[-1, -1] == pytest.approx(1 - np.log(2), abs=2e-3)


def test_light_cut_keeps_the_light_and_the_sphere():
    for environment in (
        builtin_environment("sky_noon"),
        builtin_environment("room_lamps"),
        uniform_environment(),
    ):
        light = LightField(environment)
        cut = light.cut(128)
        assert len(cut.directions) <= 128
        assert cut.solid_angle.sum() == pytest.approx(4 * np.pi)
        angles = texel_solid_angles(*environment.radiance.shape[:2])
        np.testing.assert_allclose(
            cut.radiance.sum(0), (environment.radiance * angles[..., None]).sum((0, 1)), rtol=1e-4
        )
        normals = some_directions(300)
        ours = np.maximum(normals @ cut.directions.T, 0) @ cut.radiance / np.pi
        assert np.abs(ours - sample(light.irradiance, normals)).max() < 0.06


def test_octahedral_maps_have_no_seam():
    from mv3d.render.prefilter import OctaMap

    directions = octa_directions(32)
    octa = OctaMap(32, np.ascontiguousarray(directions.T.astype(np.float32)))
    many = some_directions(5000)
    assert np.abs(sample(octa, many) - many).max() < 0.05


def write_hdr(path, radiance, *, packed):
    """An independent writer of Radiance files."""
    height, width = radiance.shape[:2]
    brightest = radiance.max(2)
    mantissa, exponent = np.frexp(brightest)
    scale = np.where(brightest > 1e-30, mantissa * 256 / np.maximum(brightest, 1e-30), 0)
    texels = np.zeros((height, width, 4), np.uint8)
    texels[..., :3] = (radiance * scale[..., None]).astype(np.uint8)
    texels[..., 3] = np.where(brightest > 1e-30, exponent + 128, 0)
    out = bytearray(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width))
    if not packed:
        out += texels.tobytes()
    else:
        for row in texels:
            out += bytes([2, 2, width >> 8, width & 255])
            for component in row.T:
                at = 0
                while at < width:
                    run = 1
                    while at + run < width and run < 127 and component[at + run] == component[at]:
                        run += 1
                    if run > 2:
                        out += bytes([128 + run, component[at]])
                    else:
                        run = min(run, width - at)
                        out += bytes([run, *component[at : at + run]])
                    at += run
    path.write_bytes(out)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_hdr_files(tmp_path, packed):
    radiance = np.random.default_rng(0).gamma(0.5, 3, (16, 40, 3)).astype(np.float32)
    radiance[4:8] = 1000.0
    read = load_environment(write_hdr(tmp_path / "a.hdr", radiance, packed=packed))
    assert read.name == "a"
    assert (np.abs(read.radiance - radiance) <= radiance.max(2, keepdims=True) / 100 + 1e-6).all()


def test_large_hdr_is_scaled_down_with_its_light(tmp_path):
    radiance = np.ones((1024, 2048, 3), np.float32)
    radiance[:, ::2] = 3.0
    read = load_environment(write_hdr(tmp_path / "a.hdr", radiance, packed=False))
    assert read.radiance.shape == (512, 1024, 3)
    np.testing.assert_allclose(read.radiance, 2, rtol=0.01)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Radiance"),
        (b"#?RADIANCE\n\n-Y 4 +X 4\n\1\2", "expected 64 bytes"),
        (b"#?RADIANCE\n\n+Y 4 +X 4\n" + b"\0" * 64, "Radiance"),
        (b"#?RADIANCE\n\n-Y 999999999 +X 9\n", "at most"),
        (b"#?RADIANCE\n\n-Y 4 +X nine\n", "numbers"),
        (b"#?RADIANCE\n\n-Y 2 +X 16\n\2\2\0\x10\xff\1", "cut off"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_xyze\n\n-Y 2 +X 2\n" + b"\0" * 16, "XYZE"),
    ],
)
def test_bad_hdr(tmp_path, data, message):
    (tmp_path / "a.hdr").write_bytes(data)
    with pytest.raises(InputError, match=message):
        load_environment(tmp_path / "a.hdr")


def test_exr_files(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    radiance = np.random.default_rng(0).random((8, 16, 3)).astype(np.float32) * 50
    radiance[0, 0] = np.inf  # as a sun in half floats
    channels = {name: np.ascontiguousarray(radiance[..., k]) for k, name in enumerate("RGB")}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(tmp_path / "a.exr"))
    read = load_environment(tmp_path / "a.exr").radiance
    np.testing.assert_allclose(read[1:], radiance[1:], rtol=1e-6)
    assert read[0, 0, 0] == 65504
    (tmp_path / "b.exr").write_bytes(b"v/1\1" + b"\0" * 50)
    with pytest.raises(InputError, match="readable"):
        load_environment(tmp_path / "b.exr")


def test_exr_without_its_reader(tmp_path, monkeypatch):
    (tmp_path / "a.exr").write_bytes(b"x")
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "OpenEXR":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPartError, match="pip install"):
        load_environment(tmp_path / "a.exr")


def test_absent_and_wrong_files(tmp_path):
    with pytest.raises(InputError, match="nothing there"):
        load_environment(tmp_path / "a.hdr")
    with pytest.raises(InputError, match=r"\.hdr or \.exr"):
        load_environment(tmp_path / "a.png")
    with pytest.raises(InputError, match="finite"):
        Environment("x", np.full((2, 4, 3), np.nan))
    with pytest.raises(InputError, match="shape"):
        Environment("x", np.zeros((2, 4)))
