"""Samples of the prior against ellipsoids in closed form: crops, depths, mirrors, other views' colours and outlines."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.ellipsoids import axes_of, color_at, crossings, save_ellipsoids
from torch.utils.data import default_collate

from mv3d.core.errors import InputError
from mv3d.models.prior.halves import half_of
from mv3d.models.prior.layers import RANGE, SLOPE, Layers, stacked
from mv3d.models.prior.network import PriorNetwork
from mv3d.orbits.dataset import sample_loader
from mv3d.render.cameras import FOREGROUND_RATIO, orbit_cameras
from mv3d.training.prior.frames import Frame, View
from mv3d.training.prior.layer_store import (
    FILES,
    LayerStore,
    ObjectViews,
    build_store,
    dequantized,
    geometry_shards,
    quantized,
)
from mv3d.training.prior.losses import PriorBatch, TermWeights, prior_loss, rendered_alpha, scores, slope_loss
from mv3d.training.prior.samples import (
    PriorSamples,
    framed,
    is_held_out,
    make_sample,
    plain_draw,
    random_draw,
)

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE, SIZE = 96, 128
AXES = np.array([0.5, 0.3, 0.4])
STEP = 2 * RANGE / 254  # of the depths that are kept, in distances


def views_of(axes: np.ndarray = AXES, *, views: int = 5, seed: int = 0) -> ObjectViews:
    """Arrays of an ellipsoid straight from its formula."""
    rng = np.random.default_rng(seed)
    placed = np.column_stack(
        [rng.uniform(-10, 60, views), 72.0 * np.arange(views) + 10, np.full(views, 2.0)]
    ).astype(np.float32)
    rgba, layers = np.zeros((views, SIZE, SIZE, 4), np.uint8), np.zeros((views, 4, SIZE // 2, SIZE // 2))
    for view in range(views):
        near, _, entry = crossings(cameras(placed, SIZE), view, axes)
        hit = np.isfinite(near)
        rgba[view, hit, :3], rgba[view, hit, 3] = np.round(color_at(entry[hit], axes) * 255), 255
        near, far, _ = crossings(cameras(placed, SIZE // 2), view, axes)
        layers[view, :2] = np.nan_to_num(np.stack([near, far]))
    return ObjectViews("e", rgba, quantized(layers, 2.0), placed)


def cameras(placed: np.ndarray, side: int):
    return orbit_cameras(placed[:, 0], placed[:, 1], radius=2.0, fov_deg=33.8, width=side, height=side)


def batch_of(*samples: dict) -> PriorBatch:
    return PriorBatch.of(default_collate(list(samples)), "cpu")


def true_layers(batch: PriorBatch) -> Layers:
    """The targets as a network would say them, extended beyond the outline by their mean."""
    parts = []
    for channel in range(4):
        depth = batch.depths[:, channel]
        mean = (depth * batch.solid).sum((1, 2)) / batch.solid.sum((1, 2))
        parts.append(torch.where(batch.solid, depth, mean[:, None, None]))
    enter, first, second, leave = parts
    return Layers(enter, leave, first, second, torch.where(batch.two, 8.0, -8.0))


def test_depths_are_those_of_the_closed_form_scaled_by_the_zoom():
    """The slow twin: each pixel's place in the view's image, by hand, and the depth of the nearest stored pixel."""
    views = views_of()
    for view, shift, mirrored in ((0, (0.0, 0.0), False), (3, (0.03, -0.02), True)):
        draw = replace(plain_draw(5, np.random.default_rng(0)), view=view, shift=shift, mirrored=mirrored)
        found = make_sample(views, draw, SIDE)
        alpha = views.rgba[view, ..., 3] > 127
        rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
        box = max(np.ptp(rows), np.ptp(columns)) + 1
        half = box / FOREGROUND_RATIO / SIZE
        assert found["solid"].float().mean() > 0.3
        for row, column in np.argwhere(found["solid"].numpy())[::97]:
            across = (2 * column + 1) / (SIDE // 2) - 1
            across = -across if mirrored else across
            x = (columns[0] + columns[-1] + 1) / SIZE - 1 + 2 * shift[0] * half + half * across
            y = (
                (rows[0] + rows[-1] + 1) / SIZE
                - 1
                + 2 * shift[1] * half
                + half * ((2 * row + 1) / (SIDE // 2) - 1)
            )
            pixel = [int((value + 1) * SIZE / 4) for value in (x, y)]
            near, far, _ = crossings(cameras(views.cameras, SIZE // 2), view, AXES)
            for channel, depth in ((0, near), (3, far)):
                relative = depth[pixel[1], pixel[0]] / 2.0 - 1
                got = float(found["depths"][channel, row, column])
                assert got == pytest.approx(relative / (RANGE * half), abs=STEP / RANGE / half)
        assert not found["two"].any() and found["elevation_deg"] == views.cameras[view, 0]


def test_a_nearer_frame_is_a_nearer_camera():
    """A crop of half the size doubles all depths, and what it shows lies where it did."""
    view = View.of(20.0, 50.0, 2.0)
    wide, close = Frame(view, 0.1, -0.1, 0.8), Frame(view, 0.1, -0.1, 0.4)
    points = torch.randn(50, 3) * 0.2
    assert torch.allclose(close.locate(points), 2 * wide.locate(points), atol=1e-5)
    located = Frame(view, 0.1, -0.1, 0.4, mirrored=True).locate(points)
    assert torch.allclose(located * torch.tensor([-1.0, 1, 1]), close.locate(points), atol=1e-5)
    places, depth = view.project(points)
    assert torch.allclose(view.unproject(places, depth), points, atol=1e-5)
    assert torch.allclose(close.along_axis(located[:, 2]), depth, atol=1e-5)


def test_views_agree_with_the_renderers_cameras():
    placed = np.array([[12.0, 200.0, 2.0], [-8.0, 33.0, 2.0]])
    reference = cameras(placed, 64)
    points = np.random.default_rng(0).normal(0, 0.3, (20, 3))
    for index, row in enumerate(placed):
        places, depth = View.of(*row).project(torch.tensor(points, dtype=torch.float32))
        pixels, along = reference.project(points, index)
        assert np.allclose((places.numpy() + 1) * 32, pixels, atol=1e-2)
        assert np.allclose(depth.numpy(), along, atol=1e-4)


def test_the_mirrored_sample_is_the_mirror_image():
    views = views_of()
    plain = plain_draw(5, np.random.default_rng(4))
    one = make_sample(views, plain, SIDE)
    turned = make_sample(views, replace(plain, mirrored=True, rng=np.random.default_rng(4)), SIDE)
    assert torch.allclose(turned["photo"].flip(-1), one["photo"], atol=1e-5)
    assert (turned["solid"].flip(-1) == one["solid"]).float().mean() > 0.99
    both = turned["solid"].flip(-1) & one["solid"]
    assert (turned["depths"].flip(-1) - one["depths"])[:, both].abs().median() < 1e-5
    assert torch.allclose(turned["points"] * torch.tensor([-1.0, 1, 1]), one["points"], atol=1e-5)
    assert torch.equal(turned["opaque"], one["opaque"])
    # The same solid, seen in the mirror, casts the same outline.
    made = [rendered_alpha(stacked(true_layers(batch)), batch) for batch in (batch_of(one), batch_of(turned))]
    assert (made[0] - made[1]).abs().mean() < 0.01


@pytest.mark.parametrize("mirrored", [False, True])
def test_hidden_colours_are_those_of_the_far_side(mirrored):
    views = views_of()
    draw = replace(plain_draw(5, np.random.default_rng(0)), mirrored=mirrored)
    found = make_sample(views, draw, SIDE)
    assert not found["seen"][:2].any()
    seen = found["seen"][2]
    assert seen.float().mean() > 0.15
    frame = framed(views.rgba[0, ..., 3], View.of(*map(float, views.cameras[0])), draw)
    places = frame.pixels(SIDE // 2)[1::2, 1::2][seen]
    depth = frame.along_axis(found["depths"][3, 1::2, 1::2][seen])
    exact = torch.tensor(color_at(frame.view.unproject(places, depth).numpy(), AXES))
    assert (found["colors"][2][:, seen].T - exact).abs().mean() < 0.02
    # The photo's tone goes along.
    toned = make_sample(views, replace(draw, gain=np.full(3, 0.5, np.float32)), SIDE)
    assert torch.allclose(toned["colors"], found["colors"] * 0.5, atol=1e-4)


def test_the_true_solid_casts_the_outline_that_another_view_sees():
    batch = batch_of(
        *(make_sample(views_of(), plain_draw(5, np.random.default_rng(n)), SIDE) for n in range(2))
    )
    made = rendered_alpha(stacked(true_layers(batch)), batch)
    assert ((made > 0.5) == (batch.opaque > 0.5)).float().mean() > 0.96


def thickness_loss(batch: PriorBatch, thickness: torch.Tensor) -> torch.Tensor:
    truth = true_layers(batch)
    leave = truth.enter + (truth.leave - truth.enter) * thickness
    channels = stacked(Layers(truth.enter, leave, truth.first_leave, truth.second_enter, truth.two))
    return torch.nn.functional.binary_cross_entropy(rendered_alpha(channels, batch), batch.opaque)


def test_silhouettes_of_another_view_pull_toward_the_true_thickness():
    batch = batch_of(make_sample(views_of(), plain_draw(5, np.random.default_rng(0)), SIDE))
    for start, sign in ((0.5, -1), (1.6, 1)):
        thickness = torch.tensor(start, requires_grad=True)
        thickness_loss(batch, thickness).backward()
        step = 2e-3
        ends = [float(thickness_loss(batch, torch.tensor(start + d))) for d in (-step, step)]
        assert float(thickness.grad) == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=0.05)  # type: ignore[arg-type]
        assert sign * float(thickness.grad) > 0  # type: ignore[arg-type]
    thickness = torch.tensor(0.5, requires_grad=True)
    optimizer = torch.optim.Adam([thickness], 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        thickness_loss(batch, thickness).backward()
        optimizer.step()
    assert float(thickness.detach()) == pytest.approx(1, abs=0.15)


def test_slopes_do_not_count_across_steps_of_the_truth():
    true = torch.zeros(1, 8, 8)
    true[:, :, 4:] = 0.5
    solid = torch.ones(1, 8, 8, dtype=torch.bool)
    assert float(slope_loss(true.clone(), true, solid)) == 0
    assert float(slope_loss(torch.zeros(1, 8, 8), true, solid)) == 0
    assert float(slope_loss(true + torch.linspace(0, 1, 8), true, solid)) > 0.1


# -- the store


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return save_ellipsoids(tmp_path_factory.mktemp("ellipsoids") / "d", objects=6)


@pytest.fixture(scope="module")
def store(shards, tmp_path_factory) -> LayerStore:
    return LayerStore(build_store(geometry_shards(shards), tmp_path_factory.mktemp("layers")))


def test_the_store_holds_the_layers_of_every_view(store):
    assert len(store) == 6
    views = store.object(4)
    assert views.rgba.shape == (4, 64, 64, 4) and views.layers.shape == (4, 4, 32, 32)
    near, far, _ = crossings(cameras(views.cameras, 32), 1, axes_of(views.uid))
    hit = np.isfinite(near)
    got = dequantized(views.layers[1]) * 2.0
    assert np.abs(got[0] - near)[hit].max() < 0.004
    # The far side comes from cells of .022.
    assert np.abs(got[1] - far)[hit].mean() < 0.03


def test_a_store_is_made_once_and_whole_or_not_at_all(shards, store, tmp_path, monkeypatch):
    data = geometry_shards(shards)
    folders = build_store(data, tmp_path)
    assert [folder.name for folder in folders] == [folder.name for folder in store.folders]
    assert all(FILES.fullmatch(f"{f.parent.name}/{f.name}") for folder in folders for f in folder.iterdir())
    monkeypatch.setattr("mv3d.training.prior.layer_store._build", lambda job: pytest.fail("made twice"))
    build_store(data, tmp_path)
    monkeypatch.undo()
    for f in folders[1].iterdir():
        f.unlink()
    folders[1].rmdir()
    monkeypatch.setattr(np, "save", lambda *given: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(Exception, match=r"no space.*--layers"):
        build_store(data, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [folders[0].name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"geometry": False}, r"geometry.*--geometry"),
        ({"fov_deg": 40.0}, r"33\.8 degrees"),
        ({"views": 1}, "2 views or more"),
    ],
)
def test_data_without_what_the_prior_needs_are_refused(tmp_path, change, said):
    folder = save_ellipsoids(tmp_path / "d", objects=1, size=32, **change)
    with pytest.raises(InputError, match=said):
        geometry_shards(folder)


def test_a_sample_that_cannot_be_used_is_left_out(shards, tmp_path, monkeypatch):
    data = geometry_shards(shards)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="found none"):
            build_store(replace(data, views=9), tmp_path)
    with pytest.raises(InputError, match=r"expected index\.json"):
        geometry_shards(tmp_path)
    from mv3d.training.prior import layer_store

    kept = layer_store._arrays
    calls = iter([False, True, True, True, True, True])

    def arrays(members, views):
        if not next(calls):
            raise InputError("broken")
        return kept(members, views)

    monkeypatch.setattr(layer_store, "_arrays", arrays)
    with pytest.warns(UserWarning, match=r"sample 0 of shard-000000.tar left out: broken"):
        assert len(LayerStore(build_store(data, tmp_path / "l"))) == 5
    (tmp_path / "l" / build_store(data, tmp_path / "l")[0].name / "uids.json").write_text("[")
    with pytest.raises(InputError, match="remove it"):
        LayerStore(build_store(data, tmp_path / "l"))


# -- numbers


def samples_of(store: LayerStore, **changes) -> PriorSamples:
    given = {"side": 64, "seed": 3, "mirror": True, "licences": {}} | changes
    return PriorSamples(store, **given)


def test_a_sample_is_a_function_of_the_seed_and_its_number(store):
    samples = samples_of(store)
    wanted = [samples.sample(number) for number in range(14)]
    assert {len(PriorSamples.sample(samples, 3)["points"])} == {28**2}
    again = samples_of(store)
    for number in (13, 2, 7):
        got = again.sample(number)
        assert got.pop("uid") == wanted[number]["uid"]
        for name, value in got.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(wanted[number][name]))
    other = samples_of(store, seed=4).sample(2)
    assert not torch.equal(other["photo"], wanted[2]["photo"])
    # In processes of their own, too.
    batches = list(sample_loader(samples, [range(4), range(4, 8)], workers=1, pin_memory=False))
    assert torch.equal(batches[1]["photo"][3], wanted[7]["photo"])
    epoch = [int(samples._order(0)[number]) for number in range(6)]
    assert sorted(epoch) == list(range(6))


def test_paints_of_one_shape_are_held_out_together():
    names = [f"shape{index}" for index in range(400)]
    held = [name for name in names if is_held_out(name)]
    assert 1 <= len(held) <= 20
    for name in names:
        assert is_held_out(f"{name}-paint-1-07-v1") == is_held_out(name)


def test_the_loss_of_a_batch_is_the_mean_of_its_parts(store):
    """So it does not matter how samples are dealt out to micro-batches and processes."""
    torch.manual_seed(0)
    network = PriorNetwork(24)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    samples = [samples_of(store).sample(number) for number in range(4)]
    with torch.no_grad():
        whole = batch_of(*samples)
        prediction = network(whole.photo)
        total, terms = prior_loss(prediction, whole, silhouette_weight=1.0)
        parts = [batch_of(sample) for sample in samples]
        each = [prior_loss(network(part.photo), part, silhouette_weight=1.0) for part in parts]
    assert float(total) == pytest.approx(float(torch.stack([loss for loss, _ in each]).mean()), rel=1e-5)
    for name, value in terms.items():
        assert float(value) == pytest.approx(
            float(torch.stack([found[name] for _, found in each]).mean()), rel=1e-4
        )
    # What weighs nothing is left out, and nothing else.
    without = TermWeights(slope=0.0, back_slope=0.0)
    lighter, _ = prior_loss(prediction, whole, silhouette_weight=1.0, term_weights=without)
    slopes = 6.0 * float(terms["slope"]) + 3.0 * float(terms["back_slope"])
    assert slopes > 0.01 and float(total - lighter) == pytest.approx(slopes, rel=1e-3)


def test_photos_are_drawn_with_other_framing_and_tone():
    draws = [random_draw(6, np.random.default_rng(n), mirror=True) for n in range(200)]
    assert {draw.view for draw in draws} == set(range(6))
    assert all(draw.view != draw.looking for draw in draws)
    assert 0.3 < np.mean([draw.mirrored for draw in draws]) < 0.7
    assert not any(random_draw(6, np.random.default_rng(n), mirror=False).mirrored for n in range(20))
    assert SLOPE == pytest.approx(np.tan(np.radians(16.9)))


def test_four_solids_are_learned_by_heart():
    torch.manual_seed(0)
    shapes = ((0.5, 0.3, 0.4), (0.25, 0.5, 0.3), (0.3, 0.3, 0.5), (0.5, 0.5, 0.2))
    batch = batch_of(
        *(make_sample(views_of(np.array(s)), plain_draw(5, np.random.default_rng(0)), 64) for s in shapes)
    )
    network = PriorNetwork(24)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, betas=(0.9, 0.98))
    for step in range(12):
        made = network(batch.photo)
        if not step:
            before = scores(made, batch)
        loss, _ = prior_loss(made, batch, silhouette_weight=float(step > 6))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    after = scores(network(batch.photo), batch)
    assert float(after["iou"].mean()) > 0.55 > float(before["iou"].mean()) + 0.15
    assert float(after["silhouette_iou"].mean()) > float(before["silhouette_iou"].mean()) + 0.05


def test_two_halves_are_all_objects_and_share_none(store):
    whole, first, second = (samples_of(store, half=half) for half in (None, 0, 1))
    assert set(first.objects) | set(second.objects) == set(whole.objects)
    assert not set(first.objects) & set(second.objects)
    assert all(half_of(store.uids[number]) == 0 for number in first.objects)
