"""Image files: colour profiles, HEIC and AVIF, stored pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from helpers.places import SHARED
from PIL import Image, ImageCms, features

from mv3d.core.errors import InputError, MissingPartError, Mv3dWarning
from mv3d.generation.batch import plan_jobs
from mv3d.views.images import IMAGE_SUFFIXES, image_suffixes, read_rgba, skipped_sentence

COLORS = np.array(
    [[200, 60, 40], [30, 160, 90], [90, 90, 200], [128, 128, 128], [255, 255, 255], [0, 0, 0]], np.uint8
)
PRIMARIES = {
    "display_p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe_rgb": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
}
_D65, _D50 = np.array([0.95047, 1.0, 1.08883]), np.array([0.96422, 1.0, 0.82521])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))


def to_xyz(primaries) -> np.ndarray:
    """Linear RGB → XYZ under D65, for chromaticities of the primaries."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    return columns * np.linalg.solve(columns, _D65)


def profile(name: str) -> bytes:
    """An ICC profile of version 2 with gamma 2.2: header, tags of primaries under D50, curves (ICC.1:2001-04)."""
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ _D65)) @ _BRADFORD
    columns = (adapt @ to_xyz(PRIMARIES[name])).T

    def xyz(values) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(round(v * 65536).to_bytes(4, "big", signed=True) for v in values)

    curve = b"curv\0\0\0\0" + (1).to_bytes(4, "big") + int(2.2 * 256).to_bytes(2, "big") + b"\0\0"
    text = name.encode() + b"\0"
    description = b"desc\0\0\0\0" + len(text).to_bytes(4, "big") + text + b"\0" * (78 + (-len(text)) % 4)
    tags = [(b"desc", description), (b"wtpt", xyz(_D50)), (b"cprt", b"text\0\0\0\0none\0\0\0\0")]
    tags += [(key, xyz(column)) for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)]
    tags += [(key, curve) for key in (b"rTRC", b"gTRC", b"bTRC")]
    at, table, data = 128 + 4 + 12 * len(tags), len(tags).to_bytes(4, "big"), b""
    for key, value in tags:
        table += key + (at + len(data)).to_bytes(4, "big") + len(value).to_bytes(4, "big")
        data += value
    size = at + len(data)
    head = (
        size.to_bytes(4, "big")
        + b"\0\0\0\0\x02\x10\0\0mntrRGB XYZ "
        + b"\x07\xd0\0\1\0\1"
        + b"\0" * 6
        + b"acsp"
    )
    head = head.ljust(68, b"\0") + b"".join(round(v * 65536).to_bytes(4, "big") for v in _D50)
    return head.ljust(128, b"\0") + table + data


def expected_srgb(name: str) -> np.ndarray:
    """The textbook's way: gamma, matrices, sRGB's curve."""
    linear = (COLORS / 255) ** (int(2.2 * 256) / 256)
    rgb = (linear @ to_xyz(PRIMARIES[name]).T @ np.linalg.inv(to_xyz(_SRGB)).T).clip(0, 1)
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)


def picture(mode: str = "RGB") -> Image.Image:
    pixels = np.repeat(np.repeat(COLORS[None], 8, 0), 8, 1)
    image = Image.fromarray(pixels)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.tile(np.arange(48, dtype=np.uint8) * 5, (8, 1))))
    return image


