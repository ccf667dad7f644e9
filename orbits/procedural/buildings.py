"""Houses, towers, churches, castles and windmills; the entrance faces +X."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import box, extrude
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, rod
from mv3d.orbits.procedural.solids import Solid, moved, turned


def _gable(long: float, wide: float, high: float, over: float) -> Solid:
    """A ridge roof along x, its eaves at z = 0."""
    outline = [(-wide / 2 - over, 0), (wide / 2 + over, 0), (0, high)]
    # The outline's x and y become the world's y and z.
    return turned(turned(extrude(outline, long + 2 * over), "x", 90), "z", 90)


def _hip(long: float, wide: float, high: float, ridge: float) -> Solid:
    """A pyramid, or with a ridge along x: a box whose top is drawn together."""
    solid = box((long, wide, high))
    vertices = solid.vertices.copy()
    upper = vertices[:, 2] > 0
    vertices[upper, 1] *= 0.02
    vertices[upper, 0] *= max(ridge, 0.02 * wide) / long
    corner = vertices[solid.faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, solid.faces[:, k], normal)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return moved(Solid(vertices, solid.faces, normals, solid.uv), (0, 0, high / 2))


def _windows(
    rng: np.random.Generator,
    x: float,
    y: float,
    rows: list[float],
    size: tuple[float, float],
    pane: Look,
    frame: Look,
    *,
    door: bool,
) -> list[Piece]:
    """Windows on all four walls of a box of half sides x, y at the heights `rows`, and a door in front."""
    wide, high = size
    pieces = []
    bars = chance(rng, 0.5)
    for z in rows:
        for axis, half, span in ((0, x, y), (1, y, x)):
            number = max(1, int(2 * span / (wide * between(rng, 1.7, 2.4))))
            for k in range(number):
                place = (k - (number - 1) / 2) * 2 * span / number * 0.92
                for s in (1, -1):
                    if door and axis == 0 and s == 1 and z == rows[0] and abs(place) < wide * 1.1:
                        continue
                    centre = (s * half, place, z) if axis == 0 else (place, s * half, z)
                    thin = [0.018, wide, high] if axis == 0 else [wide, 0.018, high]
                    rim = (
                        [0.012, wide * 1.25, high * 1.18] if axis == 0 else [wide * 1.25, 0.012, high * 1.18]
                    )
                    pieces.append(Piece("window_frames", moved(box(rim), centre), frame))
                    pieces.append(Piece("windows", moved(box(thin), centre), pane))
                    if bars:
                        bar = [0.024, wide * 0.08, high] if axis == 0 else [wide * 0.08, 0.024, high]
                        pieces.append(Piece("window_frames", moved(box(bar), centre), frame))
    return pieces


def _door(rng: np.random.Generator, x: float, wide: float, high: float) -> list[Piece]:
    wood = looks.wood(rng) if chance(rng, 0.5) else looks.paint(rng)
    pieces = [
        Piece("door", moved(box((0.03, wide, high), 0.004), (x, 0, high / 2)), wood),
        Piece(
            "knob", moved(cylinder(0.012, 0.02, 12), (x + 0.018, wide * 0.35, high * 0.48)), looks.metal(rng)
        ),
    ]
    if chance(rng, 0.6):
        pieces.append(
            Piece("steps", moved(box((0.1, wide * 1.6, 0.03), 0.004), (x + 0.04, 0, 0.015)), looks.wall(rng))
        )
    return pieces


def house(rng: np.random.Generator) -> list[Piece]:
    """One to three storeys, gable or hip roof, chimney, perhaps a wing or a porch."""
    wall, tiles, pane, frame = looks.wall(rng), looks.roof(rng), looks.pane(rng), looks.paint(rng)
    long, wide = between(rng, 0.55, 0.85), between(rng, 0.5, 0.75)
    storeys = count(rng, 1, 3) if chance(rng, 0.8) else count(rng, 3, 6)
    each = between(rng, 0.22, 0.3)
    high = storeys * each
    top = between(rng, 0.18, 0.4)
    pieces = [Piece("walls", moved(box((long, wide, high)), (0, 0, high / 2)), wall)]
    kind = pick(rng, ("gable", "hip", "flat"), (3, 2, 1))
    if kind == "gable":
        roof = _gable(long, wide, top, 0.05)
        if chance(rng, 0.5):
            roof = _gable(wide, long, top, 0.05)
            roof = turned(roof, "z", 90)
        pieces.append(Piece("roof", moved(roof, (0, 0, high - 0.003)), tiles))
    elif kind == "hip":
        pieces.append(
            Piece(
                "roof",
                moved(
                    _hip(long + 0.12, wide + 0.12, top, pick(rng, (0.0, long * 0.4))), (0, 0, high - 0.003)
                ),
                tiles,
            )
        )
    else:
        top = 0.05
        pieces.append(
            Piece("roof", moved(box((long + 0.06, wide + 0.06, 0.05), 0.008), (0, 0, high + 0.02)), tiles)
        )
    rows = [each * (k + 0.55) for k in range(storeys)]
    size = (between(rng, 0.09, 0.14), between(rng, 0.1, 0.15))
    pieces += _windows(rng, long / 2, wide / 2, rows, size, pane, frame, door=True)
    pieces += _door(rng, long / 2, 0.13, 0.2)
    if kind != "flat" and chance(rng, 0.7):
        stack = (between(rng, -0.2, 0.2) * long, wide * pick(rng, (0.22, -0.22)))
        pieces.append(
            Piece("chimney", moved(box((0.08, 0.08, top)), (*stack, high + top * 0.6)), looks.wall(rng))
        )
        pieces.append(
            Piece("chimney_top", moved(box((0.1, 0.1, 0.02), 0.004), (*stack, high + top * 1.1)), tiles)
        )
    if chance(rng, 0.3):
        deep, low = between(rng, 0.2, 0.35), each * 0.95
        wing = (between(rng, -0.1, 0.1), wide / 2 + deep / 2, 0)
        pieces.append(
            Piece(
                "wing",
                moved(box((long * 0.6, deep, low)), (wing[0], wing[1], low / 2)),
                looks.wall(rng) if chance(rng, 0.3) else wall,
            )
        )
        pieces.append(
            Piece(
                "wing_roof",
                moved(_gable(long * 0.6, deep, top * 0.6, 0.03), (wing[0], wing[1], low - 0.003)),
                tiles,
            )
        )
        pieces.append(
            Piece(
                "gate",
                moved(
                    box((0.02, deep * 0.65, low * 0.7), 0.003), (wing[0] + long * 0.3, wing[1], low * 0.35)
                ),
                looks.wood(rng),
            )
        )
    if chance(rng, 0.3):
        for y in (0.14, -0.14):
            pieces.append(
                Piece("porch_posts", moved(cylinder(0.014, each * 0.9, 12), (long / 2 + 0.14, y, 0)), frame)
            )
        pieces.append(
            Piece("porch", moved(box((0.2, 0.36, 0.025), 0.004), (long / 2 + 0.09, 0, each * 0.9)), tiles)
        )
    if chance(rng, 0.25):
        pieces.append(
            Piece("base", moved(box((long + 0.3, wide + 0.3, 0.03), 0.008), (0, 0, -0.013)), looks.leaf(rng))
        )
    return pieces


def tower(rng: np.random.Generator) -> list[Piece]:
    """Lighthouses, round and square towers, skyscrapers, windmills."""
    kind = pick(rng, ("lighthouse", "skyscraper", "windmill", "round"))
    pane, wall = looks.pane(rng), looks.wall(rng)
    if kind == "skyscraper":
        frame, wide, z = looks.paint(rng), between(rng, 0.3, 0.4), 0.0
        body = looks.metal(rng) if chance(rng, 0.3) else wall
        pieces: list[Piece] = []
        for _ in range(count(rng, 1, 3)):
            high = between(rng, 0.3, 0.6)
            pieces.append(Piece("walls", moved(box((wide, wide, high)), (0, 0, z + high / 2)), body))
            floors = max(2, int(high / 0.075))
            for k in range(floors):
                level = z + (k + 0.5) * high / floors
                pieces.append(
                    Piece("windows", moved(box((wide + 0.012, wide * 0.84, 0.036)), (0, 0, level)), pane)
                )
                pieces.append(
                    Piece("windows", moved(box((wide * 0.84, wide + 0.012, 0.036)), (0, 0, level)), pane)
                )
            z += high
            wide *= between(rng, 0.6, 0.85)
        pieces.append(Piece("roof", moved(box((wide, wide, 0.03), 0.005), (0, 0, z + 0.01)), frame))
        pieces.append(
            Piece("mast", moved(cylinder(0.012, between(rng, 0.1, 0.3), 10, top=0.003), (0, 0, z)), frame)
        )
        return [*pieces, *_door(rng, float(pieces[0].solid.high[0]), 0.1, 0.09)]
    low, up, high = between(rng, 0.18, 0.26), between(rng, 0.12, 0.18), between(rng, 0.7, 1.1)
    stripes = looks.of(
        "stripes",
        looks.patterns.stripes(rng, 128, ((0.92, 0.9, 0.86), looks.strong(rng))),
        roughness=0.7,
        tile=0.6,
    )
    pieces = [Piece("walls", cylinder(low, high, 36, top=up), stripes if kind == "lighthouse" else wall)]
    for k in range(count(rng, 2, 4)):
        z = high * (0.25 + 0.2 * k)
        radius = low + (up - low) * z / high
        angle = between(rng, -60, 60)
        pieces.append(
            Piece(
                "windows",
                turned(moved(box((0.05, 0.06, 0.09), 0.004), (radius - 0.015, 0, z)), "z", angle),
                pane,
            )
        )
    pieces += _door(rng, low - 0.005, 0.1, 0.17)
    tiles = looks.roof(rng)
    if kind == "lighthouse":
        rail = looks.metal(rng)
        pieces.append(Piece("gallery", moved(cylinder(up * 1.5, 0.03, 32), (0, 0, high - 0.01)), rail))
        pieces.append(Piece("lantern", moved(cylinder(up * 0.75, 0.16, 24), (0, 0, high)), pane))
        pieces.append(
            Piece("roof", moved(cylinder(up * 0.95, 0.13, 28, top=0.005), (0, 0, high + 0.155)), tiles)
        )
        for k in range(12):
            a = 2 * np.pi * k / 12
            x, y = up * 1.42 * np.cos(a), up * 1.42 * np.sin(a)
            pieces.append(Piece("rails", moved(cylinder(0.006, 0.07, 8), (x, y, high)), rail))
        return pieces
    pieces.append(
        Piece(
            "roof",
            moved(cylinder(up * 1.35, between(rng, 0.2, 0.45), 32, top=0.005), (0, 0, high - 0.005)),
            tiles,
        )
    )
    if kind == "windmill":
        wood, cloth = looks.wood(rng), looks.fabric(rng)
        hub = (up + 0.09, 0.0, high * 0.93)
        pieces.append(Piece("axle", rod((0, 0, hub[2]), hub, 0.025), wood))
        turn = between(rng, 0, 90)
        for k in range(4):
            bar = turned(moved(box((0.02, 0.025, 0.5), 0.003), (0, 0, 0.25)), "x", turn + 90 * k)
            sail = turned(moved(box((0.008, 0.11, 0.36)), (0, 0.05, 0.3)), "x", turn + 90 * k)
            pieces += [Piece("arms", moved(bar, hub), wood), Piece("sails", moved(sail, hub), cloth)]
    return pieces


def church(rng: np.random.Generator) -> list[Piece]:
    """A nave with a ridge roof, and a tower with a spire in front."""
    wall, tiles, pane, frame = looks.wall(rng), looks.roof(rng), looks.pane(rng), looks.paint(rng)
    long, wide, high = between(rng, 0.6, 0.8), between(rng, 0.32, 0.42), between(rng, 0.26, 0.36)
    side, tall, spire = between(rng, 0.2, 0.26), between(rng, 0.5, 0.8), between(rng, 0.25, 0.55)
    front = long / 2 + side * 0.4
    pieces = [
        Piece("nave", moved(box((long, wide, high)), (0, 0, high / 2)), wall),
        Piece(
            "roof",
            moved(_gable(long, wide, wide * between(rng, 0.5, 0.8), 0.02), (0, 0, high - 0.003)),
            tiles,
        ),
        Piece("tower", moved(box((side, side, tall)), (front, 0, tall / 2)), wall),
        Piece("tower_edge", moved(box((side * 1.12, side * 1.12, 0.03), 0.006), (front, 0, tall)), frame),
    ]
    if chance(rng, 0.7):
        pieces.append(
            Piece("spire", moved(_hip(side * 1.05, side * 1.05, spire, 0.0), (front, 0, tall + 0.012)), tiles)
        )
        top = tall + spire
    else:
        pieces.append(
            Piece("spire", moved(cylinder(side * 0.5, spire, 28, top=0.004), (front, 0, tall + 0.012)), tiles)
        )
        top = tall + spire
    metal = looks.metal(rng)
    pieces.append(Piece("cross", moved(box((0.014, 0.014, 0.13)), (front, 0, top + 0.05)), metal))
    pieces.append(Piece("cross", moved(box((0.014, 0.07, 0.014)), (front, 0, top + 0.07)), metal))
    arch_t = np.linspace(0, np.pi, 12)
    arch = np.concatenate(
        [
            np.stack([0.035 * np.cos(arch_t), 0.06 + 0.05 * np.sin(arch_t)], 1),
            [(-0.035, -0.06), (0.035, -0.06)],
        ]
    )
    upright = turned(extrude(arch, 0.02), "x", 90)
    for x in np.linspace(-long * 0.38, long * 0.3, count(rng, 3, 5)):
        for s in (1, -1):
            pieces.append(Piece("windows", moved(upright, (float(x), s * wide / 2, high * 0.5)), pane))
    for angle in (0, 90, 270):
        opening = turned(moved(turned(upright, "z", 90), (side / 2, 0, tall * 0.82)), "z", angle)
        pieces.append(Piece("windows", moved(opening, (front, 0, 0)), pane))
    dial = moved(turned(cylinder(0.06, 0.015, 24), "y", 90), (front + side / 2 - 0.005, 0, tall * 0.6))
    pieces.append(Piece("clock", dial, looks.sign(rng)))
    return pieces + _door(rng, front + side / 2, 0.1, 0.17)


def castle(rng: np.random.Generator) -> list[Piece]:
    """Four corner towers, walls with battlements, a keep."""
    wall, tiles = looks.wall(rng), looks.roof(rng)
    towers = wall if chance(rng, 0.7) else looks.wall(rng)
    pane = looks.pane(rng)
    half, high, radius = between(rng, 0.32, 0.42), between(rng, 0.22, 0.34), between(rng, 0.08, 0.12)
    roofs = chance(rng, 0.6)
    merlon = box((0.035, 0.035, 0.04))
    pieces: list[Piece] = []
    flag, pole = looks.fabric(rng), looks.metal(rng)
    for sx in (1, -1):
        for sy in (1, -1):
            tall = high * between(rng, 1.25, 1.7)
            place = (sx * half, sy * half)
            pieces.append(Piece("towers", moved(cylinder(radius, tall, 28), (*place, 0)), towers))
            pieces.append(
                Piece("towers", moved(cylinder(radius * 1.15, 0.05, 28), (*place, tall - 0.04)), towers)
            )
            if roofs:
                cone = between(rng, 0.16, 0.3)
                pieces.append(
                    Piece(
                        "roofs",
                        moved(cylinder(radius * 1.25, cone, 28, top=0.004), (*place, tall + 0.008)),
                        tiles,
                    )
                )
                pieces.append(
                    Piece("poles", moved(cylinder(0.006, 0.12, 8), (*place, tall + cone - 0.02)), pole)
                )
                pieces.append(
                    Piece(
                        "flags",
                        moved(box((0.09, 0.006, 0.05)), (place[0] + 0.045, place[1], tall + cone + 0.07)),
                        flag,
                    )
                )
            else:
                for k in range(8):
                    a = 2 * np.pi * k / 8
                    pieces.append(
                        Piece(
                            "battlements",
                            moved(
                                turned(merlon, "z", 45 * k),
                                (place[0] + radius * np.cos(a), place[1] + radius * np.sin(a), tall + 0.025),
                            ),
                            towers,
                        )
                    )
    for axis in (0, 1):
        for s in (1, -1):
            size = (0.06, 2 * half, high) if axis == 0 else (2 * half, 0.06, high)
            centre = (s * half, 0, high / 2) if axis == 0 else (0, s * half, high / 2)
            pieces.append(Piece("walls", moved(box(size), centre), wall))
            for t in np.linspace(-half * 0.7, half * 0.7, 7):
                place = (
                    (s * half, float(t), high + 0.015) if axis == 0 else (float(t), s * half, high + 0.015)
                )
                pieces.append(Piece("battlements", moved(merlon, place), wall))
    keep, tall = half * between(rng, 0.6, 0.95), high * between(rng, 1.5, 2.2)
    pieces.append(Piece("keep", moved(box((keep, keep, tall)), (-half * 0.15, 0, tall / 2)), wall))
    if chance(rng, 0.6):
        pieces.append(
            Piece(
                "keep_roof",
                moved(_hip(keep * 1.1, keep * 1.1, keep * 0.7, 0.0), (-half * 0.15, 0, tall - 0.003)),
                tiles,
            )
        )
    for z in (tall * 0.75, tall * 0.9):
        for s in (1, -1):
            pieces.append(
                Piece(
                    "windows",
                    moved(box((keep + 0.012, 0.035, 0.06)), (-half * 0.15, s * keep * 0.25, z - 0.03)),
                    pane,
                )
            )
    pieces.append(Piece("ground", moved(box((2 * half, 2 * half, 0.03)), (0, 0, 0.015)), looks.leaf(rng)))
    pieces.append(Piece("gatehouse", moved(box((0.12, 0.24, high * 1.2)), (half, 0, high * 0.6)), towers))
    pieces.append(
        Piece(
            "gate",
            moved(box((0.02, 0.13, high * 0.65), 0.004), (half + 0.06, 0, high * 0.325)),
            looks.wood(rng),
        )
    )
    return pieces
