"""The 3D prior: folded weights against the unfolded network, layers against closed forms, a sphere from its depths."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.encoder_weights import published

from mv3d.core.errors import InputError
from mv3d.models.prior.depths import edges, outline_distance
from mv3d.models.prior.encoder import LITE0, Encoder, depthwise, folded_weights
from mv3d.models.prior.layers import RANGE, Layers, layers_of, occupancy, signed_depth, stacked
from mv3d.models.prior.lean import Lean, lean_of, upright
from mv3d.models.prior.lift import cropped, lift_photo, object_crop
from mv3d.models.prior.network import PriorNetwork
from mv3d.models.prior.normals import visible_normals
from mv3d.models.prior.solid import ENTER, LEAVE, Solid
from mv3d.models.prior.surface import SurfaceConfig, centred, placed, solid_mesh
from mv3d.models.prior.texture import filled
from mv3d.render.cameras import SV3D_FOV_DEG, orbit_cameras
from mv3d.render.topology import inspect_mesh
from mv3d.views.morphology import distance_to_false

pytestmark = pytest.mark.usefixtures("one_thread")
SLOPE = math.tan(math.radians(SV3D_FOV_DEG) / 2)


# -- encoder


def unfolded(weights: dict[str, torch.Tensor], rgb: torch.Tensor) -> list[torch.Tensor]:
    """The published network as it is written down: convolution, batch norm, ReLU6."""

    def step(x: torch.Tensor, conv: str, norm: str, stride: int, groups: int = 1) -> torch.Tensor:
        weight = weights[f"{conv}.weight"]
        kernel = weight.shape[-1]
        total = max((math.ceil(x.shape[-1] / stride) - 1) * stride + kernel - x.shape[-1], 0)
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        stats = (weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *stats, eps=1e-3)

    x = F.relu6(step((rgb * 255 - 127) / 128, "_conv_stem", "_bn0", 2))
    found = []
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for index in range(16):
        name, given = f"_blocks.{index}", x
        if index:
            x = F.relu6(step(x, f"{name}._expand_conv", f"{name}._bn0", 1))
        x = F.relu6(step(x, f"{name}._depthwise_conv", f"{name}._bn1", strides.get(index, 1), x.shape[1]))
        x = step(x, f"{name}._project_conv", f"{name}._bn2", 1)
        if index not in strides and x.shape == given.shape:
            x = x + given
        if index in (0, 2, 4, 10, 15):
            found.append(x)
    return found


def test_folded_weights_are_the_published_network():
    weights = published()
    encoder = Encoder().eval()
    encoder.load_state_dict(folded_weights(weights))
    rgba = torch.rand(2, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for made, expected in zip(encoder(rgba), unfolded(weights, rgba[:, :3]), strict=True):
            torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_features_have_the_documented_channels_and_strides():
    encoder = Encoder()
    features = encoder(torch.rand(1, 4, 64, 96))
    assert encoder.channels == (16, 24, 40, 112, 320)
    deeper = Encoder([(*stage[:3], stage[3] + 8, stage[4] + 1) for stage in LITE0])
    assert [f.shape[1] for f in deeper(torch.rand(1, 4, 64, 64))] == [24, 32, 48, 120, 328]
    assert [f.shape[1:] for f in features] == [
        (c, 64 // s, 96 // s) for c, s in zip(encoder.channels, (2, 4, 8, 16, 32), strict=True)
    ]


def test_a_missing_weight_is_named():
    weights = published()
    del weights["_blocks.3._bn1.bias"]
    with pytest.raises(InputError, match=r"_blocks\.3\._bn1\.bias"):
        folded_weights(weights)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_gradients_of_a_depthwise_convolution_are_those_of_torch(kernel, stride):
    """In fp32 the same numbers; in bf16 as near to fp32 as its rounding allows."""
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randn(*shape, generator=generator) for shape in ((2, 6, 9, 9), (6, 1, kernel, kernel), (6,))
    ]
    found: dict[str, list[torch.Tensor]] = {}
    for name, dtype in (("torch", torch.float32), ("ours", torch.float32), ("half", torch.bfloat16)):
        x, weight, bias = (value.to(dtype, copy=True).requires_grad_(True) for value in given)
        padding = kernel // 2
        if name == "torch":
            y = F.conv2d(x, weight, bias, stride, padding, 1, 6)
        else:
            y = depthwise(x, weight, bias, stride, padding)
        (y.float() ** 2).sum().backward()
        assert x.grad is not None and x.grad.dtype == dtype
        found[name] = [cast(torch.Tensor, value.grad).float() for value in (x, weight, bias)]
    for exact, ours, half in zip(*found.values(), strict=True):
        assert torch.allclose(exact, ours, rtol=1e-5, atol=1e-5)
        assert (exact - half).norm() < 0.02 * exact.norm()


# -- layers


def test_layers_are_ordered_whatever_the_numbers():
    layers = layers_of(10 * torch.randn(2, 5, 7, 7, generator=torch.Generator().manual_seed(0)))
    for near, far in (
        (layers.enter, layers.first_leave),
        (layers.first_leave, layers.second_enter),
        (layers.second_enter, layers.leave),
    ):
        assert bool((near <= far + 1e-5).all())


def test_occupancy_of_one_and_of_two_layers():
    one = Layers(*(torch.full((1, 1, 1), v) for v in (-0.5, 0.5, -0.2, 0.2, -20.0)))
    two = Layers(*(torch.full((1, 1, 1), v) for v in (-0.5, 0.5, -0.2, 0.2, 20.0)))
    depth = torch.tensor([[-0.6, -0.5, -0.3, 0.0, 0.3, 0.5, 0.6]])
    columns = [stacked(layers).reshape(1, 5, 1).expand(1, 5, 7) for layers in (one, two)]
    torch.testing.assert_close(
        signed_depth(columns[0], depth)[0], torch.tensor([-0.1, 0, 0.2, 0.5, 0.2, 0, -0.1])
    )
    torch.testing.assert_close(
        signed_depth(columns[1], depth)[0], torch.tensor([-0.1, 0, 0.1, -0.2, 0.1, 0, -0.1])
    )
    assert occupancy(columns[1], depth)[0].gt(0.5).tolist() == [False, False, True, False, True, False, False]


# -- surface


def ball(side: int, radius: float, center: tuple[float, float] = (0.0, 0.0), *, pixels: int = 128) -> Solid:
    """A ball at distance 1, its front red and its back blue, seen through a camera whose image is not cropped."""

    def rays(n: int) -> tuple[np.ndarray, ...]:
        at = ((np.arange(n) + 0.5) / n * 2 - 1) * SLOPE
        x, y = np.meshgrid(at, at)
        middle = np.array([center[0] * SLOPE, center[1] * SLOPE, 1.0])
        # |t d - m|² = r² with d = (x, y, 1)
        a, b = x**2 + y**2 + 1, x * middle[0] + y * middle[1] + 1
        root = b**2 - a * (middle @ middle - radius**2)
        return root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, (b + np.sqrt(np.maximum(root, 0))) / a

    hit, near, far = rays(side)
    enter, leave = (np.where(hit, (z - 1) / RANGE, 0).astype(np.float32) for z in (near, far))
    fine = rays(8 * pixels)[0].reshape(pixels, 8, pixels, 8).mean((1, 3)).astype(np.float32)
    photo = np.concatenate([np.tile(np.float32([1, 0, 0]), (pixels, pixels, 1)), fine[..., None]], -1)
    colors = np.zeros((3, side, side, 3), np.float32)
    colors[..., 2] = 1
    nothing = np.zeros((side, side), np.float32)
    return Solid(
        np.stack([enter, leave, nothing, nothing]),
        nothing,
        colors,
        np.zeros((3, side, side), np.float32),
        photo,
    )


def test_a_ball_comes_back_from_its_depths():
    mesh = solid_mesh(ball(64, 0.2), SurfaceConfig(columns=128, step=0.024, faces=20_000, texture_size=64))
    report = inspect_mesh(mesh)
    assert report.shells == 1
    # The depths are those of 64 x 64 pixels: near the outline they are known to a pixel of 1 / 64 of the image only.
    assert report.volume == pytest.approx(4 / 3 * math.pi * 0.2**3, rel=0.06)
    off = np.linalg.norm(mesh.vertices - [0, 0, -1], axis=1) - 0.2
    assert np.abs(off).mean() < 0.006


def test_what_the_photo_shows_is_red_and_what_it_hides_is_blue():
    from mv3d.render.raycast import render_views

    mesh = placed(solid_mesh(ball(64, 0.2)), orbit_cameras([10.0], [0.0], width=64, height=64), 2.0)
    front, back = render_views(mesh, orbit_cameras([10.0, -10.0], [0.0, 180.0], width=64, height=64))
    assert front[32, 32].tolist() == [1, 0, 0, 1] and back[32, 32].tolist() == [0, 0, 1, 1]


def test_a_gap_makes_two_shells():
    solid = ball(64, 0.2)
    depths = solid.depths.copy()
    depths[2], depths[3] = -0.15, 0.15
    halves = Solid(depths, np.ones_like(solid.two), solid.colors, solid.gates, solid.photo)
    mesh = solid_mesh(halves)
    assert inspect_mesh(mesh).shells == 2
    # Near the outline the ball begins behind the gap's beginning.
    inner = np.linalg.norm(mesh.vertices[:, :2], axis=1) < 0.17
    assert not (np.abs(-mesh.vertices[inner, 2] - 1) < 0.1 * RANGE).any()


def test_no_object_is_refused():
    solid = ball(32, 0.2)
    empty = Solid(solid.depths, solid.two, solid.colors, solid.gates, np.zeros_like(solid.photo))
    with pytest.raises(InputError, match="too thin"):
        solid_mesh(empty)


# -- a photo


def test_the_crop_holds_the_object_and_scales_its_depths():
    whole = ball(96, 0.1, (0.4, -0.3), pixels=192)
    x, y, half = object_crop(whole.photo[..., 3])
    assert (x, y) == pytest.approx((0.4, -0.3), abs=0.02)
    # The same ball as its crop shows it: the depths in units of the crop's half side.
    at = ((np.arange(96) + 0.5) / 96 * 2 - 1) * half
    columns, rows = ((at + shift + 1) / 2 * 96 for shift in (x, y))
    pick = np.ix_(np.clip(rows.astype(int), 0, 95), np.clip(columns.astype(int), 0, 95))
    depths = np.stack([layer[pick] for layer in whole.depths[[ENTER, LEAVE, ENTER, LEAVE]]]) / half
    part = Solid(
        depths, whole.two, whole.colors, whole.gates, cropped(whole.photo, (x, y, half), 128), (x, y, half)
    )
    vertices = solid_mesh(part).vertices
    middle = (vertices.min(0) + vertices.max(0)) / 2
    assert middle == pytest.approx([0.4 * SLOPE, 0.3 * SLOPE, -1], abs=0.01)
    assert np.ptp(vertices, axis=0) == pytest.approx(0.2, abs=0.02)


def test_a_crop_of_everything_changes_nothing():
    photo = np.random.default_rng(0).random((32, 32, 4)).astype(np.float32)
    np.testing.assert_allclose(cropped(photo, (0.0, 0.0, 1.0), 32), photo, atol=1e-5)


def test_a_photo_becomes_a_solid():
    torch.manual_seed(0)
    network = PriorNetwork(width=24).eval()
    photo = ball(32, 0.2).photo
    solid = lift_photo(network, photo, side=64)
    assert solid.depths.shape == (4, 32, 32) and solid.colors.shape == (3, 32, 32, 3)
    assert solid.elevation_deg == 20.0  # before any training
    again = lift_photo(network, photo, side=64, elevation_deg=5.0)
    np.testing.assert_array_equal(again.depths, solid.depths)
    assert again.elevation_deg == 5.0
    assert inspect_mesh(solid_mesh(solid)).shells == 1


def test_every_weight_of_the_network_learns():
    network = PriorNetwork(width=24)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    torch.nn.init.normal_(network.camera.weight, std=0.1)
    made = network(torch.rand(1, 4, 64, 64))
    total = stacked(made.layers).square().sum() + made.colors.square().sum() + made.gates.square().sum()
    (total + made.elevation_deg.sum() + made.elevation_log_std.sum()).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())


# -- edges, rim and texture


def test_a_jump_is_an_edge_and_a_slope_is_none():
    steep = np.tile(np.linspace(0, 3, 16, dtype=np.float32), (16, 1))
    assert not edges(steep).any()
    jump = steep.copy()
    jump[:, 8:] += 2
    assert np.flatnonzero(edges(jump).any(0)).tolist() == [7, 8] and (edges(jump) == edges(jump.T).T).all()


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_the_outline_lies_between_pixels(turn):
    """A half plane at any angle, its alpha the covered share of each pixel."""
    fine = (np.arange(32 * 8) + 0.5) / 8 - 16
    x, y = np.meshgrid(fine, fine)
    true = np.cos(turn) * x + np.sin(turn) * y - 0.3
    alpha = (true > 0).reshape(32, 8, 32, 8).mean((1, 3)).astype(np.float32)
    found, expected = outline_distance(alpha), true.reshape(32, 8, 32, 8).mean((1, 3))
    near = np.abs(expected[4:-4, 4:-4]) < 1
    assert np.abs(found - expected)[4:-4, 4:-4][near].max() < 0.15


def test_a_line_of_one_pixel_stays_inside():
    alpha = np.zeros((16, 16), np.float32)
    alpha[:, 7] = 1
    assert (outline_distance(alpha)[2:-2, 7] > 0).all()


def test_normals_of_a_ball_point_from_its_middle():
    solid = ball(64, 0.2)
    seen = visible_normals(solid, 64)
    at = ((np.arange(64) + 0.5) / 64 * 2 - 1) * SLOPE
    x, y = np.meshgrid(at, at)
    z = 1 + RANGE * solid.depths[ENTER]
    expected = np.stack([x * z, -y * z, 1 - z], -1) / 0.2
    inner = np.hypot(x, y) < 0.15
    angle = np.degrees(np.arccos(np.clip((seen.normals * expected).sum(-1), -1, 1)))
    assert angle[inner].mean() < 3 and (seen.confidence[inner] > 0.9).all()
    outside = np.hypot(x, y) > 0.25
    assert not seen.normals[outside].any() and not seen.confidence[outside].any()
    # Two answers that contradict each other leave less.
    tilted = solid.depths[ENTER] + 2 * np.linspace(-1, 1, 64, dtype=np.float32)
    doubted = visible_normals(replace(solid, enters=np.stack([solid.depths[ENTER], tilted])), 64)
    assert doubted.confidence[inner].mean() < 0.7 * seen.confidence[inner].mean()
    agreed = visible_normals(replace(solid, enters=np.stack([solid.depths[ENTER]] * 2)), 64)
    np.testing.assert_allclose(agreed.confidence, seen.confidence, atol=1e-3)


def test_sheen_at_the_outline_is_no_colour():
    """A red ball whose photo is white where rays graze it: from the side it is red all over, from the front as it was."""
    from mv3d.render.raycast import render_views

    solid = ball(64, 0.2)
    photo = solid.photo.copy()
    inner = distance_to_false(photo[..., 3] > 0.5) > 2
    photo[~inner, :3] = 1
    colors = np.zeros_like(solid.colors)
    colors[..., 0] = 1
    mesh = placed(
        solid_mesh(replace(solid, photo=photo, colors=colors)),
        orbit_cameras([0.0], [0.0], width=64, height=64),
        2.0,
    )
    side, front = render_views(mesh, orbit_cameras([0.0, 0.0], [90.0, 0.0], width=64, height=64))
    within = distance_to_false(side[..., 3] > 0.5) > 3
    assert (side[within][:, 1] > 0.2).mean() < 0.03
    assert front[32, 32].tolist() == [1, 0, 0, 1]


def test_colours_are_filled_from_the_nearest_that_count():
    colors, weight = np.zeros((16, 16, 3), np.float32), np.zeros((16, 16), np.float32)
    colors[:, :4], weight[:, :4] = [1, 0, 0], 1
    colors[:, 4:8], weight[:, 4:8] = [0, 1, 0], 1e-6
    made = filled(colors, weight)
    np.testing.assert_allclose(made, np.broadcast_to([1.0, 0, 0], made.shape), atol=0.01)
    np.testing.assert_allclose(filled(colors, np.ones_like(weight)), colors, atol=1e-6)


@pytest.mark.parametrize("elevation_deg", [-10.0, 0.0, 35.0, 60.0])
def test_a_solid_is_centred_about_the_axis_and_its_picture_stays(elevation_deg):
    rng = np.random.default_rng(0)
    cameras = orbit_cameras([elevation_deg], [50.0], width=64, height=64)
    camera = cameras.c2w[0, :3, 3]
    box = rng.uniform(-0.3, 0.3, (200, 3))
    true = box - (box.max(0) + box.min(0)) / 2
    toward = np.array([np.cos(np.radians(50)), np.sin(np.radians(50)), 0])
    true -= toward * ((true @ toward).max() + (true @ toward).min()) / 2
    wrong = camera + 1.2 * (true - camera)  # as deep as the network says, a fifth too far
    np.testing.assert_allclose(centred(wrong, camera), true, atol=1e-9)
    np.testing.assert_allclose(centred(true, camera), true, atol=1e-9)


def test_from_steeply_above_nothing_is_centred():
    camera = orbit_cameras([85.0], [0.0], width=64, height=64).c2w[0, :3, 3]
    points = np.random.default_rng(1).uniform(0, 0.2, (20, 3))
    assert centred(points, camera) is points


@pytest.mark.parametrize(
    ("seen_at_deg", "elevation_deg"), [(4.0, 18.0), (30.0, 12.0), (-8.0, 6.0), (55.0, 40.0)]
)
def test_walls_seen_at_a_wrong_elevation_stand_upright_in_the_same_picture(seen_at_deg, elevation_deg):
    camera = orbit_cameras([elevation_deg], [30.0], radius=2.0, width=64, height=64)
    mistaken = orbit_cameras([seen_at_deg], [30.0], radius=2.0, width=64, height=64)
    across, up = np.meshgrid(np.linspace(-0.4, 0.4, 5), np.linspace(-0.4, 0.4, 7))
    facing = np.array([np.cos(np.radians(30)), np.sin(np.radians(30)), 0])
    aside = np.array([-facing[1], facing[0], 0])
    wall = 0.3 * facing + across.reshape(-1, 1) * aside + up.reshape(-1, 1) * [0, 0, 1]
    seen = (wall - mistaken.c2w[0, :3, 3]) @ mistaken.c2w[0, :3, :3] / 2.0
    moved = upright(seen, Lean(seen_at_deg, 1.0), elevation_deg)
    np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], seen[:, :2] / seen[:, 2:], atol=1e-12)
    world = moved * 2.0 @ camera.c2w[0, :3, :3].T + camera.c2w[0, :3, 3]
    distances = world @ facing
    assert np.ptp(distances) < 1e-9, "a plane across the view that is upright stays one"
    leaning = seen * 2.0 @ camera.c2w[0, :3, :3].T + camera.c2w[0, :3, 3]
    assert np.ptp(leaning @ facing) > 0.08


def test_a_solid_seen_at_the_cameras_elevation_stays_and_a_large_lean_is_limited():
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 3)) - [0, 0, 1]
    np.testing.assert_allclose(upright(points, Lean(17.0, 1.0), 17.0), points)
    np.testing.assert_allclose(upright(points, Lean(25.0, 0.0), 17.0), points)
    np.testing.assert_allclose(upright(points, Lean(25.0, 0.5), 17.0), upright(points, Lean(21.0, 1.0), 17.0))
    np.testing.assert_allclose(upright(points, Lean(80.0, 1.0), 10.0), upright(points, Lean(30.0, 1.0), 10.0))
    np.testing.assert_allclose(upright(points, Lean(58.0, 1.0), 89.0), upright(points, Lean(58.0, 1.0), 60.0))


def test_a_wall_leans_with_its_elevation_and_a_ball_does_not():
    ball_seen = replace(ball(64, 0.2), elevation_deg=35.0)
    down = ((np.arange(64) + 0.5) / 64 * 2 - 1)[:, None] * SLOPE
    # Depth of an upright wall seen at 35 degrees: z + y tan(e) = 1, y = -down * z.
    z = np.broadcast_to(1 / (1 - down * math.tan(math.radians(35))), (64, 64))
    wall = np.stack([(z - 1) / RANGE + offset for offset in (-0.1, 0.1, 0.0, 0.0)]).astype(np.float32)
    upright_wall = replace(ball_seen, depths=wall)
    assert lean_of(upright_wall).share == pytest.approx(1.0, abs=0.05)
    assert lean_of(ball_seen).share < 0.1
    assert lean_of(replace(ball_seen, elevation_deg=1.0)).share > 0.95
    # What lies on the ground has the opposite slope, 1 / tan(e).
    flat = replace(
        ball_seen, depths=np.stack([-down / math.tan(math.radians(35)) / RANGE * np.ones((64, 64))] * 4)
    )
    assert lean_of(flat).share == 0
    with pytest.raises(InputError, match="too thin"):
        lean_of(replace(ball_seen, photo=np.zeros((64, 64, 4), np.float32)))


def test_a_solid_is_turned_upright_for_a_known_camera():
    camera = orbit_cameras([25.0], [0.0], width=64, height=64)
    mesh = solid_mesh(ball(64, 0.2))
    as_seen = placed(mesh, camera, 2.0)
    same = placed(mesh, camera, 2.0, lean=Lean(25.0, 1.0))
    other = placed(mesh, camera, 2.0, lean=Lean(10.0, 1.0))
    np.testing.assert_allclose(same.vertices, as_seen.vertices, atol=1e-6)
    assert np.abs(other.vertices - as_seen.vertices).max() > 0.05
