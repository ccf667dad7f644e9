"""Views as other programs and phones write them: turned videos, stored pixels, slashes, masks by their names."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.places import SHARED
from helpers.shapes import cube, orbit_of
from PIL import Image

from mv3d.core.errors import InputError, Mv3dWarning
from mv3d.render.video import encode_mp4
from mv3d.views.folder import to_uint8, transforms
from mv3d.views.images import read_animation
from mv3d.views.metrics import mask_iou
from mv3d.views.readers import load_views, read_views
from mv3d.views.reading import OrbitReading
from mv3d.views.views import Views, composite

CASES = SHARED / "cases"
MATRICES = {
    "none": ((1, 0, 0, 1), lambda a: a),
    "quarter left": ((0, -1, 1, 0), lambda a: np.rot90(a, 1)),
    "half": ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
    "quarter right": ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
    "mirrored": ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda a: a[::-1]),
    "transposed": ((0, 1, 1, 0), lambda a: a.swapaxes(0, 1)),
}


def display_matrix(path: Path, values: tuple[int, ...], stretch: float = 1.0) -> None:
    """Write a, b, c, d of the matrix into the track header of an mp4 (ISO/IEC 14496-12, 8.3.2), version 0."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in values)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("case", MATRICES)
def test_videos_are_turned_as_players_turn_them(case, tmp_path):
    values, turn = MATRICES[case]
    frames = np.zeros((3, 48, 80, 3), np.uint8)
    frames[:, :24, :40] = [250, 20, 20]  # each quarter of another colour
    frames[:, :24, 40:] = [20, 250, 20]
    frames[:, 24:, :40] = [20, 20, 250]
    path = encode_mp4(frames, tmp_path / "a.mp4")
    display_matrix(path, values)
    shown = read_animation(path)[1, ..., :3]
    expected = turn(frames[1] / 255)
    assert shown.shape == expected.shape and np.abs(shown - expected).mean() < 0.06


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for _ in range(3):
            for packet in stream.encode(
                av.VideoFrame.from_ndarray(np.zeros((48, 32, 3), np.uint8), format="rgb24")
            ):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    assert read_animation(path).shape == (3, 48, 64, 4)


def written(folder: Path, views: Views, *, name: str = "images/{:03d}.png", on: float | None = None) -> dict:
    """The views with a transforms.json, on a grey of `on` where it is given; the document."""
    names = [name.format(index) for index in range(len(views))]
    for image, path in zip(views.images, names, strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_uint8(image if on is None else composite(image, on))).save(folder / path)
    document = transforms(replace(views, orbit=None, input_view=None), names)
    (folder / "transforms.json").write_text(json.dumps(document))
    return document


def tagged(folder: Path, orientation: int) -> None:
    for path in folder.glob("images/*.png"):
        image = Image.open(path)
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("wide", [False, True])
def test_poses_belong_to_the_stored_pixels(orientation, wide, cube_views, tmp_path):
    views = cube_views
    if wide:  # a quarter turn would be noticed by the size
        cameras = replace(views.cameras, height=72, cy=views.cameras.cy - 12)
        views = Views(views.images[:, 12:84], cameras)
    written(tmp_path, views)
    tagged(tmp_path, orientation)
    back = load_views(tmp_path)
    assert np.abs(back.images - views.images).max() < 0.003 and "turned_by_exif" not in back.reading


def test_a_camera_of_the_turned_size_means_the_turned_image(cube_views, tmp_path):
    cameras = replace(cube_views.cameras, height=72, cy=cube_views.cameras.cy - 12)
    views = Views(cube_views.images[:, 12:84], cameras)
    written(tmp_path, views)
    for path in tmp_path.glob("images/*.png"):  # stored on its side, shown as it was
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    tagged(tmp_path, 6)
    back = load_views(tmp_path)
    assert back.reading["turned_by_exif"] == 12 and np.abs(back.images - views.images).max() < 0.003


