"""Makes the README's pictures.

    python examples/make_readme_picture.py loop SHARDS VIEWS MESH.glb docs/loop.png      the whole loop
    python examples/make_readme_picture.py tour VIEWS MESH.glb docs/tour                 its views.png and mesh.png
    python examples/make_readme_picture.py recon VIEWS MESH.glb docs/demo.png            views in, mesh out

SHARDS: of mv3d orbits render; VIEWS: a views folder; MESH: what mv3d recon made of it. docs/evaluation.md has README's
commands in full.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mv3d.orbits.jobs import decode_frame
from mv3d.orbits.reading import OrbitStore
from mv3d.render.cameras import orbit_cameras
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh
from mv3d.render.raycast import render_views
from mv3d.views.readers import load_views
from mv3d.views.views import composite

SHOWN = [20, 2, 6, 10, 15]
FROM = ([50.0, 45.0, -35.0], [30.0, 210.0, 40.0])
SIDE, LABEL, ARROW = 240, 44, 56
ROOM = 0.04  # of a tile, left free on each side
INK, PALE = "#222222", "#6b7280"


def tiles(images: np.ndarray, side: int) -> list[Image.Image]:
    """(n, h, w, 4) → pictures on white at one scale: the square around all that is visible in any, with room around it,
    so that no tile cuts its object or touches the next one. Raises ValueError where an image itself is cut off."""
    seen = (images[..., 3] > 1 / 16).any(0)
    rows, columns = np.nonzero(seen.any(1))[0], np.nonzero(seen.any(0))[0]
    size = len(seen)
    if rows[0] == 0 or columns[0] == 0 or rows[-1] == size - 1 or columns[-1] == size - 1:
        raise ValueError("an object touches the border of its image: make its views anew")
    reach = max(size / 2 - min(rows[0], columns[0]), max(rows[-1], columns[-1]) + 1 - size / 2)
    half = round(reach / (1 - 2 * ROOM))
    room = max(0, half - size // 2)
    white = (np.clip(composite(images), 0, 1) * 255).astype(np.uint8)
    white = np.pad(white, ((0, 0), (room, room), (room, room), (0, 0)), constant_values=255)
    first, last = size // 2 + room - half, size // 2 + room + half
    kept = white[:, first:last, first:last]
    return [Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS) for image in kept]


def grid(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size, row by row."""
    side = pictures[0].width
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (side * columns, side * rows), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * side, index // columns * side))
    return sheet


def seen_from_above(mesh: Mesh, size: int) -> np.ndarray:
    """Renders from places where no camera was: textured, and without the texture."""
    above = orbit_cameras(*FROM, radius=2.4, width=size, height=size)
    textured = render_views(mesh, above, supersample=2, headlight=0.15)
    bare = render_views(Mesh(mesh.vertices, mesh.faces), above[[0, 2]], supersample=2, headlight=0.8)
    return np.concatenate([textured, bare])


def recon_picture(views_path: str, mesh_path: str) -> Image.Image:
    """Rows: input views, the mesh from the same places, the mesh from where no camera was."""
    views, mesh = load_views(views_path), load_mesh(Path(mesh_path))
    pictures = tiles(views.images[SHOWN], SIDE)
    pictures += tiles(render_views(mesh, views.cameras[SHOWN], supersample=2), SIDE)
    pictures += tiles(seen_from_above(mesh, views.cameras.width), SIDE)
    return grid(pictures, len(SHOWN))


