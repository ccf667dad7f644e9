"""Colour profiles in image files: Display P3, Adobe RGB, CMYK and others → sRGB."""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L", "Lab": "LAB"}
"""Colour spaces of profiles → Pillow's modes of them."""


def in_srgb(image: Image.Image) -> tuple[Image.Image, str]:
    """The image with its colours in sRGB, alpha kept, and what went wrong: a part of a sentence, or nothing.

    Relative colorimetric with black point compensation (ICC.1:2022). An image without a profile, with that of sRGB, or
    with more than 8 bits a channel (which Pillow cannot convert) comes back as it is.
    """
    data = image.info.get("icc_profile")
    if not data or image.mode.startswith("I") or image.mode == "F":
        return image, ""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image, ""
        described: Any = profile.profile
        space = _SPACES[described.xcolor_space.strip()]
        # Palettes hold RGB colours, whatever the file; a profile of another space belongs to another file.
        alpha = image.convert("RGBA").getchannel("A") if _has_alpha(image) else None
        plain = image.convert("RGB") if image.mode in ("P", "PA", "RGBA", "RGBX", "RGBa") else image
        plain = plain.convert("L") if plain.mode in ("LA", "La", "1") else plain
        if plain.mode != space:
            return image, f"its colour profile is of {space} colours, its pixels are {plain.mode}"
        done = ImageCms.profileToProfile(
            plain,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError, TypeError, struct.error) as error:
        return image, f"its colour profile cannot be used ({' '.join(str(error).split())[:80]})"
    assert done is not None, "profileToProfile without inPlace"
    if alpha is not None:
        done.putalpha(alpha)
    return done, ""


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info
