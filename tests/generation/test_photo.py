"""Image preparation: the frame's geometry to a fraction of a pixel, every kind of file, every refusal."""

from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest
from helpers.places import SHARED
from PIL import Image, ImageDraw
from scipy import ndimage

from mv3d.core.errors import InputError, MissingPartError, UsageError
from mv3d.generation import config
from mv3d.generation import photo as framing
from mv3d.generation.photo import foreground_box, frame_object, prepare_image
from mv3d.views.metrics import mask_iou


def picture(size, box, color=(200, 40, 40), background=(0, 0, 0, 0)) -> Image.Image:
    """A filled rectangle (left, top, right, bottom) on a background."""
    image = Image.new("RGBA", size, background)
    image.paste((*color, 255), box)
    return image


def moments(alpha):
    """Area, centre x and y, in pixels with centres at +0.5."""
    y, x = np.mgrid[: alpha.shape[0], : alpha.shape[1]] + 0.5
    area = alpha.sum()
    return area, (alpha * x).sum() / area, (alpha * y).sum() / area


@pytest.mark.parametrize("ratio", [0.5, 0.917, 1.0])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((300, 120), (20, 10, 290, 60)),  # landscape image, wide object
        ((120, 300), (30, 15, 61, 280)),  # portrait image, tall object
        ((300, 120), (200, 5, 230, 115)),  # landscape image, tall object off the centre
        ((120, 300), (0, 250, 120, 300)),  # portrait image, wide object at the border
        ((64, 64), (8, 8, 56, 56)),  # magnified
    ],
)
def test_object_is_centred_and_fills_the_ratio(size, box, ratio):
    side = 96
    frame = prepare_image(picture(size, box), width=side, foreground_ratio=ratio).rgba
    assert frame.shape == (side, side, 4) and frame.dtype == np.float32
    width, height = box[2] - box[0], box[3] - box[1]
    scale = max(width, height) / (ratio * side)
    area, x, y = moments(frame[..., 3])
    assert (x, y) == pytest.approx((side / 2, side / 2), abs=0.03)
    assert area == pytest.approx(width * height / scale**2, rel=0.02)
    extent = frame[..., 3].max(0).sum() if width > height else frame[..., 3].max(1).sum()
    assert extent == pytest.approx(ratio * side, abs=0.6)


