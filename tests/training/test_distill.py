"""Distillation: the loss on its own, a student whose map is known, and runs from the command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.training_data import FRAMES, save_base, save_latents, save_orbits, without_times
from torch import nn

from mv3d.cli.main import main
from mv3d.core.errors import UsageError
from mv3d.generation.config import GenerateConfig
from mv3d.generation.plan import plan_generation
from mv3d.models.folder import ModelInfo, SamplerDefaults, read_info, write_info
from mv3d.models.loading import load_unet
from mv3d.models.preconditioning import loss_weight, scalings
from mv3d.models.samplers import euler
from mv3d.models.sampling import karras_sigmas
from mv3d.training.checkpoint import read_latest
from mv3d.training.distill.adversarial import Heads, heads_loss, student_loss
from mv3d.training.distill.config import DistillConfig, for_teacher
from mv3d.training.distill.consistency import (
    Stretches,
    consistency_loss,
    consistency_target,
    led_to,
    nearer_level,
    pseudo_huber,
    stage_of,
    student_sampler,
)
from mv3d.training.metric_log import read_log
from mv3d.training.run import train

pytestmark = pytest.mark.usefixtures("one_thread")

# A mixture of two Gaussians on a line.
CENTRES, SHARES, SPREAD = torch.tensor([-1.2, 0.8]), torch.tensor([0.4, 0.6]), 0.3
SIGMA_MAX, SIGMA_MIN = 80.0, 0.002


def mixture(x, sigma):
    """E[x0 | x] of the mixture; x (n, 1), sigma (n,)."""
    total = (sigma**2 + SPREAD**2)[:, None]
    away = x - CENTRES
    share = (SHARES.log() - away**2 / (2 * total)).softmax(-1)
    return (share * (CENTRES + away * SPREAD**2 / total)).sum(-1, keepdim=True)


def below(x, sigma):
    """The distribution function of the mixture with noise."""
    return (SHARES * torch.special.ndtr((x - CENTRES) / math.hypot(sigma, SPREAD))).sum(-1, keepdim=True)


def carried(x, sigma, end):
    """Where the ODE carries x from σ to `end`: on a line paths do not cross, so it keeps the quantile."""
    quantile = below(x.double(), sigma)
    low, high = torch.full_like(quantile, -1e3), torch.full_like(quantile, 1e3)
    for _ in range(80):
        middle = (low + high) / 2
        less = below(middle, end) < quantile
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return low.float()


class Net(nn.Module):
    """An EDM denoiser of numbers."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(10, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )

    def forward(self, x, sigma):
        c_skip, c_out, c_in, c_noise = (factor[:, None] for factor in scalings(sigma))
        waves = [wave(k * c_noise) for k in (1, 2, 4, 8) for wave in (torch.sin, torch.cos)]
        return c_skip * x + c_out * self.layers(torch.cat([c_in * x, c_noise, *waves], 1))


