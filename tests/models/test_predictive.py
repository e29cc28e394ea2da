"""Networks of CPC: receptive fields of contexts, and orientation of grids."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import Batch2Image, ConvMasked2d, MaskedCNN, PositionNorm2d
from super_selfish.models.predictive import SIDES, SidePredictor, check_sides, context_networks, from_frame, to_frame


def receptive_field(side: str, rows: int, columns: int, row: int, column: int) -> Tensor:
    """Return the positions on which a context at (row, column) may depend."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return {"top": y <= row, "bottom": y >= row, "left": x <= column, "right": x >= column}[side]


@pytest.mark.parametrize("side", SIDES)
def test_from_frame_inverts_to_frame(side: str) -> None:
    grid = torch.rand(2, 3, 4, 5)
    frame = to_frame(grid, side)
    assert torch.equal(from_frame(frame, side), grid)
    assert frame.shape[-2:] == ((4, 5) if side in ("top", "bottom") else (5, 4))
    first = {"top": grid[..., 0, :], "bottom": grid[..., -1, :], "left": grid[..., 0], "right": grid[..., -1]}[side]
    assert torch.equal(frame[..., 0, :], first), "the side has to be the first row of the frame"


def test_target_of_position_3_3_at_step_2() -> None:
    places = torch.arange(49).view(7, 7)
    expected = {"top": (5, 3), "bottom": (1, 3), "left": (3, 5), "right": (3, 1)}
    for side, (row, column) in expected.items():
        frame = to_frame(places, side)
        ((r, c),) = (frame == 3 * 7 + 3).nonzero().tolist()
        assert frame[r + 2, c] == row * 7 + column


@pytest.mark.parametrize("size", [(7, 7), (5, 6)])
@pytest.mark.parametrize("side", SIDES)
def test_receptive_field_of_predictions(side: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    networks, channels = context_networks(None, (side,), 8, 16, size)
    predictor = SidePredictor(networks, channels, 8, 2)
    latents = torch.randn(2, 8, *size).requires_grad_()
    for row in range(size[0]):
        for column in (0, size[1] // 2, size[1] - 1):
            _, predictions = predictor(latents)
            (gradient,) = torch.autograd.grad(predictions[side][1, :, :, row, column].square().sum(), latents)
            reached = gradient.abs().amax(1) > 0
            allowed = receptive_field(side, *size, row, column)
            assert not reached[0].any(), "depends on another image"
            assert not (reached[1] & ~allowed).any(), "depends on the opposite side"
            near = torch.zeros_like(allowed)  # four 3×3 convolutions have a radius of four
            near[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5] = True
            assert reached[1][allowed & near].all()


def test_mask_does_not_modify_the_weights() -> None:
    convolution = ConvMasked2d([[1, 1, 1], [1, 1, 1], [0, 0, 0]], 2, 3, 3, padding=1)
    before = convolution.weight.detach().clone()
    x = torch.rand(1, 2, 5, 5)
    output = convolution(x)
    masked = before.clone()
    masked[:, :, 2] = 0
    assert torch.allclose(output, torch.nn.functional.conv2d(x, masked, convolution.bias, padding=1))
    output.sum().backward()
    assert torch.equal(convolution.weight, before)
    assert convolution.weight.grad is not None
    assert not convolution.weight.grad[:, :, 2].any()
    assert set(convolution.state_dict()) == {"weight", "bias"}
    with pytest.raises(ConfigurationError, match="`mask`"):
        ConvMasked2d([[1, 0]], 2, 3, 3)


def test_context_networks_have_no_norm_over_space_or_images() -> None:
    for network in (MaskedCNN(), MaskedCNN(batchnorm=False)):
        kinds = {type(module) for module in network.modules()}
        assert not kinds & {nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d}
    assert sum(isinstance(module, PositionNorm2d) for module in MaskedCNN().modules()) == 3
    assert not any(isinstance(module, PositionNorm2d) for module in MaskedCNN(batchnorm=False).modules())
    assert isinstance(MaskedCNN().layers[-1], ConvMasked2d), "the last layer has to be a convolution"


def test_position_norm_is_independent_of_other_positions() -> None:
    norm, x = PositionNorm2d(6), torch.randn(2, 6, 3, 4)
    output = norm(x)
    assert torch.allclose(output.mean(1), torch.zeros(2, 3, 4), atol=1e-6)
    assert torch.allclose(output.var(1, unbiased=False), torch.ones(2, 3, 4), atol=1e-3)
    other = x.clone()
    other[1], other[0, :, 0] = 7.0, -3.0
    assert torch.equal(norm(other)[0, :, 1:], output[0, :, 1:])


def test_masked_cnn_options() -> None:
    network = MaskedCNN([4, 6, 5], mask=[[1], [1]], padding=(1, 0), activation=nn.ReLU, side="bottom")
    assert network(torch.rand(2, 4, 7, 7)).shape == (2, 5, 9, 7)
    with pytest.raises(ConfigurationError, match="`layers`"):
        MaskedCNN([4])
    with pytest.raises(ConfigurationError, match="`sides`"):
        MaskedCNN([4, 4], side="above")


def test_batch2image_order() -> None:
    features = torch.arange(2 * 6.0).view(12, 1).repeat(1, 3)
    maps = Batch2Image((2, 3))(features)
    assert maps.shape == (2, 3, 2, 3)
    assert maps[1, 0].tolist() == [[6, 7, 8], [9, 10, 11]]
    assert torch.equal(Batch2Image((2, 3))(features[:, :, None, None]), maps)
    assert Batch2Image((2, 3))(features[:6]).shape == (1, 3, 2, 3)
    for wrong in (torch.zeros(7, 3), torch.zeros(6, 3, 2, 2)):
        with pytest.raises(ConfigurationError, match="grid"):
            Batch2Image((2, 3))(wrong)


@pytest.mark.parametrize("wrong", [(), "top", ("top", "top"), ("above",), None, {"top": 1}])
def test_invalid_sides_are_rejected(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="`sides`"):
        check_sides(wrong)
