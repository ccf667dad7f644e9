"""Small video clips whose cuts, camera and content are known: what the filters of `mv3d clips` are measured on.

Pictures are dead-leaves textures (Lee, Mumford and Huang 2001: discs and boxes of power-law sizes that hide one another,
the simplest pictures with the edges and the scale invariance of photographs). Pans and zooms move a window over one;
orbits are rendered by mv3d: boxes on a floor before walls, seen from a camera that circles them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from mv3d.clips.video import Writer
from mv3d.render.cameras import orbit_cameras
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import render_views

WIDTH, HEIGHT, FPS, FRAMES = 128, 96, 8, 24
COUNTS = {"pan": 8, "zoom": 8, "orbit": 8, "static": 7, "object": 8, "cut": 8, "text": 7, "fade": 6}
"""Clips of each kind: 60."""
Frames = UInt8[np.ndarray, "n h w 3"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A clip and the truth about it.

    motion: pan, zoom, orbit, static or object; None where it has several shots. boundaries: (last frame of a shot, first
    frame of the next); between them lie the frames of a gradual transition. text_area: share of the picture that is
    covered by letters' lines.
    """

    name: str
    frames: Frames
    motion: str | None
    boundaries: tuple[tuple[int, int], ...] = ()
    text_area: float = 0.0
    blurred: bool = False
    copy_of: str | None = None


def labelled_clips(seed: int, counts: dict[str, int] | None = None) -> list[Labelled]:
    """The clips of a seed; each depends on its kind, its number and the seed alone."""
    made = []
    for kind, count in (counts or COUNTS).items():
        for number in range(count):
            rng = np.random.default_rng([seed, list(COUNTS).index(kind), number])
            made.append(_MAKERS[kind](f"{kind}-{number:02d}", number, rng))
    return made


def blurred(clip: Labelled, sigma: float = 2.5) -> Labelled:
    """The clip out of focus."""
    frames = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip.frames])
    return replace(clip, name=f"{clip.name}-blurred", frames=frames, blurred=True)


def copied(clip: Labelled, number: int) -> Labelled:
    """The clip as somebody else would put it up: smaller, brighter, or without its first frames."""
    frames = clip.frames
    if number % 3 == 0:
        frames = np.stack([cv2.resize(frame, (96, 72), interpolation=cv2.INTER_AREA) for frame in frames])
    elif number % 3 == 1:
        frames = np.clip(frames.astype(np.float32) * 1.08 + 6, 0, 255).astype(np.uint8)
    else:
        frames = frames[1:-1]
    return replace(clip, name=f"{clip.name}-copy", frames=frames, copy_of=clip.name)


def save(clip: Labelled, folder: Path, *, crf: int = 20) -> Path:
    """Write it as an mp4."""
    path = folder / f"{clip.name}.mp4"
    height, width = clip.frames.shape[1:3]
    with Writer(path, width=width, height=height, fps=Fraction(FPS), crf=crf) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return path


def dead_leaves(side: int, rng: np.random.Generator, *, leaves: int = 1500) -> Frames:
    """(side, side, 3) sRGB: discs and boxes, radii with density r⁻³, each shaded and grained a little."""
    picture = np.empty((side, side, 3), np.uint8)
    picture[:] = rng.integers(40, 200, 3)
    smallest, largest = side / 120, side / 7
    palette = rng.integers(20, 236, (12, 3))
    for _ in range(leaves):
        share = rng.random()
        radius = (smallest**-2 + share * (largest**-2 - smallest**-2)) ** -0.5
        x, y = rng.uniform(0, side, 2)
        color = np.clip(palette[rng.integers(len(palette))] + rng.normal(0, 18, 3), 0, 255).tolist()
        if rng.random() < 0.5:
            cv2.circle(picture, (round(x), round(y)), max(1, round(radius)), color, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints(((x, y), (2 * radius, radius * rng.uniform(0.6, 2)), rng.uniform(0, 90)))
            cv2.fillPoly(picture, [corners.round().astype(np.int32)], color, cv2.LINE_AA)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (side, side, 1)).astype(np.float32), (0, 0), 1.0)[..., None]
    return np.clip(picture + 30 * grain, 0, 255).astype(np.uint8)


