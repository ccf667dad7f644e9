"""The quality gate: what is not worth rendering, and which renderings are not worth training on.

`check_file` looks at a file before it is loaded, `check_model` at what could not be read of it, at the geometry and the
materials (about two milliseconds per thousand faces), `check_frames` at the rendered orbit. Each raises `Rejected` with one of `REASONS`, which reports count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Num

from mv3d.core.colors import linear_from_srgb, srgb_from_linear
from mv3d.core.errors import InputError, Mv3dError, UsageError
from mv3d.orbits.parts import face_areas, part_boxes, touching_groups
from mv3d.orbits.pictures import missing_pictures
from mv3d.render.load_warnings import LoadWarningName
from mv3d.render.model import Material, Model

Reason = Literal[
    # before rendering
    "no_faces",  # a point cloud, or nothing at all
    "zero_size",  # all vertices at one place: a zero scale, or a decoder that is missing
    "too_many_faces",  # above max_faces
    "no_texture",  # all of it in one grey, or without a texture where one is asked for
    "missing_texture",  # a material names a picture that is not there, or the materials themselves are not
    "unusable_texture",  # … or one that cannot be read or placed
    "unsupported",  # the file asks for something that would change its shape or colours
    "too_thin",  # a line, or a sheet without thickness
    "scene",  # several things, or a landscape, instead of one object
    "duplicate",  # the same shape and colours as an earlier object
    "evaluation",  # on the list of objects that are kept for evaluation
    # after rendering
    "blank",  # nothing to see in some view
    "too_small",  # hardly anything to see in most views
    "cropped",  # touches the border of a frame
    "flat",  # one colour without any shading
    "over_exposed",  # too many white pixels
    "too_dark",  # next to black
]
REASONS: tuple[Reason, ...] = get_args(Reason)
UNFIT: dict[LoadWarningName, Reason] = {
    "missing_texture": "missing_texture",
    "unusable_texture": "unusable_texture",
    "missing_material": "missing_texture",
    "unsupported": "unsupported",
}
"""Warnings of the reader with which an object is not the one that its maker meant."""

LET_IN: dict[Reason, str] = {
    "too_many_faces": "--gate.max-faces N",
    "no_texture": "--gate.textures any",
    "missing_texture": "--gate.allow-incomplete",
    "unusable_texture": "--gate.allow-incomplete",
    "unsupported": "--gate.allow-incomplete",
    "too_thin": "--gate.min-second-side 0 --gate.min-third-side 0",
    "scene": "--gate.allow-scenes",
    "blank": "--gate.max-blank-views 0.5",
    "too_small": "--gate.min-coverage 0",
    "cropped": "--gate.border-alpha 1",
    "flat": "--gate.min-contrast 0",
    "over_exposed": "--gate.max-clipped 1",
    "too_dark": "--gate.min-brightness 0",
}
"""Flags of `mv3d orbits render` with which objects of a reason pass; none for what cannot be rendered."""


class Rejected(Mv3dError):
    """An object that the gate turns away: `reason` is one of REASONS, `detail` says what was measured."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # both in args, so that it survives pickling
        self.reason: Reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class GateConfig:
    """The thresholds. Lengths are shares of the largest side of the bounding box."""

    max_faces: int = 500_000
    """Most triangles."""
    textures: Literal["any", "coloured", "textured"] = "coloured"
    """any: all pass. coloured: a texture, vertex colours, several colours or one that is not grey.
    textured: a texture or vertex colours with contrast."""
    allow_incomplete: bool = False
    """Let objects pass whose pictures are missing or cannot be used: they are drawn without them. Without a material
    library they pass with textures any, too."""
    gray_chroma: float = 0.04
    """One colour counts as grey where its sRGB channels differ by less than this, in [0, 1]."""
    min_second_side: float = 0.01
    """Below this second largest side an object is a line."""
    min_third_side: float = 0.0005
    """Below this smallest side an object is a sheet."""
    allow_scenes: bool = False
    """Let whole scenes and sets of things pass."""
    scene_gap: float = 0.02
    """Parts that are farther apart than this do not belong together."""
    scene_groups: int = 6
    """So many groups of parts, none of them dominant, make a scene."""
    scene_dominant: float = 0.5
    """A group with this share of the surface is the object, and the rest belongs to it."""
    ground_groups: int = 3
    """So many groups of parts on a common ground make a scene."""
    ground_thickness: float = 0.02
    """A part at the bottom that is no thicker than this can be a ground."""
    ground_footprint: float = 0.85
    """… if it covers at least this share of the footprint of the whole."""
    min_coverage: float = 0.01
    """A median view with a smaller share of opaque pixels is too small."""
    blank_coverage: float = 0.0005
    """A view with a smaller share is blank."""
    max_blank_views: float = 0.0
    """Share of the views that may be blank."""
    border_alpha: float = 0.5
    """A pixel of the border that is more opaque than this means that the object is cropped."""
    min_contrast: float = 0.01
    """Below this standard deviation of sRGB, in [0, 1], of the median view an object is flat."""
    clipped_value: float = 0.995
    """A pixel is clipped where all its channels reach this."""
    max_clipped: float = 0.3
    """Above this share of clipped pixels, in the mean over the views, an object is over-exposed."""
    min_brightness: float = 0.02
    """Below this 90th percentile of the brightest channel, of the median view, an object is too dark."""

    def __post_init__(self) -> None:
        if self.max_faces < 1:
            raise UsageError(f"--max-faces: expected 1 or more, got {self.max_faces}")
        if self.textures not in ("any", "coloured", "textured"):
            raise UsageError(f"--textures: expected any, coloured or textured, got {self.textures}")


