"""The backends Blender and PyTorch3D: against closed forms and the Embree backend where they are installed;
their parts, messages and failures everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from helpers.exr_files import write_exr
from helpers.places import TESTS

from mv3d.core.colors import srgb_from_linear
from mv3d.core.errors import MissingPartError, Mv3dError, UsageError
from mv3d.render import backend_blender, backend_pytorch3d
from mv3d.render.backend_blender import BlenderRenderer, find_program, read_plain_exr, write_job
from mv3d.render.backend_pytorch3d import Pytorch3dRenderer, picture_of_view, require_pytorch3d
from mv3d.render.cameras import Cameras, orbit_cameras
from mv3d.render.embree import EmbreeRenderer, baked_light
from mv3d.render.environment import Environment, uniform_environment
from mv3d.render.model import Material, Model
from mv3d.render.prefilter import LightField
from mv3d.render.renderer import Rendered, Renderer, RenderSettings
from mv3d.render.textures import build_pyramid, sample_pyramid
from mv3d.render.torch_light import shade, torch_light, torch_lightmap
from mv3d.render.torch_scene import sample_texture, scene_from_model

ALL = RenderSettings(samples=4, outputs=("rgba", "depth", "normals", "albedo"))


def _blender() -> Renderer:
    try:
        return BlenderRenderer(find_program(), samples=32, timeout_s=300)
    except MissingPartError as error:
        pytest.skip(str(error).splitlines()[0])


def _pytorch3d() -> Renderer:
    try:
        require_pytorch3d()
    except MissingPartError as error:
        pytest.skip(str(error).splitlines()[0])
    return Pytorch3dRenderer("cpu")


@pytest.fixture(params=[_pytorch3d, _blender], ids=["pytorch3d", "blender"])
def renderer(request: pytest.FixtureRequest) -> Renderer:
    return request.param()


def ball(radius: float = 0.4, material: Material | None = None) -> Model:
    solid = trimesh.creation.icosphere(3, radius)
    materials = (material or Material(base_color=(0.5, 0.5, 0.5, 1), metallic=0.0),)
    return Model(np.asarray(solid.vertices), np.asarray(solid.faces), materials=materials)


def textured_cube(side: float = 0.6, **material: object) -> Model:
    """Each face shows the whole texture upright seen from outside: a red quarter at its top left, green at the
    top right, blue below."""
    texture = np.zeros((16, 16, 4), np.uint8)
    texture[..., 3] = 255
    texture[:8, :8, 0], texture[:8, 8:, 1], texture[8:, :, 2] = 200, 200, 200
    vertices, normals, uv = [], [], []
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)):
        out = np.zeros(3)
        out[axis] = sign
        up = np.array([0, 0, 1.0]) if axis < 2 else np.array([-1.0, 0, 0])
        right = np.cross(up, out)
        for u, v in ((0, 1), (1, 1), (1, 0), (0, 0)):
            vertices.append((out + (2 * u - 1) * right + (1 - 2 * v) * up) * side / 2)
            normals.append(out)
            uv.append((u, v))
    quads = np.arange(24).reshape(6, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    values = {"base_color_texture": texture, "metallic": 0.0, **material}
    return Model(np.array(vertices), faces, np.array(normals), np.array(uv), materials=(Material(**values),))


def corner_with_box() -> Model:
    """A grey slab, and a box on it that throws a shadow (the last 12 faces)."""
    slab = trimesh.creation.box((1.0, 1.0, 0.1), trimesh.transformations.translation_matrix([0, 0, -0.25]))
    box = trimesh.creation.box((0.3, 0.3, 0.4))
    solids = [slab.subdivide().subdivide().subdivide(), box]
    triangles = np.concatenate([solid.triangles for solid in solids])  # unwelded: every face is flat
    material = Material(base_color=(0.7, 0.6, 0.5, 1), metallic=0.0)
    return Model(
        triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3), materials=(material,)
    )


def odd_cameras() -> Cameras:
    """Two views whose pixels are not square and whose axis misses the middle."""
    cameras = orbit_cameras([10.0, 35.0], [0.0, 130.0], width=72, height=56)
    return replace(cameras, fl_y=cameras.fl_y * 1.15, cx=cameras.cx + 6, cy=cameras.cy - 4)


def one_sided_light() -> Environment:
    """Light from +Y only (azimuth 90 degrees), a little from above."""
    radiance = np.zeros((32, 64, 3), np.float32)
    radiance[10:16, 14:18] = [30, 30, 30]
    return Environment("side", radiance)


# --- each backend, where it is installed ------------------------------------------------------------------------


def test_sphere_matches_its_closed_form(renderer):
    cameras = odd_cameras()
    rendered = renderer.render(ball(0.4), cameras, uniform_environment(), ALL)
    for view in range(len(cameras)):
        origins, directions = cameras.rays(view)
        along = -(origins * directions).sum(1)
        gap = (origins**2).sum(1) - along**2
        distance = along - np.sqrt(np.maximum(0.16 - gap, 0))
        depth = (distance * (directions @ -cameras.c2w[view, :3, 2])).reshape(56, 72)
        truth = (gap < 0.16).reshape(56, 72)
        seen = np.isfinite(rendered.depth[view])
        assert (seen & truth).sum() / (seen | truth).sum() > 0.98
        alpha = rendered.rgba[view, ..., 3]
        assert np.minimum(alpha, truth).sum() / np.maximum(alpha, truth).sum() > 0.94  # soft against hard
        inner = (gap < 0.14).reshape(56, 72) & seen
        assert inner.sum() > 300
        assert np.abs(rendered.depth[view] - depth)[inner].max() < 5e-3  # the sphere has facets
        normal = ((origins + distance[:, None] * directions) / 0.4).reshape(56, 72, 3)
        assert (rendered.normals[view] * normal).sum(-1)[inner].min() > 0.995
        assert (rendered.normals[view][~seen] == 0).all() and (rendered.rgba[view][alpha == 0] == 0).all()
        # A matte grey ball under uniform light is grey all over; its linear 0.5 is sRGB 0.735.
        assert np.abs(rendered.albedo[view][inner] - 0.735).max() < 0.01


def test_furnace_keeps_white_white(renderer):
    white = ball(0.4, Material(metallic=0.0, roughness=1.0))
    settings = RenderSettings(samples=1, diffuse_only=True)
    rendered = renderer.render(
        white, orbit_cameras(20.0, [30.0], width=48, height=48), uniform_environment(), settings
    )
    solid = rendered.rgba[0, ..., 3] == 1
    color = rendered.rgba[0][solid][:, :3]
    # 32 paths are noisy at the rim, where smooth normals meet flat facets.
    assert color.mean() > 0.99 and color.min() > 0.93


def test_agrees_with_embree_on_a_textured_cube(renderer):
    cameras, model = odd_cameras(), textured_cube()
    settings = replace(ALL, samples=16, diffuse_only=True)
    rng = np.random.default_rng(0)
    light = Environment(
        "soft", np.repeat(np.repeat(rng.uniform(0.2, 1, (4, 8, 3)), 8, 0), 8, 1).astype(np.float32)
    )
    ours, reference = (r.render(model, cameras, light, settings) for r in (renderer, EmbreeRenderer()))
    # Edges are filtered alike, colours to 8-bit texels' blur; noise of 32 paths stays below this.
    assert _psnr(ours, reference) > 30
    assert ours.depth is not None and reference.depth is not None
    inner = np.isfinite(ours.depth) & np.isfinite(reference.depth)
    assert (np.isfinite(ours.depth) == np.isfinite(reference.depth)).mean() > 0.995
    assert _largest_difference(ours.depth, reference.depth, inner) < 2e-3
    assert _largest_difference(ours.normals, reference.normals, inner) < 5e-3
    assert _psnr_of(ours.albedo[inner], reference.albedo[inner]) > 30


def test_agrees_with_embree_on_shadow_and_reflected_light(renderer):
    cameras, model = orbit_cameras([40.0], [30.0], width=64, height=64), corner_with_box()
    settings = RenderSettings(samples=4, diffuse_only=True, bounces=2)
    ours, reference = (
        r.render(model, cameras, one_sided_light(), settings) for r in (renderer, EmbreeRenderer())
    )
    assert _psnr(ours, reference) > 30
    # The light is low and comes from +Y: what lies behind the box is in its shadow.
    bare = replace(model, faces=model.faces[:-12], face_material=None)
    lit = EmbreeRenderer().render(bare, cameras, one_sided_light(), settings)
    assert _psnr(ours, lit) < 20


@pytest.mark.slow
def test_eevee_agrees_on_geometry_and_light():
    blender = replace(_blender(), engine="eevee", samples=16, timeout_s=900)
    cameras, model = odd_cameras(), textured_cube()
    settings = replace(ALL, diffuse_only=True)
    ours, reference = (
        r.render(model, cameras, uniform_environment(), settings) for r in (blender, EmbreeRenderer())
    )
    assert ours.depth is not None and reference.depth is not None
    inner = np.isfinite(ours.depth) & np.isfinite(reference.depth)
    assert _largest_difference(ours.depth, reference.depth, inner) < 2e-3
    assert _largest_difference(ours.normals, reference.normals, inner) < 5e-3
    assert _psnr(ours, reference) > 26  # its light is approximate


def test_texture_is_upright(renderer):
    cameras = orbit_cameras(0.0, [0.0, 90.0, 180.0, 270.0], width=48, height=48)
    rendered = renderer.render(textured_cube(), cameras, uniform_environment(), replace(ALL, samples=1))
    albedo = rendered.albedo
    assert (albedo[:, 16, 16, 0] > 0.7).all() and (albedo[:, 16, 32, 1] > 0.7).all()
    assert (albedo[:, 32, 16, 2] > 0.7).all() and (albedo[:, 32, 32, 2] > 0.7).all()


def test_light_comes_from_its_azimuth(renderer):
    # Seen from +X with Z up, +Y is to the right.
    rendered = renderer.render(
        ball(), orbit_cameras(0.0, [0.0], width=48, height=48), one_sided_light(), RenderSettings(samples=4)
    )
    picture = rendered.rgba[0, ..., :3].mean(-1)
    assert picture[20, 32] > picture[20, 16] + 0.2
    assert picture[16, 28] > picture[32, 28] + 0.02  # and a little from above


def test_backfaces_are_shaded_or_culled(renderer):
    inside_out = textured_cube()
    inside_out = replace(inside_out, faces=inside_out.faces[:, ::-1])
    cameras = orbit_cameras(0.0, [0.0], width=32, height=32)
    shaded = renderer.render(inside_out, cameras, uniform_environment(), replace(ALL, samples=1))
    culled = renderer.render(
        inside_out, cameras, uniform_environment(), replace(ALL, samples=1, backfaces="cull")
    )
    assert shaded.rgba[0, 16, 16, 3] == culled.rgba[0, 16, 16, 3] == 1
    assert shaded.depth[0, 16, 16] == pytest.approx(2 - 0.3, abs=1e-3)
    assert culled.depth[0, 16, 16] == pytest.approx(2 + 0.3, abs=1e-3)


def test_normals_turned_round_shade_the_seen_side(renderer):
    cameras, model = orbit_cameras(20.0, [60.0], width=40, height=40), ball()
    assert model.normals is not None
    turned = replace(model, normals=-model.normals)
    settings = RenderSettings(samples=4, diffuse_only=True)
    ours, reference = (
        r.render(turned, cameras, one_sided_light(), settings) for r in (renderer, EmbreeRenderer())
    )
    assert _psnr(ours, reference) > 30
    assert _psnr(ours, EmbreeRenderer().render(model, cameras, one_sided_light(), settings)) > 30


def test_alpha_modes(renderer):
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[:, :4, 3] = 100
    cameras = orbit_cameras(0.0, [0.0], radius=3, width=48, height=48)
    quad = np.array([[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]])
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]])
    wanted = {"opaque": 1.0, "mask": 0.0, "blend": 100 / 255}
    for mode, alpha in wanted.items():
        material = Material(base_color_texture=texture, metallic=0.0, alpha_mode=mode)
        model = Model(quad, np.array([[0, 1, 2], [0, 2, 3]]), uv=uv, materials=(material,))
        rgba = renderer.render(model, cameras, uniform_environment(), RenderSettings(samples=4)).rgba[0]
        assert rgba[24, 20, 3] == pytest.approx(alpha, abs=0.08), mode  # 32 paths draw the blend
        assert rgba[24, 28, 3] == pytest.approx(1, abs=0.01), mode


def test_pytorch3d_gradients_match_differences():
    _pytorch3d()
    cameras = orbit_cameras(25.0, [35.0], width=24, height=24)
    # Smooth light: tables of a lamp are bent so sharply that differences over a step say nothing.
    wave = np.cos(np.linspace(-np.pi, np.pi, 64, endpoint=False))[None, :, None]
    light = torch_light(Environment("smooth", np.tile(1 + 0.8 * wave, (32, 1, 3))), "cpu")
    settings, rng = RenderSettings(samples=1), np.random.default_rng(0)
    model = textured_cube()
    solid = trimesh.creation.icosphere(3, 0.4)
    colors = np.concatenate([0.5 + 0.5 * np.sin(9 * solid.vertices), np.ones((len(solid.vertices), 1))], 1)
    painted = Model(
        solid.vertices, solid.faces, colors=colors, materials=(Material(metallic=0.3, roughness=0.6),)
    )
    inside = np.zeros((24, 24))
    inside[9:16, 9:16] = 1  # the ball covers these whatever the step
    weights = torch.as_tensor(rng.normal(size=(24, 24, 4)), dtype=torch.float32)

    def silhouette(step: torch.Tensor) -> torch.Tensor:
        scene = scene_from_model(model, "cpu")
        moved = replace(scene, vertices=scene.vertices * (1 + step) + step)
        return (picture_of_view(moved, cameras, 0, light, settings, softness_px=1.0).color * weights)[
            ..., 3
        ].sum()

    def interior(step: torch.Tensor) -> torch.Tensor:
        scene = scene_from_model(painted, "cpu")
        moved = replace(scene, vertices=scene.vertices * (1 + step) + step * torch.tensor([0.0, 1.0, 0.0]))
        color = picture_of_view(moved, cameras, 0, light, settings).color[..., :3]
        return (color * weights[..., :3] * torch.as_tensor(inside, dtype=torch.float32)[..., None]).sum()

    def texels(step: torch.Tensor) -> torch.Tensor:
        scene = scene_from_model(model, "cpu")
        texture = scene.materials[0].base_color
        assert texture is not None
        bump = torch.as_tensor(
            np.random.default_rng(1).normal(size=tuple(texture.shape)), dtype=torch.float32
        )
        tinted = replace(scene, materials=(replace(scene.materials[0], base_color=texture + step * bump),))
        return (picture_of_view(tinted, cameras, 0, light, settings).color * weights).sum()

    for loss, h in ((silhouette, 2e-3), (interior, 1e-3), (texels, 1e-2)):
        step = torch.zeros((), requires_grad=True)
        loss(step).backward()
        with torch.no_grad():
            slope = (loss(torch.tensor(h)) - loss(torch.tensor(-h))) / (2 * h)
        assert abs(slope) > 0.1
        assert step.grad.item() == pytest.approx(slope.item(), rel=0.03), loss.__name__


# --- everywhere: parts of the PyTorch3D backend ------------------------------------------------------------------


def test_missing_pytorch3d_names_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch3d", None)
    monkeypatch.setitem(sys.modules, "pytorch3d._C", None)
    with pytest.raises(MissingPartError, match="pip install --no-build-isolation") as caught:
        Pytorch3dRenderer("cpu").render(ball(), odd_cameras(), uniform_environment(), ALL)
    assert caught.value.exit_code == 3


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="choose cpu or auto"):
        backend_pytorch3d.find_device("cuda:63")
    assert backend_pytorch3d.find_device("cpu").type == "cpu"


@pytest.mark.parametrize("wrap", [("repeat", "repeat"), ("clamp", "mirror"), ("mirror", "repeat")])
def test_torch_textures_match_the_pyramid(wrap):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, 32, 3)).astype(np.uint8)
    uv, level = rng.uniform(-2, 3, (200, 2)).astype(np.float32), rng.uniform(0, 3, 200).astype(np.float32)
    texture = torch.as_tensor(pixels).permute(2, 0, 1) / 255
    ours = sample_texture(texture, torch.as_tensor(uv), wrap, torch.as_tensor(level))
    twin = sample_pyramid(build_pyramid(pixels, wrap, srgb=False), uv[:, 0], uv[:, 1], level)
    # Levels of the twin are rounded to bytes, and weights below 2 % left out.
    assert np.abs(ours.numpy() - np.stack(twin, 1)).max() < 0.025
    assert np.abs(ours.numpy() - np.stack(twin, 1)).mean() < 0.003


def test_torch_light_matches_the_light_field():
    rng = np.random.default_rng(0)
    environment = Environment("random", rng.random((32, 64, 3)).astype(np.float32) ** 4)
    directions = rng.normal(size=(300, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    light, field = torch_light(environment, "cpu"), LightField(environment)
    at = torch.as_tensor(directions)
    assert np.allclose(light.irradiance(at), np.stack(field.irradiance.sample(*directions.T), 1), atol=1e-5)
    for roughness in (0.0, 0.5, 1.0):
        ours = light.reflection(at, torch.full((300,), roughness))
        twin = np.stack(field.glossy(roughness).sample(*directions.T), 1)
        assert np.allclose(ours, twin, atol=1e-4)


def test_torch_lightmap_matches_the_lightmap():
    model, cameras = corner_with_box(), orbit_cameras(40.0, [30.0], width=32, height=32)
    lightmap = baked_light(model, cameras, one_sided_light(), RenderSettings())
    rng = np.random.default_rng(0)
    face = rng.integers(0, len(model.faces), 500).astype(np.int32)
    cuts = np.sort(rng.random((500, 2)).astype(np.float32), axis=1)
    u, v, back = cuts[:, 0], cuts[:, 1] - cuts[:, 0], rng.random(500) < 0.5
    bary = torch.as_tensor(np.stack([1 - u - v, u, v], 1))
    twin = torch_lightmap(lightmap, "cpu").sample(torch.as_tensor(face).long(), bary, torch.as_tensor(back))
    assert np.allclose(twin, np.stack(lightmap.sample(face, u, v, back), 1), atol=1e-4)
    assert twin.min() < 0.2 and twin.max() > 0.9  # there is shadow and there is light


@pytest.mark.parametrize("roughness", [0.1, 0.5, 1.0])
def test_torch_shading_keeps_energy(roughness):
    light = torch_light(uniform_environment(), "cpu")
    normals = torch.nn.functional.normalize(
        torch.randn(100, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    viewer = torch.nn.functional.normalize(normals + 0.5, dim=1)
    ones = torch.ones(100)
    white = shade(light, torch.ones(100, 3), 0 * ones, roughness * ones, normals, viewer)
    assert torch.allclose(white, torch.ones(100, 3), atol=2e-3)
    metal = shade(light, torch.ones(100, 3), ones, roughness * ones, normals, viewer)
    assert torch.allclose(metal, torch.ones(100, 3), atol=2e-3)


# --- everywhere: parts of the Blender backend --------------------------------------------------------------------


def test_exr_round_trip_and_refusal(tmp_path):
    rng = np.random.default_rng(0)
    channels = {f"ViewLayer.Combined.{c}": rng.random((5, 7)).astype(np.float32) for c in "RGBA"}
    write_exr(tmp_path / "a.exr", channels)
    back = read_plain_exr(tmp_path / "a.exr")
    assert set(back) == set(channels)
    assert all((back[name] == channels[name]).all() for name in channels)
    write_exr(tmp_path / "b.exr", channels, compression=3)
    with pytest.raises(Mv3dError, match="uncompressed"):
        read_plain_exr(tmp_path / "b.exr")


def test_missing_blender_says_what_to_install(monkeypatch):
    monkeypatch.delenv("MV3D_BLENDER", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingPartError, match=r"Blender is not installed.*\n.*pip install bpy") as caught:
        BlenderRenderer().render(ball(), odd_cameras(), uniform_environment(), ALL)
    assert caught.value.exit_code == 3
    monkeypatch.setenv("MV3D_BLENDER", "/nowhere/blender")
    with pytest.raises(MissingPartError, match="/nowhere/blender: no such program"):
        find_program()


def test_a_python_without_bpy_is_a_missing_part(tmp_path):
    write_job(tmp_path, ball(), odd_cameras(), uniform_environment(), ALL, BlenderRenderer())
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # no site-packages, so no bpy
    bare.chmod(0o755)
    with pytest.raises(MissingPartError, match="has no bpy package"):
        backend_blender.run_script(str(bare), tmp_path, timeout_s=60)


def test_the_job_holds_the_whole_request(tmp_path):
    cameras, model = odd_cameras(), textured_cube(wrap=("clamp", "mirror"), double_sided=True)
    degenerate = replace(model, faces=np.concatenate([model.faces, [[0, 0, 1]]]), face_material=None)
    options = BlenderRenderer(samples=7, threads=3, engine="eevee")
    settings = replace(ALL, seed=5, bounces=1, backfaces="cull", diffuse_only=True)
    write_job(tmp_path, degenerate, cameras, one_sided_light(), settings, options)
    job = json.loads((tmp_path / "job.json").read_text())
    assert (job["engine"], job["samples"], job["threads"], job["seed"], job["bounces"]) == (
        "eevee",
        7,
        3,
        5,
        1,
    )
    assert (job["width"], job["height"], job["passes"]) == (72, 56, ["beauty", "albedo", "centre"])
    assert job["cameras"][1]["cx"] == cameras.cx[1] and job["cameras"][1]["fl_y"] == cameras.fl_y[1]
    assert np.allclose(job["cameras"][1]["c2w"], cameras.c2w[1])
    assert 0 < job["cameras"][0]["near"] < 2 - 0.5196 < 2 + 0.5196 < job["cameras"][0]["far"]
    material = job["materials"][0]
    assert (material["cull"], material["specular"]) == (False, 0.0)
    assert material["wrap"]["base_color_texture"] == ["clamp", "mirror"]
    assert set(material["uv_set"].values()) == {0}
    stored = np.load(tmp_path / material["base_color_texture"])  # linear
    back = srgb_from_linear(stored[..., :3])
    assert np.allclose(back * 255, model.materials[0].base_color_texture[..., :3], atol=1e-3)
    assert (stored[..., 3] == 1).all()
    arrays = np.load(tmp_path / "geometry.npz")
    assert (arrays["faces"] == model.faces).all() and (arrays["uv0"] == model.uv).all()
    assert (np.load(tmp_path / "environment.npy") == one_sided_light().radiance).all()


def test_faces_that_lie_on_one_another_are_drawn_once(tmp_path):
    model = ball()
    doubled = replace(model, faces=np.concatenate([model.faces, model.faces[:, ::-1]]), face_material=None)
    counts = []
    for settings in (ALL, replace(ALL, backfaces="cull")):
        write_job(tmp_path, doubled, odd_cameras(), uniform_environment(), settings, BlenderRenderer())
        counts.append(len(np.load(tmp_path / "geometry.npz")["faces"]))
    assert counts == [len(model.faces), 2 * len(model.faces)]


def fake_blender(folder: Path, body: str) -> str:
    """A program that takes Blender's command line; `body` runs with the job's folder as `folder`."""
    program = folder / "fake-blender"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys, time\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(TESTS)!r})\n"
        "assert sys.argv[1] == '--background' and '--python' in sys.argv\n"
        "folder = Path(sys.argv[sys.argv.index('--') + 1])\n" + body
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.skipif(os.name != "posix", reason="the fake is a script with a #! line")
def test_pictures_come_back_as_the_seam_says(tmp_path):
    # Premultiplied linear 0.25 at alpha 0.5 is linear 0.5, sRGB 0.735; empty pixels hold nothing at all.
    program = fake_blender(
        tmp_path,
        f"sys.path[:0] = {sys.path!r}\n"
        "import json, numpy as np\nfrom helpers.exr_files import write_exr\n"
        "job = json.loads((folder / 'job.json').read_text())\n"
        "h, w = job['height'], job['width']\n"
        "half = np.zeros((h, w), np.float32); half[:, : w // 2] = 0.5\n"
        "solid = (half > 0).astype(np.float32)\n"
        "for v in range(len(job['cameras'])):\n"
        "    c = {f'ViewLayer.Combined.{k}': half / 2 for k in 'RGB'} | {'ViewLayer.Combined.A': half}\n"
        "    write_exr(folder / f'beauty_{v:04d}.exr', c)\n"
        "    write_exr(folder / f'albedo_{v:04d}.exr', c)\n"
        "    c = {f'ViewLayer.Combined.{k}': solid for k in 'RGBA'} | {'ViewLayer.Depth.Z': half * 3 + (1 - solid) * 1e10}\n"
        "    c |= {f'ViewLayer.Normal.{k}': solid * 0.1 for k in 'XYZ'}\n"
        "    write_exr(folder / f'centre_{v:04d}.exr', c)\n"
        "(folder / 'done.json').write_text('{}')\n",
    )
    rendered = BlenderRenderer(program).render(ball(), odd_cameras(), uniform_environment(), ALL)
    assert isinstance(rendered, Rendered)
    assert rendered.rgba.shape == (2, 56, 72, 4) and rendered.rgba.dtype == np.float32
    assert np.allclose(rendered.rgba[:, :, :36], [0.7354, 0.7354, 0.7354, 0.5], atol=1e-3)
    assert (rendered.rgba[:, :, 36:] == 0).all()
    assert (rendered.depth[:, :, :36] == 1.5).all() and np.isinf(rendered.depth[:, :, 36:]).all()
    assert np.allclose(np.linalg.norm(rendered.normals[:, :, :36], axis=-1), 1, atol=1e-5)
    assert (rendered.normals[:, :, 36:] == 0).all() and rendered.albedo.shape == (2, 56, 72, 3)


@pytest.mark.skipif(os.name != "posix", reason="the fake is a script with a #! line")
@pytest.mark.parametrize(
    "body, message",
    [
        ("print('Error: the cube is missing'); sys.exit(3)\n", r"exit code 3[\s\S]*the cube is missing"),
        ("print('nothing to do')\n", r"ended without a result[\s\S]*nothing to do"),
        ("os.kill(os.getpid(), 9)\n", r"SIGKILL; out of memory"),
    ],
    ids=["fails", "does nothing", "is killed"],
)
def test_a_failing_program_gives_its_last_lines(tmp_path, body, message):
    with pytest.raises(Mv3dError, match=message):
        BlenderRenderer(fake_blender(tmp_path, body)).render(
            ball(), odd_cameras(), uniform_environment(), ALL
        )


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_a_hanging_program_is_stopped_with_its_children(tmp_path):
    note = tmp_path / "child"
    program = fake_blender(
        tmp_path,
        "import subprocess\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"Path({str(note)!r}).write_text(str(child.pid))\nprint('Fra: 1 Mem', flush=True)\ntime.sleep(60)\n",
    )
    start = time.monotonic()
    with pytest.raises(Mv3dError, match=r"not done after 2 s and stopped[\s\S]*Fra: 1 Mem"):
        BlenderRenderer(program, timeout_s=2).render(ball(), odd_cameras(), uniform_environment(), ALL)
    assert time.monotonic() - start < 20
    child, deadline = int(note.read_text()), time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def test_the_script_needs_nothing_of_ours():
    source = Path(backend_blender.__file__).with_name("blender_script.py").read_text()
    assert "mv3d." not in source.split('"""', 2)[2] and "import mv3d" not in source
    answer = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "import mv3d.render.backend_blender, sys; assert 'bpy' not in sys.modules",
        ],
        check=False,
    )
    assert answer.returncode == 0


def _alive(pid: int) -> bool:
    """Whether a process runs (one that ended and waits for its parent does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _largest_difference(ours: np.ndarray, reference: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(ours[where] - reference[where]).max())


def _psnr_of(ours: np.ndarray, reference: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((ours - reference) ** 2)))


def _psnr(ours: Rendered, reference: Rendered) -> float:
    """Over white, in dB."""
    a, b = (r.rgba[..., :3] * r.rgba[..., 3:] + 1 - r.rgba[..., 3:] for r in (ours, reference))
    return _psnr_of(a, b)