@pytest.mark.parametrize("name", PRIMARIES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_profiles_become_srgb(name, mode, tmp_path):
    image = picture("RGBA" if mode == "RGBA" else "RGB")
    if mode == "P":
        image = image.quantize(16)
    image.save(tmp_path / "a.png", icc_profile=profile(name))
    values = read_rgba(tmp_path / "a.png")
    assert np.abs(values[4, 4::8, :3] - expected_srgb(name)).max() < 2.5 / 255
    assert np.abs(values[4, 4::8, :3] - COLORS / 255).max() > 0.05  # they were others
    if mode == "RGBA":
        assert np.array_equal(values[0, :, 3], np.arange(48, dtype=np.float32) * 5 / 255)


def test_the_profile_of_srgb_changes_nothing(tmp_path):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture("RGBA").save(tmp_path / "a.png", icc_profile=own)
    assert np.array_equal(read_rgba(tmp_path / "a.png")[4, 4::8, :3], COLORS.astype(np.float32) / 255)


@pytest.mark.parametrize("spoil", ["damaged", "of another space"])
def test_a_profile_that_cannot_be_used_is_named(spoil, tmp_path):
    image = picture().convert("L") if spoil == "of another space" else picture()
    data = profile("adobe_rgb")
    image.save(tmp_path / "a.png", icc_profile=data[:200] if spoil == "damaged" else data)
    with pytest.warns(Mv3dWarning, match="a.png: its colour profile .*; its colours are taken as sRGB"):
        values = read_rgba(tmp_path / "a.png")
    told: list[str] = []
    assert np.array_equal(read_rgba(tmp_path / "a.png", told=told), values) and len(told) == 1


def test_cmyk_goes_by_its_profile(tmp_path, monkeypatch):
    """No profile of a press is free to write by hand: the way there is tested with a stand-in for the conversion."""
    seen = []

    def convert(image, source, target, **settings):
        seen.append((image.mode, settings["outputMode"]))
        return Image.new("RGB", image.size, (10, 20, 30))

    class Press:
        xcolor_space = "CMYK"

    monkeypatch.setattr(ImageCms, "ImageCmsProfile", lambda data: type("P", (), {"profile": Press})())
    monkeypatch.setattr(ImageCms, "getProfileDescription", lambda profile: "a press")
    monkeypatch.setattr(ImageCms, "createProfile", lambda name: name)
    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    picture().convert("CMYK").save(tmp_path / "a.jpg", icc_profile=b"x" * 200)
    assert read_rgba(tmp_path / "a.jpg")[0, 0] == pytest.approx([10 / 255, 20 / 255, 30 / 255, 1])
    assert seen == [("CMYK", "RGB")]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif(tmp_path):
    picture("RGBA").save(tmp_path / "a.avif", quality=95)
    assert np.abs(read_rgba(tmp_path / "a.avif")[4, 4::8, :3] - COLORS / 255)[2:5].max() < 0.1


def heic(path, orientation: int = 1):
    heif = pytest.importorskip("pillow_heif")
    image = picture("RGB").resize((96, 64))
    exif = image.getexif()
    exif[0x0112] = orientation
    heif.from_pillow(image).save(str(path), quality=95, exif=exif.tobytes())
    return np.asarray(image, np.float32) / 255


def test_heic_is_read_where_its_library_is(tmp_path):
    expected = heic(tmp_path / "a.heic")
    values = read_rgba(tmp_path / "a.heic")
    assert values.shape == (64, 96, 4) and np.abs(values[..., :3] - expected).mean() < 0.03
    assert ".heic" in image_suffixes() and skipped_sentence(tmp_path) == ""


HEADER = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\x5a" * 3000


def test_heic_without_its_library_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("mv3d.views.images._heic_library", lambda: None)
    (tmp_path / "a.heic").write_bytes(HEADER)
    with pytest.raises(MissingPartError, match=r"HEIC.*pillow-heif.*pip install pi-heif, or convert"):
        read_rgba(tmp_path / "a.heic")
    assert image_suffixes() == IMAGE_SUFFIXES
    assert "skipped a.heic: expected .png" in skipped_sentence(tmp_path)
    with pytest.raises(InputError, match=r"found none in it; skipped a.heic.*HEIC is read after"):
        plan_jobs([tmp_path], tmp_path / "out")


def test_damaged_heic_is_one_sentence(tmp_path):
    pytest.importorskip("pillow_heif")
    (tmp_path / "a.heic").write_bytes(HEADER)
    with pytest.raises(InputError, match="corrupt or unknown"):
        read_rgba(tmp_path / "a.heic")


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the cases are not beside the checkout")
def test_the_case_of_heic(monkeypatch):
    monkeypatch.setattr("mv3d.views.images._heic_library", lambda: None)
    with pytest.raises(MissingPartError, match="HEIC"):
        read_rgba(SHARED / "cases" / "23_heic_message" / "06_photo.heic")


def test_a_folder_names_what_it_skips_and_reads_jfif(tmp_path):
    data = io.BytesIO()
    picture().save(data, "JPEG")
    for name in ("b.jfif", "c.jpg"):
        (tmp_path / name).write_bytes(data.getvalue())
    for name in ("a.gif", "d.psd", ".hidden.gif", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(Mv3dWarning, match=r"skipped a.gif, d.psd: expected \.png"):
        jobs = plan_jobs([tmp_path], tmp_path / "out")
    assert [path.name for path, _ in jobs] == ["b.jfif", "c.jpg"]
    assert read_rgba(tmp_path / "b.jfif").shape == (8, 48, 4)


def test_stored_pixels(tmp_path):
    image = picture()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert read_rgba(tmp_path / "a.png").shape == (48, 8, 4)
    assert read_rgba(tmp_path / "a.png", upright=False).shape == (8, 48, 4)
