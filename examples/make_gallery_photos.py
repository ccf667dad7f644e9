"""Cuts the five photos of docs/gallery out of pictures that come with scikit-image, along outlines drawn by hand.

Run: python examples/make_gallery_photos.py OUT

All are free to use, as scikit-image's documentation says: coffee (CC0, Rachel Michetti), chelsea (CC0, Stefan van der
Walt), rocket (public domain, SpaceX), astronaut (public domain, NASA).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageDraw

_SMOOTH = 4  # the outline is drawn that much larger


@dataclass(frozen=True)
class Cutout:
    """An outline in pixels of a picture of scikit-image."""

    file: str
    outline: tuple[tuple[int, int], ...]


PHOTOS = {
    "photo_cup": Cutout(
        "coffee.png",
        (
            (175, 90), (180, 60), (205, 35), (250, 20), (300, 18), (350, 28), (385, 52), (400, 75), (412, 66),
            (422, 72), (420, 95), (440, 115), (465, 145), (477, 185), (478, 220), (468, 265), (445, 310),
            (410, 345), (360, 375), (300, 388), (240, 383), (180, 362), (130, 325), (95, 280), (78, 230),
            (80, 185), (98, 140), (130, 105),
        ),
    ),
    "photo_rocket": Cutout(
        "rocket.jpg",
        (
            (321, 126), (329, 138), (333, 155), (336, 170), (334, 300), (333, 408), (310, 408), (311, 300),
            (309, 155), (313, 138),
        ),
    ),
    "photo_portrait": Cutout(
        "astronaut.png",
        (
            (152, 100), (160, 50), (190, 20), (225, 15), (270, 20), (300, 50), (303, 85), (285, 120), (270, 150),
            (295, 190), (305, 240), (340, 265), (360, 310), (362, 345), (300, 400), (280, 440), (275, 511),
            (20, 511), (25, 400), (40, 300), (60, 260), (115, 235), (110, 190), (140, 155), (182, 148), (168, 130),
        ),
    ),
    "photo_shuttle": Cutout(
        "astronaut.png",
        (
            (400, 0), (432, 0), (436, 50), (444, 40), (450, 55), (455, 180), (470, 225), (470, 240), (452, 245),
            (450, 280), (475, 282), (380, 285), (385, 245), (352, 235), (355, 215), (375, 175), (378, 120),
            (380, 75), (385, 50), (390, 42), (396, 55),
        ),
    ),
    "photo_cat": Cutout(
        "chelsea.png",
        (
            (45, 60), (60, 10), (90, 0), (370, 0), (375, 20), (350, 100), (368, 130), (355, 190), (330, 250),
            (300, 299), (80, 299), (20, 240), (30, 150),
        ),
    ),
}  # fmt: skip


def cut(photo: Cutout) -> Image.Image:
    """RGBA, clear outside the outline, cropped to it."""
    picture = Image.open(Path(skimage.__file__).parent / "data" / photo.file).convert("RGB")
    mask = Image.new("L", (picture.width * _SMOOTH, picture.height * _SMOOTH))
    ImageDraw.Draw(mask).polygon([(x * _SMOOTH, y * _SMOOTH) for x, y in photo.outline], fill=255)
    alpha = mask.resize(picture.size, Image.Resampling.BOX)
    rgba = np.dstack([np.asarray(picture), np.asarray(alpha)])
    return Image.fromarray(rgba).crop(alpha.getbbox())


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name, photo in PHOTOS.items():
        cut(photo).save(out / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