ANYTHING = GateConfig(
    max_faces=10**9,
    textures="any",
    allow_incomplete=True,
    allow_scenes=True,
    min_second_side=0.0,
    min_third_side=0.0,
    min_coverage=0.0,
    min_contrast=0.0,
    max_clipped=1.0,
    min_brightness=0.0,
)
"""Lets all objects pass that can be seen in every view: whether they are worth training on does not matter."""


def check_file(path: Path, config: GateConfig = GateConfig()) -> None:
    """Judge a file before it is loaded: pictures that it names have to be there. Raises Rejected."""
    if config.textures != "any" and not config.allow_incomplete and (missing := missing_pictures(path)):
        raise Rejected("missing_texture", "; ".join(missing[:3]))


def check_model(model: Model, config: GateConfig = GateConfig()) -> None:
    """Judge a model as it was loaded, before rendering. Raises Rejected."""
    _check_warnings(model, config)
    if not len(model.faces):
        raise Rejected("no_faces", "expected triangles, got none")
    if len(model.faces) > config.max_faces:
        raise Rejected("too_many_faces", f"expected at most {config.max_faces} faces, got {len(model.faces)}")
    used = used_vertices(model)
    points = model.vertices[used].astype(np.float64)
    sides = np.ptp(points, axis=0)
    largest = float(sides.max())
    if not largest > 1e-30:
        raise Rejected("zero_size", "all vertices are at one place (zero scale, or a decoder is missing)")
    if not face_areas(model.vertices / largest, model.faces).sum() > 0:
        raise Rejected("zero_size", "no face has an area")
    extent, middle, smallest = sorted(principal_sides(points), reverse=True)
    if middle < config.min_second_side * extent or smallest < config.min_third_side * extent:
        kind = "line" if middle < config.min_second_side * extent else "sheet"
        raise Rejected("too_thin", f"a {kind}: sides 1 : {middle / extent:.4f} : {smallest / extent:.5f}")
    _check_colours(model, used, config)
    if not config.allow_scenes:
        _check_scene(model, largest, config)


def _check_warnings(model: Model, config: GateConfig) -> None:
    """What the reader could not use. The reason is that of the first warning, the detail names all of them."""
    unfit = [warning for warning in model.warnings if warning.name in UNFIT]
    if config.textures == "any":
        unfit = [warning for warning in unfit if warning.name != "missing_material"]
    if unfit and not config.allow_incomplete:
        raise Rejected(UNFIT[unfit[0].name], "; ".join(warning.sentence for warning in unfit[:3]))


def used_vertices(model: Model) -> Bool[np.ndarray, " v"]:
    """Which vertices belong to a face."""
    used = np.zeros(len(model.vertices), bool)
    used[model.faces.reshape(-1)] = True
    return used


def principal_sides(points: Float[np.ndarray, "n 3"]) -> tuple[float, float, float]:
    """Extents along the principal axes, so that a tilted sheet is as thin as a level one."""
    centred = points - points.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    sides = np.ptp(centred @ axes, axis=0)
    return float(sides[0]), float(sides[1]), float(sides[2])


def _check_colours(model: Model, used_vertex: Bool[np.ndarray, " v"], config: GateConfig) -> None:
    if config.textures == "any":
        return
    if model.colors is not None and np.ptp(model.colors[used_vertex, :3], axis=0).max() > 0.02:
        return
    used = [model.materials[k] for k in np.flatnonzero(np.bincount(np.asarray(model.face_material)))]
    if any(_has_contrast(texture) for material in used for texture in _colour_textures(material)):
        return
    if config.textures == "textured":
        raise Rejected("no_texture", f"expected a texture with contrast, got {len(used)} plain material(s)")
    tint = np.ones(3) if model.colors is None else model.colors[model.faces[0, 0], :3]
    colours = np.array([srgb_from_linear(_mean_colour(material) * tint) for material in used])
    if np.ptp(colours, axis=0).max() < config.gray_chroma and (
        np.ptp(colours, axis=1).max() < config.gray_chroma
    ):
        value = ", ".join(f"{v:.2f}" for v in colours[0])
        raise Rejected("no_texture", f"expected a texture or colours, got one grey ({value}) all over")


def _colour_textures(material: Material) -> list[np.ndarray]:
    glows = max(material.emissive) > 0
    pictures = [material.base_color_texture, material.emissive_texture if glows else None]
    return [picture for picture in pictures if picture is not None]


