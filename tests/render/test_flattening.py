"""A mesh shows what its model shows: against the renderer, which reads materials by itself, and against baked copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.models import facing_quad, front, join
from helpers.places import SHARED

from mv3d.evaluation.mesh_metrics import evaluate_mesh
from mv3d.evaluation.protocols import MeshProtocol
from mv3d.evaluation.surfaces import moved
from mv3d.render.embree import EmbreeRenderer
from mv3d.render.environment import uniform_environment
from mv3d.render.flattening import mesh_of_model
from mv3d.render.mesh_io import load_mesh
from mv3d.render.model import UNSTATED, Material
from mv3d.render.raycast import render_view
from mv3d.render.renderer import RenderSettings

RAMP = np.linspace(30, 230, 64)
PICTURE = np.stack(
    [np.tile(RAMP, (64, 1)), np.tile(RAMP[:, None], (1, 64)), np.full((64, 64), 90), np.full((64, 64), 255)],
    -1,
).astype(np.uint8)
TEXTURED = Material(base_color_texture=PICTURE, unlit=True)
PLAIN = Material(base_color=(0.2, 0.5, 0.1, 1), unlit=True)
TINTS = np.array([[1, 0.2, 0.2, 1], [0.2, 1, 0.2, 1], [0.2, 0.2, 1, 1], [1, 1, 1, 1]], np.float32)


def quad(material: Material, *, tiles: float = 1, shift: float = 0, tints: bool = False, z: float = 0.0):
    """A square of side 1 in the plane x = 0, seen from +X."""
    model = facing_quad(material)
    assert model.uv is not None
    return replace(
        model,
        vertices=model.vertices + np.float32([0, 0, z]),
        uv=model.uv * np.float32(tiles) + np.float32(shift),
        colors=TINTS if tints else None,
    )


MODELS = {
    "factor": lambda: quad(PLAIN),
    "factor and texture": lambda: quad(replace(TEXTURED, base_color=(0.5, 0.2, 1.0, 1.0))),
    "vertex colours and factor": lambda: quad(PLAIN, tints=True),
    "vertex colours and texture": lambda: quad(TEXTURED, tints=True),
    "repeated": lambda: quad(TEXTURED, tiles=2, shift=-0.75),
    "mirrored": lambda: quad(replace(TEXTURED, wrap=("mirror", "repeat")), tiles=2, shift=-1.25),
    "clamped": lambda: quad(replace(TEXTURED, wrap=("clamp", "clamp")), tiles=2, shift=-0.5),
    "two materials": lambda: join(quad(TEXTURED, tiles=2, z=0.5), quad(PLAIN, z=-0.5)),
    "two textures": lambda: join(
        quad(TEXTURED, z=0.5), quad(replace(TEXTURED, base_color_texture=PICTURE[::-1, ::2]), z=-0.5)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_mesh_shows_what_the_renderer_draws(name):
    model = MODELS[name]()
    cameras = front(96, 5.0)
    settings = RenderSettings(samples=16, light_samples=1)
    drawn = EmbreeRenderer().render(model, cameras, uniform_environment(1.0), settings).rgba[0]
    shown = render_view(mesh_of_model(model), cameras, 0, supersample=4)
    inside = (drawn[..., 3] == 1) & (shown[..., 3] == 1)
    assert inside.sum() > 500
    # Colours are interpolated as light by the renderer, in sRGB by a mesh: the only difference that one may see.
    # A mesh interpolates colours in sRGB, the renderer as light; and it does not filter where repeats meet.
    least = {"vertex": 30, "repeated": 35, "mirrored": 35, "two": 35}.get(name.split()[0], 40)
    assert -10 * np.log10(((drawn - shown)[inside] ** 2).mean()) > least


def test_what_says_nothing_of_colours_has_none():
    assert mesh_of_model(quad(UNSTATED)).vertex_colors is None
    assert (mesh_of_model(quad(PLAIN)).vertex_colors == [124, 188, 89]).all()  # IEC 61966-2-1 of .2, .5, .1


def test_endless_repeats_cost_no_memory():
    mesh = mesh_of_model(quad(TEXTURED, tiles=1e5))
    assert mesh.texture is not None and mesh.texture.size < 100
    assert np.abs(mesh.texture[1, 1] - PICTURE[..., :3].mean((0, 1))).max() < 1
    mesh = mesh_of_model(join(*[quad(TEXTURED, tiles=200) for _ in range(40)]))
    assert mesh.texture is not None and mesh.texture.size < 3 * 8192**2


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the cases are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "baked", "turn"),
    [
        # Blender's glTF has its own front along +Z, the ply has it along -Y: a quarter turn.
        ("15_eval_mesh_vertex_colours/vcs.glb", "15_eval_mesh_vertex_colours/vcs.ply", True),
        (
            "16_eval_mesh_other_geometry/simple-instancing.glb",
            "16_eval_mesh_other_geometry/simple-instancing_baked.obj",
            False,
        ),
        (
            "16_eval_mesh_other_geometry/cornell_box.obj",
            "16_eval_mesh_other_geometry/cornell_box_baked.obj",
            False,
        ),
    ],
)
def test_a_file_agrees_with_its_baked_copy(name, baked, turn):
    protocol = MeshProtocol(samples=20_000, render_size=96, render_azimuths=2, iou_resolution=32)
    mesh, copy = load_mesh(SHARED / "cases" / name), load_mesh(str(SHARED / "cases" / baked))
    if turn:
        quarter = np.eye(4)
        quarter[:2, :2] = [[0, -1], [1, 0]]
        copy = moved(copy, quarter)
    if copy.vertex_colors is None:  # a copy of the shape alone
        mesh = replace(mesh, vertex_colors=None)
    found, floor = evaluate_mesh(mesh, copy, protocol), evaluate_mesh(copy, copy, protocol)
    assert found["metrics"]["chamfer"] < 1.05 * floor["metrics"]["chamfer"]
    assert found["renders"]["mean"]["psnr"] > 40
