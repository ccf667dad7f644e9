"""docs/what-mv3d-reads.md says what the code's own tables say."""

from __future__ import annotations

import re

from helpers.places import REPOSITORY

from mv3d.recon.doubts import LEAST_COVERAGE, LEAST_MEAN_IOU
from mv3d.views.colmap import IMAGE_FOLDERS, MODEL_PLACES
from mv3d.views.cutouts import LARGEST_SPECK, LEAST_TRANSPARENT
from mv3d.views.images import ANIMATION_SUFFIXES, HEIC_SUFFIXES, IMAGE_SUFFIXES
from mv3d.views.lens import CAMERA_MODELS
from mv3d.views.mask_files import MASK_ENDINGS, MASK_FOLDERS
from mv3d.views.transforms import OTHER_NAMES, TRANSFORMS

PAGE = (REPOSITORY / "docs" / "what-mv3d-reads.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def test_camera_models():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|$", section("Cameras"), re.M))
    assert rows == {name: ", ".join(parameters) for name, parameters in CAMERA_MODELS.items()}
    assert all(f"`{name}`" in section("Cameras") for name in OTHER_NAMES)


def test_views():
    text = section("Views and videos")
    row = next(line for line in text.splitlines() if ".mp4" in line)
    assert tuple(re.findall(r"`(\.\w+)`", row)) == ANIMATION_SUFFIXES
    assert all(
        f"`{name}`" in text for name in (*TRANSFORMS, *filter(None, (*MODEL_PLACES[:1], *IMAGE_FOLDERS)))
    )
    assert all(f"`NAME{ending}.png`" in text for ending in MASK_ENDINGS)
    assert all(f"`{folder}" in text for folder in MASK_FOLDERS)


def test_photos():
    text = section("Photos")
    line = next(line for line in text.splitlines() if line.startswith("`.png`"))
    assert tuple(re.findall(r"`(\.\w+)`", line)) == (*IMAGE_SUFFIXES, *HEIC_SUFFIXES)
    assert f"less than {LEAST_TRANSPARENT:.0%}".replace("%", " %") in text
    assert f"smaller than {LARGEST_SPECK:.1%}".replace("%", " %") in text


def test_thresholds():
    text = section("Cameras")
    assert f"IoU of {LEAST_MEAN_IOU} or a coverage of {LEAST_COVERAGE:.0%}".replace("20%", "20 %") in text
