"""Networks of Contrastive Predictive Coding: what the patches on one side of an image tell of those on the other."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.errors import ConfigurationError, check_argument, did_you_mean
from super_selfish.models.heads import check_layers
from super_selfish.models.initialization import keep_variance
from super_selfish.models.norms import PositionNorm2d
from super_selfish.models.shapes import output_shape

SIDES = ("top", "bottom", "left", "right")
"""Where the context lies; what is predicted lies on the other side."""
TARGETS = 64
"""Features of predictions and targets."""


def to_frame(grid: Tensor, side: str) -> Tensor:
    """A grid turned so that the side is its top, and what is predicted lies below.

    Args:
        grid: (..., rows, columns).
        side: One of :data:`SIDES`.

    Examples:
        >>> to_frame(torch.tensor([[1, 2, 3]]), "right").flatten().tolist()
        [3, 2, 1]
    """
    if side == "top":
        return grid
    if side == "bottom":
        return grid.flip(-2)
    return (grid if side == "left" else grid.flip(-1)).transpose(-2, -1)


def from_frame(frame: Tensor, side: str) -> Tensor:
    """The reverse of :func:`to_frame`."""
    return to_frame(frame, side) if side != "right" else frame.transpose(-2, -1).flip(-1)


class Batch2Image(nn.Module):
    """Features of patches, image after image and row after row, as maps of the images.

    Args:
        new_shape: Rows and columns of the grid of patches.

    Raises:
        ConfigurationError: From ``forward``, if the patches do not make whole images.

    Examples:
        >>> Batch2Image((7, 7))(torch.rand(49, 64)).shape
        torch.Size([1, 64, 7, 7])
    """

    def __init__(self, new_shape: Sequence[int] = (7, 7)) -> None:
        super().__init__()
        self.new_shape = (int(new_shape[0]), int(new_shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, features, rows, columns) of features (batch · rows · columns, features[, 1, 1])."""
        rows, columns = self.new_shape
        if len(x) % (rows * columns) or x[0].numel() != x.shape[1]:
            raise ConfigurationError(
                "Patches do not fill the grid.",
                expected=f"features (batch · {rows * columns}, features) for {rows}×{columns} patches an image",
                received=f"shape {tuple(x.shape)}",
            )
        return x.flatten(1).view(-1, rows, columns, x.shape[1]).permute(0, 3, 1, 2)


