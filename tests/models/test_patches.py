"""The autoencoder of patches: closed forms of principal components, and the interface of its kind."""

from __future__ import annotations

import pytest
import torch

from mv3d.core.errors import InputError, UsageError
from mv3d.models.components import build_vae, latent_factor
from mv3d.models.patches import PatchAutoencoder


def pictures(n=6, height=16, width=24, seed=0, channels=3):
    """Smooth noise in [-1, 1]."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, height // 4, width // 4, generator=g) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def fitted(channels, patch=4, images=None):
    images = pictures() if images is None else images
    vae = PatchAutoencoder(patch_size=patch, latent_channels=channels, in_channels=images.shape[1])
    vae.fit(images)
    return vae


def test_all_components_restore_every_picture():
    images = pictures()
    vae = fitted(48)
    latents = vae.encode(images)[0].mode()
    assert latents.shape == (6, 48, 4, 6)
    torch.testing.assert_close(vae.decode(latents)[0], images, atol=1e-4, rtol=0)
    new = pictures(seed=1)
    torch.testing.assert_close(vae.decode(vae.encode(new)[0].mode())[0], new, atol=2e-3, rtol=0)


def test_alpha_is_a_fourth_channel():
    images = pictures(n=8, channels=4)
    vae = fitted(64, images=images)
    torch.testing.assert_close(vae.decode(vae.encode(images)[0].mode())[0], images, atol=1e-4, rtol=0)


def test_few_components_restore_as_the_slow_twin_does():
    """The twin: patches one by one, numpy's singular value decomposition, projection on the first components."""
    images, channels, side = pictures(), 5, 4
    patches = [
        image[:, top : top + side, left : left + side].reshape(-1)
        for image in images
        for top in range(0, 16, side)
        for left in range(0, 24, side)
    ]
    table = torch.stack(patches).double()
    mean = table.mean(0)
    basis = torch.linalg.svd(table - mean, full_matrices=False).Vh[:channels]
    vae = fitted(channels)
    restored = vae.decode(vae.encode(images)[0].mode())[0]
    for number, patch in enumerate(table):
        picture, place = divmod(number, 24)
        top, left = place // 6 * side, place % 6 * side
        expected = (mean + (patch - mean) @ basis.T @ basis).reshape(3, side, side)
        found = restored[picture, :, top : top + side, left : left + side].double()
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_latents_are_centred_uncorrelated_and_of_unit_deviation():
    images = pictures(n=32)
    latents = fitted(6, images=images).encode(images)[0].mode().movedim(1, -1).reshape(-1, 6)
    assert latents.mean(0).abs().max() < 1e-4
    assert latents.square().mean() == pytest.approx(1, rel=1e-4)
    covariance = latents.T @ latents / len(latents)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-3
    assert (covariance.diagonal().diff() < 0).all()  # the first component says most


def test_the_posterior_has_no_noise():
    posterior = fitted(6).encode(pictures())[0]
    torch.testing.assert_close(posterior.sample(), posterior.mode())


def test_its_configuration_builds_it_again():
    vae, written = build_vae({"_class_name": "PatchAutoencoder", "patch_size": 8, "latent_channels": 12})
    assert isinstance(vae, PatchAutoencoder)
    assert vae.analysis.shape == (12, 3, 8, 8)
    assert latent_factor(written) == 8
    assert latent_factor({"_class_name": "AutoencoderKL", "block_out_channels": [8, 8, 8]}) == 4


@pytest.mark.parametrize(
    "settings", [{"latent_channels": 49}, {"latent_channels": 0}, {"width": 3}, {"in_channels": 2}]
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(InputError, match=r"vae/config\.json"):
        build_vae({"_class_name": "PatchAutoencoder", "patch_size": 4} | settings)


def test_pictures_that_patches_do_not_tile():
    with pytest.raises(UsageError, match="--patch"):
        fitted(4, patch=5)
