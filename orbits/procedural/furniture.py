"""Seats with upholstery, tables, shelves, cabinets, beds and lamps. The front faces +X."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import box, ellipsoid, extrude, plank
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod, tube
from mv3d.orbits.procedural.solids import Solid, moved, planar, scaled, turned


def armchair(rng: np.random.Generator) -> list[Piece]:
    return _upholstered(rng, 1)


def sofa(rng: np.random.Generator) -> list[Piece]:
    return _upholstered(rng, count(rng, 2, 3))


def _upholstered(rng: np.random.Generator, places: int) -> list[Piece]:
    """A seat for one to three: base, cushions, back, arms and feet."""
    cloth = looks.fabric(rng)
    other = looks.fabric(rng) if chance(rng, 0.3) else cloth
    wood = looks.wood(rng) if chance(rng, 0.7) else looks.metal(rng)
    seat_width, depth = between(rng, 0.5, 0.65) * places, between(rng, 0.55, 0.75)
    foot, base, soft = between(rng, 0.04, 0.2), between(rng, 0.12, 0.22), between(rng, 0.1, 0.18)
    arm = between(rng, 0.07, 0.2)
    arm_high = foot + base + between(rng, 0.08, 0.3)
    back_high, back_thick = between(rng, 0.35, 0.6), between(rng, 0.12, 0.2)
    bulge = pick(rng, (0.25, 0.45, 0.6))
    z = foot + base
    pieces = [Piece("base", moved(box((depth, seat_width + 2 * arm * 0.9, base), 0.03), (0, 0, foot + base / 2)), cloth)]
    for k in range(places):
        y = (k - (places - 1) / 2) * seat_width / places
        pad = ellipsoid((depth / 2, seat_width / places / 2 * 1.02, soft * 0.62), roundness=(bulge, 0.25), segments=26)
        pieces.append(Piece("cushions", moved(planar(pad, "x", "y"), (back_thick * 0.3, y, z + soft * 0.45)), other))
        rest = ellipsoid((back_thick / 2, seat_width / places / 2 * 1.02, back_high / 2), roundness=(bulge, 0.3), segments=26)
        rest = turned(planar(rest, "y", "z"), "y", -between(rng, 4, 10))
        pieces.append(Piece("back_cushions", moved(rest, (-depth / 2 + back_thick * 0.8, y, z + back_high / 2)), other))
    frame_high = back_high * between(rng, 0.75, 1.0)
    frame = box((back_thick * 0.6, seat_width + 2 * arm * 0.9, frame_high + base * 0.5), 0.04)
    pieces.append(Piece("back", moved(frame, (-depth / 2 + 0.02, 0, z - base * 0.5 + frame_high / 2 + base * 0.25)), cloth))
    kind = pick(rng, ("box", "roll", "pad", "none"), (4, 2, 2, 0.7 if places > 1 else 0.2))
    for side in (1, -1) if kind != "none" else ():
        y = side * (seat_width / 2 + arm / 2)
        if kind == "roll":
            pieces.append(Piece("arms", moved(box((depth, arm * 0.75, arm_high - foot), 0.02), (0, y, (arm_high + foot) / 2)), cloth))
            roll = turned(cylinder(arm * 0.62, depth * 1.01, 20, bevel=0.02), "y", 90)
            pieces.append(Piece("arm_rolls", moved(roll, (-depth / 2, y, arm_high)), cloth))
        elif kind == "box":
            pieces.append(Piece("arms", moved(box((depth, arm, arm_high - foot), 0.035), (0, y, (arm_high + foot) / 2)), cloth))
        else:
            size = (depth / 2, arm / 2 * 1.1, (arm_high - foot) / 2)
            soft_arm = planar(ellipsoid(size, roundness=(0.4, 0.3), segments=24), "x", "z")
            pieces.append(Piece("arms", moved(soft_arm, (0, y, (arm_high + foot) / 2)), cloth))
    x, y = depth / 2 - 0.06, seat_width / 2 + arm * 0.4
    for place in ((x, y), (x, -y), (-x, y), (-x, -y)):
        pieces.append(Piece("feet", moved(cylinder(0.018, foot + 0.01, 14, top=0.028), (*place, 0)), wood.along_v()))
    if chance(rng, 0.35):
        loose = ellipsoid((0.06, 0.17, 0.17), roundness=(0.7, 0.6), segments=22)
        loose = turned(turned(planar(loose, "y", "z"), "x", between(rng, -20, 20)), "y", -20)
        place = (-depth / 2 + back_thick * 1.4 + 0.06, between(rng, -0.2, 0.2) * places, z + soft + 0.14)
        pieces.append(Piece("loose_cushion", moved(loose, place), looks.fabric(rng)))
    return pieces


def table(rng: np.random.Generator) -> list[Piece]:
    """Dining, coffee, side tables and desks; round, square, oval or long."""
    top_look = pick(rng, (looks.wood, looks.paint, looks.printed, looks.metal), (6, 2, 1, 0.5))(rng)
    leg_look = top_look if chance(rng, 0.6) else pick(rng, (looks.wood, looks.metal, looks.paint))(rng)
    high = between(rng, 0.35, 0.78)
    long, deep = between(rng, 0.5, 1.5), between(rng, 0.45, 0.85)
    thick = between(rng, 0.02, 0.06)
    under = high - thick
    round_top = chance(rng, 0.35)
    if round_top:
        long = deep
        top = moved(planar(cylinder(deep / 2, thick, 44, bevel=thick * 0.25), "y", "x"), (0, 0, under))
        if chance(rng, 0.3):
            long = deep * between(rng, 1.2, 1.8)
            top = scaled(top, (1, long / deep, 1))
    else:
        top = moved(box((deep, long, thick), thick * between(rng, 0.05, 0.45)), (0, 0, high - thick / 2))
    pieces = [Piece("top", top, top_look)]
    kind = pick(rng, ("four", "pedestal", "trestle", "boards"), (5, 2.5 if round_top else 0.7, 1, 0 if round_top else 1))
    radius = between(rng, 0.016, 0.04)
    x, y = (deep / 2 * 0.66, long / 2 * 0.66) if round_top else (deep / 2 - radius * 2, long / 2 - radius * 2)
    if kind == "four":
        splay, thin = pick(rng, (0.0, 0.06)), pick(rng, (1.0, between(rng, 0.5, 0.8)))
        square = chance(rng, 0.5)
        for sx, sy in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            foot, head = (sx * (x + splay), sy * (y + splay), 0), (sx * x, sy * y, under + 0.003)
            leg = plank(foot, head, 2 * radius, 2 * radius, 0.004) if square else rod(foot, head, radius * thin, end_radius=radius, segments=16)
            pieces.append(Piece("legs", leg, leg_look if square else leg_look.along_v()))
        if not round_top and not splay and chance(rng, 0.6):
            apron = between(rng, 0.05, 0.12)
            for sx in (1, -1):
                pieces.append(Piece("apron", moved(box((0.02, 2 * y, apron), 0.003), (sx * x, 0, under - apron / 2)), leg_look))
                pieces.append(Piece("apron", moved(box((2 * x, 0.02, apron), 0.003), (0, sx * y, under - apron / 2)), leg_look))
        if not round_top and not splay and chance(rng, 0.3):
            shelf = box((2 * x, 2 * y, 0.02), 0.004)
            pieces.append(Piece("shelf", moved(shelf, (0, 0, high * between(rng, 0.2, 0.4))), top_look))
    elif kind == "pedestal":
        foot = deep * between(rng, 0.28, 0.4)
        profile = [(0, 0), (foot, 0), (foot, 0.02), (foot * 0.3, 0.05), (0.035, under * 0.3), (0.06, under * 0.5),
                   (0.03, under * 0.7), (0.06, under * 0.96), (deep * 0.2, under + 0.002), (0, under + 0.002)]
        pieces.append(Piece("pedestal", lathe(profile, 30), leg_look.along_v()))
    elif kind == "trestle":
        for side in (y * 0.8, -y * 0.8):
            for sx in (1, -1):
                pieces.append(Piece("legs", plank((sx * x, side, 0), (-sx * x * 0.3, side, under), 0.05, 0.03, 0.004), leg_look))
        pieces.append(Piece("beam", plank((0, -y * 0.8, under * 0.5), (0, y * 0.8, under * 0.5), 0.04, 0.04, 0.004), leg_look))
    else:
        for side in (y, -y):
            pieces.append(Piece("sides", moved(box((deep * 0.9, thick, under), 0.004), (0, side, under / 2)), leg_look))
        if chance(rng, 0.7):
            pieces += _drawers(rng, (0, 0.25 * long, under), (deep * 0.85, long * 0.42, min(under, 0.4)), count(rng, 1, 3), leg_look, top_look)
    return pieces


def _drawers(
    rng: np.random.Generator, top: tuple[float, float, float], size: tuple[float, float, float], number: int, body: Look, front: Look
) -> list[Piece]:
    """A case that hangs from `top`, with fronts and handles towards +X."""
    deep, wide, high = size
    x, y, z = top
    pieces = [Piece("case", moved(box(size, 0.004), (x, y, z - high / 2)), body)]
    step = high / number
    handle = looks.metal(rng)
    knob = chance(rng, 0.5)
    for k in range(number):
        middle = z - (k + 0.5) * step
        pieces.append(Piece("fronts", moved(box((0.02, wide * 0.93, step * 0.86), 0.004), (x + deep / 2 + 0.006, y, middle)), front))
        if knob:
            solid = moved(ellipsoid((0.018, 0.018, 0.018), segments=14), (x + deep / 2 + 0.03, y, middle))
        else:
            bar = wide * 0.15
            arc = [(x + deep / 2 + 0.01, y - bar, middle), (x + deep / 2 + 0.04, y - bar * 0.8, middle),
                   (x + deep / 2 + 0.04, y + bar * 0.8, middle), (x + deep / 2 + 0.01, y + bar, middle)]
            solid = tube(arc, 0.007, 8)
        pieces.append(Piece("handles", solid, handle))
    return pieces


def shelf(rng: np.random.Generator) -> list[Piece]:
    """A bookcase, often with books."""
    look = looks.wood(rng) if chance(rng, 0.7) else looks.paint(rng)
    wide, deep, high = between(rng, 0.5, 1.1), between(rng, 0.22, 0.36), between(rng, 0.7, 1.7)
    board, levels = between(rng, 0.015, 0.03), count(rng, 2, 5)
    pieces = [Piece("sides", moved(box((deep, board, high), 0.003), (0, s * wide / 2, high / 2)), look) for s in (1, -1)]
    step = (high - board) / levels
    for k in range(levels + 1):
        pieces.append(Piece("boards", moved(box((deep, wide, board), 0.003), (0, 0, board / 2 + k * step)), look))
    if chance(rng, 0.7):
        back = looks.paint(rng) if chance(rng, 0.3) else look
        pieces.append(Piece("back", moved(box((0.01, wide, high), 0.0), (-deep / 2 + 0.005, 0, high / 2)), back))
    if chance(rng, 0.7):
        covers = [looks.paint(rng) for _ in range(5)]
        for k in range(levels):
            y, end = -wide / 2 + board, wide / 2 - board
            end -= between(rng, 0.0, 0.6) * wide
            while y < end - 0.05:
                thick, tall = between(rng, 0.02, 0.05), step * between(rng, 0.5, 0.85)
                size = (deep * between(rng, 0.6, 0.8), thick, tall)
                place = (0.02, y + thick / 2, board + k * step + tall / 2)
                pieces.append(Piece("books", moved(box(size, 0.003), place), pick(rng, covers)))
                y += thick + 0.002
    return pieces


def cabinet(rng: np.random.Generator) -> list[Piece]:
    """Chests of drawers, cupboards, wardrobes."""
    body = looks.wood(rng) if chance(rng, 0.7) else looks.paint(rng)
    front = body if chance(rng, 0.5) else pick(rng, (looks.wood, looks.paint, looks.printed), (2, 3, 0.5))(rng)
    wide, deep, high = between(rng, 0.4, 1.2), between(rng, 0.3, 0.55), between(rng, 0.45, 1.6)
    foot = between(rng, 0.0, 0.16)
    size = (deep, wide, high)
    if chance(rng, 0.5):
        pieces = _drawers(rng, (0, 0, foot + high), size, count(rng, 2, 5), body, front)
    else:
        doors = count(rng, 1, 3) if wide > 0.6 else 1
        pieces = [Piece("case", moved(box(size, 0.006), (0, 0, foot + high / 2)), body)]
        handle = looks.metal(rng)
        step = wide / doors
        for k in range(doors):
            y = (k - (doors - 1) / 2) * step
            pieces.append(Piece("doors", moved(box((0.02, step * 0.94, high * 0.94), 0.004), (deep / 2 + 0.006, y, foot + high / 2)), front))
            if chance(rng, 0.6):
                panel = box((0.015, step * 0.65, high * 0.7), 0.006)
                pieces.append(Piece("panels", moved(panel, (deep / 2 + 0.015, y, foot + high / 2)), body))
            bar = moved(cylinder(0.008, high * 0.15, 10), (deep / 2 + 0.03, y + step * 0.4 * (1 if k % 2 == 0 else -1), foot + high * 0.45))
            pieces.append(Piece("handles", bar, handle))
    pieces.append(Piece("top", moved(box((deep + 0.04, wide + 0.04, 0.025), 0.006), (0.01, 0, foot + high + 0.0125)), body))
    if foot > 0.02:
        for x in (deep / 2 - 0.04, 0.04 - deep / 2):
            for y in (wide / 2 - 0.04, 0.04 - wide / 2):
                pieces.append(Piece("feet", moved(cylinder(0.016, foot + 0.004, 12, top=0.026), (x, y, 0)), body.along_v()))
    return pieces


def bed(rng: np.random.Generator) -> list[Piece]:
    """A bed with mattress, blanket and pillows; its head is at -X."""
    frame = looks.wood(rng) if chance(rng, 0.7) else looks.paint(rng)
    wide, long = pick(rng, (0.9, 1.4, 1.7)), between(rng, 1.9, 2.1)
    rail, soft = between(rng, 0.2, 0.35), between(rng, 0.14, 0.24)
    sheet_look = looks.of("sheet", looks.patterns.plain(rng, 128, (0.93, 0.92, 0.9)), roughness=1.0)
    blanket, pillow = looks.fabric(rng), looks.fabric(rng) if chance(rng, 0.5) else sheet_look
    pieces = [
        Piece("frame", moved(box((long, wide + 0.08, rail * 0.5), 0.01), (0, 0, rail * 0.75)), frame),
        Piece("mattress", moved(box((long * 0.98, wide, soft), 0.05), (0, 0, rail + soft / 2 - 0.01)), sheet_look),
        Piece("blanket", moved(box((long * between(rng, 0.5, 0.72), wide + 0.06, soft), 0.05), (long * 0.15, 0, rail + soft / 2 + 0.02)), blanket),
    ]
    number = 1 if wide < 1 else 2
    for k in range(number):
        pad = planar(ellipsoid((0.2, 0.9 * wide / number / 2, 0.09), roundness=(0.8, 0.45), segments=24), "y", "x")
        pieces.append(Piece("pillows", moved(pad, (-long / 2 + 0.26, (k - (number - 1) / 2) * wide / number, rail + soft + 0.06)), pillow))
    head = rail + soft + between(rng, 0.25, 0.7)
    if chance(rng, 0.6):
        pieces.append(Piece("headboard", moved(box((0.05, wide + 0.1, head), 0.015), (-long / 2 - 0.02, 0, head / 2)), frame))
    else:
        for y in np.linspace(-wide / 2, wide / 2, count(rng, 5, 11)):
            pieces.append(Piece("head_bars", moved(cylinder(0.016, head, 10), (-long / 2 - 0.02, float(y), 0)), frame.along_v()))
        pieces.append(Piece("head_rail", rod((-long / 2 - 0.02, -wide / 2 - 0.05, head), (-long / 2 - 0.02, wide / 2 + 0.05, head), 0.024), frame.along_v()))
    if chance(rng, 0.5):
        pieces.append(Piece("footboard", moved(box((0.04, wide + 0.1, head * 0.6), 0.012), (long / 2 + 0.02, 0, head * 0.3)), frame))
    for x in (long / 2 - 0.06, 0.06 - long / 2):
        for y in (wide / 2 - 0.04, 0.04 - wide / 2):
            pieces.append(Piece("feet", moved(box((0.07, 0.07, rail * 0.6), 0.006), (x, y, rail * 0.3)), frame))
    return pieces


def lamp(rng: np.random.Generator) -> list[Piece]:
    """Table, floor and desk lamps."""
    metal = looks.metal(rng) if chance(rng, 0.5) else looks.paint(rng)
    shade_look = pick(rng, (looks.fabric, looks.paint, looks.printed))(rng)
    bulb = looks.of("bulb", looks.patterns.plain(rng, 64, (0.98, 0.95, 0.85)), roughness=0.3)
    kind = pick(rng, ("table", "floor", "desk"), (2, 2, 1.3))
    if kind == "desk":
        return _desk_lamp(rng, metal, bulb)
    high = between(rng, 0.3, 0.5) if kind == "table" else between(rng, 1.1, 1.6)
    low, top, tall = between(rng, 0.14, 0.24), between(rng, 0.06, 0.2), between(rng, 0.15, 0.28)
    wall = 0.006
    hood = [(low - wall, high - tall * 0.3), (low, high - tall * 0.3), (top, high + tall * 0.7), (top - wall, high + tall * 0.7)]
    pieces = [
        Piece("shade", lathe(hood, 32, closed=True), shade_look),
        Piece("bulb", moved(ellipsoid((0.04, 0.04, 0.055), segments=16), (0, 0, high + 0.02)), bulb),
        # Its spokes carry the shade.
        *(Piece("spokes", rod((0, 0, high + tall * 0.3), (np.cos(a) * (low + top) / 2 * 0.95, np.sin(a) * (low + top) / 2 * 0.95, high + tall * 0.3), 0.004, segments=8), metal) for a in (0, 2.1, 4.2)),
    ]
    if kind == "table" and chance(rng, 0.65):
        t = np.linspace(0, 1, 18)
        belly = between(rng, 0.05, 0.12) * (0.35 + np.sin(np.pi * t ** between(rng, 0.6, 1.6)))
        profile = [(0, 0), *zip(belly.tolist(), (t * high * 0.85).tolist(), strict=True), (0, high * 0.85)]
        pieces.append(Piece("body", lathe(profile, 28), looks.ceramic(rng)))
        pieces.append(Piece("stem", moved(cylinder(0.012, high * 0.15 + tall * 0.3, 12), (0, 0, high * 0.85)), metal))
        return pieces
    foot = between(rng, 0.1, 0.18)
    if kind == "floor" and chance(rng, 0.4):
        wood = looks.wood(rng).along_v()
        for k in range(3):
            angle = 2 * np.pi * k / 3
            pieces.append(Piece("legs", rod((0.3 * np.cos(angle), 0.3 * np.sin(angle), 0), (0.02 * np.cos(angle), 0.02 * np.sin(angle), high), 0.014), wood))
        pieces.append(Piece("stem", moved(cylinder(0.012, tall * 0.35, 12), (0, 0, high - 0.02)), metal))
        return pieces
    pieces.append(Piece("foot", cylinder(foot, between(rng, 0.015, 0.04), 30, bevel=0.005), metal))
    pieces.append(Piece("stem", cylinder(between(rng, 0.008, 0.016), high + tall * 0.32, 14), metal))
    return pieces


def _desk_lamp(rng: np.random.Generator, look: Look, bulb: Look) -> list[Piece]:
    joint = (-between(rng, 0.08, 0.16), 0.0, between(rng, 0.22, 0.3))
    head = (between(rng, 0.06, 0.18), 0.0, between(rng, 0.36, 0.48))
    hood = [(0.0, 0.07), (0.022, 0.07), (0.03, 0.04), (0.08, -0.05), (0.075, -0.05), (0.026, 0.034), (0.0, 0.034)]
    tilt = between(rng, 15, 45)

    def at_head(solid: Solid) -> Solid:
        return moved(turned(solid, "y", -tilt), head)

    return [
        Piece("foot", cylinder(0.09, 0.02, 28, bevel=0.005), look),
        Piece("arm", rod((0, 0, 0.01), joint, 0.008), look),
        Piece("arm", rod(joint, head, 0.008), look),
        Piece("joint", moved(ellipsoid((0.016, 0.016, 0.016), segments=14), joint), look),
        Piece("hood", at_head(lathe(hood[::-1], 28)), look),
        Piece("bulb", at_head(moved(ellipsoid((0.03, 0.03, 0.04), segments=14), (0, 0, -0.02))), bulb),
    ]


def clock(rng: np.random.Generator) -> list[Piece]:
    """A standing clock with a dial towards +X."""
    body = pick(rng, (looks.wood, looks.paint, looks.metal))(rng)
    dial = looks.of("dial", looks.patterns.plain(rng, 128, (0.95, 0.94, 0.9)), roughness=0.4)
    ink = looks.of("ink", looks.patterns.plain(rng, 64, (0.08, 0.08, 0.1)), roughness=0.5)
    radius, deep = 0.2, between(rng, 0.07, 0.14)
    if chance(rng, 0.5):
        case = turned(cylinder(radius * 1.12, deep, 40, bevel=0.015), "y", 90)
        pieces = [Piece("case", moved(case, (-deep, 0, 0)), body)]
        for side in (1, -1):
            pieces.append(Piece("feet", rod((-deep / 2, side * 0.1, -0.18), (-deep / 2, side * 0.16, -0.28), 0.016), body.along_v()))
            pieces.append(Piece("bells", moved(ellipsoid((0.05, 0.06, 0.05), segments=18), (-deep / 2, side * 0.12, 0.24)), looks.metal(rng)))
    else:
        t = np.linspace(0, np.pi, 20)
        arch = np.stack([0.28 * np.cos(t), 0.05 + 0.25 * np.sin(t)], 1)
        outline = np.concatenate([arch, [(-0.34, -0.28), (0.34, -0.28)]])
        plate = turned(turned(extrude(outline, deep), "x", 90), "z", 90)
        pieces = [Piece("case", moved(plate, (-deep / 2, 0, 0)), body)]
    pieces.append(Piece("dial", moved(turned(cylinder(radius, 0.008, 40), "y", 90), (0, 0, 0)), dial))
    for k in range(12):
        a = 2 * np.pi * k / 12
        size = (0.006, 0.012, 0.035 if k % 3 == 0 else 0.02)
        mark = turned(moved(box(size), (0, 0, radius * 0.83)), "x", float(np.rad2deg(a)))
        pieces.append(Piece("marks", moved(mark, (0.009, 0, 0)), ink))
    for length in (radius * 0.5, radius * 0.75):
        hand = turned(moved(box((0.006, 0.014, length)), (0, 0, length / 2 - 0.01)), "x", between(rng, 0, 360))
        pieces.append(Piece("hands", moved(hand, (0.012 + 0.02 * length, 0, 0)), ink))
    return pieces