def test_slashes_of_windows(cube_views, tmp_path):
    document = written(tmp_path, cube_views)
    for frame in document["frames"]:
        frame["file_path"] = ".\\" + frame["file_path"].replace("/", "\\")
    (tmp_path / "transforms.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(document).encode())
    assert np.abs(load_views(tmp_path).images - cube_views.images).max() < 0.003
    document["frames"][2]["file_path"] = "..\\..\\secret.png"
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="inside"):
        load_views(tmp_path)


MASKS = {
    "images/{:03d}.png": ("images/{:03d}_mask.png", "images/{:03d}.mask.png", "images/masks/{:03d}.png", "masks/{:03d}.png"),
    "images/left/{:03d}.jpg": ("masks/left/{:03d}.jpg.png", "masks/left/{:03d}.png"),
    "images_2/{:03d}.jpg": ("masks_2/{:03d}.png", "masks/{:03d}.jpg.png"),
    "{:03d}.png": ("{:03d}_mask.png", "masks/{:03d}.png", "mask/{:03d}.png"),
}  # fmt: skip


@pytest.mark.parametrize(("image", "mask"), [(image, mask) for image in MASKS for mask in MASKS[image]])
def test_masks_are_found_by_their_names(image, mask, cube_views, tmp_path):
    written(tmp_path, cube_views, name=image, on=0.4)
    for index, alpha in enumerate(cube_views.images[..., 3]):
        path = tmp_path / mask.format(index)
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(to_uint8(alpha)).save(path)
    back = read_views(tmp_path)
    assert np.abs(back.images[..., 3] - cube_views.images[..., 3]).max() < 0.003 and not back.warnings
    path.unlink()
    with pytest.raises(InputError, match="a mask for every image or for none, found 11 for 12"):
        load_views(tmp_path)


@pytest.mark.parametrize("nested", [False, True])
def test_masks_of_an_orbit_without_cameras(nested, cube_views, tmp_path):
    place = tmp_path / "images" if nested else tmp_path
    masks = tmp_path / "masks" if nested else tmp_path
    for folder in (place, masks):
        folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for index, image in enumerate(cube_views.images):
        noisy = np.where(image[..., 3:] > 0.5, image[..., :3], rng.random((96, 96, 3)))  # no colour would do
        Image.fromarray(to_uint8(noisy)).save(place / f"{index}.png")
        Image.fromarray(to_uint8(image[..., 3])).save(
            masks / (f"{index}.png" if nested else f"{index}_mask.png")
        )
    (place / "12.heix.gif").write_bytes(b"GIF89a")
    back = read_views(tmp_path, OrbitReading(elevation_deg=10.0))
    assert len(back) == 12 and np.allclose(back.cameras.c2w, cube_views.cameras.c2w)
    assert np.abs(back.images[..., 3] - cube_views.images[..., 3]).max() < 0.003
    assert "skipped 12.heix.gif" in back.warnings[0]


@pytest.mark.parametrize("form", ["grey", "labels", "alpha", "one of them"])
def test_what_masks_mean(form, cube_views, tmp_path):
    document = written(tmp_path, cube_views, on=0.4)
    for index, alpha in enumerate(cube_views.images[..., 3]):
        values = to_uint8(alpha)
        if form == "labels":
            mask = Image.fromarray((alpha > 0.5).astype(np.uint8))
        elif form == "alpha":
            mask = Image.fromarray(np.stack([np.zeros_like(values)] * 3 + [values], -1))
        else:
            mask = Image.fromarray(255 - values if form == "one of them" and index == 4 else values)
        mask.save(tmp_path / f"m{index}.png")
        document["frames"][index]["mask_path"] = f"m{index}.png"
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    back = read_views(tmp_path)
    expected = cube_views.images[..., 3]
    expected = (expected > 0.5).astype(np.float32) if form == "labels" else expected
    assert np.abs(back.images[..., 3] - expected).max() < 0.003
    if form == "one of them":
        assert "masks are inverted (frames 4)" in back.warnings[0]
    else:
        assert not back.warnings


