"""Materials drawn by a generator: what a part is made of, and how long one repeat of its texture is."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from mv3d.orbits.procedural import patterns
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.patterns import Colour, Picture
from mv3d.render.model import Material

_SIZE = 128  # pixels; textures repeat, so that they need no more
_FINE = 256  # for what does not repeat


@dataclass(frozen=True, eq=False)
class Look:
    """A material and how it lies. tile: length of one repeat of its texture; 0 fits it on the part once.
    turned: u and v are exchanged, so that grain runs along v."""

    material: Material
    tile: float = 0.4
    turned: bool = False

    def along_v(self) -> Look:
        """Grain along the part's v: along a leg on a lathe, round a tube."""
        return replace(self, turned=not self.turned)


def of(name: str, picture: Picture, *, roughness: float, metallic: float = 0.0, tile: float = 0.4) -> Look:
    """A look with that picture as base colour."""
    opaque = np.full((*picture.shape[:2], 1), 255, np.uint8)
    texture = np.concatenate([picture, opaque], 2)
    return Look(Material(name, base_color_texture=texture, metallic=metallic, roughness=roughness), tile)


def colour(rng: np.random.Generator, *, hue: float | None = None) -> Colour:
    """A paint: mostly strong, sometimes pale, grey, light or dark."""
    hue = float(rng.random()) if hue is None else hue % 1
    kind = pick(rng, ("strong", "pale", "dull", "white", "dark"), (5, 2, 2, 1.2, 1))
    if kind == "strong":
        return hsv(hue, between(rng, 0.6, 0.95), between(rng, 0.55, 0.95))
    if kind == "pale":
        return hsv(hue, between(rng, 0.15, 0.4), between(rng, 0.8, 0.97))
    if kind == "dull":
        return hsv(hue, between(rng, 0.15, 0.5), between(rng, 0.35, 0.7))
    if kind == "white":
        return hsv(hue, between(rng, 0.0, 0.08), between(rng, 0.85, 0.95))
    return hsv(hue, between(rng, 0.1, 0.6), between(rng, 0.16, 0.32))


def strong(rng: np.random.Generator) -> Colour:
    """A colour of toys."""
    return hsv(float(rng.random()), between(rng, 0.65, 0.95), between(rng, 0.65, 0.97))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


def shade(of_colour: Colour, factor: float) -> Colour:
    """Darker (below 1) or lighter (above 1)."""
    r, g, b = (min(1.0, value * factor) for value in of_colour)
    return r, g, b


def contrast(rng: np.random.Generator, ground: Colour) -> Colour:
    """A colour that is seen on that ground."""
    for _ in range(12):
        other = colour(rng)
        if sum(abs(a - b) for a, b in zip(other, ground, strict=True)) > 0.7:
            return other
    return (0.08, 0.08, 0.1) if sum(ground) > 1.5 else (0.95, 0.93, 0.88)


_WOODS: tuple[tuple[Colour, Colour], ...] = (
    ((0.87, 0.71, 0.50), (0.68, 0.48, 0.29)),  # pine
    ((0.93, 0.83, 0.66), (0.80, 0.66, 0.47)),  # birch
    ((0.72, 0.50, 0.30), (0.50, 0.31, 0.16)),  # oak
    ((0.50, 0.31, 0.19), (0.30, 0.17, 0.09)),  # walnut
    ((0.62, 0.28, 0.17), (0.40, 0.14, 0.08)),  # mahogany
    ((0.36, 0.25, 0.18), (0.20, 0.13, 0.10)),  # wenge
    ((0.75, 0.70, 0.63), (0.55, 0.50, 0.45)),  # weathered
)


def wood(rng: np.random.Generator) -> Look:
    """Bare or stained wood."""
    light, dark = pick(rng, _WOODS)
    picture = (patterns.boards if chance(rng, 0.08) else patterns.wood)(rng, _SIZE, light, dark)
    return of("wood", picture, roughness=between(rng, 0.35, 0.75), tile=between(rng, 0.25, 0.6))


def paint(rng: np.random.Generator, tint: Colour | None = None) -> Look:
    """One colour, glossy or matt, sometimes worn."""
    tint = colour(rng) if tint is None else tint
    if chance(rng, 0.12):
        picture = patterns.rust(rng, _SIZE, tint, contrast(rng, tint))
        return of("worn_paint", picture, roughness=0.7, tile=between(rng, 0.4, 1.0))
    return of("paint", patterns.plain(rng, _SIZE, tint), roughness=between(rng, 0.2, 0.7), tile=0.7)


def plastic(rng: np.random.Generator, tint: Colour | None = None) -> Look:
    tint = strong(rng) if tint is None else tint
    return of("plastic", patterns.plain(rng, _SIZE, tint, 0.02), roughness=between(rng, 0.2, 0.5), tile=0.7)