def window(
    texture: Frames,
    center: Sequence[float] | Float[np.ndarray, " 2"],
    scale: float,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Frames:
    """A picture of a part of a texture. center: (x, y) in it. scale: its pixels for one of the picture."""
    matrix = np.array([[scale, 0, center[0] - scale * width / 2], [0, scale, center[1] - scale * height / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(texture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)


def pan_frames(
    rng: np.random.Generator, frames: int = FRAMES, *, speed: float | None = None, angle: float | None = None
) -> Frames:
    """The window moves evenly. speed: heights a second. angle: radians, of the window's way."""
    texture, angle = dead_leaves(640, rng), rng.uniform(0, 2 * np.pi) if angle is None else angle
    speed = rng.uniform(0.12, 0.6) if speed is None else speed
    step = speed * HEIGHT / FPS * np.array([np.cos(angle), np.sin(angle)])
    start = np.full(2, 320.0) - step * (frames - 1) / 2
    return np.stack([window(texture, start + step * number, 1.0) for number in range(frames)])


def zoom_frames(rng: np.random.Generator, frames: int = FRAMES, *, rate: float | None = None) -> Frames:
    """The window grows or shrinks around a point near its middle. rate: ln of the scale a second."""
    texture = dead_leaves(640, rng)
    rate = float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.5)) if rate is None else rate
    center = 320 + rng.uniform(-6, 6, 2)
    scales = 1.4 * np.exp(-rate * (np.arange(frames) - (frames - 1) / 2) / FPS)
    return np.stack([window(texture, center, scale) for scale in scales])


def static_frames(rng: np.random.Generator, frames: int = FRAMES, *, noise: float = 2.0) -> Frames:
    """One picture with the noise of a sensor."""
    still = window(dead_leaves(320, rng), (160, 160), 1.2).astype(np.float32)
    grain = rng.normal(0, noise, (frames, *still.shape)) if noise else np.zeros((frames, *still.shape))
    return np.clip(still + grain, 0, 255).astype(np.uint8)


def object_frames(rng: np.random.Generator, frames: int = FRAMES) -> Frames:
    """Things move before a still background."""
    still = window(dead_leaves(320, rng), (160, 160), 1.2)
    things = []
    for _ in range(rng.integers(1, 3)):
        side = int(rng.uniform(0.3, 0.5) * HEIGHT)
        skin = dead_leaves(128, rng, leaves=200)[:side, :side]
        mask = np.zeros((side, side, 1), np.float32)
        if rng.random() < 0.5:
            cv2.circle(mask, (side // 2, side // 2), side // 2 - 1, 1.0, -1, cv2.LINE_AA)
        else:
            mask[1:-1, 1:-1] = 1
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.45) * HEIGHT / FPS
        step = speed * np.array([np.cos(angle), np.sin(angle)])
        middle = np.array([WIDTH, HEIGHT]) * rng.uniform(0.35, 0.65, 2)
        things.append((skin, mask, middle - step * (frames - 1) / 2, step))
    made = []
    for number in range(frames):
        picture = still.astype(np.float32)
        for skin, mask, start, step in things:
            x, y = start + number * step - len(skin) / 2
            matrix = np.array([[1, 0, x], [0, 1, y]])
            laid = cv2.warpAffine(skin.astype(np.float32), matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
            alpha = cv2.warpAffine(mask, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)[..., None]
            picture = picture * (1 - alpha) + laid * alpha
        made.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(made)


def orbit_frames(
    rng: np.random.Generator, frames: int = FRAMES, *, width: int = WIDTH, height: int = HEIGHT,
    turn_deg: float | None = None,
) -> Frames:  # fmt: skip
    """Boxes on a floor before walls, from a camera that circles them. turn_deg: in all."""
    if turn_deg is None:
        turn_deg = float(rng.choice([-1, 1]) * rng.uniform(40, 110))
    azimuths = rng.uniform(0, 360) + turn_deg * np.linspace(0, 1, frames)
    cameras = orbit_cameras(
        rng.uniform(8, 25), azimuths, radius=2.2, fov_deg=42.0, width=width, height=height
    )
    rendered = render_views(textured_room(rng), cameras, supersample=2)
    return np.clip(rendered[..., :3] * 255 + 0.5, 0, 255).astype(np.uint8)


def write_text(
    frames: Frames, lines: Sequence[str], size: int, rng: np.random.Generator
) -> tuple[Frames, float]:
    """Lines of letters with a dark rim, at the same place in every frame; and the share of the picture they cover."""
    font = ImageFont.load_default(size)
    layer = Image.new("RGBA", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(layer)
    top = rng.uniform(0.1, 0.8) * (HEIGHT - len(lines) * (size + 3))
    area = 0.0
    for number, line in enumerate(lines):
        place = ((WIDTH - draw.textlength(line, font=font)) / 2, top + number * (size + 3))
        draw.text(place, line, fill="white", font=font, stroke_width=1, stroke_fill="black")
        left, upper, right, lower = draw.textbbox(place, line, font=font)
        area += max(0, min(right, WIDTH) - max(left, 0)) * (lower - upper)
    laid = np.asarray(layer, np.float32)
    alpha = laid[..., 3:] / 255
    return (frames * (1 - alpha) + laid[..., :3] * alpha).astype(np.uint8), area / (WIDTH * HEIGHT)


def textured_room(
    rng: np.random.Generator, *, side: int = 1024, leaves: int = 2500, enlarged: float = 1.0
) -> Mesh:
    """Boxes on a floor, Z up, around the origin, and twelve walls 3 from it. side, leaves: of the texture's picture.
    enlarged: its scale."""
    texture = dead_leaves(side, rng, leaves=leaves)
    quads: list[Float[np.ndarray, "4 3"]] = [
        np.array([[-3, -3, -0.4], [3, -3, -0.4], [3, 3, -0.4], [-3, 3, -0.4]])
    ]
    angles = np.linspace(0, 2 * np.pi, 13)
    ring = 3 * np.stack([np.cos(angles), np.sin(angles)], 1)
    for a, b in pairwise(ring):
        quads.append(np.array([[*a, -0.4], [*b, -0.4], [*b, 2.6], [*a, 2.6]]))
    for _ in range(rng.integers(3, 6)):
        low = np.array([*rng.uniform(-0.45, 0.1, 2), -0.4])
        high = low + np.array([*rng.uniform(0.25, 0.5, 2), rng.uniform(0.3, 0.8)])
        corner = np.array(
            [[x, y, z] for z in (low[2], high[2]) for y in (low[1], high[1]) for x in (low[0], high[0])]
        )
        quads += [
            corner[list(ids)]
            for ids in ((0, 1, 5, 4), (1, 3, 7, 5), (3, 2, 6, 7), (2, 0, 4, 6), (4, 5, 7, 6))
        ]
    uv = []
    for quad in quads:
        across, up = (np.linalg.norm(quad[i] - quad[0]) for i in (1, 3))
        size = np.minimum(np.array([across, up]) * 0.14 / enlarged, 0.98)
        start = rng.uniform(0, 1 - size)
        uv.append(start + size * np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    first = 4 * np.arange(len(quads))[:, None, None]
    faces = (first + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    return Mesh(np.concatenate(quads), faces, uv=np.concatenate(uv), texture=texture)


def _single(motion: str, make: Callable[[np.random.Generator], Frames]) -> Callable[..., Labelled]:
    return lambda name, number, rng: Labelled(name, make(rng), motion)


def _shot(rng: np.random.Generator, frames: int) -> Frames:
    kinds = (pan_frames, zoom_frames, static_frames, object_frames)
    return kinds[rng.integers(len(kinds))](rng, frames)


def _cut(name: str, number: int, rng: np.random.Generator) -> Labelled:
    lengths = rng.integers(10, 18, rng.integers(2, 4))
    ends = np.cumsum(lengths)[:-1]
    frames = np.concatenate([_shot(rng, int(length)) for length in lengths])
    return Labelled(name, frames, None, tuple((int(end) - 1, int(end)) for end in ends))


def _fade(name: str, number: int, rng: np.random.Generator) -> Labelled:
    """Through black where the number is even, from one shot into the other where it is odd."""
    length, gap = int(rng.integers(14, 20)), int(rng.integers(5, 9))
    first = _shot(rng, length + gap).astype(np.float32)
    second = _shot(rng, length + gap).astype(np.float32)
    share = (np.arange(gap) + 1)[:, None, None, None] / (gap + 1)
    if number % 2:
        middle = first[length:] * (1 - share) + second[:gap] * share
        frames = np.concatenate([first[:length], middle, second[gap:]])
        boundary = (length - 1, length + gap)
    else:
        down, up = first[length:] * (1 - share), second[:gap] * share
        black = np.zeros_like(down[:2])
        frames = np.concatenate([first[:length], down, black, up, second[gap:]])
        boundary = (length - 1, length + 2 * gap + 2)
    return Labelled(name, frames.astype(np.uint8), None, (boundary,))


_WORDS = "SALE TODAY ONLY SUBSCRIBE NOW BREAKING NEWS LIVE FROM THE STUDIO CHAPTER ONE THANK YOU".split()


def _text(name: str, number: int, rng: np.random.Generator) -> Labelled:
    """A caption; every fourth is a small mark, which may stay."""
    motion = ("static", "pan", "zoom")[number % 3]
    frames = {"static": static_frames, "pan": pan_frames, "zoom": zoom_frames}[motion](rng)
    if number % 4 == 3:
        frames, area = write_text(frames, ["mv3d"], 10, rng)
    else:
        words = rng.choice(_WORDS, 6)
        frames, area = write_text(frames, [" ".join(words[:2]), " ".join(words[2:4])], 15, rng)
    return Labelled(name, frames, motion, text_area=area)


_MAKERS: dict[str, Callable[[str, int, np.random.Generator], Labelled]] = {
    "pan": _single("pan", pan_frames),
    "zoom": _single("zoom", zoom_frames),
    "orbit": _single("orbit", orbit_frames),
    "static": _single("static", static_frames),
    "object": _single("object", object_frames),
    "cut": _cut,
    "text": _text,
    "fade": _fade,
}
