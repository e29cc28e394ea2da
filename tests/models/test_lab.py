"""Lab conversion, compared with scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import color
from torch import nn

from super_selfish.models import RGBInput, SmallResNet, lab_to_rgb, rgb_to_lab
from super_selfish.models.lab import FULL_RANGE, normalised_lab, plain_lab
from super_selfish.models.shapes import expected_channels


def colours(*shape: int) -> torch.Tensor:
    """Return random colours that include black, white and very dark ones."""
    values = torch.rand(*shape, 3, 16, 20)
    values[..., 0, :2] = 0
    values[..., 1, :2] = 1
    values[..., 2:6, :] *= 0.02
    return values


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_rgb_to_lab_equals_skimage(shape: tuple[int, ...]) -> None:
    images = colours(*shape)
    expected = color.rgb2lab(images.movedim(-3, -1).double().numpy())
    found = rgb_to_lab(images)
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert np.abs(found.movedim(-3, -1).numpy() - expected).max() < 1e-3


def test_primary_colours() -> None:
    corners = {(1, 1, 1): (100, 0, 0), (0, 0, 0): (0, 0, 0), (1, 0, 0): (53.24, 80.09, 67.20)}
    corners[0, 0, 1] = (32.30, 79.19, -107.86)
    for rgb, lab in corners.items():
        found = rgb_to_lab(torch.tensor(rgb, dtype=torch.float32).view(3, 1, 1)).flatten()
        assert torch.allclose(found, torch.tensor(lab, dtype=torch.float32), atol=6e-3), rgb
    assert torch.equal(rgb_to_lab(torch.full((3, 1, 1), 1.5)), rgb_to_lab(torch.ones(3, 1, 1))), "clipped"


def test_lab_to_rgb_inverts_rgb_to_lab() -> None:
    images = colours(3)
    assert torch.allclose(lab_to_rgb(rgb_to_lab(images)), images, atol=1e-5)
    lab = rgb_to_lab(images)
    assert torch.allclose(plain_lab(normalised_lab(lab)), lab, atol=1e-4)
    assert normalised_lab(lab).abs().max() <= 1.1
    clipped = lab_to_rgb(torch.tensor([90.0, 120.0, -120.0]).view(3, 1, 1))
    assert 0 <= clipped.min() <= clipped.max() <= 1
    expected = color.lab2rgb(lab.movedim(-3, -1).double().numpy())
    assert np.abs(lab_to_rgb(lab).movedim(-3, -1).numpy() - expected).max() < 1e-3


def test_gradients_are_finite_everywhere() -> None:
    images = colours().requires_grad_()
    rgb_to_lab(images).sum().backward()
    assert torch.isfinite(images.grad).all()


def test_rgb_input_converts_to_lab() -> None:
    inner = SmallResNet(width=4).eval()
    backbone, images = RGBInput(inner), torch.rand(2, 3, 32, 32)
    lab = normalised_lab(rgb_to_lab(images))
    assert torch.equal(backbone(images), inner(lab))
    assert torch.equal(backbone.map(images), inner.map(lab))
    assert expected_channels(RGBInput(nn.Sequential(nn.Conv2d(1, 2, 1)))) == 3


def test_full_range_maps_the_gamut_to_unit_range() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T.reshape(3, 2, 4)
    found = normalised_lab(rgb_to_lab(corners), FULL_RANGE)
    assert torch.allclose(found.amin((1, 2)), -torch.ones(3), atol=1e-3)
    assert torch.allclose(found.amax((1, 2)), torch.ones(3), atol=1e-3)
    lab = rgb_to_lab(colours(2))
    expected = (lab - torch.tensor([50, 6.025, -6.69]).view(3, 1, 1)) / torch.tensor([50, 92.208, 101.168]).view(
        3, 1, 1
    )
    assert torch.allclose(normalised_lab(lab, FULL_RANGE), expected, atol=1e-5)
    assert torch.allclose(plain_lab(normalised_lab(lab, FULL_RANGE), FULL_RANGE), lab, atol=1e-4)
    inner = nn.Flatten()
    rgb = colours(2)
    assert torch.equal(RGBInput(inner, FULL_RANGE)(rgb), normalised_lab(rgb_to_lab(rgb), FULL_RANGE).flatten(1))
