"""The settings of `mv3d clips`. Each field is a flag; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID

Detector = Literal["adaptive", "histogram", "hash", "content"]
Kind = Literal["static", "object", "pan", "zoom", "roll", "orbit"]


@dataclass(frozen=True)
class SplitConfig:
    """How videos are cut into clips of one shot each."""

    detectors: tuple[Detector, ...] = ("adaptive", "histogram", "hash")
    """PySceneDetect's detectors that look at every frame."""
    votes: int = 2
    """Detectors that have to agree on a cut; 1 finds more cuts, and more that are none."""
    min_seconds: float = 1.0
    """Shorter shots are left out."""
    max_seconds: float = 20.0
    """Longer shots are cut into equal parts."""
    short_side: Annotated[int | None, SAID] = None
    """Scale clips down until their shorter side has so many pixels. Default: as the video."""
    crf: int = 16
    """Quality of the clips (x264): 0 is lossless, 16 looks so, 51 is the worst."""

    def __post_init__(self) -> None:
        if not self.detectors or not set(self.detectors) <= set(get_args(Detector)):
            raise UsageError(
                f"--detectors: expected some of {', '.join(get_args(Detector))}, got {', '.join(self.detectors) or 'none'}"
            )
        if not 1 <= self.votes <= len(self.detectors):
            raise UsageError(f"--votes: expected 1 to {len(self.detectors)}, got {self.votes}")
        if not 0 < self.min_seconds <= self.max_seconds:
            raise UsageError(
                f"--min-seconds, --max-seconds: expected 0 < min <= max, got {self.min_seconds:g} and {self.max_seconds:g}"
            )
        if self.short_side is not None and self.short_side < 16:
            raise UsageError(f"--short-side: expected at least 16, got {self.short_side}")
        if not 0 <= self.crf <= 51:
            raise UsageError(f"--crf: expected 0 to 51, got {self.crf}")


@dataclass(frozen=True)
class ScoreConfig:
    """What is measured of each clip."""

    flow_side: int = 128
    """Shorter side of the pictures that optical flow is computed of, pixels."""
    text: bool = True
    """Find written words (rapidocr)."""
    text_side: int = 320
    """Shorter side of the pictures in which text is looked for, pixels; small letters need more."""
    clip: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """A CLIP model with its tokenizer, of transformers: score how well clips fit their captions (NAME.txt beside NAME.mp4)."""
    aesthetics: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """LAION's aesthetic predictor for that CLIP model, as safetensors: score how clips look."""

    def __post_init__(self) -> None:
        for name, value in (("flow-side", self.flow_side), ("text-side", self.text_side)):
            if not 32 <= value <= 2048:
                raise UsageError(f"--{name}: expected 32 to 2048, got {value}")
        if self.aesthetics is not None and self.clip is None:
            raise UsageError("--aesthetics: expected --clip beside it, whose embeddings it reads")


@dataclass(frozen=True)
class Threshold:
    """share: of the clips that are to go, the worst ones; or value: the worst that may stay. Neither: no filter."""

    share: float | None = None
    value: float | None = None

    @classmethod
    def parse(cls, text: str, flag: str) -> Threshold:
        """Read "25%", "0.02" or "off". Raises UsageError."""
        given = text.strip().lower()
        try:
            if given == "off":
                return cls()
            if given.endswith("%"):
                share = float(given[:-1]) / 100
                if 0 <= share < 1:
                    return cls(share=share)
            elif abs(value := float(given)) < float("inf"):
                return cls(value=value)
        except ValueError:
            pass
        raise UsageError(
            f"{flag}: expected a share of the clips to drop such as 25%, a value such as 0.02, or off, got {text}"
        )


@dataclass(frozen=True)
class SelectConfig:
    """Which clips to keep. A filter is a share (25%: drop the worst quarter of all clips), a value, or off. Clips as good as
    the one at the threshold stay, so that equal scores are not torn apart."""

    motion: str = "25%"
    """Least motion. A value: shorter sides a second."""
    camera: str = "off"
    """Least motion of the camera, shorter sides a second."""
    object: str = "off"
    """Most motion that is not the camera's, shorter sides a second: for orbits of things that stand still."""
    kinds: Annotated[tuple[Kind, ...], SAID] = ()
    """Only clips of these kinds of motion. Default: all."""
    text: str = "25%"
    """Most written text. A value: share of the picture; the paper that this follows names 0.07."""
    aesthetics: str = "25%"
    """Least aesthetic score, where clips have one."""
    clip: str = "50%"
    """Least cosine between clip and caption, where clips have one."""
    sharpness: str = "off"
    """Least sharpness, 0 to 1."""
    duplicates: float = 0.2
    """A clip goes whose fingerprint differs from a kept one's in at most this share of its bits; 0 drops equal ones alone,
    -1 none."""

    def __post_init__(self) -> None:
        self.thresholds()
        unknown = set(self.kinds) - set(get_args(Kind))
        if unknown:
            raise UsageError(
                f"--kinds: expected some of {', '.join(get_args(Kind))}, got {', '.join(sorted(unknown))}"
            )
        if not (self.duplicates == -1 or 0 <= self.duplicates < 0.5):
            raise UsageError(f"--duplicates: expected -1, or 0 to less than 0.5, got {self.duplicates:g}")

    def thresholds(self) -> Mapping[str, Threshold]:
        """By the name of the filter, in the order in which they are applied. Raises UsageError."""
        return {name: Threshold.parse(getattr(self, name), f"--{name}") for name in FILTERS}


@dataclass(frozen=True)
class Filter:
    """score: the entry of a clip's line. least: whether little of it is bad, else much is. about: what it is, with its
    unit."""

    score: str
    least: bool
    about: str


FILTERS: dict[str, Filter] = {
    "motion": Filter("motion", True, "motion at 2 frames a second, shorter sides a second"),
    "camera": Filter("camera", True, "motion of the camera, shorter sides a second"),
    "object": Filter("object", False, "other motion, shorter sides a second"),
    "text": Filter("text", False, "text, share of the picture"),
    "aesthetics": Filter("aesthetics", True, "aesthetic score of LAION's predictor, about 1 to 10"),
    "clip": Filter("caption_fit", True, "cosine of the embeddings of clip and caption"),
    "sharpness": Filter("sharpness", True, "sharpness, 0 to 1"),
}
"""The filters with a threshold, in their order."""
SHARES = (0.125, 0.25, 0.5)
"""Shares of the clips that the paper dropped by each filter, to look at what goes (arXiv 2311.15127, appendix C)."""


def flat(config: object) -> dict[str, object]:
    """The settings as JSON values."""
    return {
        name: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        for name, value in vars(config).items()
    }
