"""What single frames of a clip say: written words, sharpness, and a fingerprint to find copies by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.clips.parts import opencv, rapidocr

Picture = UInt8[np.ndarray, "h w 3"]
_GRID = 8
_READ, _LETTERS = 0.8, 2
"""Confidence and letters or digits from which a found line counts as read. Textures are taken for lines of text, but not
read, or read as one letter."""


def text_area(picture: Picture, side: int) -> float:
    """Share of the picture that is covered by lines that RapidOCR finds and can read. side: its shorter side then, pixels."""
    found = _ocr(side)(np.ascontiguousarray(picture[..., ::-1]), use_det=True, use_cls=False, use_rec=True)
    boxes, lines, scores = (getattr(found, name, None) for name in ("boxes", "txts", "scores"))
    if boxes is None or lines is None or scores is None:
        return 0.0
    mask = np.zeros(picture.shape[:2], np.uint8)  # lines may overlap
    for box, line, score in zip(boxes, lines, scores, strict=True):
        if score >= _READ and sum(map(str.isalnum, line)) >= _LETTERS:
            opencv().fillPoly(mask, [np.asarray(box).round().astype(np.int32)], 1)
    return float(mask.mean())


def sharpness(picture: Picture) -> float:
    """1 less the blur measure of Crete et al. (2007): how much a low-pass filter takes from the differences of neighbours."""
    from skimage.measure import blur_effect  # noqa: PLC0415 - slow to import

    grey = opencv().cvtColor(np.ascontiguousarray(picture), opencv().COLOR_RGB2GRAY)
    if min(grey.shape) < 16 or np.ptp(grey) == 0:
        return 0.0
    return 1.0 - float(np.asarray(blur_effect(grey.astype(np.float32) / 255, h_size=11)))


def fingerprint(pictures: Sequence[Picture]) -> str:
    """Difference hashes (right, then down neighbour brighter on an 8 × 8 grid) of pictures, hexadecimal: 128 bits each."""
    cv2, bits = opencv(), []
    for picture in pictures:
        grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
        small = cv2.resize(grey, (_GRID + 1, _GRID + 1), interpolation=cv2.INTER_AREA)
        bits += [small[:-1, 1:] > small[:-1, :-1], small[1:, :-1] > small[:-1, :-1]]
    return np.packbits(np.concatenate([b.reshape(-1) for b in bits])).tobytes().hex()


def distances(prints: Sequence[str], other: str) -> Float[np.ndarray, " n"]:
    """Share of bits in which fingerprints differ from another one."""
    table = np.frombuffer(bytes.fromhex("".join(prints)), np.uint8).reshape(len(prints), -1)
    mine = np.frombuffer(bytes.fromhex(other), np.uint8)
    return np.bitwise_count(table ^ mine).sum(1) / (8 * len(mine))


@cache
def _ocr(side: int) -> Any:
    one = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    settings = {
        "Global.log_level": "error", "Global.use_cls": False, "Global.max_side_len": 4096,
        "Global.text_score": _READ, "Det.limit_side_len": side, "Det.limit_type": "min",
    }  # fmt: skip
    return rapidocr().RapidOCR(params={**settings, **one})
