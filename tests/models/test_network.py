"""The network against the original: stored reference tensors, and a slow twin for every other shape of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import sgm_twin
from helpers.places import SHARED
from safetensors.torch import load_file, save_file

from mv3d.core.errors import InputError, UsageError
from mv3d.models import (
    SV3D_P,
    SV3D_U,
    SVD,
    SVD_MV,
    MicroConditioning,
    NetworkConfig,
    OrbitConditioning,
    denoise,
    karras_sigmas,
    linear_guidance,
    load_sgm_unet,
    loss_weight,
    sample,
    scalings,
    triangular_guidance,
)
from mv3d.models.adapt import SVD_COND_AUG, with_micro_conditioning, with_render_conditioning
from mv3d.models.components import build_unet
from mv3d.models.conditioning import joined
from mv3d.models.network import SMALL, embed_micro_conditioning
from mv3d.models.sgm import network_config, network_key_map

pytestmark = pytest.mark.usefixtures("one_thread")

REFERENCE = SHARED / "reference" / "sv3d"
BASE = {
    "adm_in_channels": 1280,
    "num_classes": "sequential",
    "use_checkpoint": False,
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [2, 1],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_head_channels": 16,
    "use_linear_in_transformer": True,
    "transformer_depth": 1,
    "context_dim": 24,
    "spatial_transformer_attn_type": "softmax",
    "extra_ff_mix_layer": True,
    "use_spatial_context": True,
    "merge_strategy": "learned_with_images",
    "video_kernel_size": [3, 1, 1],
}
FULL_SV3D_P = BASE | {
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "context_dim": 1024,
}
OTHERS = {
    "four levels": {"channel_mult": [1, 2, 2, 3], "attention_resolutions": [4, 2, 1]},
    "two blocks, attention in the middle alone": {"num_res_blocks": 2, "attention_resolutions": []},
    "attention at the coarsest, one level without": {"channel_mult": [1, 1, 2], "attention_resolutions": [4, 1]},
    "wide, few heads": {"model_channels": 64, "num_head_channels": 64},
    "number of heads": {"num_head_channels": -1, "num_heads": 4},
    "depth": {"transformer_depth": [1, 2], "transformer_depth_middle": 3},
    "convolutional projections": {"use_linear_in_transformer": False, "merge_strategy": "learned"},
    "unconditional camera": {"adm_in_channels": 256, "channel_mult": [1, 3]},
    "heads that fit no level without attention": {"attention_resolutions": [2], "num_head_channels": 64},
}  # fmt: skip


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def orbit(frames=5, size=8, context=24, batch=1, seed=0) -> OrbitConditioning:
    g = torch.Generator().manual_seed(seed)
    return OrbitConditioning(
        torch.randn(batch, 4, size, size, generator=g),
        torch.randn(batch, 1, context, generator=g),
        torch.rand(batch, frames, generator=g) + 1,
        torch.rand(batch, frames, generator=g) * 6,
        0.02,
    )


def small(micro=SV3D_P, seed=0):
    torch.manual_seed(seed)
    return NetworkConfig(
        micro=micro,
        block_out_channels=(32, 32),
        attention=(True, False),
        heads=(2, 2),
        layers_per_block=1,
        transformer_depth=(1, 1),
        context_dim=24,
    ).build()


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs the shared reference tensors")
@pytest.mark.parametrize("variant", ["sv3d_p", "sv3d_u"])
def test_parity_with_the_original(variant):
    settings = json.loads((REFERENCE / f"{variant}_small.json").read_text())
    reference = load_file(REFERENCE / f"{variant}_small_reference.safetensors")
    unet = load_sgm_unet(REFERENCE / f"{variant}_small.safetensors", settings["network"])
    conditioning = OrbitConditioning(
        reference["cond_latent"],
        reference["image_embedding"],
        reference["polars_rad"],
        reference["azimuths_rad"],
        settings["cond_aug"],
    )
    with torch.no_grad():
        ours = denoise(unet, reference["denoise_input"], reference["denoise_sigma"], conditioning)
    # Measured 1.1e-6 and 1.5e-6; the tenfold of that is far below the 1e-4 and 1e-3 that a wrong epsilon would cost.
    assert relative(ours, reference["denoised"]) < 1e-5
    schedule = {key: settings[key] for key in ("sigma_min", "sigma_max", "rho")}
    guidance = triangular_guidance(settings["num_frames"], settings["max_guidance"])
    assert torch.allclose(guidance, reference["guidance_scale"][0], atol=1e-6)
    assert torch.allclose(karras_sigmas(settings["num_steps"], **schedule), reference["sigmas"], rtol=1e-6)
    ours = sample(
        unet, reference["noise"], conditioning, steps=settings["num_steps"], guidance=guidance, **schedule
    )
    assert relative(ours, reference["samples"]) < 1e-5


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_any_small_configuration_equals_the_slow_twin(change, tmp_path):
    network = BASE | change
    weights = sgm_twin.random_weights(network, seed=1)
    save_file(weights, tmp_path / "w.safetensors")
    unet = load_sgm_unet(tmp_path / "w.safetensors", network)
    frames = 3
    c = orbit(frames)
    x = torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    sigma = 2.5
    with torch.no_grad():
        ours = denoise(unet, x, sigma, c)
        k = scalings(torch.tensor(sigma))
        vector = torch.cat(
            [
                sgm_twin.sinusoid(torch.full((frames,), 0.02), 256),
                sgm_twin.sinusoid(c.polars_rad[0], 512),
                sgm_twin.sinusoid(c.azimuths_rad[0], 512),
            ],
            1,
        )[:, : network["adm_in_channels"]]
        v = sgm_twin.Twin(weights, network).forward(
            torch.cat([k.c_in * x, c.cond_latent.expand(frames, -1, -1, -1)], 1),
            torch.full((frames,), 0.25 * math.log(sigma)),
            c.image_embedding.expand(frames, -1, -1),
            vector,
        )
    assert v.std() > 0.1
    # v alone, without the skip path that would hide a difference
    assert relative((ours - k.c_skip * x) / k.c_out, v) < 2e-5


def test_full_size_keys_and_shapes_without_memory():
    config = network_config(FULL_SV3D_P)
    assert config == NetworkConfig()
    with torch.device("meta"):
        unet = config.build()
    shapes = {key: tuple(value.shape) for key, value in unet.state_dict().items()}
    names = network_key_map(config, shapes)
    ours = {sgm_twin.PREFIX + names[key]: shape for key, shape in shapes.items()}
    assert ours == sgm_twin.shapes(FULL_SV3D_P)
    count = sum(math.prod(shape) for shape in shapes.values())
    # SVD has 1,524,623,082 parameters (diffusers' network); the wider vector adds (1280 - 768) × 1280.
    assert count == 1_524_623_082 + 512 * 1280 == sum(p.numel() for p in unet.parameters())


def test_svd_is_the_stock_network_but_for_the_epsilon():
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel

    config = NetworkConfig(
        micro=SVD,
        block_out_channels=(32, 64),
        attention=(True, False),
        heads=(2, 4),
        layers_per_block=1,
        transformer_depth=(1, 1),
        context_dim=24,
    )
    torch.manual_seed(0)
    ours = config.build().eval()
    stock = UNetSpatioTemporalConditionModel(
        **{
            key: value
            for key, value in config.diffusers_config().items()
            if key not in ("vector_names", "vector_widths", "mid_transformer_layers")
        }
    ).eval()
    stock.load_state_dict(ours.state_dict())
    for module in stock.modules():
        for name in ("norm1", "norm2"):
            if isinstance(norm := getattr(module, name, None), torch.nn.GroupNorm):
                norm.eps = 1e-5
    x, context = torch.randn(2, 3, 8, 8, 8), torch.randn(2, 1, 24)
    ids = torch.tensor([[6.0, 127.0, 0.02], [6.0, 30.0, 0.1]])
    with torch.no_grad():
        a = ours(x, torch.tensor([0.3, -1.0]), context, ids).sample
        b = stock(x, torch.tensor([0.3, -1.0]), context, ids).sample
    assert torch.allclose(a, b, atol=1e-5)


def test_camera_reaches_its_own_frame_and_unconditional_keeps_it():
    unet = small()
    c = orbit()
    x = torch.randn(5, 4, 8, 8)
    with torch.no_grad():
        before = denoise(unet, x, 1.0, c)
        c.azimuths_rad[0, 2] += 1
        moved = (denoise(unet, x, 1.0, c) - before).flatten(1).norm(dim=1)
    assert moved.argmax() == 2 and moved[2] > 0
    bare = c.unconditional()
    assert not bare.cond_latent.any() and not bare.image_embedding.any()
    assert torch.equal(bare.micro_conditioning(SV3D_P), c.micro_conditioning(SV3D_P))


def test_a_batch_is_its_orbits_one_by_one():
    unet = small()
    both = orbit(batch=2)
    x, sigma = torch.randn(2, 5, 4, 8, 8), torch.tensor([0.5, 30.0])
    with torch.no_grad():
        together = denoise(unet, x, sigma, both)
        for i in range(2):
            alone = OrbitConditioning(
                both.cond_latent[i : i + 1],
                both.image_embedding[i : i + 1],
                both.polars_rad[i],
                both.azimuths_rad[i],
                0.02,
            )
            assert torch.allclose(denoise(unet, x[i], sigma[i], alone), together[i], atol=1e-5)


@pytest.mark.parametrize("vector", [SVD, SVD_MV, SV3D_U, SV3D_P])
def test_every_conditioning_input_gets_signal(vector):
    unet = small(vector)
    c = orbit(3)
    context = c.image_embedding.requires_grad_()
    latent = c.cond_latent.requires_grad_()
    out = denoise(unet, torch.randn(3, 4, 8, 8), 1.0, c)
    out.square().mean().backward()
    layers = dict(unet.add_embedding.named_parameters()) | dict(unet.time_embedding.named_parameters())
    for name, parameter in layers.items():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert context.grad.abs().max() > 0 and latent.grad.abs().max() > 0
    # Every number's own columns of the first layer learn.
    columns = unet.add_embedding.linear_1.weight.grad.abs().sum(0).split(list(vector.widths))
    assert all(part.max() > 0 for part in columns)


def test_gradient_checkpointing_gives_the_same_gradients():
    c, x = orbit(3), torch.randn(3, 4, 8, 8)
    gradients = []
    for checkpointing in (False, True):
        unet = small().train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        denoise(unet, x, 1.0, c).square().mean().backward()
        gradients.append([p.grad for p in unet.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_half_precision_network_keeps_a_float32_state():
    unet, c, x = small(), orbit(), torch.randn(5, 4, 8, 8)
    with torch.no_grad():
        full = denoise(unet, x, 0.7, c)
        half = denoise(unet.to(torch.bfloat16), x, 0.7, c)
    assert half.dtype == torch.float32 and 0 < relative(half, full) < 0.02


@pytest.mark.parametrize("vector", [SV3D_U, SV3D_P, SVD_MV])
def test_another_vector_starts_where_the_base_is(vector):
    base = small(SVD).eval()
    unet = with_micro_conditioning(base, vector)
    c, x = orbit(), torch.randn(5, 4, 8, 8)
    with torch.no_grad():
        # SVD_MV drops the noise level too, which is then taken at its usual value.
        told = replace(c, cond_aug=SVD_COND_AUG) if vector == SVD_MV else c
        assert torch.allclose(denoise(unet, x, 2.0, c), denoise(base, x, 2.0, told), atol=1e-5)
    denoise(unet, x, 2.0, c).square().mean().backward()
    columns = unet.add_embedding.linear_1.weight.grad.abs().sum(0).split(list(vector.widths))
    assert all(part.max() > 0 for part in columns)
    assert base.micro == SVD


def led(c: OrbitConditioning, seed: int = 1) -> OrbitConditioning:
    g = torch.Generator().manual_seed(seed)
    return replace(c, renders=torch.randn(c.batch, c.frames, 5, *c.cond_latent.shape[-2:], generator=g))


def test_a_network_led_by_renders_starts_where_the_base_is():
    """To the last bit, with renders and without; and the new weights get a gradient at once."""
    base = small().eval()
    unet = with_render_conditioning(base)
    c, x = orbit(), torch.randn(5, 4, 8, 8)
    with torch.no_grad():
        expected = denoise(base, x, 2.0, c)
        assert torch.equal(denoise(unet, x, 2.0, led(c)), expected)
        assert torch.equal(denoise(unet, x, 2.0, c), expected)
    assert "render_channels" not in base.arguments and unet.arguments["render_channels"] == 5
    denoise(unet, x, 2.0, led(c)).square().mean().backward()
    assert unet.conv_in_render.weight.grad.abs().amax((0, 2, 3)).min() > 0
    with torch.no_grad():
        unet.conv_in_render.weight.normal_()
        again, _ = build_unet(json.loads(json.dumps({"_class_name": "MultiViewUNet"} | unet.arguments)))
        again.load_state_dict(unet.state_dict())
        made = denoise(again.eval(), x, 2.0, led(c))
        assert not torch.equal(made, expected)
        # Zeros are no render.
        none = replace(c, renders=torch.zeros_like(led(c).renders))  # type: ignore[arg-type]
        assert torch.equal(denoise(unet, x, 2.0, none), expected)
        # Adapting the camera, or doing it again, keeps the weights.
        for other in (with_render_conditioning(unet), with_micro_conditioning(unet, SV3D_P)):
            assert torch.equal(denoise(other, x, 2.0, led(c)), made)


def test_guidance_keeps_renders_in_both_branches():
    c = led(orbit())
    assert torch.equal(c.unconditional().renders, c.renders)
    assert torch.equal(joined(c.unconditional(), c).renders, torch.cat([c.renders] * 2))
    with pytest.raises(UsageError, match="renders of both batches or of none"):
        joined(orbit(), c)
    with pytest.raises(UsageError, match=r"expected renders \(1, 5, 5, 8, 8\), got"):
        replace(c, renders=c.renders[:, :4])
    with pytest.raises(UsageError, match="expected 8 channels, got 13"):
        denoise(small(), torch.randn(5, 4, 8, 8), 1.0, c)


def test_vector_order_and_units():
    c = orbit(4)
    numbers = c.micro_conditioning(SV3D_P)
    assert numbers.shape == (1, 4, 3) and torch.equal(numbers[0, :, 1], c.polars_rad[0])
    assert torch.allclose(c.micro_conditioning(SVD_MV)[0, :, 0], math.pi / 2 - c.polars_rad[0])
    assert c.micro_conditioning(SVD)[0, 0].tolist() == pytest.approx([6, 127, 0.02])
    embedded = embed_micro_conditioning(numbers, SV3D_P.widths)
    assert embedded.shape == (1, 4, 1280)
    assert embedded[0, 1, 256] == pytest.approx(math.cos(c.polars_rad[0, 1]))
    assert embedded[0, 1, 256 + 256] == pytest.approx(math.sin(c.polars_rad[0, 1]))


def test_preconditioning_against_closed_forms():
    sigma = torch.tensor([0.002, 0.5, 1.0, 700.0], dtype=torch.float64)
    k = scalings(sigma)
    for i, s in enumerate(sigma.tolist()):
        assert k.c_skip[i].item() == pytest.approx(1 / (s * s + 1))
        assert k.c_out[i].item() == pytest.approx(-s / math.sqrt(s * s + 1))
        assert k.c_in[i].item() == pytest.approx(1 / math.sqrt(s * s + 1))
        assert k.c_noise[i].item() == pytest.approx(math.log(s) / 4)
        assert loss_weight(sigma)[i].item() == pytest.approx((s * s + 1) / (s * s))
    # c_out²·weight = 1: the loss on the network's own output has no weight; and unit data give unit input.
    assert torch.allclose(k.c_out**2 * loss_weight(sigma), torch.ones_like(sigma))
    assert torch.allclose(k.c_in**2 * (1 + sigma**2), torch.ones_like(sigma))


def test_schedule_and_guidance_against_closed_forms():
    levels = karras_sigmas(50)
    assert len(levels) == 51 and levels[-1] == 0
    assert levels[0] == pytest.approx(700) and levels[-2] == pytest.approx(0.002, rel=1e-5)
    steps = levels[:-1].double() ** (1 / 7)
    assert torch.allclose(steps.diff(), steps.diff()[:1].expand(49), rtol=1e-4)
    scale = triangular_guidance(21, 2.5)
    assert scale.tolist() == pytest.approx([1 + 1.5 * (1 - abs(i - 10) / 10) for i in range(21)], abs=1e-6)
    assert linear_guidance(5, 3.0).tolist() == pytest.approx([1, 1.5, 2, 2.5, 3])
    assert triangular_guidance(4, 4.0, 2.0).tolist() == pytest.approx([2, 10 / 3, 10 / 3, 2])


def test_guidance_in_one_call_or_two_and_left_out_at_one():
    unet, c = small(), orbit()
    noise = torch.randn(5, 4, 8, 8)
    settings = {"steps": 3, "guidance": triangular_guidance(5, 3.0)}
    together = sample(unet, noise, c, **settings)
    apart = sample(unet, noise, c, batched_guidance=False, **settings)
    assert torch.allclose(together, apart, atol=1e-4)
    calls = []
    handle = unet.register_forward_hook(lambda *_: calls.append(1))
    sample(unet, noise, c, steps=3)
    handle.remove()
    assert len(calls) == 3


def test_refused_requests():
    unet, c = small(), orbit()
    x = torch.randn(5, 4, 8, 8)
    with pytest.raises(UsageError, match="one sigma per orbit"):
        denoise(unet, x, torch.linspace(1, 2, 5), c)
    with pytest.raises(UsageError, match="1 × 5 frames"):
        denoise(unet, x[:4], 1.0, c)
    with pytest.raises(UsageError, match="2 divides"):
        odd = OrbitConditioning(torch.zeros(1, 4, 7, 8), c.image_embedding, c.polars_rad, c.azimuths_rad)
        denoise(unet, torch.zeros(5, 4, 7, 8), 1.0, odd)
    with pytest.raises(UsageError, match="euler, heun"):
        sample(unet, x, c, sampler="nonesuch")
    with pytest.raises(UsageError, match="steps ≥ 1"):
        karras_sigmas(0)
    with pytest.raises(UsageError, match="even width"):
        MicroConditioning(("polar",), (5,))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"merge_strategy": "fixed"}, "merge_strategy"),
        ({"video_kernel_size": 3}, "video_kernel_size"),
        ({"adm_in_channels": 100}, "adm_in_channels 256"),
        ({"wings": 2}, "unknown term wings"),
        ({"num_head_channels": 24}, "num_head_channels 24"),
        ({"channel_mult": [2, 2]}, "begin with 1"),
        ({"context_dim": None}, "context_dim is missing"),
    ],
)
def test_configurations_of_other_families_are_named(change, match):
    with pytest.raises(InputError, match=match):
        network_config(BASE | change)


def test_strict_keys(tmp_path):
    weights = sgm_twin.random_weights(BASE, seed=0)
    gone = sgm_twin.PREFIX + "out.2.bias"
    cases = {
        gone: {key: value for key, value in weights.items() if key != gone},
        "control.0.weight": weights | {sgm_twin.PREFIX + "control.0.weight": torch.zeros(1)},
        "loose": weights | {"loose": torch.zeros(1)},
        "input_blocks.0.0.weight": weights | {sgm_twin.PREFIX + "input_blocks.0.0.weight": torch.zeros(3)},
    }
    for name, changed in cases.items():
        save_file(changed, tmp_path / "w.safetensors")
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            load_sgm_unet(tmp_path / "w.safetensors", BASE)
    save_file(weights | {"first_stage_model.x": torch.zeros(1)}, tmp_path / "w.safetensors")
    load_sgm_unet(tmp_path / "w.safetensors", BASE)


def test_small_preset_builds():
    assert sum(p.numel() for p in SMALL.build().parameters()) < 5_000_000