class ConvMasked2d(nn.Conv2d):
    """A convolution whose kernel is multiplied by a mask, so that it sees only a part of what is around a position.

    Args:
        mask: Numbers of the kernel's height and width; what is 0 is not seen.
        *arguments: Of ``nn.Conv2d``.
        **named: Of ``nn.Conv2d``.

    Raises:
        ConfigurationError: If mask and kernel differ in size, or the padding is not zeros.

    Examples:
        >>> convolution = ConvMasked2d([[1], [1], [0]], 3, 8, (3, 1), padding=(1, 0))
        >>> convolution(torch.rand(2, 3, 7, 7)).shape
        torch.Size([2, 8, 7, 7])
    """

    mask: Tensor

    def __init__(self, mask: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        check_argument(self.padding_mode == "zeros", "padding_mode", self.padding_mode, '"zeros"')
        numbers = torch.as_tensor(mask, dtype=self.weight.dtype).clone()
        if tuple(numbers.shape) != tuple(self.kernel_size):
            raise ConfigurationError(
                "`mask` does not fit the kernel.",
                expected=f"a table of {'×'.join(map(str, self.kernel_size))} numbers",
                received=f"shape {tuple(numbers.shape)}",
            )
        self.register_buffer("mask", numbers, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The map (batch, outputs, height, width) of a map ``x``."""
        weight = self.weight * self.mask
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class MaskedCNN(nn.Module):
    """Convolutions that see only what lies on one side, and at the same distance from it: the context network.

    Args:
        layers: Channels from the input to the context, at least two numbers.
        mask: Of the kernels, for ``side="top"``; None: rows up to that of the position, of a kernel of 3×3.
        stride: Of the convolutions.
        padding: Of the convolutions.
        activation: Class of the activation behind all layers but the last.
        batchnorm: Normalise hidden layers: each position by itself over its channels, so that a context sees neither
            the other side nor other images.
        side: Where the context lies; the grid is turned so that it is the top, and back again.

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> MaskedCNN([64, 256, 128], side="left")(torch.rand(2, 64, 7, 7)).shape
        torch.Size([2, 128, 7, 7])
    """

    def __init__(
        self,
        layers: Sequence[int] = (64, 256, 256, 128, 128),
        mask: Any = None,
        stride: int = 1,
        padding: int | tuple[int, int] = 1,
        activation: type[nn.Module] = nn.PReLU,
        batchnorm: bool = True,
        side: str = "top",
    ) -> None:
        super().__init__()
        check_layers(layers)
        check_sides((side,))
        seen = torch.as_tensor([[1, 1, 1], [1, 1, 1], [0, 0, 0]] if mask is None else mask)
        self.side = side
        self.layers = nn.Sequential()
        size = (int(seen.shape[0]), int(seen.shape[-1]))
        for place, (inputs, outputs) in enumerate(itertools.pairwise(layers)):
            self.layers.append(ConvMasked2d(seen, inputs, outputs, size, stride, padding))
            if place < len(layers) - 2:
                self.layers.extend([PositionNorm2d(outputs), activation()] if batchnorm else [activation()])
        keep_variance(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """The context (batch, layers[-1], rows, columns) of latents (batch, layers[0], rows, columns)."""
        return from_frame(cast(Tensor, self.layers(to_frame(x, self.side))), self.side)


class SidePredictor(nn.Module):
    """From latents to targets, and to predictions of them by the context of each side.

    Args:
        contexts: For each side a network from latents (batch, features, rows, columns) to contexts
            (batch, channels, rows, columns) as the image lies, that see only their own side.
        channels: Of the contexts, by side.
        features: Of the latents.
        steps: Predictions that each context makes.
        targets: Features of the targets, which a 1×1 convolution makes; None: the latents themselves.
        predicted: Features of the predictions.
    """

    def __init__(
        self,
        contexts: nn.ModuleDict,
        channels: dict[str, int],
        features: int,
        steps: int,
        targets: int | None = TARGETS,
        predicted: int = TARGETS,
    ) -> None:
        super().__init__()
        self.contexts = contexts
        self.heads = nn.ModuleDict({side: nn.Conv2d(size, steps * predicted, 1) for side, size in channels.items()})
        # a bias would add the same to all products of a prediction, which a cross entropy does not see
        self.target: nn.Module = nn.Identity() if targets is None else nn.Conv2d(features, targets, 1, bias=False)
        # with 64 features of variance 1, the factor 0.1 of the loss then gives logits of a deviation of about 1
        keep_variance(self.heads)
        keep_variance(self.target)
        self.steps = steps

    def forward(self, latents: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Targets (batch, features, rows, columns), and predictions (batch, steps, features, rows, columns) by side."""
        made = {side: self.heads[side](context(latents)) for side, context in self.contexts.items()}
        return self.target(latents), {side: grid.unflatten(1, (self.steps, -1)) for side, grid in made.items()}


def check_sides(sides: Sequence[str]) -> None:
    """Refuse what is no choice of sides.

    Raises:
        ConfigurationError: Unless it is at least one of :data:`SIDES`, and none twice.
    """
    words = list(sides) if isinstance(sides, tuple | list) else []
    unknown = [word for word in words if word not in SIDES]
    if not words or unknown or len(set(words)) < len(words):
        raise ConfigurationError(
            "`sides` says where the contexts lie.",
            expected=f"at least one of {', '.join(SIDES)}, none twice",
            received=f"sides={sides!r}",
            fix=did_you_mean(unknown[0], SIDES) if unknown else None,
        )


def context_networks(
    given: object, sides: Sequence[str], features: int, embedding_size: int, grid: tuple[int, int]
) -> tuple[nn.ModuleDict, dict[str, int]]:
    """The context network of each side, and the channels of their contexts.

    Args:
        given: A ``ModuleDict`` by side; None for the default ones.
        sides: Where contexts lie.
        features: Of the latents.
        embedding_size: Channels of the default networks' contexts.
        grid: Rows and columns of the latents.

    Raises:
        ConfigurationError: If what was given is something else, lacks a side, or a network does not keep the grid or
            sees what it has to predict.
    """
    if given is None:
        wide = 2 * embedding_size
        layers = (features, wide, wide, embedding_size, embedding_size)
        made = nn.ModuleDict({side: MaskedCNN(layers, side=side) for side in sides})
        return made, dict.fromkeys(sides, embedding_size)
    if not isinstance(given, nn.ModuleDict) or not set(sides) <= set(given):
        held = f"a ModuleDict of {', '.join(given)}" if isinstance(given, nn.ModuleDict) else type(given).__name__
        raise ConfigurationError(
            "`predictor` is no choice of context networks.",
            expected=f"an nn.ModuleDict with a network for each of {', '.join(sides)}",
            received=held,
            fix='For instance nn.ModuleDict({"top": MaskedCNN([64, 128, 128], side="top")}) with sides=("top",).',
        )
    networks = nn.ModuleDict({side: given[side] for side in sides})
    return networks, {side: _context_size(network, side, features, grid) for side, network in networks.items()}


def _context_size(network: nn.Module, side: str, features: int, grid: tuple[int, int]) -> int:
    """Channels of a network's contexts."""
    found = output_shape(network, (features, *grid))
    if len(found) != 3 or found[1:] != grid:
        raise ConfigurationError(
            f"The context network of the side {side!r} does not keep the grid.",
            expected=f"contexts of shape (batch, channels, {grid[0]}, {grid[1]})",
            received=f"shape {(1, *found)} for a batch of one",
        )
    if sees_beyond(network, side, features, grid):
        raise ConfigurationError(
            f"The context network of the side {side!r} sees what it has to predict.",
            expected="contexts that depend on the latents of their own row and of those before it alone",
            received=type(network).__name__,
            fix="Mask its kernels, as MaskedCNN does, and normalise each position by itself.",
        )
    return found[0]


def sees_beyond(network: nn.Module, side: str, features: int, grid: tuple[int, int]) -> bool:
    """Whether a gradient tells that the context of a row depends on latents of later rows.

    Args:
        network: From latents (batch, features, rows, columns) to contexts of the same grid, as the image lies.
        side: Where its context lies.
        features: Of the latents.
        grid: Rows and columns.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    latents = torch.rand(2, features, *grid, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    trial = copy.deepcopy(network)  # in the mode it trains in: batch norm sees beyond then
    with torch.enable_grad():
        contexts = to_frame(trial(latents), side)
        for row in range(contexts.shape[-2] - 1):
            told = contexts[0, :, row].square().sum()
            (seen,) = torch.autograd.grad(told, latents, retain_graph=True, materialize_grads=True)
            frame = to_frame(seen, side)
            if frame[0, :, row + 1 :].any() or frame[1].any():
                return True
    return False