def metal(rng: np.random.Generator) -> Look:
    """Steel, chrome, brass, copper, or black iron."""
    name, tint = pick(
        rng,
        (
            ("steel", (0.75, 0.76, 0.78)),
            ("chrome", (0.90, 0.91, 0.92)),
            ("brass", (0.85, 0.68, 0.36)),
            ("copper", (0.86, 0.52, 0.38)),
            ("iron", (0.30, 0.30, 0.32)),
        ),
        (4, 2, 1.5, 1, 2),
    )
    metallic = 1.0 if name != "iron" else 0.3
    return of(name, patterns.brushed(rng, _SIZE, tint), roughness=between(rng, 0.25, 0.5), metallic=metallic)


def fabric(rng: np.random.Generator, tint: Colour | None = None) -> Look:
    """Cloth: woven, striped, checked, dotted, or leather."""
    tint = colour(rng) if tint is None else tint
    other = contrast(rng, tint)
    kind = pick(
        rng, ("weave", "plain", "stripes", "checks", "dots", "leather", "mottled"), (3, 2, 2, 1.5, 1, 2, 1)
    )
    tile = between(rng, 0.15, 0.4)
    if kind == "weave":
        picture = patterns.weave(rng, _SIZE, tint, shade(tint, between(rng, 0.6, 1.2)))
    elif kind == "plain":
        picture = patterns.plain(rng, _SIZE, tint, 0.12)
    elif kind == "stripes":
        picture = patterns.stripes(rng, _SIZE, (tint, other, shade(tint, 0.7))[: count(rng, 2, 3)])
    elif kind == "checks":
        picture = patterns.checks(rng, _SIZE, (tint, other))
    elif kind == "dots":
        picture = patterns.dots(rng, _SIZE, tint, other)
    elif kind == "leather":
        tint = pick(
            rng, ((0.45, 0.25, 0.14), (0.22, 0.14, 0.10), (0.65, 0.42, 0.24), (0.13, 0.13, 0.14), tint)
        )
        return of("leather", patterns.stone(rng, _SIZE, tint, shade(tint, 0.75)), roughness=0.5, tile=0.25)
    else:
        picture = patterns.speckle(rng, _SIZE, tint, other)
    return of(f"{kind}_fabric", picture, roughness=between(rng, 0.8, 1.0), tile=tile)


def ceramic(rng: np.random.Generator) -> Look:  # noqa: PLR0911 - one kind after another
    """Glazed or raw earthenware: one colour, speckled, banded or fading."""
    tint = colour(rng)
    other = contrast(rng, tint)
    kind = pick(
        rng,
        ("plain", "speckle", "bands", "fade", "terracotta", "marble", "sign", "dots"),
        (3, 2, 2, 2, 1, 1, 3, 1),
    )
    gloss = between(rng, 0.1, 0.4)
    if kind == "plain":
        return of("glaze", patterns.plain(rng, _SIZE, tint, 0.06), roughness=gloss)
    if kind == "speckle":
        return of("speckled_glaze", patterns.speckle(rng, _SIZE, tint, other), roughness=gloss, tile=0.35)
    if kind == "bands":
        return of("banded_glaze", patterns.stripes(rng, _SIZE, (tint, other)), roughness=gloss, tile=0.0)
    if kind == "fade":
        colours = (tint, other, colour(rng))[: count(rng, 2, 3)]
        return of("fading_glaze", patterns.fade(rng, _SIZE, colours), roughness=gloss, tile=0.0)
    if kind == "terracotta":
        clay = hsv(between(rng, 0.03, 0.07), between(rng, 0.5, 0.65), between(rng, 0.6, 0.8))
        return of("terracotta", patterns.stone(rng, _SIZE, clay, shade(clay, 0.85)), roughness=0.9)
    if kind == "marble":
        return of("marbled_glaze", patterns.marble(rng, _SIZE, tint, other), roughness=gloss, tile=0.6)
    if kind == "dots":
        return of("dotted_glaze", patterns.dots(rng, _SIZE, tint, other), roughness=gloss, tile=0.5)
    return sign(rng, tint, repeats=count(rng, 1, 3))


def sign(rng: np.random.Generator, ground: Colour | None = None, *, repeats: int = 1) -> Look:
    """A printed label, fitted on the part."""
    ground = colour(rng) if ground is None else ground
    inks = [contrast(rng, ground) for _ in range(3)]
    return of(
        "print", patterns.sign(rng, _FINE, ground, inks, repeats), roughness=between(rng, 0.2, 0.5), tile=0.0
    )


def glass(rng: np.random.Generator) -> Look:
    """Tinted glass as an opaque, shiny surface: nothing is seen through it."""
    tint = pick(
        rng,
        ((0.16, 0.42, 0.22), (0.42, 0.24, 0.08), (0.55, 0.72, 0.78), (0.12, 0.25, 0.5), (0.75, 0.8, 0.78)),
    )
    return of("glass", patterns.plain(rng, _SIZE, tint, 0.08), roughness=between(rng, 0.05, 0.2), tile=0.8)


def pane(rng: np.random.Generator) -> Look:
    """A window: dark, or bright with the sky in it."""
    tint = pick(rng, ((0.12, 0.15, 0.2), (0.2, 0.3, 0.4), (0.55, 0.7, 0.82), (0.85, 0.75, 0.45)))
    return of("pane", patterns.plain(rng, 64, tint, 0.15), roughness=0.1, tile=0.8)