def test_a_student_of_a_mixture_reaches_its_known_map():
    teacher_sampler = SamplerDefaults(sigma_max=SIGMA_MAX, sigma_min=SIGMA_MIN)
    sampler, steps = student_sampler(teacher_sampler, 2), 900
    stretches = Stretches.of(sampler, SIGMA_MIN)
    sigmas, ends = stretches.draw(0, range(8192))
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / steps)
        drawn = torch.randint(len(sigmas), (256,))
        sigma, end = sigmas[drawn], ends[drawn]
        which = (torch.rand(256) < SHARES[1]).long()
        clean = CENTRES[which][:, None] + SPREAD * torch.randn(256, 1)
        x = clean + sigma[:, None] * torch.randn(256, 1)
        target = consistency_target(net, mixture, x, sigma, end, stage_of(step, steps, 4))
        loss = consistency_loss(led_to(net(x, sigma), x, sigma, end), target, sigma, 1.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    start = SIGMA_MAX * torch.linspace(-2.3, 2.3, 101)[:, None]
    exact = carried(start, SIGMA_MAX, SIGMA_MIN)

    def error(denoiser, levels):
        with torch.no_grad():
            end = euler(lambda x, sigma: denoiser(x, sigma.expand(len(x))), start, levels)
        return float((end - exact).abs().mean())

    def of_teacher(steps):
        return error(mixture, karras_sigmas(steps, sigma_max=SIGMA_MAX))

    levels = karras_sigmas(2, sigma_min=sampler.sigma_min, sigma_max=SIGMA_MAX)
    found = error(net, levels)
    print(found, error(mixture, levels), of_teacher(2), of_teacher(8), of_teacher(1000))
    assert of_teacher(1000) < 0.01  # the map is right
    assert found < 0.12 and found < 0.2 * of_teacher(2)


def test_at_r_0_the_target_is_that_of_diffusion():
    """And the loss is SVD's, of which pseudo-Huber makes a root."""
    torch.manual_seed(0)
    x, clean = torch.randn(5, 3, 2), torch.randn(5, 3, 2)
    sigma, end = torch.tensor([0.05, 0.3, 0.6, 0.9, 1.2]), torch.zeros(5)
    assert nearer_level(sigma, end, 0).tolist() == [0.0] * 5

    def never(x, sigma):
        return torch.full_like(x, torch.nan)

    target = consistency_target(never, lambda x, sigma: clean, x, sigma, end, 0)
    assert torch.allclose(target, clean, atol=1e-6)
    made = torch.randn(5, 3, 2, requires_grad=True)
    assert torch.equal(led_to(made, x, sigma, end), x + (made - x))
    loss = consistency_loss(made, target, sigma, 0.5)
    diffusion = loss_weight(sigma) * (made - clean).square().mean((1, 2))
    assert torch.allclose(loss, (diffusion + 0.5**2).sqrt() - 0.5, atol=1e-5)
    # Far below c it is half the square, over c; far above c the norm.
    small = torch.full((1, 4), 1e-3)
    assert float(pseudo_huber(small, 1.0)) == pytest.approx(0.5e-6, rel=0.1)
    assert float(pseudo_huber(small, 1e-6)) == pytest.approx(1e-3, rel=0.01)


def test_the_student_is_the_identity_at_the_end_of_a_stretch():
    """At σ_min for the last one, whatever the network says there."""
    for steps in (1, 2, 4):
        sampler = student_sampler(SamplerDefaults(sigma_max=SIGMA_MAX), steps)
        stretches = Stretches.of(sampler, SIGMA_MIN)
        assert (
            stretches.tops[0] == SIGMA_MAX
            and stretches.ends[-1] == SIGMA_MIN
            and len(stretches.tops) == steps
        )
        assert stretches.tops[1:] == stretches.ends[:-1]
        ends = torch.tensor(stretches.ends)
        x, anything = torch.randn(steps, 3, 2, 2), 100 * torch.randn(steps, 3, 2, 2)
        assert torch.equal(led_to(anything, x, ends, ends), x)
        # Where the sampler calls it, it is Euler's step to the next level.
        levels = karras_sigmas(steps, sigma_min=sampler.sigma_min, sigma_max=SIGMA_MAX)
        assert levels[:-1].tolist() == list(stretches.tops)
        sigma, end = stretches.draw(1, range(400))
        assert (sigma >= end).all() and (sigma <= SIGMA_MAX).all()
        on_top = torch.isin(sigma, torch.tensor(stretches.tops)).float().mean()
        assert 0.15 < on_top < 0.35
        assert torch.equal(stretches.draw(1, [7])[0], sigma[7:8])


def test_the_schedule_closes_the_gap_and_the_target_follows_the_teacher():
    sigma, end = torch.tensor([0.5, 3.0, 60.0]), torch.tensor([0.002] * 3)
    gaps = torch.stack([sigma - nearer_level(sigma, end, stage) for stage in range(8)])
    assert (gaps.diff(dim=0) <= 0).all() and (gaps > 0).all()
    # ECT's own numbers: half at first where noise is high, 1/256 of it at last.
    assert float(gaps[0, 2]) == pytest.approx(30, rel=1e-3) and float(gaps[7, 2]) == pytest.approx(
        60 / 256, rel=1e-3
    )
    assert [stage_of(step, 80, 8) for step in (0, 9, 10, 79, 80)] == [0, 0, 1, 7, 7]
    # A student that is the map already has its own points for targets, up to the teacher's Euler steps.
    x = sigma[:, None] * torch.tensor([[0.3], [-0.8], [1.1]])

    def perfect(x, sigma):
        there = torch.stack([carried(x[i : i + 1], float(sigma[i]), SIGMA_MIN)[0] for i in range(len(x))])
        return x + (there - x) / (1 - SIGMA_MIN / sigma)[:, None]

    target = consistency_target(perfect, mixture, x, sigma, end, 9)
    assert torch.allclose(target, led_to(perfect(x, sigma), x, sigma, end), atol=5e-3)


def test_heads_learn_alone_and_move_the_student_alone():
    torch.manual_seed(0)
    heads = Heads((8, 16), 8)
    features = [torch.randn(4, 3, 8, 5, 5), torch.randn(4, 3, 16, 2, 2)]
    judged = heads(features)
    assert [tuple(j.shape) for j in judged] == [(4, 75), (4, 75), (4, 12), (4, 12)]
    # The temporal head sees the order of the frames, the spatial one does not.
    turned = heads([f[:, [1, 0, 2]] for f in features])
    assert torch.allclose(turned[0].view(4, 3, -1)[:, [1, 0, 2]].reshape(4, -1), judged[0], atol=1e-5)
    assert not torch.allclose(turned[1].sort()[0], judged[1].sort()[0], atol=1e-3)
    high, low = torch.full((2, 3), 3.0), torch.full((2, 3), -3.0)
    assert (
        float(heads_loss([torch.cat([high, low])])) == 0 and float(heads_loss([torch.cat([low, high])])) == 8
    )
    assert float(student_loss([high])) < float(student_loss([low]))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    folder = save_base(tmp_path_factory.mktemp("teacher") / "model")
    info = read_info(folder)
    write_info(folder, replace(info, sampler=replace(info.sampler, guidance_max=3.0, sigma_max=SIGMA_MAX)))
    return folder


@pytest.fixture(scope="module")
def latents(tmp_path_factory, teacher) -> Path:
    orbits = save_orbits(tmp_path_factory.mktemp("orbits"))
    return save_latents(orbits, teacher, tmp_path_factory.mktemp("latents"))


FLAGS = (
    "--steps 3 --batch 2 --micro-batch 1 --lr 1e-3 --warmup 1 --precision fp32 --device cpu --workers 0 --log-every 1 \
--checkpoint-every 1 --validate-every 0 --no-gradient-checkpointing --stages 2".split()
)


def command(latents: Path, teacher: Path, out: Path, *more: str) -> list[str]:
    return ["distill", "--data", str(latents), "--teacher", str(teacher), "--out", str(out), *FLAGS, *more]


def losses(out: Path) -> list[dict]:
    return [without_times(line) for line in read_log(out)]


@pytest.mark.parametrize("more", [(), ("--adversarial", "--heads-width", "8", "--student-steps", "1")])
def test_a_student_says_its_steps_and_an_interrupted_run_is_the_same_to_the_bit(
    latents, teacher, tmp_path, monkeypatch, more
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(command(latents, teacher, whole, *more)) == 0
    model, steps = whole / "model", 1 if more else 2
    info = read_info(model)
    assert info.distilled_steps == info.sampler.steps == steps and info.base == str(teacher)
    assert info.sampler.guidance_max == 1 and info.sampler.cond_aug == read_info(teacher).sampler.cond_aug
    # It has learned, all of it is a network of the teacher's shape, and the teacher's own file is as it was.
    before, after = load_unet(teacher).state_dict(), load_unet(model).state_dict()
    assert before.keys() == after.keys() and not torch.equal(
        before["conv_in.weight"], after["conv_in.weight"]
    )
    # `generate` makes its steps, and refuses others.
    plan = plan_generation(GenerateConfig(model=str(model), device="cpu"))
    assert (plan.sampling.steps, plan.sampling.sampler, plan.sampling.guidance) == (steps, "euler", 1.0)
    for wrong in ({"steps": 8}, {"sampler": "heun"}, {"guidance": 2.5}):
        with pytest.raises(UsageError, match=rf"student of {steps} steps.*use the teacher"):
            plan_generation(GenerateConfig(model=str(model), device="cpu", **wrong))
    with monkeypatch.context() as patch:
        from mv3d.training import loop

        usual = loop.train_loop
        patch.setattr(loop, "train_loop", lambda *a, **k: _stopped(usual(*a, **k, stop_after=1)))
        with pytest.raises(InterruptedError):
            main(command(latents, teacher, cut, *more))
    latest = read_latest(cut / "checkpoints")
    assert latest is not None and latest.step == 1
    assert main(command(latents, teacher, cut, *more)) == 0
    assert losses(cut) == losses(whole) and len(losses(whole)) == 3
    again = load_unet(cut / "model").state_dict()
    assert all(torch.equal(again[name], value) for name, value in after.items())
    named = read_log(whole)[-1].keys() >= {"consistency_loss", "adversarial_loss", "heads_loss"}
    assert named == bool(more)


def _stopped(state):
    raise InterruptedError


def test_guidance_is_baked_in(latents, teacher, tmp_path):
    """Another scale is another run; at scale 1 the first loss of a student that is its teacher, at the diffusion target, is 0."""
    from mv3d.training.loop import make_accelerator

    config = DistillConfig(
        batch=2, micro_batch=2, precision="fp32", stages=1, huber=1.0, device="cpu", validate_every=0
    )
    found = {}
    for scale in (1.0, 3.0):
        found[scale] = first_loss(replace(config, guidance=scale), latents, teacher, make_accelerator(config))
    assert found[1.0] < 0.05 * found[3.0]


def first_loss(config, latents, teacher, accelerator) -> float:
    """Of a student that begins as its teacher, where all levels are low enough for the target of diffusion."""
    from torch.utils.data import default_collate

    from mv3d.models.sampling import frame_guidance
    from mv3d.training.batches import BatchMaker
    from mv3d.training.data import open_samples
    from mv3d.training.distill.objective import distill_objective

    config = replace(config, frames=FRAMES)
    network = load_unet(teacher)
    sampler = read_info(teacher).sampler
    guidance = frame_guidance(sampler, FRAMES, config.guidance)
    batches = BatchMaker(config, scaling_factor=0.5, device="cpu")
    low = Stretches((1.0,), (SIGMA_MIN,))
    objective = distill_objective(
        config, network, load_unet(teacher).requires_grad_(False), low, guidance, batches
    )
    samples = open_samples(latents, config, (32, 32))
    raw = default_collate([samples.sample(i) | {"index": i} for i in range(2)])
    return objective.loss(objective.module, raw, 0)[0].item()


def test_wrong_requests_say_what_can_be_done(latents, teacher, tmp_path, capsys):
    def told(*arguments: str) -> tuple[int, str]:
        code = main(["distill", "--data", str(latents), "--out", str(tmp_path / "run"), *arguments])
        return code, capsys.readouterr().err

    code, text = told("--teacher", str(teacher), "--student-steps", "3")
    assert code == 2 and "--student-steps: expected 1, 2 or 4, got 3" in text
    prior = tmp_path / "prior"
    prior.mkdir()
    write_info(prior, ModelInfo("prior", 21, 256))
    for dry in ((), ("--dry-run",)):
        code, text = told("--teacher", str(prior), *dry)
        assert (
            code == 2
            and "a 3D prior cannot be distilled" in text
            and "a multi-view model can: sv3d_p" in text
        )
    student = tmp_path / "student"
    student.mkdir()
    write_info(student, ModelInfo("sv3d_p", 4, 32, distilled_steps=2, base="its-teacher"))
    code, text = told("--teacher", str(student))
    assert code == 2 and "give its teacher (its-teacher)" in text
    code, text = told("--teacher", str(teacher), "--heads-rate", "2")
    assert code == 2 and "without --adversarial" in text
    code, text = told("--teacher", str(tmp_path / "nothing"))
    assert code == 1 and "nothing by that name" in text
    assert not (tmp_path / "run").exists()
    for wrong in (
        {"trained": "lora"},
        {"stages": 17},
        {"heads_width": 12},
        {"huber": 0.0},
        {"drop_image": 0.1},
    ):
        with pytest.raises(UsageError):
            DistillConfig(**wrong)


def test_the_plan_and_the_configuration_of_accelerate(latents, teacher, tmp_path, capsys):
    assert main(command(latents, teacher, tmp_path / "run", "--dry-run", "--json")) == 0
    [stage] = json.loads(capsys.readouterr().out)["stages"]
    settings = stage["settings"]
    assert (settings["student_steps"], settings["frames"], settings["guidance"]) == (2, FRAMES, 3.0)
    assert stage["orbits"] == 6 and not (tmp_path / "run").exists()
    assert main(["distill", "--print-config", "ddp"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    # A teacher that takes renders brings its prior along, unless others are given.
    led = for_teacher(DistillConfig(guidance=2.0), read_info(teacher), "its/folder", takes_renders=True)
    assert (led.prior, led.guidance, led.frames) == ("its/folder", 2.0, FRAMES)
    assert math.exp(led.cond_mean) == pytest.approx(read_info(teacher).sampler.cond_aug)
    other = DistillConfig(prior="half0,half1")
    assert for_teacher(other, read_info(teacher), "x", takes_renders=True).prior == "half0,half1"
    with pytest.raises(UsageError, match="--teacher: expected a multi-view model, got none"):
        train(DistillConfig(), latents, "", tmp_path / "run")
