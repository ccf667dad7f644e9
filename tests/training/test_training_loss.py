"""The loss against closed forms, and what chance may decide."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.training_data import FRAMES, quick, small_network

from mv3d.cli.groups import parsed
from mv3d.cli.train import TrainCommand, with_preset
from mv3d.core.errors import UsageError
from mv3d.models import SV3D_P, SV3D_U, SVD, SVD_MV, OrbitConditioning, denoise, loss_weight, scalings
from mv3d.models.adapt import with_micro_conditioning
from mv3d.training.config import PRESETS, preset
from mv3d.training.data import batch_numbers
from mv3d.training.loss import NoiseSample, frame_weights, orbit_loss, sample_noise, with_dropout

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (FRAMES, 4, 8, 8)


def conditioning(batch: int = 2, seed: int = 0) -> OrbitConditioning:
    g = torch.Generator().manual_seed(seed)
    return OrbitConditioning(
        torch.randn(batch, 4, 8, 8, generator=g),
        torch.randn(batch, 1, 24, generator=g),
        torch.rand(batch, FRAMES, generator=g) + 1,
        torch.linspace(math.pi / 2, 2 * math.pi, FRAMES).expand(batch, FRAMES) % (2 * math.pi),
        torch.rand(batch, generator=g),
    )


def test_weight_and_preconditioning_at_known_levels():
    sigma = torch.tensor([0.5, 1.0, 2.0, 700.0])
    # (1 + σ²)/σ², not σ² + 1/σ²: 5, 2, 1.25 and hardly more than 1.
    assert loss_weight(sigma).tolist() == pytest.approx([5.0, 2.0, 1.25, 1.000002], rel=1e-6)
    s = scalings(torch.tensor([2.0]))
    got = [float(value) for value in s]
    assert got == pytest.approx([0.2, -2 / math.sqrt(5), 1 / math.sqrt(5), math.log(2) / 4], rel=1e-6)


def test_the_loss_is_a_plain_one_on_the_networks_output():
    """With the EDM weight, the error of `denoised` is that of v = (σ·x0 - n)/√(σ²+1), up to c_out's sign."""
    torch.manual_seed(0)
    draws = sample_noise(quick(drop_image=0.0, drop_latent=0.0), [3, 4], SHAPE)
    target, outputs = torch.randn(2, *SHAPE), torch.randn(2, *SHAPE)

    def denoiser(x, sigma, _):
        c_skip, c_out, *_ = (value.view(-1, 1, 1, 1, 1) for value in scalings(sigma))
        return c_skip * x + c_out * outputs

    sigma = draws.sigma.view(-1, 1, 1, 1, 1)
    v = (draws.noise - sigma * target) / (sigma**2 + 1).sqrt()
    expected = (outputs - v).square().mean(dim=(1, 2, 3, 4))
    assert torch.allclose(orbit_loss(denoiser, target, conditioning(), draws), expected, rtol=2e-3)


def test_a_perfect_denoiser_has_no_loss_and_zero_one_has_the_weight():
    draws = sample_noise(quick(), [0, 1], SHAPE)
    target = torch.ones(2, *SHAPE)
    assert orbit_loss(lambda x, s, c: target, target, conditioning(), draws).max() == 0
    zero = orbit_loss(lambda x, s, c: torch.zeros_like(x), target, conditioning(), draws)
    assert torch.allclose(zero, loss_weight(draws.sigma))


def test_one_noise_level_for_all_frames_of_a_sample():
    """SVD's authors tell of levels that differed by frame, and of a model that learned nothing."""
    seen = []

    def denoiser(x, sigma, _):
        seen.append((x, sigma))
        return torch.zeros_like(x)

    draws = sample_noise(quick(), range(64), SHAPE)
    target = torch.randn(64, *SHAPE)
    orbit_loss(denoiser, target, conditioning(64), draws)
    x, sigma = seen[0]
    assert sigma.shape == (64,)
    level = (x - target).std(dim=(2, 3, 4)) / sigma[:, None]
    # 256 numbers a frame: their deviation is within a fifth of the common level, whatever that is.
    assert level.min() > 0.8 and level.max() < 1.2 and sigma.max() / sigma.min() > 50


def test_levels_have_the_distributions_that_are_asked_for():
    config = quick(p_mean=1.0, p_std=1.6)
    draws = sample_noise(config, range(4000), (1, 1, 1, 1))
    sigma, cond = draws.sigma.log(), draws.cond_aug.log()
    assert (sigma.mean(), sigma.std()) == (pytest.approx(1.0, abs=0.1), pytest.approx(1.6, abs=0.08))
    assert (cond.mean(), cond.std()) == (pytest.approx(-3.0, abs=0.03), pytest.approx(0.5, abs=0.03))
    assert abs(torch.corrcoef(torch.stack([sigma, cond]))[0, 1]) < 0.06


def test_conditions_drop_independently():
    draws = sample_noise(quick(drop_image=0.3, drop_latent=0.5), range(4000), (1, 1, 1, 1))
    image, latent = ~draws.keep_image, ~draws.keep_latent
    assert image.float().mean() == pytest.approx(0.3, abs=0.03)
    assert latent.float().mean() == pytest.approx(0.5, abs=0.03)
    assert (image & latent).float().mean() == pytest.approx(0.15, abs=0.02)
    assert sample_noise(quick(drop_image=0.0, drop_latent=0.0), range(50), (1, 1, 1, 1)).keep_image.all()