def test_inverted_alpha_is_turned_over(cube_views, tmp_path):
    turned = cube_views.images.copy()
    turned[..., 3] = 1 - turned[..., 3]
    written(tmp_path, replace(cube_views, images=turned))
    with pytest.warns(Mv3dWarning, match="alphas of the images are inverted"):
        back = load_views(tmp_path)
    assert np.abs(back.images[..., 3] - cube_views.images[..., 3]).max() < 0.003


def test_a_mask_that_is_cut_off_by_the_frame_is_not_inverted(cube_views, tmp_path):
    near = cube_views.images.copy()
    near[..., 3] = 1
    near[:, :30, :, 3] = 0  # an object that fills the lower part
    written(tmp_path, replace(cube_views, images=near))
    assert np.abs(read_views(tmp_path).images[..., 3] - near[..., 3]).max() < 0.003


def test_one_opaque_frame_among_transparent_ones(cube_views, tmp_path):
    document = written(tmp_path, cube_views)
    path = tmp_path / document["frames"][5]["file_path"]
    Image.fromarray(to_uint8(composite(cube_views.images[5], 1.0))).save(path)
    with pytest.warns(Mv3dWarning, match="frames 5 are not cut out, the others are"):
        back = load_views(tmp_path)
    assert mask_iou(back.images[5, ..., 3], cube_views.images[5, ..., 3]) > 0.95
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    Image.fromarray(noise).save(path)
    with pytest.raises(InputError, match="frame 5: expected transparency as in the other frames"):
        load_views(tmp_path)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the checkout")
@pytest.mark.parametrize("case", [pytest.param("17_video_display_rotation", marks=pytest.mark.slow), "18_masks_inverted_no_warning", "19_exif_turned_against_the_poses", "20_transforms_backslash"])  # fmt: skip
def test_cases_of_the_world_agree_with_their_cameras(case, tmp_path):
    from mv3d.views.elevation import hull_recall

    source = CASES / case
    if case.startswith("17"):
        source /= "phone.mp4"
    if case.startswith("20"):  # the images of 19, whose names it has with another ending
        shutil.copy(source / "transforms.json", tmp_path)
        (tmp_path / "images").mkdir()
        for path in (CASES / "19_exif_turned_against_the_poses" / "images").iterdir():
            Image.open(path).rotate(-90).save(tmp_path / "images" / f"{path.stem}.png")
        source = tmp_path
    views = read_views(source)
    assert len(views) == 21 and hull_recall(views.images[..., 3], views.cameras) > 0.99
    assert bool(views.warnings) == case.startswith("18")
    if case.startswith("17"):
        assert views.orbit.elevations_deg[0] == pytest.approx(15, abs=1.5)


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the checkout")
@pytest.mark.parametrize(("case", "iou"), [("17_video_display_rotation/phone.mp4", 0.98), ("18_masks_inverted_no_warning", 0.98), ("19_exif_turned_against_the_poses", 0.98)])  # fmt: skip
def test_cases_of_the_world_become_their_object(case, iou, tmp_path):
    from mv3d.api import reconstruct_to
    from mv3d.recon.config import ReconConfig

    result = reconstruct_to(CASES / case, tmp_path, ReconConfig(quality="draft"))
    assert result.fits and result.report["iou_mean"] > iou and result.report["coverage"] > 0.5


def test_an_orbit_of_a_phone_on_its_side_is_read_upright(tmp_path):
    views = orbit_of(cube(0.5, (200, 60, 40)), count=12, size=96, elevation_deg=14.0)
    lying = np.rot90(to_uint8(composite(views.images)), -1, (1, 2))
    path = encode_mp4(np.ascontiguousarray(lying), tmp_path / "phone.mp4")
    display_matrix(path, (0, -1, 1, 0))
    back = load_views(path, elevation_deg=14.0)
    ious = [mask_iou(a, b) for a, b in zip(back.images[..., 3], views.images[..., 3], strict=True)]
    assert min(ious) > 0.95