def test_frame_equals_a_padded_square_resized():
    image = picture((210, 90), (13, 20, 193, 70))
    noisy = np.asarray(image).copy()
    noisy[20:70, 13:193, :3] = np.random.default_rng(0).integers(0, 255, (50, 180, 3))
    ours = frame_object(noisy.astype(np.float32) / 255, "x", width=48, height=48, foreground_ratio=0.9)
    side = 200  # 180 / 0.9: the square of the original's rule
    square = Image.new("RGBA", (side, side))
    square.paste(Image.fromarray(noisy[20:70, 13:193]), ((side - 180) // 2, (side - 50) // 2))
    planes = np.asarray(square, np.float32) / 255
    planes[..., :3] *= planes[..., 3:]
    twin = np.stack(
        [np.asarray(Image.fromarray(planes[..., c]).resize((48, 48), Image.Resampling.LANCZOS)) for c in range(4)], -1
    )  # fmt: skip
    # Around the edge Pillow counts no pixels beyond the square, and ringing is left out here.
    inner = np.s_[3:-3, 3:-3]
    differs = np.abs(ours[..., 3] - twin[..., 3].clip(0, 1))[inner]
    assert differs[twin[inner][..., 3] > 0.02].max() < 1e-4 and differs.max() < 0.02
    solid, straight = ours[..., 3] > 0.99, twin[..., :3] / np.maximum(twin[..., 3:], 0.02)
    solid[:3] = solid[-3:] = solid[:, :3] = solid[:, -3:] = False
    assert solid.sum() > 200 and np.abs(ours[solid][:, :3] - straight[solid].clip(0, 1)).max() < 1e-3


def test_frames_that_are_not_square():
    frame = prepare_image(picture((100, 100), (10, 40, 90, 60)), width=64, height=32, foreground_ratio=1).rgba
    assert frame.shape == (32, 64, 4)
    assert frame[..., 3].max(0).sum() == pytest.approx(64, abs=0.5)
    frame = prepare_image(picture((100, 100), (40, 10, 60, 90)), width=64, height=32, foreground_ratio=1).rgba
    assert frame[..., 3].max(1).sum() == pytest.approx(32, abs=0.5)


def test_background_is_white_and_hidden_colours_do_not_bleed():
    image = picture((80, 80), (20, 20, 60, 60), color=(0, 0, 255), background=(0, 255, 0, 0))
    prepared = prepare_image(image, width=40)
    white = prepared.on_white()
    assert prepared.matting == "alpha" and not prepared.warnings
    assert np.allclose(white[0, 0], 1) and np.allclose(white[20, 20], (0, 0, 1), atol=1e-5)
    assert white[..., 1].max() <= 1 and (white[..., 2] > 0.99).all()  # green would dim blue


def test_exif_rotation(tmp_path):
    image = picture((60, 30), (10, 10, 50, 20), background=(255, 255, 255, 255)).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "a.png", exif=exif)
    alpha = prepare_image(tmp_path / "a.png", width=40, foreground_ratio=0.8).rgba[..., 3]
    assert alpha.max(1).sum() == pytest.approx(32, abs=2) and alpha.max(0).sum() < 12


@pytest.mark.parametrize("mode", ["P", "LA", "I;16", "CMYK", "L", "RGB"])
def test_every_mode(mode, tmp_path):
    transparent = mode in ("P", "LA")
    image = picture((64, 64), (16, 24, 48, 40), (30, 30, 30), (255, 255, 255, 0 if transparent else 255))
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "P":
        flat = Image.new("P", (64, 64), 0)
        flat.putpalette([255, 255, 255, 30, 30, 30])
        flat.paste(1, (16, 24, 48, 40))
        flat.save(path, transparency=0)
    elif mode == "I;16":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    else:
        image.convert(mode).save(path)
    prepared = prepare_image(path, width=32, foreground_ratio=0.75)
    assert prepared.matting == ("alpha" if transparent else "colour")
    area, x, y = moments(prepared.rgba[..., 3])
    assert (x, y) == pytest.approx((16, 16), abs=0.3)
    assert area == pytest.approx(24 * 12, rel=0.12)
    assert prepared.rgba[16, 16, :3] == pytest.approx(30 / 255, abs=0.05)


def test_colour_fallback_says_what_to_install(monkeypatch):
    monkeypatch.setattr(framing, "find_spec", lambda name: None)
    image = picture((64, 64), (16, 16, 48, 48), background=(240, 240, 240, 255))
    prepared = prepare_image(image, width=32)
    assert prepared.matting == "colour" and "--matting rembg, says what to install" in prepared.warnings[0]
    assert len(prepared.warnings[0]) < 160
    assert not prepare_image(image, width=32, matting="colour").warnings
    with pytest.raises(MissingPartError, match=r'pip install "rembg\[cpu\]".*new_session\(.u2net'):
        prepare_image(image, width=32, matting="rembg")


def test_what_is_done_with_enclosed_regions_is_told():
    ring = picture((128, 128), (24, 24, 104, 104), background=(255, 255, 255, 255))
    ring.paste((255, 255, 255, 255), (50, 50, 80, 80))
    prepared = prepare_image(ring, width=64, matting="colour")
    assert prepared.warnings == (
        "image: 1 enclosed region of the background's colour, 16.4% of the object, cut out as gaps; if that is wrong, give "
        "a photo with alpha, or on another background",
    )
    assert prepared.rgba[32, 32, 3] == 0


@pytest.mark.parametrize("place", ["u2net.onnx", "models/u2net/u2net.onnx"])
def test_rembg_with_its_model_here(place, monkeypatch, tmp_path):
    fake = types.ModuleType("rembg")
    monkeypatch.setattr(framing, "find_spec", lambda name: name)
    seen = []
    fake.new_session = seen.append
    mask = Image.new("L", (64, 64))
    mask.paste(255, (8, 20, 56, 44))
    fake.remove = lambda picture, session, only_mask: mask
    monkeypatch.setitem(sys.modules, "rembg", fake)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    photo = Image.effect_noise((64, 64), 80).convert("RGB")
    with pytest.raises(
        InputError, match="fetch a model of rembg"
    ):  # there, but without a model: the colours cannot do it
        prepare_image(photo, width=32)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(b"")
    prepared = prepare_image(photo, width=32, foreground_ratio=0.75)
    assert seen == ["u2net"] and prepared.matting == "rembg" and not prepared.warnings
    assert moments(prepared.rgba[..., 3])[0] == pytest.approx(24 * 12, rel=0.02)

    def fails(*args, **kwargs):
        raise ValueError("broken")

    fake.remove = fails
    with pytest.raises(InputError, match="broken"):
        prepare_image(photo, width=32)


def test_rembg_without_its_runtime_is_not_imported(monkeypatch):
    """It would end the process."""
    monkeypatch.setattr(framing, "find_spec", lambda name: None if name == "onnxruntime" else name)
    assert framing.rembg_model() is None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGBA", (40, 40)), "without any foreground"),
        (Image.new("RGB", (40, 40), "white"), "stands out"),
        (picture((40, 40), (3, 3, 6, 5)), "at least 16 pixels, got 3x2"),
        (Image.effect_noise((40, 40), 90).convert("RGB"), "not uniform"),
    ],
    ids=["transparent", "blank", "speck", "noise"],
)
def test_refusals(image, message):
    with pytest.raises(InputError, match=message):
        prepare_image(image, width=32, matting="colour")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_files_that_are_no_images(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: expected an image"):
        prepare_image(tmp_path / "a.png", width=32)
    with pytest.raises(InputError, match="no such file"):
        prepare_image(tmp_path / "b.png", width=32)


def test_warnings_of_what_is_cut_off_and_small():
    assert "touches the border" in prepare_image(picture((40, 40), (0, 8, 30, 30)), width=32).warnings[0]
    assert "magnified" in prepare_image(picture((40, 40), (8, 8, 26, 26)), width=96).warnings[0]


@pytest.mark.parametrize("ratio", [0.1, 1.01, math.nan])
def test_ratio_out_of_range(ratio):
    with pytest.raises(UsageError, match="--foreground-ratio"):
        prepare_image(picture((40, 40), (8, 8, 30, 30)), width=32, foreground_ratio=ratio)


def test_faint_halos_do_not_move_the_box():
    alpha = np.zeros((50, 60), np.float32)
    alpha[10:30, 20:50] = 1
    alpha[45, 2] = 0.04
    assert foreground_box(alpha) == (20, 10, 50, 30)


def test_large_photos_are_cut_out_quickly():
    photo = picture((3000, 1500), (500, 300, 2500, 1200), background=(250, 250, 250, 255)).convert("RGB")
    prepared = prepare_image(photo, width=64, foreground_ratio=0.5, matting="colour")
    area, x, y = moments(prepared.rgba[..., 3])
    assert (x, y) == pytest.approx((32, 32), abs=0.1) and area == pytest.approx(32 * 32 * 0.45, rel=0.03)
    assert config.FOREGROUND_RATIO == 0.917


def chair(size=512, scale=1.0):
    """A photo of four-legged things: RGBA, cut out, in the middle; and its alpha."""
    picture_ = Image.new("RGBA", (size, size))
    for box in (
        (0.3, 0.45, 0.7, 0.55),
        (0.3, 0.2, 0.36, 0.8),
        (0.64, 0.2, 0.7, 0.8),
        (0.48, 0.2, 0.52, 0.46),
    ):
        picture_.paste((180, 120, 60, 255), tuple(round(size * (0.5 + scale * (v - 0.5))) for v in box))
    return picture_, np.asarray(picture_)[..., 3] / 255


def on(color, image):
    background = Image.new("RGBA", image.size, color)
    background.alpha_composite(image)
    return background


def rounded(image):
    """Corners of a tenth of the side made transparent."""
    big = Image.new("L", image.size)
    ImageDraw.Draw(big).rounded_rectangle(
        (0, 0, image.width - 1, image.height - 1), image.width // 10, fill=255
    )
    image.putalpha(big)
    return image


def padded(image):
    wide = Image.new("RGBA", (image.width, image.height * 2))
    wide.paste(image, (0, image.height // 2))
    return wide


def faint(image):
    image.putalpha(250)
    return image


def pricked(image):
    values = np.asarray(image).copy()
    values[5:20, 5:20, 3] = 0
    return Image.fromarray(values)


@pytest.mark.parametrize("spoil", [rounded, padded, faint, pricked])
@pytest.mark.parametrize("background", [(255, 255, 255, 255), (70, 110, 160, 255)])
def test_alpha_that_is_no_objects_outline(spoil, background):
    cut, _ = chair()
    photo = prepare_image(spoil(on(background, cut)), width=128, matting="colour")
    expected = prepare_image(cut, width=128).rgba[..., 3]
    assert photo.matting == "colour" and "is not the outline of an object" in photo.warnings[0]
    assert mask_iou(photo.rgba[..., 3], expected) > 0.9


@pytest.mark.parametrize("size", [1, 3, 14])
def test_specks_are_dropped(size):
    cut, _ = chair()
    expected = prepare_image(cut, width=128)
    assert expected.warnings == () and expected.matting == "alpha"
    for place in ((2, 2), (500 - size, 490)):
        cut.paste((0, 0, 0, 255), (*place, place[0] + size, place[1] + size))
    photo = prepare_image(cut, width=128)
    assert np.array_equal(photo.rgba[..., 3], expected.rgba[..., 3])
    assert photo.warnings == ("image: 2 specks beside the object, below 0.1% of the picture, dropped",)


def test_an_object_of_many_small_parts_keeps_them():
    beads = Image.new("RGBA", (512, 512))
    for index in range(20):
        beads.paste((200, 30, 30, 255), (20 + 24 * index, 250, 34 + 24 * index, 264))
    photo = prepare_image(beads, width=256, foreground_ratio=1.0)
    assert photo.warnings == () and (photo.rgba[..., 3].max(0) > 0.5).sum() > 130


@pytest.mark.parametrize("color", [0, 40])
def test_a_soft_shadow_is_cut(color):
    cut, alpha = chair()
    blurred = ndimage.gaussian_filter(np.roll(alpha, (30, 40), (0, 1)), 12) * 0.6
    shadow = np.concatenate([np.full((512, 512, 3), color), 255 * blurred[..., None]], -1).astype(np.uint8)
    both = Image.fromarray(shadow)
    both.alpha_composite(cut)
    photo, expected = prepare_image(both, width=256), prepare_image(cut, width=256)
    assert photo.warnings == ("image: a soft shadow beside the object was cut off",)
    assert mask_iou(photo.rgba[..., 3], expected.rgba[..., 3]) > 0.97


def test_smoked_glass_is_no_shadow():
    ys, xs = np.mgrid[:256, :256]
    glasses = np.zeros((256, 256, 4), np.uint8)
    for middle in (80, 176):
        ring = np.hypot(xs - middle, ys - 128)
        glasses[ring < 44] = (120, 20, 20, 255)
        glasses[ring < 38] = (10, 10, 10, 140)
    glasses[124:132, 100:156] = (120, 20, 20, 255)
    photo = prepare_image(Image.fromarray(glasses), width=256)
    assert photo.warnings == () and ((photo.rgba[..., 3] > 0.4) & (photo.rgba[..., 3] < 0.7)).mean() > 0.1


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the cases are not beside the checkout")
@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("01_rounded_corners", "not the outline"),
        ("03_stray_specks", "2 specks"),
        ("17_drop_shadow", "soft shadow"),
    ],
)
def test_cases_of_the_world(case, told):
    photo = prepare_image(
        SHARED / "cases" / "21_photo_almost_no_alpha" / f"{case}.png", width=256, matting="colour"
    )
    assert (
        told in photo.warnings[0]
        and len([text for text in photo.warnings if "cut out by" not in text and "enclosed" not in text]) == 1
    )
    # The same chair fills the frame in all three.
    assert (photo.rgba[..., 3] > 0.5).mean() == pytest.approx(0.25, abs=0.01)