def training_views(shards: str, objects: int, views: int) -> list[Image.Image]:
    """A row of views of each of some objects, evenly spread over the data set."""
    store = OrbitStore(shards)
    pictures = []
    for number in np.linspace(0, len(store.places) - 1, objects).astype(int):
        members = store.members(store.places[number])
        names = sorted(name for name in members if name.endswith(".webp"))
        chosen = [names[i] for i in np.linspace(0, len(names) - 1, views + 1).astype(int)[:-1]]
        frames = np.stack([decode_frame(members[name]) for name in chosen]) / np.float32(255)
        pictures += tiles(frames, SIDE // 3)
    return pictures


def tour_pictures(views_path: str, mesh_path: str, folder: Path) -> None:
    """All views, the photo first; the mesh from eight sides, below without its texture."""
    views, mesh = load_views(views_path), load_mesh(Path(mesh_path))
    order = [len(views) - 1, *range(len(views) - 1)]
    folder.mkdir(parents=True, exist_ok=True)
    save(grid(tiles(views.images[order], 128), 7), folder / "views.png")
    around = orbit_cameras([25.0] * 8, [20.0 + 45 * n for n in range(8)], width=256, height=256)
    bare = render_views(Mesh(mesh.vertices, mesh.faces), around, supersample=2, headlight=0.8)
    textured = render_views(mesh, around, supersample=2)
    save(grid(tiles(np.concatenate([textured, bare]), 128), 8), folder / "mesh.png")


def save(picture: Image.Image, path: Path) -> None:
    """Few colours: the repository keeps every version."""
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def loop_picture(shards: str, views_path: str, mesh_path: str) -> Image.Image:
    """Below: objects → orbits → the model. Above: one photo → 21 posed views → a textured mesh."""
    views, mesh = load_views(views_path), load_mesh(Path(mesh_path))
    photo = tiles(views.images[-1:], SIDE)[0]
    made = grid(tiles(views.images[:20:2], SIDE // 2), 5)
    turned = render_views(mesh, views.cameras[[1, 7]], supersample=2)
    turned = np.concatenate([turned, seen_from_above(mesh, views.cameras.width)[[0, 4]]])
    final = grid(tiles(turned, SIDE // 2), 2)
    data = grid(training_views(shards, 3, 9), 9)
    panels = [
        (photo, "one photo"),
        (made, "21 posed views (every other one shown)"),
        (final, "a textured GLB"),
    ]
    width = sum(picture.width for picture, _ in panels) + 2 * ARROW
    top = LABEL + SIDE
    sheet = Image.new("RGB", (width, top + 2 * LABEL + data.height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    x = 0
    for picture, label in panels:
        draw.text((x + picture.width / 2, LABEL / 2), label, fill=INK, font=font, anchor="mm")
        sheet.paste(picture, (x, LABEL))
        x += picture.width + ARROW
    for x, verb in ((SIDE, "generate"), (SIDE + ARROW + made.width, "recon")):
        arrow(draw, (x + 8, LABEL + SIDE / 2), (x + ARROW - 8, LABEL + SIDE / 2))
        draw.text(
            (x + ARROW / 2, LABEL + SIDE / 2 - 16),
            verb,
            fill=PALE,
            font=ImageFont.load_default(12),
            anchor="mm",
        )
    middle = SIDE + ARROW + made.width / 2
    left = round(middle - data.width / 2)
    sheet.paste(data, (max(left, 0), top + LABEL))
    arrow(draw, (middle, top + LABEL - 6), (middle, top + 6))
    draw.text((middle + 14, top + LABEL / 2), "mv3d train", fill=PALE, font=font, anchor="lm")
    below = top + 1.5 * LABEL + data.height
    text = "orbits of 3D objects: Objaverse, your own, or procedural (mv3d orbits)"
    draw.text((middle, below), text, fill=INK, font=font, anchor="mm")
    return sheet


def arrow(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A straight arrow, horizontal or vertical."""
    direction = np.sign(np.subtract(end, start))
    across = direction[::-1]
    draw.line([start, end], fill=PALE, width=3)
    base = np.asarray(end) - 10 * direction
    draw.polygon([tuple(end), tuple(base + 6 * across), tuple(base - 6 * across)], fill=PALE)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["loop", shards, views, mesh, out]:
            save(loop_picture(shards, views, mesh), Path(out))
        case ["tour", views, mesh, out]:
            tour_pictures(views, mesh, Path(out))
        case ["recon", views, mesh, out]:
            save(recon_picture(views, mesh), Path(out))
        case _:
            sys.exit(f"usage:{(__doc__ or '').split(':', 1)[1].rsplit('SHARDS:', 1)[0].rstrip()}")


if __name__ == "__main__":
    main(sys.argv[1:])
