"""Files of splats against small readers written for the tests, exact to the quantisation."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mv3d.core.errors import InputError, UsageError
from mv3d.recon.splats.cloud import Splats, matrix_from_quaternion, with_large_w
from mv3d.recon.splats.files import load_splats, save_splats

RDF = np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]])  # of the world: x right, y down, z away from who sees +X
RUB = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])


def some(count: int = 200) -> Splats:
    rng = np.random.default_rng(0)
    return Splats(
        rng.uniform(-0.5, 0.5, (count, 3)),
        np.exp(rng.uniform(-8, -3, (count, 3))),
        rng.normal(size=(count, 4)),
        rng.uniform(0.05, 0.98, count),
        rng.random((count, 3)),
    )


def covariances(scales: np.ndarray, wxyz: np.ndarray) -> np.ndarray:
    turn = Rotation.from_quat(np.asarray(wxyz, np.float64)[:, [1, 2, 3, 0]]).as_matrix()
    return turn @ (np.asarray(scales, np.float64)[:, :, None] ** 2 * np.swapaxes(turn, 1, 2))


def read_ply(path: Path) -> dict[str, np.ndarray]:
    lines, names = path.read_bytes().split(b"\n"), []
    for line in lines[: lines.index(b"end_header")]:
        word = line.split()
        if word[0] == b"element":
            count = int(word[2])
        if word[0] == b"property":
            names.append(word[2].decode())
    body = path.read_bytes().split(b"end_header\n", 1)[1]
    values = struct.unpack(f"<{count * len(names)}f", body)
    column = {name: np.array(values[k :: len(names)]) for k, name in enumerate(names)}
    return {
        "means": np.stack([column[a] for a in "xyz"], 1),
        "covariances": covariances(
            np.exp(np.stack([column[f"scale_{k}"] for k in range(3)], 1)),
            np.stack([column[f"rot_{k}"] for k in range(4)], 1),
        ),
        "opacities": 1 / (1 + np.exp(-column["opacity"])),
        "colors": 0.5 + np.sqrt(1 / (4 * np.pi)) * np.stack([column[f"f_dc_{k}"] for k in range(3)], 1),
    }


def read_splat(path: Path) -> dict[str, np.ndarray]:
    rows = [struct.unpack("<6f8B", path.read_bytes()[k : k + 32]) for k in range(0, path.stat().st_size, 32)]
    table = np.array(rows)
    return {
        "means": table[:, :3],
        "covariances": covariances(table[:, 3:6], (table[:, 10:] - 128) / 128),
        "opacities": table[:, 9] / 255,
        "colors": table[:, 6:9] / 255,
    }


def read_spz(path: Path) -> dict[str, np.ndarray]:
    data = gzip.decompress(path.read_bytes())
    magic, version, count, degree, bits, flags, zero = struct.unpack("<4sIIBBBB", data[:16])
    assert (magic, version, degree, flags, zero) == (b"NGSP", 2, 0, 0, 0) and len(data) == 16 + 19 * count
    at, places = 16, []
    for _ in range(3 * count):
        places.append(int.from_bytes(data[at : at + 3], "little", signed=True) / (1 << bits))
        at += 3
    part = np.frombuffer(data[at:], np.uint8).astype(float)
    alpha, color, scale, turn = np.split(part, [count, 4 * count, 7 * count])
    xyz = turn.reshape(-1, 3) / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(1)))
    return {
        "means": np.array(places).reshape(-1, 3),
        "covariances": covariances(np.exp(scale.reshape(-1, 3) / 16 - 10), np.column_stack([w, xyz])),
        "opacities": alpha / 255,
        "colors": 0.5 + np.sqrt(1 / (4 * np.pi)) * (color.reshape(-1, 3) / 255 - 0.5) / 0.15,
    }


CASES = {
    # reader, axes, errors of place, opacity, colour, and of covariances by their largest variance
    "ply": (read_ply, RDF, 1e-6, 1e-6, 1e-6, 1e-4),
    "splat": (read_splat, RDF, 1e-6, 0.51 / 255, 0.51 / 255, 0.04),
    "spz": (read_spz, RUB, 0.51 / 2**20, 0.51 / 255, 0.51 * 0.2821 / (0.15 * 255), 0.13),
}


@pytest.mark.parametrize("suffix", CASES)
def test_an_independent_reader_gets_back_what_was_written(suffix, tmp_path):
    read, axes, by_place, by_opacity, by_color, by_covariance = CASES[suffix]
    splats = some()
    found = read(save_splats(splats, tmp_path / f"s.{suffix}"))
    # .splat is sorted by what is seen most: matched by place.
    wanted = splats.means @ axes.T
    near = np.linalg.norm(wanted[:, None] - found["means"][None], axis=2).argmin(1)
    assert sorted(near) == list(range(len(splats)))
    assert np.abs(found["means"][near] - wanted).max() <= by_place
    assert np.abs(found["opacities"][near] - splats.opacities).max() <= by_opacity
    assert np.abs(found["colors"][near] - splats.colors).max() <= by_color
    exact = axes @ covariances(splats.scales, splats.rotations) @ axes.T
    size = splats.scales.max(1)[:, None, None] ** 2
    assert (np.abs(found["covariances"][near] - exact) / size).max() <= by_covariance
    if suffix == "splat":
        seen = splats.scales.prod(1) * splats.opacities
        assert (np.diff(seen[np.argsort(near)]) <= 1e-12).all()


@pytest.mark.parametrize("suffix", CASES)
def test_read_back_into_the_world_and_written_again_nothing_changes(suffix, tmp_path):
    first = save_splats(some(), tmp_path / f"a.{suffix}")
    back = load_splats(first)
    second = load_splats(save_splats(back, tmp_path / f"b.{suffix}"))
    near = np.linalg.norm(back.means[:, None] - second.means[None], axis=2).argmin(1)  # .splat is sorted anew
    assert np.abs(second.means[near] - back.means).max() < 1e-6
    assert np.abs(second.colors[near] - back.colors).max() < 0.005
    assert save_splats(some(), tmp_path / f"c.{suffix}").read_bytes() == first.read_bytes()


def test_axes_may_be_renamed_so_that_w_is_large():
    splats = some(500)
    same = with_large_w(splats)
    assert same.rotations[:, 0].min() > 0.85
    before, after = (covariances(s.scales, s.rotations) for s in (splats, same))
    assert np.abs(before - after).max() < 1e-8
    turn = matrix_from_quaternion(splats.rotations.astype(np.float64))
    assert turn == pytest.approx(Rotation.from_quat(splats.rotations[:, [1, 2, 3, 0]]).as_matrix(), abs=1e-6)


def test_places_far_from_the_origin_keep_24_bits(tmp_path):
    splats = some(20)
    far = Splats(splats.means + np.array([900, -40, 7]), *list(vars(splats).values())[1:])
    back = load_splats(save_splats(far, tmp_path / "s.spz"))
    assert np.abs(back.means - far.means).max() < 1e-4


@pytest.mark.parametrize("suffix", ["ply", "splat", "spz"])
def test_damaged_files_end_in_a_sentence(suffix, tmp_path):
    path = save_splats(some(5), tmp_path / f"s.{suffix}")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match="expected a whole"):
        load_splats(path)
    with pytest.raises(InputError, match="expected a file"):
        load_splats(tmp_path / f"none.{suffix}")
    with pytest.raises(UsageError, match=r"got \.png"):
        save_splats(some(5), tmp_path / "s.png")


def test_splats_out_of_range_are_refused():
    good = dict(vars(some(3)))
    for name, bad in {
        "scales": -good["scales"],
        "colors": good["colors"] + 2,
        "means": good["means"] * np.nan,
    }.items():
        with pytest.raises(InputError, match=name):
            Splats(**{**good, name: bad})
