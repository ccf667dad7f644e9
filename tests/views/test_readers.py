"""Views in: every supported form gives the same views back; every bad input is one clear sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.places import SHARED
from helpers.shapes import cube, orbit_of
from PIL import Image

from mv3d.core.errors import InputError, Mv3dError, Mv3dWarning, OutputError, UsageError
from mv3d.render.cameras import sv3d_azimuths_deg
from mv3d.render.video import encode_mp4
from mv3d.views.elevation import ElevationEstimate, estimate_elevation
from mv3d.views.folder import to_uint8
from mv3d.views.images import read_animation, read_rgba, turn_places
from mv3d.views.masks import cut_by_color, foreground_alpha
from mv3d.views.readers import load_views
from mv3d.views.views import Views, composite


def edit(folder: Path, change) -> None:
    path = folder / "transforms.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.fixture
def folder(cube_views, tmp_path) -> Path:
    return cube_views.save(tmp_path / "views")


def same_cameras(a: Views, b: Views) -> None:
    assert np.allclose(a.cameras.c2w, b.cameras.c2w, atol=1e-9)
    for key in ("fl_x", "fl_y", "cx", "cy"):
        assert np.allclose(getattr(a.cameras, key), getattr(b.cameras, key))


def test_views_folder_round_trip(folder, cube_views):
    back = load_views(folder)
    same_cameras(back, cube_views)
    assert np.abs(back.images - cube_views.images).max() <= 0.5 / 255 + 1e-6
    assert back.orbit == cube_views.orbit and back.input_view == len(cube_views) - 1
    names = {p.name for p in folder.iterdir()}
    assert names == {"transforms.json", "images", "contact.png", "orbit.mp4", "input.png", "run.json"}
    assert json.loads((folder / "transforms.json").read_text())["orientation_override"] == "none"


def test_saving_again_needs_overwrite_and_replaces_whole(folder, ball_views):
    with pytest.raises(OutputError, match="overwrite"):
        ball_views.save(folder)
    ball_views.subset([0, 3, 5]).save(folder, overwrite=True)
    assert len(load_views(folder)) == 3 and len(list((folder / "images").iterdir())) == 3


def test_nerfstudio_with_masks_in_any_order_and_own_intrinsics(cube_views, tmp_path):
    (tmp_path / "m").mkdir()
    order = [5, 0, 9, 3]
    frames = []
    for i in order:
        Image.fromarray(to_uint8(composite(cube_views.images[i], 0.3))).save(
            tmp_path / f"{i}.jpg", quality=98
        )
        Image.fromarray(to_uint8(cube_views.images[i, ..., 3])).save(tmp_path / "m" / f"{i}.png")
        frames.append(
            {
                "file_path": f"./{i}.jpg",
                "mask_path": f"m/{i}.png",
                "transform_matrix": cube_views.cameras.c2w[i].tolist(),
                "fl_x": cube_views.cameras.fl_x[i] * 2,
                "fl_y": cube_views.cameras.fl_y[i] * 2,
                "cx": 96,
                "cy": 96,
            }
        )
    # The images are half the size that the file speaks of, as nerfstudio's downscaled folders are.
    (tmp_path / "transforms.json").write_text(
        json.dumps({"camera_model": "OPENCV", "w": 192, "h": 192, "frames": frames})
    )
    back = load_views(tmp_path / "transforms.json")
    same_cameras(back, cube_views.subset(order))
    assert np.abs(back.images[..., 3] - cube_views.images[order][..., 3]).max() < 0.01


def test_nerf_synthetic(cube_views, tmp_path):
    (tmp_path / "train").mkdir()
    frames = []
    for i, image in enumerate(cube_views.images):
        Image.fromarray(to_uint8(image)).save(tmp_path / "train" / f"r_{i}.png")
        frames.append({"file_path": f"./train/r_{i}", "transform_matrix": cube_views.cameras.c2w[i].tolist()})
    angle = 2 * np.arctan(48 / cube_views.cameras.fl_x[0])
    (tmp_path / "transforms_train.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    same_cameras(load_views(tmp_path), cube_views)


@pytest.mark.parametrize("form", ["gif", "webp", "mp4", "folder"])
def test_orbit_without_cameras(form, tmp_path):
    views = orbit_of(cube(0.5, (200, 60, 40)), count=12, size=128, elevation_deg=14.0)
    frames = to_uint8(composite(views.images))
    path = tmp_path / f"orbit.{form}"
    if form == "mp4":
        encode_mp4(frames, path)
    elif form == "folder":
        path.mkdir()
        for i, frame in enumerate(frames):
            Image.fromarray(frame).save(path / f"frame{i}.png")  # 10 must come after 9
    else:
        first, *rest = [Image.fromarray(frame) for frame in frames]
        first.save(
            path,
            save_all=True,
            append_images=rest,
            duration=80,
            **({"lossless": True} if form == "webp" else {}),
        )
    given = load_views(path, elevation_deg=14.0)
    same_cameras(given, views)
    assert np.abs(given.images[..., 3] - views.images[..., 3]).mean() < 0.02
    assert load_views(path).orbit.elevations_deg[0] == pytest.approx(14, abs=2.5)


def test_elevation_and_direction_from_silhouettes():
    views = orbit_of(cube(0.5), count=15, size=96, elevation_deg=-12.0)
    found = estimate_elevation(views.images[..., 3], sv3d_azimuths_deg(15), radius=2.0, fov_deg=33.8)
    assert found.elevation_deg == pytest.approx(-12, abs=2) and found.recall > 0.98


@pytest.mark.skipif(not (SHARED / "sv3d_orbits").is_dir(), reason="real orbits are not beside the checkout")
@pytest.mark.parametrize(
    "name", ["bag", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kunkun", "sculpture"))]
)
def test_real_orbits_were_made_at_ten_degrees(name):
    views = load_views(SHARED / "sv3d_orbits" / f"{name}.gif")
    assert views.orbit.elevations_deg[0] == pytest.approx(10, abs=1.5)
    if name == "bag":  # background shows through the handle, and nothing of the bag is lost
        assert views.images[20, 170, 290, 3] == 0 and views.images[7, 150, 285, 3] == 0
        assert views.images[20, 350, 290, 3] == 1


def test_mask_keeps_holes_and_pale_parts_and_takes_the_background_out():
    frame = np.full((1, 100, 100, 3), 1.0, np.float32)
    yy, xx = np.mgrid[:100, :100] + 0.5
    ring = np.hypot(xx - 50, yy - 50)
    cover = np.clip(35.5 - ring, 0, 1) * np.clip(ring - 14.5, 0, 1)
    frame[0] = frame[0] * (1 - cover[..., None]) + np.array([0.8, 0.1, 0.1]) * cover[..., None]
    frame[0, 18:24, 46:54] = 0.93  # a pale patch that is not background
    rgba = foreground_alpha(frame)[0]
    assert rgba[50, 50, 3] == 0 and rgba[2, 2, 3] == 0 and rgba[20, 50, 3] == 1
    assert np.abs(rgba[..., 3] - cover)[ring > 14].mean() < 0.01
    edge = (cover > 0.4) & (cover < 0.95) & (ring > 30)
    assert np.abs(rgba[edge][:, :3] - [0.8, 0.1, 0.1]).max() < 0.12


def test_mask_refuses_with_the_reason():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="frame 0: the background is not uniform"):
        foreground_alpha(rng.random((1, 40, 40, 3)).astype(np.float32))
    with pytest.raises(InputError, match="nothing stands out"):
        foreground_alpha(np.full((1, 40, 40, 3), 0.5, np.float32))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_pillow_mode(tmp_path, mode):
    grey = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (8, 1))
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode in ("I", "F"):
        image = Image.fromarray(grey.astype(np.int32) * 257 if mode == "I" else grey.astype(np.float32) / 255)
    else:
        image = Image.fromarray(grey).convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "F", "I") else "a.png")
    image.save(path)
    values = read_rgba(path)
    assert values.shape == (8, 16, 4) and values.dtype == np.float32
    assert values[0, -1, 0] > 0.97 and values[0, 0, 0] < 0.03 and values[..., 3].min() == 1


def test_exif_rotation_is_applied(tmp_path):
    image = Image.fromarray(np.zeros((8, 16, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "r.jpg", exif=exif)
    assert read_rgba(tmp_path / "r.jpg").shape == (16, 8, 4)


def set_frame(key, value):
    return lambda folder: edit(folder, lambda d: d["frames"][1].update({key: value}))


def cut_off(folder):
    path = folder / "transforms.json"
    path.write_text(path.read_text()[:-40])


def resize_one(folder):
    Image.new("RGBA", (50, 60), "red").save(folder / "images" / "001.png")


def bomb(folder):
    Image.new("1", (20_000, 20_000)).save(folder / "images" / "000.png")


def link_out(folder):
    target = folder.parent / "secret.png"
    Image.new("RGBA", (96, 96), "red").save(target)
    (folder / "images" / "001.png").unlink()
    (folder / "images" / "001.png").symlink_to(target)


def matrix(change):
    values = np.eye(4)
    change(values)
    return values.tolist()


def drop_intrinsics(document):
    for key in ("fl_x", "fl_y"):
        document.pop(key)


BAD = {
    "cut off": (cut_off, "cut off or damaged"),
    "not an object": (lambda f: (f / "transforms.json").write_text("[]"), "expected a JSON object"),
    "no frames": (lambda f: edit(f, lambda d: d.pop("frames")), '"frames"'),
    "two views": (lambda f: edit(f, lambda d: d.update(frames=d["frames"][:2])), "at least 3 views, got 2"),
    "no intrinsics": (lambda f: edit(f, drop_intrinsics), "fl_x or camera_angle_x"),
    "words as numbers": (lambda f: edit(f, lambda d: d.update(fl_x="wide")), "intrinsics as numbers"),
    "panorama": (
        lambda f: edit(f, lambda d: d.update(camera_model="EQUIRECTANGULAR")),
        "expected a camera_model of SIMPLE_PINHOLE",
    ),
    "wild distortion": (lambda f: edit(f, lambda d: d.update(k1=-1e4)), "turns back before its edge"),
    "endless distortion": (lambda f: edit(f, lambda d: d.update(k1=np.inf)), "finite intrinsics"),
    "outside": (set_frame("file_path", "../secret.png"), "inside"),
    "absolute": (set_frame("file_path", "/etc/passwd"), "inside"),
    "link out": (link_out, "inside"),
    "missing file": (set_frame("file_path", "images/999.png"), "does not exist"),
    "no file name": (set_frame("file_path", None), "expected a file_path"),
    "no matrix": (lambda f: edit(f, lambda d: d["frames"][1].pop("transform_matrix")), "transform_matrix"),
    "short matrix": (set_frame("transform_matrix", [[1, 0], [0, 1]]), "shape 4x4"),
    "NaN": (set_frame("transform_matrix", matrix(lambda m: m.__setitem__((0, 3), np.nan))), "NaN"),
    "scaled": (set_frame("transform_matrix", matrix(lambda m: m.__setitem__((0, 0), 2.0))), "rigid"),
    "mirrored": (set_frame("transform_matrix", matrix(lambda m: m.__setitem__((0, 0), -1.0))), "rigid"),
    "one mask": (set_frame("mask_path", "images/000.png"), "in all frames or in none"),
    "corrupt image": (lambda f: (f / "images" / "002.png").write_bytes(b"\x89PNG\r\n\x1a\nno"), "corrupt"),
    "cut-off image": (
        lambda f: (f / "images" / "002.png").write_bytes((f / "images" / "002.png").read_bytes()[:300]),
        "corrupt",
    ),
    "sizes differ": (resize_one, "resize them to one size"),
    "transparent": (
        lambda f: Image.new("RGBA", (96, 96)).save(f / "images" / "002.png"),
        "fully transparent",
    ),
    "bomb": (bomb, "pixels"),
    "orbit block": (
        lambda f: edit(f, lambda d: d["orbit"].update(azimuths_deg=[1], elevations_deg=[1], input_view=0)),
        "orbit: expected 12 angles",
    ),
    "input view": (lambda f: edit(f, lambda d: d["orbit"].update(input_view=99)), "input_view"),
    "other aspect": (lambda f: edit(f, lambda d: d.update(w=50)), "scaled copy"),
    "endless size": (lambda f: edit(f, lambda d: d.update(w=np.inf, h=np.inf)), "w and h in pixels"),
    "no float": (lambda f: edit(f, lambda d: d.update(fl_x=10**400)), "intrinsics as numbers"),
    "no float in a pose": (set_frame("transform_matrix", [[10**400] * 4] * 4), "transform_matrix"),
    "long name": (set_frame("file_path", "x" * 5000), "does not exist"),
    "name of two lines": (set_frame("file_path", "a\nb"), "a b does not exist"),
    "name that is no text": (set_frame("file_path", "\ud800"), "does not exist"),
    "name of a folder": (set_frame("file_path", "."), "expected a file_path"),
    "endless orbit": (lambda f: edit(f, lambda d: d["orbit"].update(input_view=np.inf)), "lists of numbers"),
    "NaN in the orbit": (
        lambda f: edit(f, lambda d: d["orbit"].update(radius=np.nan)),
        "finite positive number",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folder_is_one_clear_sentence(case, folder):
    spoil, expected = BAD[case]
    spoil(folder)
    with pytest.raises(Mv3dError) as caught:
        load_views(folder)
    message = str(caught.value)
    assert expected in message and "\n" not in message.strip() and caught.value.exit_code == 1
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.gif", b"GIF89a", "corrupt"),
        ("a.mp4", b"\0" * 100, "corrupt"),
        ("a.txt", b"hello", "got .txt"),
        ("a.json", b"{", "cut off"),
    ],
)
def test_bad_files(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected):
        load_views(tmp_path / name)


def test_an_animation_cut_off_anywhere_is_one_sentence(tmp_path):
    path = tmp_path / "a.gif"
    frames = [Image.new("P", (8, 8), color) for color in (1, 2, 3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    data = path.read_bytes()
    refused = 0
    for end in range(len(data)):
        path.write_bytes(data[:end])
        try:
            read_animation(path)
        except InputError as error:
            refused += "\n" not in str(error)
    assert refused > len(data) // 2


def test_an_object_of_one_pixel_is_one_sentence(tmp_path):
    speck = np.zeros((200, 200, 4), np.uint8)
    speck[100, 100] = 255
    for index in range(3):
        Image.fromarray(speck).save(tmp_path / f"{index}.png")
    with pytest.raises(InputError, match="too small in view 0 to be seen in 64 pixels"):
        load_views(tmp_path)


def test_digits_that_are_no_numbers_in_the_names_of_frames(cube_views, tmp_path):
    for index, image in enumerate(cube_views.images[:4]):
        Image.fromarray(to_uint8(image)).save(tmp_path / f"²{index}.png")
    assert len(load_views(tmp_path, elevation_deg=10)) == 4


def test_missing_and_empty_places(tmp_path):
    with pytest.raises(InputError, match="found nothing"):
        load_views(tmp_path / "none")
    with pytest.raises(InputError, match="found none of them"):
        load_views(tmp_path)


def test_short_animation_and_wrong_direction(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "one.gif")
    with pytest.raises(InputError, match="at least 3 views, got 1"):
        load_views(tmp_path / "one.gif")
    for name in ("photo.png", "photo.jpg"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
        with pytest.raises(InputError, match=f"got .*; one photo becomes a mesh with: mv3d make .*{name}"):
            load_views(tmp_path / name)


@pytest.mark.skipif(not (SHARED / "sv3d_orbits").is_dir(), reason="real orbits are not beside the checkout")
def test_wrong_direction_is_noticed():
    with pytest.raises(InputError, match="--azimuth-sign 1"):
        load_views(SHARED / "sv3d_orbits" / "bag.gif", azimuth_sign=-1)


def save_frames(folder: Path, views: Views, names: list[str]) -> Path:
    folder.mkdir()
    for image, name in zip(views.images, names, strict=True):
        Image.fromarray(to_uint8(image)).save(folder / name)
    return folder


def test_a_missing_frame_leaves_its_place_free(cube_views, tmp_path):
    folder = save_frames(tmp_path / "f", cube_views, [f"f{index:02d}.png" for index in range(12)])
    (folder / "f04.png").unlink()
    with pytest.warns(Mv3dWarning, match=r"1 of 12 frames missing by their numbers \(place 5\)"):
        views = load_views(folder, elevation_deg=10.0)
    whole = cube_views.orbit.azimuths_deg
    assert views.orbit.azimuths_deg == pytest.approx([*whole[:4], *whole[5:]]) and views.input_view == 10


@pytest.mark.parametrize(
    ("names", "places", "turn"),
    [
        (["a1", "a2", "a3"], [0, 1, 2], 3),
        (["0", "30", "90"], [0, 1, 3], 4),
        (["10-58", "10-59", "11-04"], [0, 1, 2], 3),
    ],
)
def test_places_by_number(names, places, turn):
    assert turn_places([Path("f") / f"{name}.png" for name in names]) == (places, turn)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a_0", "a_1", "b_0", "b_1"], "a_… and b_…"),
        (["o1_0", "o1_1", "o2_0", "o2_1"], "o1_… and o2_…"),
        (["1", "01", "2"], "one number twice"),
        (["1", "2", "9"], "even steps"),
    ],
)
def test_frames_of_several_objects_are_refused(names, told):
    with pytest.raises(InputError, match=told):
        turn_places([Path("f") / f"{name}.png" for name in names])


@pytest.mark.parametrize(("other", "advised"), [(0.9, False), (0.99, True)])
def test_the_other_direction_is_advised_only_where_it_fits(other, advised, cube_views, tmp_path, monkeypatch):
    save_frames(tmp_path / "f", cube_views, [f"{index}.png" for index in range(12)])
    recalls = iter((0.6, other))
    monkeypatch.setattr(
        "mv3d.views.readers.estimate_elevation", lambda *a, **k: ElevationEstimate(10.0, next(recalls))
    )
    if advised:
        with pytest.raises(InputError, match="--azimuth-sign -1"):
            load_views(tmp_path / "f")
    else:
        assert load_views(tmp_path / "f").orbit.elevations_deg[0] == 10


def test_flags_of_reading_are_refused_where_cameras_are_there(cube_views, tmp_path):
    cube_views.save(tmp_path / "v")
    with pytest.raises(UsageError, match=r"--elevation, --azimuth-sign: .* has its own"):
        load_views(tmp_path / "v", elevation_deg=5.0, azimuth_sign=-1)


def mixed(cover, color, background):
    """A picture of (cover, color) on a background, in steps of 1/255."""
    alpha = np.clip(cover, 0, 1)[..., None]
    picture = alpha * np.asarray(color, np.float32) + (1 - alpha) * np.asarray(background, np.float32)
    return (np.round(picture * 255) / 255).astype(np.float32)


BLUE = (40 / 255, 120 / 255, 200 / 255)


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), BLUE])
@pytest.mark.parametrize("slit", [2.6, 4.0, 9.0])
def test_slits_of_a_lattice_are_gaps_and_take_no_colour_along(background, slit):
    yy, xx = np.mgrid[:160, :160] + 0.5
    place = (xx + 0.11 * yy) % 24  # slanted bars
    bars = np.clip(np.abs(place - 12) - slit / 2 + 0.5, 0, 1)
    frame_cover = np.clip(62.5 - np.maximum(np.abs(xx - 80), np.abs(yy - 80)), 0, 1)
    inner = np.clip(np.maximum(np.abs(xx - 80), np.abs(yy - 80)) - 49.5, 0, 1)
    cover = frame_cover * np.maximum(bars, inner)
    rgba, enclosed = cut_by_color(mixed(cover, (0.72, 0.5, 0.3), background))
    iou = np.minimum(rgba[..., 3], cover).sum() / np.maximum(rgba[..., 3], cover).sum()
    assert iou > 0.97 and len(enclosed.cut) >= 4
    seen = rgba[..., 3] > 0.5
    assert np.abs(rgba[seen][:, :3] - [0.72, 0.5, 0.3]).max(1).mean() < 0.01


def test_lights_and_white_parts_of_a_white_mug_stay():
    yy, xx = np.mgrid[:160, :160] + 0.5
    round_ = np.hypot(xx - 80, yy - 80)
    shade = np.clip(
        1.12 - round_ / 60 * 0.35, 0, 1
    )  # white as the background within 20 pixels, within 0.03 of it in 25.7
    picture = np.where((round_ < 60)[..., None], shade[..., None] * np.ones(3), 1.0).astype(np.float32)
    rgba, enclosed = cut_by_color(picture)
    assert rgba[..., 3][round_ < 57].min() == 1 and not enclosed.cut
    assert len(enclosed.kept) == 1 and enclosed.kept[0] == pytest.approx(np.pi * 25.7**2, rel=0.02)


@pytest.mark.parametrize(("color", "kept"), [((0.7, 0.1, 0.1), False), ((0.94, 0.94, 0.93), True)])
def test_a_ring_is_open_unless_it_is_as_pale_as_its_background(color, kept):
    yy, xx = np.mgrid[:160, :160] + 0.5
    round_ = np.hypot(xx - 80, yy - 80)
    cover = np.clip(60.5 - round_, 0, 1) * np.clip(round_ - 24.5, 0, 1)
    rgba, enclosed = cut_by_color(mixed(cover, color, (1.0, 1.0, 1.0)))
    assert (len(enclosed.cut), len(enclosed.kept)) == (0, 1) if kept else (1, 0)
    assert rgba[80, 80, 3] == (1 if kept else 0)