def _has_contrast(texture: Num[np.ndarray, "h w c"]) -> bool:
    rows, columns = (max(1, side // 64) for side in texture.shape[:2])
    return float(texture[::rows, ::columns, :3].std((0, 1)).max()) > 2.0


def _mean_colour(material: Material) -> Float[np.ndarray, " 3"]:
    """Linear, of base and emission together."""
    base = np.array(material.base_color[:3], np.float64)
    if material.base_color_texture is not None:
        base *= linear_from_srgb(material.base_color_texture[..., :3].reshape(-1, 3).mean(0) / 255)
    glow = np.array(material.emissive, np.float64)
    if material.emissive_texture is not None:
        glow *= linear_from_srgb(material.emissive_texture.reshape(-1, 3).mean(0) / 255)
    return np.clip(base + glow, 0, 1)


def _check_scene(model: Model, largest: float, config: GateConfig) -> None:
    """Whole scenes: several groups of parts without a dominant one, on a common ground or apart."""
    boxes, areas = part_boxes(model.vertices, model.faces, largest)
    if len(boxes) < config.ground_groups:
        return
    ground = _ground(boxes, largest, config)
    standing = ~ground
    if not standing.any() or areas[standing].sum() <= 0:
        return
    shares = touching_groups(boxes[standing], areas[standing], config.scene_gap * largest)
    groups, dominant = len(shares), float(shares.max())
    limit = config.ground_groups if ground.any() else config.scene_groups
    if groups >= limit and dominant < config.scene_dominant:
        where = "on a common ground" if ground.any() else "apart from each other"
        raise Rejected(
            "scene", f"{groups} groups of parts {where}, the largest with {dominant:.0%} of the surface"
        )


def _ground(boxes: Float[np.ndarray, "n 2 3"], largest: float, config: GateConfig) -> Bool[np.ndarray, " n"]:
    """Which parts are a ground: thin, at the bottom, and as large as the whole seen from above.

    Walls are not looked for: a bookcase has them as a room has.
    """
    size, low = boxes[:, 1] - boxes[:, 0], boxes[:, 0].min(0)
    whole = np.maximum(boxes[:, 1].max(0) - low, 1e-12 * largest)
    if whole[2] < 5 * config.ground_thickness * largest:  # a plate with its screws
        return np.zeros(len(boxes), bool)
    footprint = (size[:, 0] / whole[0]) * (size[:, 1] / whole[1])
    thin = size[:, 2] <= config.ground_thickness * largest
    bottom = boxes[:, 0, 2] <= low[2] + 0.1 * whole[2]
    return thin & bottom & (footprint >= config.ground_footprint)


def check_frames(
    frames: Num[np.ndarray, "n h w 4"] | Sequence[Num[np.ndarray, "h w 4"]], config: GateConfig = GateConfig()
) -> None:
    """Judge a rendered orbit: straight-alpha sRGB frames, uint8 or float in [0, 1]. Raises Rejected.

    Statistics are of every second pixel in both directions; the border is looked at whole.
    """
    if not len(frames):
        raise InputError("frames: expected at least one, got none")
    rows = np.array([_frame_statistics(frame, config) for frame in frames])
    coverage, border, contrast, clipped, brightness = rows.T
    blank = coverage < config.blank_coverage
    if blank.mean() > config.max_blank_views:
        raise Rejected("blank", f"{blank.sum()} of {len(rows)} views are empty")
    if np.median(coverage) < config.min_coverage:
        raise Rejected("too_small", f"covers {np.median(coverage):.2%} of the median view")
    if border.max() > config.border_alpha:
        views = int((border > config.border_alpha).sum())
        raise Rejected("cropped", f"touches the border in {views} of {len(rows)} views")
    if clipped.mean() > config.max_clipped:
        raise Rejected("over_exposed", f"{clipped.mean():.0%} of the object is clipped to white")
    if np.median(brightness) < config.min_brightness:
        raise Rejected("too_dark", f"bright parts reach {np.median(brightness):.3f} of 1")
    if np.median(contrast) < config.min_contrast:
        raise Rejected("flat", f"standard deviation of the colour {np.median(contrast):.4f} of 1")


def _frame_statistics(
    frame: Num[np.ndarray, "h w 4"], config: GateConfig
) -> tuple[float, float, float, float, float]:
    """Coverage, most opaque border pixel, contrast, clipped share, brightness of one view."""
    if frame.ndim != 3 or frame.shape[2] != 4:
        raise InputError(f"frame: expected shape (h, w, 4), got {frame.shape}")
    top = 255.0 if frame.dtype == np.uint8 else 1.0
    alpha = frame[..., 3]
    edges = (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])
    border = max(float(edge.max()) for edge in edges) / top
    solid = alpha[::2, ::2] > 0.5 * top
    coverage = float(solid.mean())
    if not solid.any():
        return coverage, border, 0.0, 0.0, 0.0
    colours = frame[::2, ::2, :3][solid].astype(np.float32) / top
    contrast = float(colours.std(0).max())
    clipped = float((colours.min(1) >= config.clipped_value).mean())
    brightness = float(np.quantile(colours.max(1), 0.9))
    return coverage, border, contrast, clipped, brightness


def count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """How often each reason came, the most frequent first: for reports."""
    return dict(sorted(Counter(reasons).items(), key=lambda pair: (-pair[1], pair[0])))
