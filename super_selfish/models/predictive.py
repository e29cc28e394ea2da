"""Networks of Contrastive Predictive Coding: context networks and predictors on grids of patch embeddings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.errors import ConfigurationError, check_argument
from super_selfish.models.averages import copied
from super_selfish.models.heads import check_layers
from super_selfish.models.initialization import keep_variance
from super_selfish.models.norms import PositionNorm2d
from super_selfish.models.shapes import output_shape
from super_selfish.suggestions import did_you_mean

SIDES = ("top", "bottom", "left", "right")
"""Sides of the context. Targets lie on the opposite side."""
TARGETS = 64
"""Number of features of predictions and targets."""


def to_frame(grid: Tensor, side: str) -> Tensor:
    """Flip or transpose a grid so that the side of the context becomes the top row.

    Args:
        grid: Grid (..., rows, columns).
        side: Side of the context, one of :data:`SIDES`.

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
    """Invert :func:`to_frame`."""
    return to_frame(frame, side) if side != "right" else frame.transpose(-2, -1).flip(-1)


class Batch2Image(nn.Module):
    """Rearranges patch features, ordered by image and row, into one feature map per image.

    Args:
        new_shape: Number of rows and columns of the grid of patches.

    Raises:
        ConfigurationError: From ``forward``, if the number of patches is not a multiple of the grid size.

    Examples:
        >>> Batch2Image((7, 7))(torch.rand(49, 64)).shape
        torch.Size([1, 64, 7, 7])
    """

    def __init__(self, new_shape: Sequence[int] = (7, 7)) -> None:
        super().__init__()
        self.new_shape = (int(new_shape[0]), int(new_shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange (batch · rows · columns, features[, 1, 1]) into (batch, features, rows, columns)."""
        rows, columns = self.new_shape
        if len(x) % (rows * columns) or x[0].numel() != x.shape[1]:
            raise ConfigurationError(
                "Patches do not fill the grid.",
                expected=f"features (batch · {rows * columns}, features) for {rows}×{columns} patches per image",
                received=f"shape {tuple(x.shape)}",
            )
        return x.flatten(1).view(-1, rows, columns, x.shape[1]).permute(0, 3, 1, 2)


class ConvMasked2d(nn.Conv2d):
    """A convolution with a masked kernel, which restricts its receptive field.

    Args:
        mask: Array of the height and width of the kernel. Weights at zeros are masked.
        *arguments: Positional arguments of ``nn.Conv2d``.
        **named: Keyword arguments of ``nn.Conv2d``.

    Raises:
        ConfigurationError: If mask and kernel differ in size, or ``padding_mode`` is not ``"zeros"``.

    Examples:
        >>> convolution = ConvMasked2d([[1], [1], [0]], 3, 8, (3, 1), padding=(1, 0))
        >>> convolution(torch.rand(2, 3, 7, 7)).shape
        torch.Size([2, 8, 7, 7])
    """

    mask: Tensor

    def __init__(self, mask: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        check_argument(self.padding_mode == "zeros", "padding_mode", self.padding_mode, '"zeros"')
        values = torch.as_tensor(mask, dtype=self.weight.dtype).clone()
        if tuple(values.shape) != tuple(self.kernel_size):
            raise ConfigurationError(
                "`mask` and the kernel differ in size.",
                expected=f"an array of shape {tuple(self.kernel_size)}",
                received=f"shape {tuple(values.shape)}",
            )
        self.register_buffer("mask", values, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the masked convolution to ``x`` (batch, inputs, height, width)."""
        weight = self.weight * self.mask
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class MaskedCNN(nn.Module):
    """The context network of CPC: masked convolutions whose receptive field extends to one side only.

    A context depends on its own row (or column) of the grid and on those nearer to the side.

    Args:
        layers: Numbers of channels from the input to the context, at least two.
        mask: Mask of the kernels for ``side="top"``. None: a 3×3 mask with zeros below the centre row.
        stride: Stride of the convolutions.
        padding: Padding of the convolutions.
        activation: Class of the activation that follows each layer except the last.
        batchnorm: Normalise hidden layers. Each position is normalised over its channels alone, so that a context
            depends neither on other images nor on the opposite side.
        side: Side of the context.

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
        kernel_mask = torch.as_tensor([[1, 1, 1], [1, 1, 1], [0, 0, 0]] if mask is None else mask)
        self.side = side
        self.layers = nn.Sequential()
        size = (int(kernel_mask.shape[0]), int(kernel_mask.shape[-1]))
        for index, (inputs, outputs) in enumerate(itertools.pairwise(layers)):
            self.layers.append(ConvMasked2d(kernel_mask, inputs, outputs, size, stride, padding))
            if index < len(layers) - 2:
                self.layers.extend([PositionNorm2d(outputs), activation()] if batchnorm else [activation()])
        keep_variance(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Compute contexts (batch, layers[-1], rows, columns) of latents (batch, layers[0], rows, columns)."""
        return from_frame(cast(Tensor, self.layers(to_frame(x, self.side))), self.side)


class SidePredictor(nn.Module):
    """Computes targets from latents, and predictions of the targets from the context of each side.

    Args:
        contexts: Context network of each side. It maps latents (batch, features, rows, columns) to contexts
            (batch, channels, rows, columns), both in the orientation of the image.
        channels: Number of channels of the contexts, by side.
        features: Number of features of the latents.
        steps: Number of predictions from each context.
        targets: Number of features of the targets, computed by a 1×1 convolution. None: the latents are the targets.
        predicted: Number of features of the predictions.
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
        # no bias: it would shift all logits of a prediction equally, to which the cross entropy is invariant
        self.target: nn.Module = nn.Identity() if targets is None else nn.Conv2d(features, targets, 1, bias=False)
        # with 64 features of unit variance, the loss scale of 0.1 gives logits with a standard deviation of about 1
        keep_variance(self.heads)
        keep_variance(self.target)
        self.steps = steps

    def forward(self, latents: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute targets (batch, features, rows, columns) and predictions (batch, steps, features, rows, columns)."""
        outputs = {side: self.heads[side](context(latents)) for side, context in self.contexts.items()}
        return self.target(latents), {side: grid.unflatten(1, (self.steps, -1)) for side, grid in outputs.items()}


def check_sides(sides: Sequence[str]) -> None:
    """Validate the sides of the contexts.

    Raises:
        ConfigurationError: If ``sides`` is empty, or has unknown or duplicate entries.
    """
    words = list(sides) if isinstance(sides, tuple | list) else []
    unknown = [word for word in words if word not in SIDES]
    if not words or unknown or len(set(words)) < len(words):
        raise ConfigurationError(
            "`sides` is invalid.",
            expected=f"a non-empty tuple or list of {', '.join(SIDES)}, without duplicates",
            received=f"sides={sides!r}",
            fix=did_you_mean(unknown[0], SIDES) if unknown else None,
        )


def context_networks(
    predictor: object, sides: Sequence[str], features: int, embedding_size: int, grid: tuple[int, int]
) -> tuple[nn.ModuleDict, dict[str, int]]:
    """Return the context network of each side, and the number of channels of its contexts.

    Args:
        predictor: A ``ModuleDict`` of context networks by side. None: the default networks.
        sides: Sides of the contexts.
        features: Number of features of the latents.
        embedding_size: Number of channels of the default networks' contexts.
        grid: Rows and columns of the latents.

    Raises:
        ConfigurationError: If ``predictor`` is not a ``ModuleDict`` or lacks a side, or if a network changes the size
            of the grid or depends on the latents that it has to predict.
    """
    if predictor is None:
        hidden = 2 * embedding_size
        layers = (features, hidden, hidden, embedding_size, embedding_size)
        default = nn.ModuleDict({side: MaskedCNN(layers, side=side) for side in sides})
        return default, dict.fromkeys(sides, embedding_size)
    if not isinstance(predictor, nn.ModuleDict) or not set(sides) <= set(predictor):
        keys = f"a ModuleDict of {', '.join(predictor)}" if isinstance(predictor, nn.ModuleDict) else None
        raise ConfigurationError(
            "`predictor` is no choice of context networks.",
            expected=f"an nn.ModuleDict with a network for each of {', '.join(sides)}",
            received=keys or type(predictor).__name__,
            fix='Example: nn.ModuleDict({"top": MaskedCNN([64, 128, 128], side="top")}) with sides=("top",).',
        )
    networks = nn.ModuleDict({side: predictor[side] for side in sides})
    return networks, {side: _context_channels(network, side, features, grid) for side, network in networks.items()}


def _context_channels(network: nn.Module, side: str, features: int, grid: tuple[int, int]) -> int:
    """Return the number of channels of a network's contexts."""
    shape = output_shape(network, (features, *grid))
    if len(shape) != 3 or shape[1:] != grid:
        raise ConfigurationError(
            f"The context network of the side {side!r} does not keep the grid.",
            expected=f"contexts of shape (batch, channels, {grid[0]}, {grid[1]})",
            received=f"shape {(1, *shape)} for a batch of one",
        )
    if depends_on_targets(network, side, features, grid):
        raise ConfigurationError(
            f"The context network of the side {side!r} sees what it has to predict.",
            expected="contexts that depend only on the latents of their own row and of preceding rows",
            received=type(network).__name__,
            fix="Mask its kernels and normalise each position separately, as MaskedCNN does.",
        )
    return shape[0]


def depends_on_targets(network: nn.Module, side: str, features: int, grid: tuple[int, int]) -> bool:
    """Return whether the context of a row has a gradient with respect to later rows or to other images.

    Args:
        network: Maps latents (batch, features, rows, columns) to contexts on the same grid.
        side: Side of the context.
        features: Number of features of the latents.
        grid: Rows and columns of the latents.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    latents = torch.rand(2, features, *grid, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    trial = copied(network)  # in training mode, in which batch norm depends on other positions
    with torch.enable_grad():
        contexts = to_frame(trial(latents), side)
        for row in range(contexts.shape[-2] - 1):
            energy = contexts[0, :, row].square().sum()
            (gradient,) = torch.autograd.grad(energy, latents, retain_graph=True, materialize_grads=True)
            frame = to_frame(gradient, side)
            if frame[0, :, row + 1 :].any() or frame[1].any():
                return True
    return False
