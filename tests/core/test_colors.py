import numpy as np
import pytest
import torch

from mv3d.core.colors import LINEAR_OF_SRGB, encode_srgb, linear_from_srgb, srgb_from_linear
from mv3d.render import torch_scene

VALUES = np.linspace(0, 1, 5001)


def test_the_curve_is_that_of_the_standard():
    # Middle grey, both ends, and the joint of the two pieces (IEC 61966-2-1).
    np.testing.assert_allclose(linear_from_srgb([0.0, 0.5, 1.0]), [0, 0.21404114, 1], atol=1e-8)
    np.testing.assert_allclose(linear_from_srgb([0.04045, 0.0404501]), 0.0031308, atol=1e-7)
    np.testing.assert_allclose(srgb_from_linear(linear_from_srgb(VALUES)), VALUES, atol=1e-6)


def test_precision_is_kept_and_no_value_warns():
    assert linear_from_srgb(np.float32([0.5])).dtype == np.float32
    with np.errstate(all="raise"):
        assert np.isfinite(linear_from_srgb(np.array([-1.0, 2.0]))).all()
        assert np.isfinite(srgb_from_linear(np.array([-1.0, 2.0]))).all()


def test_tables_hold_the_curve():
    assert LINEAR_OF_SRGB.shape == (256,) and LINEAR_OF_SRGB.dtype == np.float32
    np.testing.assert_allclose(LINEAR_OF_SRGB, linear_from_srgb(np.arange(256) / 255), atol=1e-6)
    coded = encode_srgb(np.concatenate([[-1.0], VALUES, [2.0]]).astype(np.float32))
    np.testing.assert_allclose(coded[1:-1], srgb_from_linear(VALUES), atol=0.05 / 255)
    assert coded[0] == 0 and coded[-1] == 1


@pytest.mark.parametrize("name", ["linear_from_srgb", "srgb_from_linear"])
def test_the_twin_in_torch_agrees_and_has_gradients(name):
    values = torch.from_numpy(VALUES).requires_grad_()
    twin = getattr(torch_scene, name)(values)
    np.testing.assert_allclose(twin.detach(), globals()[name](VALUES), atol=1e-12)
    twin.sum().backward()
    assert torch.isfinite(values.grad).all()
