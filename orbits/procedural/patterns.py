"""Pictures made of formulas: wood, stone, cloth, brick and signs. All but `sign` and `fade` tile in u and v.

Colours are sRGB triples in [0, 1]; pictures are (size, size, 3) uint8, row 0 at the top.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.orbits.procedural.draws import between, chance, count, pick

Colour = tuple[float, float, float]
Picture = UInt8[np.ndarray, "s s 3"]


def noise(
    rng: np.random.Generator, size: int, *, roughness: float = 1.0, stretch: tuple[float, float] = (1.0, 1.0)
) -> Float[np.ndarray, "s s"]:
    """Periodic noise in [0, 1], mean 1/2: white noise with amplitudes of 1 / frequency^(1 / roughness).

    roughness: about 0.5 (clouds) to 2 (sand). stretch: how much longer its grains are in u and in v.
    """
    u = np.fft.rfftfreq(size, 1 / size) * stretch[0]
    v = np.fft.fftfreq(size, 1 / size) * stretch[1]
    frequency = np.hypot(*np.meshgrid(u, v))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * frequency ** (-1 / roughness)
    values = np.fft.irfft2(spectrum, (size, size))
    return np.clip(0.5 + values / (5 * max(float(values.std()), 1e-12)), 0, 1)


def blend(mask: Float[np.ndarray, "s s"], low: Colour, high: Colour) -> Picture:
    """The colour `low` where the mask is 0, `high` where it is 1."""
    mask = np.clip(mask, 0, 1)[..., None]
    return _bytes(np.asarray(low) * (1 - mask) + np.asarray(high) * mask)


def plain(rng: np.random.Generator, size: int, colour: Colour, unrest: float = 0.05) -> Picture:
    """One colour that is hardly uneven."""
    value = (noise(rng, size, roughness=0.8) - 0.5) * 2 * unrest
    return _bytes(np.asarray(colour) * (1 + value[..., None]))


def wood(rng: np.random.Generator, size: int, light: Colour, dark: Colour) -> Picture:
    """Grain along u: bent year rings and fine pores."""
    bend = noise(rng, size, roughness=0.5, stretch=(between(rng, 4, 9), 1))
    rings = count(rng, 3, 8)
    v = (np.arange(size) + 0.5)[:, None] / size
    wave = np.sin(2 * np.pi * (rings * v + between(rng, 2, 5) * bend))
    pores = noise(rng, size, roughness=1.6, stretch=(between(rng, 12, 24), 1))
    mask = 0.5 + between(rng, 0.18, 0.4) * wave + 0.7 * (pores - 0.5)
    return blend(mask, light, dark)


def boards(rng: np.random.Generator, size: int, light: Colour, dark: Colour) -> Picture:
    """Boards side by side along u, with gaps."""
    picture = wood(rng, size, light, dark).astype(np.float64) / 255
    number = count(rng, 3, 6)
    v = (np.arange(size) + 0.5) / size * number
    shade = rng.uniform(0.78, 1.1, number)[np.floor(v).astype(int) % number]
    shade[np.abs(v - np.round(v)) < 0.03] = 0.35
    return _bytes(picture * shade[:, None, None])


def marble(rng: np.random.Generator, size: int, light: Colour, dark: Colour) -> Picture:
    """Clouds with thin veins."""
    veins = 1 - np.abs(noise(rng, size, roughness=0.7) - 0.5) * 14
    return blend(0.35 * noise(rng, size) + 0.6 * np.clip(veins, 0, 1), light, dark)


def stone(rng: np.random.Generator, size: int, light: Colour, dark: Colour) -> Picture:
    return blend((noise(rng, size, roughness=1.2) - 0.5) * 1.6 + 0.5, light, dark)


def stripes(rng: np.random.Generator, size: int, colours: Sequence[Colour]) -> Picture:
    """Bands along u or v, of uneven widths."""
    number = count(rng, 2, 5) * len(colours)
    edges = np.cumsum(rng.uniform(0.4, 1.6, number))
    place = np.searchsorted(edges / edges[-1], (np.arange(size) + 0.5) / size)
    band = np.asarray(colours)[place % len(colours)]
    picture = np.broadcast_to(band[:, None], (size, size, 3))
    return _bytes(picture if chance(rng, 0.5) else picture.swapaxes(0, 1))


def checks(rng: np.random.Generator, size: int, colours: Sequence[Colour]) -> Picture:
    """A chessboard, or a tartan whose bands add up."""
    number = 2 * count(rng, 1, 4)
    t = np.arange(size) * number // size % 2
    if chance(rng, 0.5):
        return blend((t[:, None] ^ t[None]).astype(float), colours[0], colours[1])
    return blend((t[:, None] + t[None]) / 2.0, colours[0], colours[1])


def dots(rng: np.random.Generator, size: int, ground: Colour, dot: Colour) -> Picture:
    """Round dots in a shifted grid."""
    number = 2 * count(rng, 1, 3)
    x, y = np.meshgrid(*[(np.arange(size) + 0.5) / size * number] * 2)
    x = x + 0.5 * (np.floor(y) % 2)
    radius = np.hypot(x % 1 - 0.5, y % 1 - 0.5)
    return blend((between(rng, 0.2, 0.38) - radius) * size / number / 1.5 + 0.5, ground, dot)


def speckle(rng: np.random.Generator, size: int, ground: Colour, spot: Colour) -> Picture:
    """Small grains on a ground, as of terrazzo or granite."""
    grains = noise(rng, size, roughness=between(rng, 1.2, 2.2))
    return blend((grains - between(rng, 0.58, 0.7)) * 12, ground, spot)


def weave(rng: np.random.Generator, size: int, warp: Colour, weft: Colour) -> Picture:
    """Cloth or wicker: threads that go over and under each other."""
    number = 2 * count(rng, 4, 10)
    x, y = np.meshgrid(*[(np.arange(size) + 0.5) / size * number] * 2)
    over = (np.floor(x) + np.floor(y)) % 2
    round_x, round_y = np.sin(np.pi * (x % 1)), np.sin(np.pi * (y % 1))
    light = 0.55 + 0.45 * np.where(over > 0, round_x, round_y)
    colour = np.where(over[..., None] > 0, np.asarray(warp), np.asarray(weft))
    return _bytes(colour * (light + 0.2 * (noise(rng, size, roughness=2) - 0.5))[..., None])


def bricks(rng: np.random.Generator, size: int, brick: Colour, mortar: Colour) -> Picture:
    """A wall of stretchers, each of its own shade."""
    rows = 2 * count(rng, 2, 4)
    columns = rows // 2
    x, y = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2)
    row = np.floor(y * rows).astype(int)
    along = x * columns + 0.5 * (row % 2)
    shade = rng.uniform(0.72, 1.15, (rows, columns))[row, np.floor(along).astype(int) % columns]
    shade = shade + 0.3 * (noise(rng, size, roughness=1.5) - 0.5)
    gap = (np.abs(along - np.round(along)) < 0.03) | (np.abs(y * rows - np.round(y * rows)) < 0.07)
    return _bytes(np.where(gap[..., None], np.asarray(mortar), np.asarray(brick) * shade[..., None]))


def tiles(rng: np.random.Generator, size: int, tile: Colour, dark: Colour) -> Picture:
    """Rows of overlapping rounded tiles, as on a roof or of scales."""
    rows = 2 * count(rng, 2, 4)
    x, y = np.meshgrid(*[(np.arange(size) + 0.5) / size * rows] * 2)
    row = np.floor(y).astype(int)
    along = x + 0.5 * (row % 2)
    shade = rng.uniform(0.75, 1.1, (rows, rows))[row, np.floor(along).astype(int) % rows]
    down, side = y % 1, along % 1 - 0.5
    edge = np.clip((down - np.sqrt(np.maximum(0, 1 - (1.9 * side) ** 2))) * 6, 0, 1)
    return _bytes(
        np.asarray(tile) * (shade * (0.75 + 0.25 * down))[..., None] * (1 - edge[..., None])
        + np.asarray(dark) * edge[..., None]
    )


def brushed(rng: np.random.Generator, size: int, colour: Colour) -> Picture:
    """Fine scratches along u."""
    value = (noise(rng, size, roughness=2, stretch=(20, 1)) - 0.5) * 0.35
    return _bytes(np.asarray(colour) * (1 + value[..., None]))


def rust(rng: np.random.Generator, size: int, colour: Colour, worn: Colour) -> Picture:
    """Paint, bark or leather that has worn off in patches."""
    patches = (noise(rng, size, roughness=0.9) - between(rng, 0.55, 0.68)) * 10
    return blend(np.clip(patches, 0, 1) * 0.9 + 0.2 * (noise(rng, size, roughness=1.5) - 0.5), colour, worn)


def bark(rng: np.random.Generator, size: int, light: Colour, dark: Colour) -> Picture:
    """Ridges along v."""
    return blend((noise(rng, size, roughness=1.1, stretch=(1, 4)) - 0.5) * 2 + 0.5, light, dark)


def fade(rng: np.random.Generator, size: int, colours: Sequence[Colour]) -> Picture:
    """From one colour at the top over others to the last one at the bottom; steep or soft."""
    stops = np.linspace(0, 1, len(colours))
    t = (np.arange(size) + 0.5) / size
    steep = between(rng, 1, 6)
    t = np.clip(0.5 + (t - 0.5) * steep, 0, 1) if len(colours) == 2 else t
    band = np.stack([np.interp(t, stops, [colour[k] for colour in colours]) for k in range(3)], 1)
    wave = 1 + 0.1 * (noise(rng, size) - 0.5)
    return _bytes(band[:, None] * wave[..., None])


def sign(
    rng: np.random.Generator, size: int, ground: Colour, colours: Sequence[Colour], repeats: int = 1
) -> Picture:
    """A label: bands and simple shapes on a ground, `repeats` times side by side."""
    x, y = np.meshgrid((np.arange(size) + 0.5) / size * repeats % 1, (np.arange(size) + 0.5) / size)
    picture = np.broadcast_to(np.asarray(ground), (size, size, 3)).copy()
    if chance(rng, 0.6):
        for middle in pick(rng, ((0.1, 0.9), (0.5,), (0.15,), (0.85,))):
            picture[np.abs(y - middle) < between(rng, 0.03, 0.12)] = pick(rng, colours)
    for _ in range(count(rng, 1, 4)):
        centre = between(rng, 0.3, 0.7), between(rng, 0.3, 0.7)
        radius = between(rng, 0.1, 0.28)
        p, q = (x - centre[0]) / radius, (y - centre[1]) / radius
        picture[_shape(rng, p, q)] = pick(rng, colours)
    return _bytes(picture)


def _shape(rng: np.random.Generator, p: np.ndarray, q: np.ndarray) -> np.ndarray:  # noqa: PLR0911
    """A mask of about unit radius: disc, ring, star, heart, bar, triangle, letters of bars."""
    kind = pick(rng, ("disc", "ring", "star", "heart", "bar", "triangle", "lines"))
    r, angle = np.hypot(p, q), np.arctan2(q, p)
    if kind == "disc":
        return r < 1
    if kind == "ring":
        return (r < 1) & (r > between(rng, 0.4, 0.75))
    if kind == "star":
        return r < 0.65 + 0.35 * np.cos(count(rng, 4, 8) * angle)
    if kind == "heart":
        return (p**2 + q**2 - 0.6) ** 3 < -(p**2) * q**3
    if kind == "bar":
        return (np.abs(p) < 1.2) & (np.abs(q) < 0.3)
    if kind == "triangle":
        return (q < 0.7) & (q > 2 * np.abs(p) - 0.9)
    words = np.sin(9 * p + 3 * np.floor(q * 3)) > -0.6
    return (np.abs(p) < 1.4) & (np.abs(q) < 0.8) & (q * 3 % 1 < 0.5) & words


def _bytes(values: np.ndarray) -> Picture:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
