"""Training that a 3D prior's renders lead: what they change, what they do not, and where they are kept."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.boxes import box_views
from helpers.training_data import (
    FRAMES,
    quick,
    save_base,
    save_clip,
    save_latents,
    save_orbits,
    small_network,
    without_times,
)
from safetensors.torch import load_file
from torch.nn.functional import adaptive_avg_pool2d

from mv3d.cli.main import main
from mv3d.core.errors import InputError, Mv3dWarning, OutputError, UsageError
from mv3d.generation.config import GenerateConfig
from mv3d.generation.elevation import ElevationEstimate
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.views import generate_orbit, load_model
from mv3d.models.adapt import with_render_conditioning
from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.encode import encode_frames, encode_renders
from mv3d.models.folder import ModelInfo, write_info
from mv3d.models.loading import load_model_folder
from mv3d.models.preconditioning import denoise
from mv3d.models.prior.folder import PriorSettings, save_prior
from mv3d.models.prior.halves import half_of, prior_for
from mv3d.models.prior.network import PriorNetwork
from mv3d.models.prior.renders import lifted_along, prior_sha256
from mv3d.training.config import TrainConfig
from mv3d.training.data import open_samples
from mv3d.training.loss import orbit_loss, sample_noise
from mv3d.training.metric_log import read_log
from mv3d.training.renders import RenderedSamples, open_priors, straight
from mv3d.training.run import train

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:--prior .* it lifts every object"),
]


def save_tiny_prior(folder: Path, seed: int = 0) -> Path:
    """A prior of random weights."""
    torch.manual_seed(seed)
    network = PriorNetwork(16)
    torch.nn.init.normal_(network.head.weight, std=0.05)
    save_prior(folder, network, PriorSettings(width=16, side=64))
    write_info(folder, ModelInfo("prior", resolution=64))
    return folder


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> Path:
    return save_tiny_prior(tmp_path_factory.mktemp("prior") / "one")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def orbits(tmp_path_factory) -> Path:
    return save_orbits(tmp_path_factory.mktemp("orbits"), objects=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, orbits, base, prior) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(led(prior), orbits, str(base), out)
    return out


def led(prior: Path | str, **changes: Any) -> TrainConfig:
    return quick(**{"prior": str(prior), "batch": 2, "steps": 3, "checkpoint_every": 1} | changes)


def losses(out: Path) -> list[dict]:
    return [without_times(line) for line in read_log(out)]


def kept(out: Path) -> list[Path]:
    return sorted(out.glob("parts/renders/*/*"))


def test_the_first_step_is_that_of_a_run_without(whole, orbits, base, tmp_path):
    """The same loss to the last bit, then another one: the new weights learn."""
    train(quick(batch=2, steps=1), orbits, str(base), tmp_path)
    without, with_renders = losses(tmp_path)[0], losses(whole)[0]
    assert without["loss"] == with_renders["loss"] and without["grad_norm"] < with_renders["grad_norm"]
    weights = load_file(whole / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    assert weights["conv_in_render.weight"].shape == (32, 5, 3, 3)
    assert weights["conv_in_render.weight"].abs().amax((0, 2, 3)).min() > 0


def test_a_run_goes_on_with_its_renders_or_without(whole, orbits, base, prior, tmp_path):
    """From a checkpoint, where of the renders that are kept one is gone and one is broken: the same losses and weights."""
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "checkpoints" / "00000003")
    shutil.rmtree(out / "model")
    (out / "run.json").unlink()
    before = kept(out)
    assert len(before) > 2 and {path.suffix for path in before} == {".npz"}
    used = RenderedSamples(
        open_samples(orbits, led(prior), (32, 32)), open_priors(led(prior)), out / "parts/renders"
    )
    again = [used.sample(number)["renders"] for number in (4, 5)]
    for path in before[::2]:
        path.write_bytes(path.read_bytes()[:99])
    for path in before[1::2]:
        path.unlink()
    result = train(led(prior), orbits, str(base), out)
    assert result.report["resumed_from"] == 2 and losses(out) == losses(whole)
    assert all(torch.equal(used.sample(n)["renders"], a) for n, a in zip((4, 5), again, strict=True))
    now, then = (load_file(f / "model/unet/diffusion_pytorch_model.safetensors") for f in (out, whole))
    assert all(torch.equal(now[name], then[name]) for name in then)


@pytest.mark.slow
def test_readers_and_a_shared_folder_change_nothing(whole, orbits, base, prior, tmp_path):
    shared = tmp_path / "shared"
    config = led(prior, renders=str(shared), workers=2, micro_batch=1)
    train(config, orbits, str(base), tmp_path / "run")
    assert not kept(tmp_path / "run") and {p.name for p in shared.glob("*/*")} == {
        p.name for p in kept(whole)
    }
    for ours, theirs in zip(losses(tmp_path / "run"), losses(whole), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_the_result_is_a_model_with_its_prior(whole, prior, tmp_path):
    model = whole / "model"
    digest = prior_sha256(prior)
    assert prior_sha256(model) == digest and digest in (model / "README.md").read_text()
    record = json.loads((whole / "run.json").read_text())
    assert record["model"]["prior"] == [{"name": str(prior), "sha256": digest}]
    assert record["settings"]["prior"] == [digest] and record["settings"]["drop_render"] == 0.1
    assert json.loads((model / "unet" / "config.json").read_text())["render_channels"] == 5
    rgba = np.zeros((32, 32, 4), np.float32)
    rgba[6:26, 8:24] = (0.9, 0.5, 0.1, 1)
    photo = PreparedPhoto(rgba, "alpha")
    config = GenerateConfig(model=str(model), device="cpu", steps=2)
    loaded = load_model(config)
    told = []
    unet = loaded.generator.components.unet  # pyright: ignore[reportAttributeAccessIssue]
    unet.conv_in_render.register_forward_hook(lambda _, given, out: told.append(given[0]))
    prior_network = loaded.generator.lifter.network  # pyright: ignore[reportAttributeAccessIssue]
    seen = []
    prior_network.register_forward_hook(lambda *_: seen.append(1))
    made = generate_orbit(photo, config, loaded)
    # The elevation and the solid are of one run.
    assert len(seen) == 1 and isinstance(made.trial, ElevationEstimate)
    assert made.views.orbit.elevations_deg[-1] == made.trial.elevation_deg
    assert made.views.solid is not None and made.warnings[1:] == () and "lift" in made.seconds
    # What the network is told: latents and mask of the prior's renders, the photo last.
    orbit = made.views.orbit
    _, expected = lifted_along(prior_network, rgba, orbit, side=64)
    with_vae = encode_renders(loaded.generator.components.vae, torch.from_numpy(expected))  # pyright: ignore[reportAttributeAccessIssue]
    assert orbit.input_view == FRAMES - 1 and torch.equal(told[0][-FRAMES:], with_vae)
    again = generate_orbit(PreparedPhoto(rgba, "alpha"), config, loaded)
    assert np.array_equal(made.views.images, again.views.images)
    # Without its prior the model says so, and makes other views.
    shutil.copytree(model, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "prior")
    bare = generate_orbit(photo, config, load_model(replace(config, model=str(tmp_path / "bare"))))
    assert bare.warnings[0].startswith("the model is led by a 3D prior, and its folder has none")
    assert bare.views.solid is None and not np.array_equal(made.views.images, bare.views.images)


def test_generate_writes_what_the_prior_saw(whole, tmp_path):
    from PIL import Image

    image = Image.new("RGBA", (60, 40))
    image.paste((200, 60, 40, 255), (10, 6, 50, 34))
    image.save(tmp_path / "x.png")
    command = ["generate", str(tmp_path / "x.png"), "--model", str(whole / "model"), "--device", "cpu"]
    assert main([*command, "--steps", "1", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "prior.glb").stat().st_size > 1000


def test_a_photo_without_a_solid_leads_nothing(whole, monkeypatch):
    from mv3d.generation import renders

    def refuse(*_: Any, **__: Any) -> None:
        raise InputError("photo: too thin")

    monkeypatch.setattr(renders, "rendered_along", refuse)
    config = GenerateConfig(model=str(whole / "model"), device="cpu", steps=1)
    rgba = np.zeros((32, 32, 4), np.float32)
    rgba[6:26, 8:24] = (0.9, 0.5, 0.1, 1)
    made = generate_orbit(PreparedPhoto(rgba, "alpha"), config, load_model(config))
    assert made.warnings[:1] == ("the 3D prior does not lead the views (photo: too thin)",)


def test_samples_come_again_after_some_epochs(orbits, prior, tmp_path):
    config = quick(prior=str(prior), render_epochs=2)
    plain = open_samples(orbits, config, (32, 32))
    found = open_priors(config)
    assert found is not None
    samples = RenderedSamples(plain, found, tmp_path, epochs=2)
    later = 2 * len(samples) + 1
    one, other = samples.sample(1), samples.sample(later)
    assert other["index"] == later and one["index"] == 1 and len(list(tmp_path.glob("*/*"))) == 1
    assert torch.equal(one["images"], other["images"]) and torch.equal(one["renders"], other["renders"])
    assert torch.equal(one["images"], plain.sample(1)["images"])
    assert one["renders"].shape == one["images"].shape and one["renders"].dtype == torch.uint8
    # The photo's own view shows what the photo shows, as far as the solid goes.
    alpha = one["renders"][-1, ..., 3] > 200
    assert alpha.any() and (alpha & (one["images"][-1, ..., 3] > 100)).sum() / alpha.sum() > 0.9
    never = RenderedSamples(plain, found, tmp_path)
    assert torch.equal(never.sample(later)["images"], plain.sample(later)["images"])


def test_an_object_is_lifted_by_the_prior_of_the_other_half(orbits, base, prior, tmp_path, monkeypatch):
    """The halves are written down: weights of old priors depend on them."""
    uids = ["chair", "table", "lamp", "shoe", "o0", "o1", "o2", "o3"]
    assert [half_of(uid) for uid in uids] == [HALVES[uid] for uid in uids]
    assert [prior_for(uid) for uid in uids] == [1 - half_of(uid) for uid in uids]
    assert half_of("mug-paint-3-1-v0") == half_of("mug-paint-7-2-v0") == half_of("mug")
    many = [half_of(f"object{number}") for number in range(2000)]
    assert 0.45 < np.mean(many) < 0.55
    other, final = save_tiny_prior(tmp_path / "b", 1), save_tiny_prior(tmp_path / "c", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_priors(quick(prior=f"{prior}, {other},{final}"))
    assert found is not None and found.kept == final
    assert {found.number(uid) for uid in uids} == {0, 1}
    two = open_priors(quick(prior=f"{prior},{other}"))
    assert two is not None and two.kept == prior
    used = []
    made = RenderedSamples._made
    monkeypatch.setattr(
        RenderedSamples,
        "_made",
        lambda self, n, *rest: used.append((n, rest[1]["uid"])) or made(self, n, *rest),
    )
    samples = RenderedSamples(open_samples(orbits, quick(), (32, 32)), two, tmp_path / "cache")
    for number in range(len(samples)):
        samples.sample(number)
    assert used and all(number == prior_for(uid) for number, uid in used)
    with pytest.warns(Mv3dWarning, match="it lifts every object, those that it was trained on, too"):
        open_priors(quick(prior=str(prior)))


STEPS, VIEWS, BOXES = 80, 4, 160
HALVES = {"chair": 0, "table": 0, "lamp": 1, "shoe": 1, "o0": 0, "o1": 1, "o2": 1, "o3": 1}


def test_colours_on_a_background_and_off_it():
    rng = np.random.default_rng(0)
    alpha = rng.choice([0, 100, 255], (9, 9)).astype(np.float32) / 255
    color, background = rng.random((9, 9, 3)).astype(np.float32), np.float32([0.2, 0.9, 0.4])
    mixed = color * alpha[..., None] + background * (1 - alpha[..., None])
    picture = np.concatenate([mixed, alpha[..., None]], -1)
    found = straight((picture * 255 + 0.5).astype(np.uint8), background)
    assert np.abs(found - np.concatenate([color, alpha[..., None]], -1))[alpha > 0].max() < 0.01


def test_latents_of_renders(base):
    vae = load_model_folder(base).vae
    views = torch.rand(3, 32, 32, 4, generator=torch.Generator().manual_seed(0))
    views[..., 3] = (views[..., 3] > 0.5).float()
    made = encode_renders(vae, views, torch.tensor([0.1, 0.2, 0.3]))
    mixed = views[..., :3] * views[..., 3:] + torch.tensor([0.1, 0.2, 0.3]) * (1 - views[..., 3:])
    torch.testing.assert_close(made[:, :4], encode_frames(vae, mixed.movedim(-1, 1)))
    torch.testing.assert_close(made[:, 4], views[..., 3].reshape(3, 8, 4, 8, 4).mean((2, 4)))
    assert not encode_renders(vae, views * torch.tensor([1, 1, 1, 0])).any()


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("latents", {}, UsageError, "cached latents, which have no photo to lift"),
        ("clips", {"vector": "keep"}, UsageError, "got video clips, whose objects are not cut out"),
        ("orbits", {"prior": "a,b,c,d"}, UsageError, "expected one to 3 models"),
        (
            "orbits",
            {"prior": "BASE"},
            InputError,
            r"--prior .*expected a folder prior in the model, got none",
        ),
        ("orbits", {"trained": "lora"}, UsageError, "expected none with adapters"),
        (
            "orbits",
            {"prior": "", "drop_render": 0.2},
            UsageError,
            "--drop-render: expected none without --prior",
        ),
        ("orbits", {"network": "none"}, UsageError, "trains no network"),
    ],
)
def test_wrong_requests(name, changes, error, message, orbits, base, prior, tmp_path):
    data = orbits
    if name == "latents":
        data = save_latents(orbits, base, tmp_path / "latents")
    elif name == "clips":
        (tmp_path / "clips").mkdir()
        save_clip(tmp_path / "clips" / "a.mp4")
        data = tmp_path / "clips"
    settings = {"prior": str(prior)} | changes
    settings["prior"] = str(base) if settings["prior"] == "BASE" else settings["prior"]
    given = "" if changes.get("network") == "none" else str(base)
    with pytest.raises(error, match=message):
        train(quick(**settings), data, given, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_led_base_needs_its_prior_and_another_prior_another_run(whole, orbits, base, tmp_path):
    with pytest.raises(
        UsageError, match=r"--prior: expected the 3D prior whose renders the base .* takes, got none"
    ):
        train(quick(), orbits, str(whole / "model"), tmp_path / "run")
    other = save_tiny_prior(tmp_path / "other", 1)
    with pytest.raises(OutputError, match="a run with another --prior"):
        train(led(other), orbits, str(base), whole)
    go_on = train(led(whole / "model", steps=1), orbits, str(whole / "model"), tmp_path / "on")
    assert prior_sha256(go_on.files["model"]) == prior_sha256(whole / "model")


def test_a_run_without_a_prior_has_no_settings_of_one(orbits, base, tmp_path):
    train(quick(steps=1), orbits, str(base), tmp_path)
    asked = json.loads((tmp_path / "settings.json").read_text())
    done = json.loads((tmp_path / "run.json").read_text())
    assert not {"prior", "drop_render", "render_epochs", "renders"} & (asked.keys() | done["settings"].keys())
    assert done["model"].keys() == {"base", "revision"}


@pytest.mark.slow
def test_led_by_the_true_shape_boxes_are_learned_faster():
    """The same steps on the same orbits and noise, with the boxes' true shapes in grey and without any."""
    views = [box_views(f"box{number}", VIEWS, 32) for number in range(BOXES)]
    targets = torch.stack([pooled(seen) for seen, _ in views]) * 2 - 1
    grey = torch.stack([pooled(shape) for _, shape in views])
    renders = torch.cat([grey * 2 - 1, grey[:, :, 3:]], 2)
    config = quick("tiny", p_mean=2.0, p_std=0.5, drop_image=0.0, drop_latent=0.0)
    ends = {}
    for name in ("without", "led"):
        unet = with_render_conditioning(small_network()).train()
        optimizer = torch.optim.AdamW(unet.parameters(), lr=3e-3)
        losses = []
        for step in range(STEPS):
            numbers = range(4 * step, 4 * step + 4)
            rows = [number % BOXES for number in numbers]
            conditioning = OrbitConditioning(
                cond_latent=targets[rows, -1],
                image_embedding=torch.zeros(4, 1, 24),
                polars_rad=torch.full((VIEWS,), 1.4),
                azimuths_rad=torch.arange(1, VIEWS + 1) % VIEWS * (6.2832 / VIEWS),
                renders=renders[rows] if name == "led" else None,
            )
            noise = sample_noise(config, numbers, (VIEWS, 4, 8, 8))
            loss = orbit_loss(partial(denoise, unet), targets[rows], conditioning, noise).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        ends[name] = np.mean(losses[-20:])
    print(ends)
    assert ends["led"] < 0.9 * ends["without"]


def pooled(views: np.ndarray) -> torch.Tensor:
    """(n, 32, 32, 4) uint8 → (n, 4, 8, 8) in [0, 1], colours on black."""
    planes = torch.from_numpy(views).movedim(-1, 1).float() / 255
    return adaptive_avg_pool2d(torch.cat([planes[:, :3] * planes[:, 3:], planes[:, 3:]], 1), 8)
