"""The Embree backend against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.models import WHITE, cube_model, facing_quad, front, join, quad_model, sphere_model, spot

from mv3d.core.colors import linear_from_srgb, srgb_from_linear
from mv3d.core.errors import InputError, UsageError
from mv3d.render.cameras import orbit_cameras
from mv3d.render.embree import EmbreeRenderer
from mv3d.render.environment import Environment, texel_directions, uniform_environment
from mv3d.render.lightmap_baking import join_points
from mv3d.render.model import Material, Model, normalize_model
from mv3d.render.ray_shading import face_cosines
from mv3d.render.renderer import BACKENDS, RenderSettings, get_renderer
from mv3d.render.sampling import sample_offsets
from mv3d.render.surface import Points, Surface

# Few shadow rays: these are tests of everything but their number.
ALL = RenderSettings(outputs=("rgba", "depth", "normals", "albedo"), light_samples=32)


def render(model, cameras, environment=None, settings=ALL, **options):
    environment = environment or uniform_environment(0.5)
    return EmbreeRenderer(**options).render(model, cameras, environment, settings)


def linear(picture):
    return linear_from_srgb(picture[..., :3])


def psnr(a, b):
    return -10 * np.log10(np.mean((a - b) ** 2) + 1e-12)


def test_sphere_silhouette_depth_and_normals():
    size, distance, radius = 192, 3.0, 0.5
    result = render(sphere_model(radius), front(size, distance))
    cameras = front(size, distance)
    origins, directions = cameras.rays(0)
    # |o + t d| = r
    b = (origins * directions).sum(1)
    inside = b**2 - (distance**2 - radius**2)
    t = -b - np.sqrt(np.maximum(inside, 0))
    hit = (inside > 0).reshape(size, size)
    depth = (t * -(directions @ cameras.c2w[0, :3, 2])).reshape(size, size)
    # The seen area: the cone that touches the sphere has sine r / d.
    pixels = np.pi * (cameras.fl_x[0] * np.tan(np.arcsin(radius / distance))) ** 2
    assert result.rgba[0, ..., 3].sum() == pytest.approx(pixels, rel=2e-3)
    both = hit & np.isfinite(result.depth[0])
    assert (hit != np.isfinite(result.depth[0])).sum() < 30
    well_inside = both & (inside.reshape(size, size) > 0.02)
    assert np.abs(result.depth[0] - depth)[well_inside].max() < 1e-3
    point = origins + t[:, None] * directions
    exact = (point / radius).reshape(size, size, 3)
    assert np.abs(result.normals[0] - exact)[well_inside].max() < 0.01
    assert np.linalg.norm(result.normals[0], axis=-1)[both].min() > 0.999
    assert (result.normals[0][~both & ~hit] == 0).all()


def test_cube_silhouette_is_the_hull_of_its_projected_corners():
    from scipy.spatial import ConvexHull, Delaunay

    cube = cube_model(0.5)
    cameras = orbit_cameras(25, [35.0], radius=3.0, width=160, height=160)
    result = render(cube, cameras)
    xy, _ = cameras.project(cube.vertices.astype(np.float64), 0)
    assert result.rgba[0, ..., 3].sum() == pytest.approx(ConvexHull(xy).volume, rel=3e-3)
    ys, xs = np.mgrid[:160, :160]
    inside = Delaunay(xy).find_simplex(np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5], 1)) >= 0
    np.testing.assert_array_equal(np.isfinite(result.depth[0]), inside.reshape(160, 160))


def test_depth_is_along_the_axis_and_corners_project_where_the_cameras_say():
    quad = facing_quad(half=0.4)
    cameras = front(100, 2.0)
    result = render(quad, cameras)
    seen = np.isfinite(result.depth[0])
    np.testing.assert_allclose(result.depth[0][seen], 2.0, atol=1e-5)  # flat, not longer towards the corners
    xy, _ = cameras.project(quad.vertices.astype(np.float64), 0)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    np.testing.assert_allclose([columns[0], columns[-1] + 1], [xy[:, 0].min(), xy[:, 0].max()], atol=0.51)
    np.testing.assert_allclose([rows[0], rows[-1] + 1], [xy[:, 1].min(), xy[:, 1].max()], atol=0.51)


@pytest.mark.parametrize("metallic", [0.0, 1.0])
@pytest.mark.parametrize("roughness", [0.0, 0.3, 0.65, 1.0])
@pytest.mark.parametrize("shape", ["sphere", "cube"])
def test_white_furnace(metallic, roughness, shape):
    material = Material(metallic=metallic, roughness=roughness)
    model = sphere_model(rings=48, material=material) if shape == "sphere" else cube_model(material=material)
    result = render(model, front(64, elevation_deg=20, azimuth_deg=30), uniform_environment(0.5))
    inside = result.rgba[0, ..., 3] == 1
    np.testing.assert_allclose(linear(result.rgba[0])[inside], 0.5, atol=0.01)


def test_furnace_with_occlusion_and_many_bounces_stays_white():
    # Two white cubes that touch: light that is blocked comes back by reflection, L = 1 everywhere (closed form).
    second = cube_model(0.25)
    second = Model(
        second.vertices + np.array([0.75, 0, -0.25]), second.faces, second.normals, materials=second.materials
    )
    settings = RenderSettings(bounces=24, diffuse_only=True)
    result = render(join(cube_model(0.5), second), front(96, 5, 40, 30), uniform_environment(0.5), settings)
    inside = result.rgba[0, ..., 3] == 1
    np.testing.assert_allclose(linear(result.rgba[0])[inside], 0.5, atol=0.02)


def test_base_color_and_albedo_in_the_furnace():
    material = Material(base_color=(0.2, 0.5, 0.8, 1.0), metallic=0.0)
    result = render(
        sphere_model(rings=32, material=material),
        front(48),
        uniform_environment(1.0),
        RenderSettings(diffuse_only=True, outputs=("rgba", "albedo")),
    )
    inside = result.rgba[0, ..., 3] == 1
    expected = np.broadcast_to([0.2, 0.5, 0.8], (int(inside.sum()), 3))
    np.testing.assert_allclose(linear(result.rgba[0])[inside], expected, atol=2e-3)
    np.testing.assert_allclose(linear(result.albedo[0])[inside], expected, atol=2e-3)


def test_irradiance_of_a_lambertian_sphere_under_a_distant_light():
    # E/π = cos θ for irradiance π from a small disc.
    light = (0.3, -0.5, 0.8)
    result = render(
        sphere_model(),
        front(96),
        spot(light, 4),
        RenderSettings(diffuse_only=True, outputs=("rgba", "normals")),
    )
    towards = np.array(light) / np.linalg.norm(light)
    inside = result.rgba[0, ..., 3] == 1
    cosine = np.maximum(result.normals[0] @ towards, 0)
    # The disc is 4 degrees wide and snapped to texels of 2.8; the terminator is not sharp.
    away = inside & (cosine > 0.1)
    value = linear(result.rgba[0])[..., 0]
    scale = np.median(value[away] / cosine[away])
    assert scale == pytest.approx(1, abs=0.12)
    assert np.abs(value - scale * cosine)[away].max() < 0.04


@pytest.mark.parametrize(("azimuth", "side"), [(0, 0), (90, 1), (180, 0), (270, 1)])
def test_light_at_an_azimuth_lights_that_side(azimuth, side):
    angle = np.radians(azimuth)
    environment = spot((np.cos(angle), np.sin(angle), 0.0), 10)
    seen = []
    for view in (0, 90, 180, 270):
        result = render(cube_model(0.4), front(32, azimuth_deg=view), environment)
        seen.append(result.rgba[0, 16, 16, :3].mean())
    assert np.argmax(seen) == azimuth // 90
    assert seen[azimuth // 90] > 0.8 > 3 * max(np.delete(seen, azimuth // 90))


def test_environment_row_zero_is_up_and_turning_is_counter_clockwise():
    up = spot((0, 0, 1))
    assert up.radiance[0].mean() > 0 and up.radiance[-1].sum() == 0
    plus_x = spot((1, 0, 0))
    turned = plus_x.turned(90)
    np.testing.assert_allclose(turned.radiance, spot((0, 1, 0)).radiance, atol=1e-6)


def quarters(size=64):
    """Red top left, green top right, blue bottom left, white bottom right."""
    picture = np.zeros((size, size, 4), np.uint8)
    half = size // 2
    picture[:half, :half], picture[:half, half:] = [255, 0, 0, 255], [0, 255, 0, 255]
    picture[half:, :half], picture[half:, half:] = [0, 0, 255, 255], [255, 255, 255, 255]
    return picture


def test_texture_orientation():
    quad = facing_quad(Material(base_color_texture=quarters(), metallic=0.0))
    albedo = render(quad, front(64)).albedo[0]
    for (row, column), color in {
        (24, 24): [1, 0, 0],
        (24, 40): [0, 1, 0],
        (40, 24): [0, 0, 1],
        (40, 40): [1, 1, 1],
    }.items():
        np.testing.assert_allclose(albedo[row, column], color, atol=0.01)


@pytest.mark.parametrize(
    ("wrap", "expected"), [("repeat", [1, 0, 0]), ("clamp", [0, 1, 0]), ("mirror", [0, 1, 0])]
)
def test_wrap(wrap, expected):
    # u from 0 to 2: just right of the middle the texture starts again, stays at its border, or goes back.
    uv = [[0, 0], [0, 1], [2, 1], [2, 0]]
    material = Material(base_color_texture=quarters(), metallic=0.0, wrap=(wrap, "repeat"))
    half = 0.5
    quad = quad_model([[0, -half, half], [0, -half, -half], [0, half, -half], [0, half, half]], material, uv)
    albedo = render(quad, front(64)).albedo[0]
    np.testing.assert_allclose(albedo[26, 36], expected, atol=0.02)


def test_minified_texture_becomes_its_mean_light():
    # A checkerboard of single texels, far below the size of a pixel: half of the light, 0.735 in sRGB, not 0.5.
    board = np.indices((512, 512)).sum(0) % 2 * 255
    picture = np.dstack([board] * 3 + [np.full_like(board, 255)]).astype(np.uint8)
    quad = facing_quad(Material(base_color_texture=picture, metallic=0.0))
    albedo = render(quad, front(48)).albedo[0]
    inside = albedo[18:30, 18:30]
    np.testing.assert_allclose(inside, srgb_from_linear(np.array(0.5)), atol=0.02)


def test_magnified_texture_is_interpolated():
    picture = np.zeros((1, 2, 4), np.uint8)
    picture[..., 3] = 255
    picture[0, 1, :3] = 255
    quad = facing_quad(Material(base_color_texture=picture, metallic=0.0, wrap=("clamp", "clamp")))
    row = linear_from_srgb(
        render(quad, front(96), settings=RenderSettings(outputs=("albedo",))).albedo[0, 48, :, 0]
    )
    xy, _ = front(96).project(np.array([[0, -0.25, 0.0], [0, 0.25, 0.0]]), 0)
    left, right = xy[:, 0]
    columns = np.arange(int(left) + 2, int(right) - 1)
    np.testing.assert_allclose(row[columns], (columns + 0.5 - left) / (right - left), atol=0.01)


def test_both_sides_are_shown_unless_culled():
    from_behind = front(48, azimuth_deg=180)
    shown = render(facing_quad(), from_behind)
    assert shown.rgba[0, 24, 24, 3] == 1
    np.testing.assert_allclose(shown.normals[0, 24, 24], [-1, 0, 0], atol=1e-6)  # towards the viewer
    np.testing.assert_allclose(linear(shown.rgba[0])[24, 24], 0.5, atol=0.01)  # lit from its own side
    culling = RenderSettings(backfaces="cull", outputs=("rgba", "depth"))
    culled = render(facing_quad(), from_behind, settings=culling)
    assert culled.rgba[..., 3].max() == 0 and np.isinf(culled.depth).all()  # pyright: ignore[reportCallIssue]
    assert render(facing_quad(), front(48), settings=culling).rgba[0, 24, 24, 3] == 1
    two_sided = facing_quad(Material(metallic=0.0, double_sided=True))
    assert render(two_sided, from_behind, settings=culling).rgba[0, 24, 24, 3] == 1


def test_culled_front_shows_what_is_behind():
    near = quad_model([[0.3, 0.5, 0.5], [0.3, 0.5, -0.5], [0.3, -0.5, -0.5], [0.3, -0.5, 0.5]])  # faces -X
    far = facing_quad(Material(base_color=(1, 0, 0, 1), metallic=0.0))
    settings = RenderSettings(backfaces="cull", outputs=("depth", "albedo"))
    result = render(join(near, far), front(48), settings=settings)
    assert result.depth[0, 24, 24] == pytest.approx(3.0, abs=1e-4)
    np.testing.assert_allclose(result.albedo[0, 24, 24], [1, 0, 0], atol=1e-3)


def test_alpha_mask_cuts_and_what_is_behind_shows():
    picture = np.full((32, 32, 4), 255, np.uint8)
    picture[:, :16, 3] = 0
    cut = facing_quad(Material(base_color_texture=picture, metallic=0.0, alpha_mode="mask"))
    result = render(cut, front(48))
    assert result.rgba[0, 24, 18, 3] == 0 and result.rgba[0, 24, 30, 3] == 1
    assert np.isinf(result.depth[0, 24, 18])
    behind = quad_model(
        [[-0.4, -0.5, 0.5], [-0.4, -0.5, -0.5], [-0.4, 0.5, -0.5], [-0.4, 0.5, 0.5]],
        Material(base_color=(0, 1, 0, 1), metallic=0.0),
    )
    result = render(join(cut, behind), front(48))
    assert result.rgba[0, 24, 18, 3] == 1 and result.depth[0, 24, 18] == pytest.approx(3.4, abs=1e-4)
    np.testing.assert_allclose(result.albedo[0, 24, 18], [0, 1, 0], atol=1e-3)
    opaque = facing_quad(Material(base_color_texture=picture, metallic=0.0))
    assert render(opaque, front(48)).rgba[0, 24, 18, 3] == 1


def test_blended_layers_are_composited_front_to_back():
    near = quad_model(
        [[0.2, -0.5, 0.5], [0.2, -0.5, -0.5], [0.2, 0.5, -0.5], [0.2, 0.5, 0.5]],
        Material(base_color=(1, 0, 0, 0.25), metallic=0.0, alpha_mode="blend", unlit=True),
    )
    far = facing_quad(Material(base_color=(0, 0, 1, 0.5), metallic=0.0, alpha_mode="blend", unlit=True))
    pixel = render(join(near, far), front(48)).rgba[0, 24, 24]
    alpha = 0.25 + 0.75 * 0.5
    assert pixel[3] == pytest.approx(alpha, abs=1e-4)
    np.testing.assert_allclose(linear(pixel), np.array([0.25, 0, 0.375]) / alpha, atol=1e-3)


def test_edges_are_not_darkened_by_the_background():
    result = render(
        cube_model(0.5), orbit_cameras(20, [33.0], radius=3, width=96, height=96), uniform_environment(1.0)
    )
    rim = (result.rgba[0, ..., 3] > 0) & (result.rgba[0, ..., 3] < 1)
    assert rim.sum() > 50
    np.testing.assert_allclose(result.rgba[0][rim][:, :3], 1.0, atol=0.01)
    assert (result.rgba[0][result.rgba[0, ..., 3] == 0] == 0).all()


def test_normal_map_leans_the_right_way():
    # +X of the map is where u grows (right in the picture, +Y of the world here), +Y is up (+Z).
    def lit(x, y, light):
        texel = np.round((np.array([x, y, np.sqrt(1 - x * x - y * y)]) * 0.5 + 0.5) * 255).astype(np.uint8)
        material = Material(metallic=0.0, normal_texture=np.tile(texel, (4, 4, 1)))
        settings = RenderSettings(diffuse_only=True)
        picture = render(facing_quad(material), front(32), spot(light, 6), settings)
        return linear(picture.rgba[0])[16, 16, 0]

    right, up = (0.7, 0.7, 0), (0.7, 0, 0.7)
    assert lit(0.6, 0, right) > 0.9 and lit(-0.6, 0, right) < 0.4
    assert lit(0, 0.6, up) > 0.9 and lit(0, -0.6, up) < 0.4
    assert lit(0, 0, right) == pytest.approx(np.cos(np.pi / 4), abs=0.05)


def test_emission_and_unlit_ignore_the_light():
    dark = Environment("dark", np.full((8, 16, 3), 1e-6, np.float32))
    glowing = Material(base_color=(0, 0, 0, 1), metallic=0.0, emissive=(0.25, 0.5, 0.75))
    np.testing.assert_allclose(
        linear(render(cube_model(material=glowing), front(32), dark).rgba[0])[16, 16],
        [0.25, 0.5, 0.75],
        atol=2e-3,
    )
    unlit = Material(base_color=(0.3, 0.6, 0.9, 1), unlit=True)
    np.testing.assert_allclose(
        linear(render(cube_model(material=unlit), front(32), dark).rgba[0])[16, 16],
        [0.3, 0.6, 0.9],
        atol=2e-3,
    )


def test_mirror_reflects_the_environment_unmirrored():
    # Looking along -X at a mirror that faces +X and is turned by 45 degrees towards +Y: it shows what lies at +Y.
    mirror = quad_model(
        [[0.5, -0.5, 0.5], [0.5, -0.5, -0.5], [-0.5, 0.5, -0.5], [-0.5, 0.5, 0.5]],
        Material(metallic=1.0, roughness=0.0),
    )
    directions = texel_directions(64, 128)
    radiance = np.stack([directions[..., 1] > 0.9, directions[..., 1] < -0.9, directions[..., 2] > 0.9], -1)
    picture = render(mirror, front(48), Environment("axes", radiance.astype(np.float32)))
    pixel = linear(picture.rgba[0])[24, 24]
    assert pixel[0] > 0.9 and pixel[1] < 0.05 and pixel[2] < 0.05


def test_occlusion_agrees_with_monte_carlo():
    # A sphere over a floor under a sky that is not uniform: the baked light against brute force at single points.
    floor = quad_model([[-1, 1, -0.5], [-1, -1, -0.5], [1, -1, -0.5], [1, 1, -0.5]])
    model = join(sphere_model(0.5, 64), floor)
    directions = texel_directions(64, 128)
    radiance = np.stack([0.3 + 0.7 * np.maximum(directions[..., k], 0) for k in (0, 1, 2)], -1).astype(
        np.float32
    )
    environment = Environment("ramp", radiance)
    settings = RenderSettings(diffuse_only=True, bounces=0, samples=1, outputs=("rgba", "depth", "normals"))
    cameras = front(64, 4.5, azimuth_deg=30, elevation_deg=35)
    result = render(model, cameras, environment, settings)
    from mv3d.render.prefilter import sample_equirect
    from mv3d.render.raycast import RayScene

    scene = RayScene(model.vertices, model.faces)
    origins, rays = cameras.rays(0)
    depth = result.depth[0].reshape(-1)
    rng = np.random.default_rng(0)
    differences = []
    for pixel in rng.choice(
        np.flatnonzero(np.isfinite(depth) & (result.rgba[0, ..., 3].reshape(-1) == 1)), 40
    ):
        axis = -cameras.c2w[0, :3, 2]
        point = origins[pixel] + rays[pixel] * depth[pixel] / (rays[pixel] @ axis)
        normal = result.normals[0].reshape(-1, 3)[pixel]
        sky = rng.normal(size=(8000, 3))
        sky /= np.linalg.norm(sky, axis=1, keepdims=True)
        sky += normal  # cosine-distributed
        sky /= np.linalg.norm(sky, axis=1, keepdims=True)
        free = scene.first_hits(np.tile(point + 2e-3 * normal, (8000, 1)), sky).face < 0
        exact = (sample_equirect(radiance, sky) * free[:, None]).mean(0)
        differences.append(linear(result.rgba[0]).reshape(-1, 3)[pixel] - exact)
    assert np.sqrt(np.mean(np.square(differences))) < 0.02
    assert abs(np.mean(differences)) < 0.005


def test_bounce_tints_the_neighbour():
    red = Material(base_color=(0.9, 0.05, 0.05, 1), metallic=0.0)
    wall = quad_model([[-0.5, 0.5, 0.5], [-0.5, 0.5, -0.5], [-0.5, -0.5, -0.5], [-0.5, -0.5, 0.5]], red)
    wall = Model(-wall.vertices * [1, 1, -1], wall.faces, uv=wall.uv, materials=wall.materials)
    floor = quad_model([[-0.5, 0.5, -0.5], [-0.5, -0.5, -0.5], [0.5, -0.5, -0.5], [0.5, 0.5, -0.5]])
    camera = front(48, 4, 180, 60)
    tinted = render(join(floor, wall), camera, uniform_environment(0.8), RenderSettings(diffuse_only=True))
    plain = render(
        join(floor, wall), camera, uniform_environment(0.8), RenderSettings(diffuse_only=True, bounces=0)
    )
    row, column = 26, 24
    ratio = linear(tinted.rgba[0])[row, column] / linear(plain.rgba[0])[row, column]
    assert ratio[0] > 1.02 * ratio[1]


def busy_model():
    """A bumpy sphere with a fine texture above a cube: silhouettes, creases, texture detail."""
    rng = np.random.default_rng(3)
    picture = np.repeat(np.repeat(rng.integers(0, 256, (64, 128, 3)), 8, 0), 8, 1).astype(np.uint8)
    picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    ball = sphere_model(0.35, 48, Material(base_color_texture=picture, metallic=0.0, roughness=0.6))
    bumps = 1 + 0.08 * np.sin(ball.vertices @ [20.0, 5, 9])
    ball = Model(
        ball.vertices * bumps[:, None] + [0, 0, 0.2],
        ball.faces,
        ball.normals,
        ball.uv,
        materials=ball.materials,
    )
    block = cube_model(0.25, Material(base_color=(0.7, 0.4, 0.2, 1), metallic=0.0))
    block = Model(
        block.vertices + np.array([0, 0.1, -0.35]),
        block.faces,
        block.normals,
        np.zeros((24, 2)),
        materials=block.materials,
    )
    return join(ball, block)


def test_adaptive_sampling_equals_all_rays():
    cameras = orbit_cameras(15, [20.0, 200.0], radius=2.4, width=192, height=192)
    fast = render(busy_model(), cameras, spot((1, 1, 2), 25, 0.2))
    slow = render(busy_model(), cameras, spot((1, 1, 2), 25, 0.2), adaptive=False)
    white = [
        picture.rgba[..., :3] * picture.rgba[..., 3:] + 1 - picture.rgba[..., 3:] for picture in (fast, slow)
    ]
    assert psnr(*white) > 45
    # Silhouettes are the very same rays.
    assert (fast.rgba[..., 3] == slow.rgba[..., 3]).mean() > 0.9995


def test_a_ray_that_meets_a_face_head_on_has_a_cosine_of_at_most_one():
    corners = np.random.default_rng(0).normal(size=(12000, 3)).astype(np.float32)
    surface = Surface(Model(corners, np.arange(12000, dtype=np.int32).reshape(-1, 3)))
    face = np.arange(4000, dtype=np.int32)
    third = np.full(len(face), 1 / 3, np.float32)
    points = Points(face, third, third, np.zeros(len(face), bool), third)
    # Single precision takes the length of some of these unit vectors past 1.
    facing = face_cosines(surface, points, np.ascontiguousarray(surface.ground.T))
    assert facing.max() == 1 and facing.min() > 0.99999


def test_same_seed_same_bytes():
    cameras = front(64)
    first, again = (render(busy_model(), cameras).rgba for _ in range(2))
    assert first.tobytes() == again.tobytes()
    shifted = render(busy_model(), cameras, settings=RenderSettings(seed=7)).rgba
    assert shifted.tobytes() != first.tobytes()
    assert psnr(shifted, first) > 25


def test_views_do_not_depend_on_their_batch():
    cameras = orbit_cameras(10, [0.0, 120.0, 240.0], radius=2.5, width=48, height=48)
    together = render(busy_model(), cameras).rgba
    np.testing.assert_array_equal(render(busy_model(), cameras[1]).rgba[0], together[1])


@pytest.mark.parametrize("samples", [1, 2, 4, 9, 16])
def test_samples_lie_in_the_pixel_and_are_spread(samples):
    for seed in (0, 5):
        places = sample_offsets(samples, seed)
        assert places.shape == (samples, 2) and places.min() >= 0 and places.max() < 1
        assert len(np.unique(np.floor(places[:, 0] * samples))) > samples * 0.6


def test_camera_inside_and_object_out_of_sight():
    inside = render(sphere_model(1.0), front(32, radius=0.2))
    assert (inside.rgba[..., 3] == 1).all() and np.isfinite(inside.depth).all()  # pyright: ignore[reportCallIssue]
    away = Model(sphere_model(0.1).vertices + np.array([0, 30, 0]), sphere_model(0.1).faces)
    assert render(away, front(32)).rgba.max() == 0


def test_requests_that_make_no_sense():
    with pytest.raises(InputError, match="at least one face"):
        render(Model(np.zeros((3, 3)), np.zeros((0, 3))), front(8))
    with pytest.raises(UsageError, match="samples"):
        RenderSettings(samples=0)
    with pytest.raises(UsageError, match="outputs"):
        RenderSettings(outputs=("rgb",))
    with pytest.raises(UsageError, match="embree"):
        get_renderer("opengl")
    assert set(BACKENDS) == {"embree", "pytorch3d", "blender"}
    with pytest.raises(InputError, match="size above zero"):
        normalize_model(Model(np.ones((3, 3)), np.array([[0, 1, 2]])))


def test_normalization_is_recorded_and_inverts():
    model = Model(np.array([[1, 2, 3], [5, 2, 3], [1, 4, 3], [100, 100, 100]]), np.array([[0, 1, 2]]))
    moved, normalization = normalize_model(model)
    used = moved.vertices[:3]
    np.testing.assert_allclose(np.ptp(used, axis=0).max(), 1)  # the loose vertex does not count
    np.testing.assert_allclose((used.min(0) + used.max(0)) / 2, 0, atol=1e-7)
    np.testing.assert_allclose(
        used / normalization.scale + normalization.center, model.vertices[:3], atol=1e-5
    )


def test_white_default_material_is_not_metal():
    assert Model(np.eye(3), np.array([[0, 1, 2]])).materials[0].metallic == WHITE.metallic == 0


def test_normals_turned_round_shade_the_side_that_is_seen():
    turned = cube_model(0.4)
    turned = Model(turned.vertices, turned.faces, -turned.normals, materials=turned.materials)  # pyright: ignore[reportOptionalOperand]
    cameras, light = front(48, azimuth_deg=30, elevation_deg=30), spot((1, 0.2, 0.5), 20, 0.2)
    np.testing.assert_array_equal(
        render(turned, cameras, light).rgba, render(cube_model(0.4), cameras, light).rgba
    )


def test_inside_of_an_open_single_layer_is_dark():
    # A well without a lid, one layer of faces wound outwards: its bottom is seen from behind and gets little light.
    cube = cube_model(0.5)
    open_top = ~(cube.vertices[cube.faces][:, :, 2] > 0.4).all(1)
    well = Model(
        cube.vertices * np.array([0.3, 0.3, 1]), cube.faces[open_top], cube.normals, materials=cube.materials
    )
    settings = RenderSettings(diffuse_only=True, bounces=0, light_samples=512, outputs=("rgba", "depth"))
    result = render(well, front(96, 4, elevation_deg=80), uniform_environment(0.8), settings)
    bottom = np.isfinite(result.depth[0]) & (result.depth[0] > 4.3)
    assert bottom.sum() > 20
    # The opening's solid angle seen from the bottom, a side of 0.3 at a distance of 1: a form factor near 0.03.
    assert 0.005 < np.median(linear(result.rgba[0])[bottom]) < 0.05


def test_light_of_near_surfaces_is_not_joined():
    """A plate close above another one keeps its own points, however few there may be."""
    x, y = (axis.reshape(-1) for axis in np.meshgrid(*[np.linspace(0, 1, 40, dtype=np.float32)] * 2))
    plates = np.concatenate([np.stack([x, y, np.full_like(x, z)], 1) for z in (0.0, 0.004)])
    up = np.broadcast_to(np.float32([0, 0, 1]), plates.shape)
    piece = np.repeat(np.int32([0, 1]), len(x))
    everything = np.ones(len(plates), bool)
    found = join_points(plates, plates, up, up, everything, piece, 1 / 8192, 2500)
    assert len(found.position) <= 2500
    assert not set(found.index[piece == 0]) & set(found.index[piece == 1])
    # Crumbs are joined all the same.
    crumbs = join_points(plates, plates, up, up, everything, np.arange(len(plates)) % 4000, 1 / 8192, 600)
    assert len(crumbs.position) <= 600
