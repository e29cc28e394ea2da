"""Previews of Contrastive Predictive Coding: context, target and predicted patch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from super_selfish.models.predictive import to_frame
from super_selfish.pretext.preview import CaptionedImage

_MIN_SIDE = 160  # smallest side of an image of all patches, in px
_DARK = 0.2  # brightness of patches outside the context
_FRAME = (1.0, 0.8, 0.0)  # amber


class PatchPrediction(NamedTuple):
    """One prediction of the pretext task.

    Attributes:
        context: Mask (rows, columns): 1 for patches in the context, 0 for the others.
        place: Row and column of the prediction, in the orientation of the side.
        target: Index of the target patch in row-major order.
    """

    context: Tensor
    place: tuple[int, int]
    target: int


def patch_prediction(grid: tuple[int, int], side: str, step: int) -> PatchPrediction:
    """The prediction ``step`` patches beyond the context, in the middle column as seen from a side.

    Args:
        grid: Number of rows and columns of patches.
        side: Side of the image on which the context lies.
        step: Distance from the context to the target in patches; less than the number of patches in this direction.

    Examples:
        >>> patch_prediction((7, 7), "left", 2).target  # row 3, column 5
        26
    """
    frame = to_frame(torch.arange(grid[0] * grid[1]).view(grid), side)
    row, column = max(0, len(frame) - step - 2), frame.shape[1] // 2
    context = torch.zeros(grid)
    context.view(-1)[frame[: row + 1].flatten()] = 1.0
    return PatchPrediction(context, (row, column), int(frame[row + step, column]))


def assemble_patches(patches: Tensor, brightness: Tensor, framed: int | None = None) -> Tensor:
    """Assemble the patches of an image. Neighbouring patches overlap, so the centre of each is shown.

    Args:
        patches: Patches (rows · columns, C, 2h, 2w) in [0, 1].
        brightness: Brightness (rows, columns) of each patch, in [0, 1].
        framed: Index of a patch to draw a frame around; None: no frame.

    Returns:
        Image (C, H, W) with white lines between patches. Small images are enlarged by an integer factor.
    """
    rows, columns = brightness.shape
    height, width = patches.shape[-2] // 2, patches.shape[-1] // 2
    top, left = height // 2, width // 2
    tiles = patches[:, :, top : top + height, left : left + width]
    factor = max(1, -(-_MIN_SIDE // min(rows * height, columns * width)))
    tiles = tiles.repeat_interleave(factor, 2).repeat_interleave(factor, 3) * brightness.reshape(-1, 1, 1, 1)
    edge = max(1, min(tiles.shape[-2:]) // 16)
    tiles[:, :, :edge] = tiles[:, :, :, :edge] = 1.0
    if framed is not None:
        rim = torch.ones(tiles.shape[-2:], dtype=torch.bool, device=tiles.device)
        rim[3 * edge : -3 * edge, 3 * edge : -3 * edge] = False
        colour = torch.tensor(_FRAME) if tiles.shape[1] == 3 else torch.ones(tiles.shape[1])
        tiles[framed] = torch.where(rim, colour.to(tiles)[:, None, None], tiles[framed])
    laid = tiles.view(rows, columns, *tiles.shape[1:]).permute(2, 0, 3, 1, 4)
    return laid.flatten(3, 4).flatten(1, 2)


def patch_prediction_images(
    images: Tensor, index: int, prediction: PatchPrediction, side: str, products: Tensor | None
) -> list[CaptionedImage]:
    """Images of a prediction: all patches, the context, the target and, after training, the predicted patch.

    Args:
        images: Patches (batch, rows · columns, C, 2h, 2w) in [0, 1].
        index: Index of the image in the batch.
        prediction: The prediction.
        side: Side of the image on which the context lies.
        products: Similarities (batch · rows · columns,) of the prediction and all target patches; None before training.
    """
    patches, context = images[index], prediction.context.to(images)
    panels = [
        CaptionedImage(assemble_patches(patches, torch.ones_like(context)), "all patches"),
        CaptionedImage(
            assemble_patches(patches, _DARK + (1 - _DARK) * context, prediction.target), f"seen: {side}\ntarget: framed"
        ),
        CaptionedImage(patches[prediction.target], "target"),
    ]
    if products is not None:
        target = index * patches.shape[0] + prediction.target
        predicted = int(products.argmax())
        rank = 1 + int((products > products[target]).sum())
        logits = products.view(images.shape[:2])[index]
        likelihood = (logits - logits.amax()).exp().view_as(context)
        source = "this image" if predicted // patches.shape[0] == index else "another image"
        panels.append(CaptionedImage(images.flatten(0, 1)[predicted], f"answer:\n{source}", predicted == target))
        heatmap = assemble_patches(patches, likelihood, prediction.target)
        panels.append(CaptionedImage(heatmap, f"bright: likely\nrank {rank} of {len(products)}"))
    return panels