def test_dropout_zeroes_what_it_says_and_keeps_the_camera():
    given = conditioning()
    draws = sample_noise(quick(), [0, 1], SHAPE)
    draws = NoiseSample(
        draws.sigma, draws.noise, draws.cond_aug, draws.cond_noise, torch.tensor([True, False]), torch.tensor([False, True]),
        torch.tensor([True, False]),
    )  # fmt: skip
    got = with_dropout(given, draws)
    assert got.cond_latent[0].abs().max() == 0 and torch.equal(got.cond_latent[1], given.cond_latent[1])
    assert got.image_embedding[1].abs().max() == 0
    assert torch.equal(got.image_embedding[0], given.image_embedding[0])
    assert torch.equal(got.azimuths_rad, given.azimuths_rad) and torch.equal(got.polars_rad, given.polars_rad)


def test_draws_depend_on_seed_and_number_alone():
    a, b = sample_noise(quick(), [5, 9], SHAPE), sample_noise(quick(), [9], SHAPE)
    assert torch.equal(a.noise[1], b.noise[0]) and a.sigma[1] == b.sigma[0]
    assert not torch.equal(a.noise[0], a.noise[1])
    assert not torch.equal(sample_noise(quick(seed=1), [9], SHAPE).noise, b.noise)


def test_frames_near_the_input_view_weigh_less():
    azimuths = torch.deg2rad(torch.arange(1, 22) * 360 / 21)[None]
    weights = frame_weights(azimuths, 0.5)
    assert weights.mean() == pytest.approx(1.0) and weights[0].argmin() == 20
    assert weights[0, -1] / weights[0].max() == pytest.approx(0.5, abs=0.01)
    assert torch.allclose(weights[0, :10], weights[0, 10:20].flip(0), atol=1e-5)
    assert torch.allclose(frame_weights(azimuths, 1.0), torch.ones(1, 21))
    assert torch.isfinite(frame_weights(torch.zeros(1, 3), 0.0)).all()


def test_every_process_and_micro_batch_has_its_share():
    config = quick(batch=8, micro_batch=2)
    alone = sorted(n for micro in batch_numbers(config, 3, 0, 1) for n in micro)
    shared = [n for rank in (0, 1) for micro in batch_numbers(config, 3, rank, 2) for n in micro]
    assert alone == sorted(shared) == list(range(24, 32))
    assert config.accumulation(2) == 2
    with pytest.raises(UsageError, match="multiple of 6"):
        config.accumulation(3)


@pytest.mark.parametrize("vector", [SVD_MV, SV3D_U, SV3D_P], ids=["svd_mv", "sv3d_u", "sv3d_p"])
def test_every_new_conditioning_layer_gets_signal(vector):
    unet = with_micro_conditioning(small_network(SVD), vector).train()
    draws = sample_noise(quick(drop_image=0.0, drop_latent=0.0), [0, 1], SHAPE)
    target = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    loss = orbit_loss(lambda x, s, c: denoise(unet, x, s, c), target, conditioning(), draws)
    loss.mean().backward()
    first = unet.add_embedding.linear_1.weight.grad
    # Every number of the vector has columns of its own in the first layer.
    for name, columns in zip(vector.names, first.split(list(vector.widths), dim=1), strict=True):
        assert columns.abs().max() > 0, name
    for name, parameter in unet.named_parameters():
        if name.startswith("add_embedding."):
            assert parameter.grad.abs().max() > 0, name


def test_presets_have_the_papers_numbers():
    mv, u, p = PRESETS["svd_mv"], PRESETS["sv3d_u"], PRESETS["sv3d_p"]
    assert (mv.steps, mv.batch, mv.lr, mv.frames) == (12_000, 16, 1e-5, 21)
    assert (u.steps, u.batch) == (55_000, 64) and (p.static_steps, p.steps, p.batch) == (55_000, 50_000, 64)
    assert (mv.p_mean, mv.p_std, mv.cond_mean, mv.cond_std) == (1.0, 1.6, -3.0, 0.5)
    lora = PRESETS["lora"]
    assert (lora.rank, lora.steps, lora.trained) == (16, 5000, "lora")


def test_a_smaller_batch_has_a_smaller_micro_batch():
    assert preset("tiny", batch=2).micro_batch == 2 and preset("tiny", batch=12).micro_batch == 4
    assert (
        preset("tiny", batch=16).micro_batch == 8 and preset("tiny", batch=6, micro_batch=3).micro_batch == 3
    )
    for arguments, micro_batch in (
        (["--batch", "2"], 2), (["--batch=2"], 2), (["--batch", "2", "--micro-batch", "1"], 1), ([], 8),
    ):  # fmt: skip
        words = ["--data", "x", "--preset", "tiny", *arguments]
        command = parsed(with_preset(TrainCommand), words, program="mv3d train", description="")
        assert command.config.micro_batch == micro_batch


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("sv3d_pp", {}, "did you mean sv3d_p"),
        ("lora", {"rnak": 4}, "did you mean rank"),
        ("lora", {"steps": 0}, "--steps: expected at least 1, got 0"),
        ("lora", {"drop_image": 1.0}, "--drop-image"),
        ("lora", {"lr": float("nan")}, "--lr"),
        ("lora", {"batch": 3, "micro_batch": 2}, "multiple of --micro-batch 2"),
    ],
)
def test_wrong_settings_are_told(name, changes, words):
    with pytest.raises(UsageError, match=words):
        preset(name, **changes)