def wall(rng: np.random.Generator) -> Look:
    """Brick, plaster, stone blocks, or boards."""
    kind = pick(rng, ("brick", "plaster", "stone", "boards"), (3, 3, 2, 1.5))
    if kind == "brick":
        clay = hsv(between(rng, 0.01, 0.09), between(rng, 0.35, 0.65), between(rng, 0.5, 0.8))
        mortar = pick(rng, ((0.78, 0.75, 0.7), (0.5, 0.48, 0.46), (0.9, 0.88, 0.84)))
        return of(
            "brick", patterns.bricks(rng, _SIZE, clay, mortar), roughness=0.95, tile=between(rng, 0.2, 0.4)
        )
    if kind == "plaster":
        return of(
            "plaster", patterns.stone(rng, _SIZE, (tint := colour(rng)), shade(tint, 0.9)), roughness=0.95
        )
    if kind == "stone":
        grey = hsv(between(rng, 0.05, 0.15), between(rng, 0.03, 0.25), between(rng, 0.5, 0.8))
        return of(
            "stone_blocks", patterns.bricks(rng, _SIZE, grey, shade(grey, 0.5)), roughness=0.95, tile=0.5
        )
    light, dark = pick(rng, _WOODS)
    return of("boards", patterns.boards(rng, _SIZE, light, dark), roughness=0.85, tile=between(rng, 0.3, 0.5))


def roof(rng: np.random.Generator) -> Look:
    tint = pick(
        rng, ((0.66, 0.28, 0.18), (0.35, 0.36, 0.4), (0.5, 0.33, 0.22), (0.3, 0.42, 0.35), (0.25, 0.3, 0.5))
    )
    return of(
        "roof",
        patterns.tiles(rng, _SIZE, tint, shade(tint, 0.4)),
        roughness=0.8,
        tile=between(rng, 0.15, 0.3),
    )


def leaf(rng: np.random.Generator) -> Look:
    """Leaves and grass: green, at times in autumn's colours."""
    hue = between(rng, 0.2, 0.38) if chance(rng, 0.8) else between(rng, 0.0, 0.14)
    tint = hsv(hue, between(rng, 0.45, 0.8), between(rng, 0.35, 0.7))
    return of(
        "leaf", patterns.stone(rng, _SIZE, shade(tint, 1.25), shade(tint, 0.55)), roughness=0.8, tile=0.35
    )


def bark(rng: np.random.Generator) -> Look:
    tint = hsv(between(rng, 0.05, 0.1), between(rng, 0.2, 0.5), between(rng, 0.35, 0.7))
    return of("bark", patterns.bark(rng, _SIZE, tint, shade(tint, 0.45)), roughness=0.95, tile=0.25)


def fur(rng: np.random.Generator) -> Look:
    tint = pick(
        rng, ((0.6, 0.4, 0.22), (0.8, 0.62, 0.42), (0.35, 0.22, 0.14), (0.75, 0.74, 0.72), colour(rng))
    )
    return of("fur", patterns.stone(rng, _SIZE, shade(tint, 1.1), shade(tint, 0.7)), roughness=1.0, tile=0.15)


def stone(rng: np.random.Generator) -> Look:
    """Rough or polished stone, grey to brown, or concrete."""
    tint = hsv(between(rng, 0.05, 0.15), between(rng, 0.02, 0.3), between(rng, 0.35, 0.85))
    picture = pick(rng, (patterns.stone, patterns.marble, patterns.speckle))(
        rng, _SIZE, tint, shade(tint, between(rng, 0.5, 0.8))
    )
    return of("stone", picture, roughness=between(rng, 0.3, 0.95), tile=between(rng, 0.3, 0.8))


def rubber(rng: np.random.Generator) -> Look:
    tone = between(rng, 0.07, 0.16)
    light, dark = (tone * 1.3, tone * 1.3, tone * 1.3), (tone, tone, tone)
    return of("rubber", patterns.stone(rng, 64, light, dark), roughness=0.9, tile=0.2)


def printed(rng: np.random.Generator) -> Look:
    """A bold pattern of any kind: for composites and toys."""
    tint = colour(rng)
    other = contrast(rng, tint)
    kind = pick(
        rng,
        (patterns.marble, patterns.speckle, patterns.dots, patterns.weave, patterns.tiles, patterns.stone),
    )
    if chance(rng, 0.4):
        picture = pick(rng, (patterns.stripes, patterns.checks))(rng, _SIZE, (tint, other))
    else:
        picture = kind(rng, _SIZE, tint, other)
    return of("pattern", picture, roughness=between(rng, 0.2, 0.9), tile=between(rng, 0.25, 0.7))


def anything(rng: np.random.Generator) -> Look:
    """Any of the above."""
    kinds = (wood, paint, plastic, metal, fabric, ceramic, sign, glass, wall, leaf, printed, roof)
    return pick(rng, kinds, (2, 3, 2, 1, 2, 2, 1, 0.5, 1, 0.5, 4, 0.5))(rng)
