"""Pictures of Contrastive Predictive Coding's exercise: what is seen, what is to be found, and what is found."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from super_selfish.models.predictive import to_frame
from super_selfish.pretext.preview import CaptionedImage

_SHORT = 160  # px of the short side of a picture of patches, at least
_DARK = 0.2  # brightness of patches that the context does not see
_FRAME = (1.0, 0.8, 0.0)  # amber


class PatchPrediction(NamedTuple):
    """One of the questions that an image poses.

    Attributes:
        context: (rows, columns), 1 for patches that are seen and 0 for the others.
        place: Row and column of the prediction, in the frame of the side.
        target: Number of the patch that is to be found, counted row by row.
    """

    context: Tensor
    place: tuple[int, int]
    target: int


def patch_prediction(grid: tuple[int, int], side: str, step: int) -> PatchPrediction:
    """What comes ``step`` patches further, seen from a side, in the middle column.

    Args:
        grid: Rows and columns of the patches.
        side: Where the context lies.
        step: How much further; less than there are patches in this direction.

    Examples:
        >>> patch_prediction((7, 7), "left", 2).target  # row 3, column 5
        26
    """
    frame = to_frame(torch.arange(grid[0] * grid[1]).view(grid), side)
    row, column = max(0, len(frame) - step - 2), frame.shape[1] // 2
    context = torch.zeros(grid)
    context.view(-1)[frame[: row + 1].flatten()] = 1.0
    return PatchPrediction(context, (row, column), int(frame[row + step, column]))


def assemble_patches(patches: Tensor, light: Tensor, framed: int | None = None) -> Tensor:
    """A picture of the patches of an image: the middle of each in its place, for neighbours overlap.

    Args:
        patches: (rows · columns, C, 2h, 2w) in [0, 1].
        light: (rows, columns) in [0, 1]: how bright each is drawn.
        framed: Number of one that gets a frame.

    Returns:
        (C, H, W), small ones enlarged by a whole factor, with white lines between the patches.
    """
    rows, columns = light.shape
    height, width = patches.shape[-2] // 2, patches.shape[-1] // 2
    top, left = height // 2, width // 2
    tiles = patches[:, :, top : top + height, left : left + width]
    factor = max(1, -(-_SHORT // min(rows * height, columns * width)))
    tiles = tiles.repeat_interleave(factor, 2).repeat_interleave(factor, 3) * light.reshape(-1, 1, 1, 1)
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
    images: Tensor, index: int, asked: PatchPrediction, side: str, products: Tensor | None
) -> list[CaptionedImage]:
    """A question to be looked at, and the answer.

    Args:
        images: (batch, rows · columns, C, 2h, 2w) in [0, 1].
        index: Of the image that it is asked of.
        asked: The question.
        side: Where the context lies.
        products: (batch · rows · columns,) of the prediction with the targets; None before training.
    """
    own, seen = images[index], asked.context.to(images)
    panels = [
        CaptionedImage(assemble_patches(own, torch.ones_like(seen)), "all patches"),
        CaptionedImage(assemble_patches(own, _DARK + (1 - _DARK) * seen, asked.target), f"seen: {side}\nahead: framed"),
        CaptionedImage(own[asked.target], "to be found"),
    ]
    if products is not None:
        wanted = index * own.shape[0] + asked.target
        found = int(products.argmax())
        place = 1 + int((products > products[wanted]).sum())
        near = products.view(images.shape[:2])[index]
        likely = (near - near.amax()).exp().view_as(seen)
        where = "this image" if found // own.shape[0] == index else "another image"
        panels.append(CaptionedImage(images.flatten(0, 1)[found], f"answer:\n{where}", found == wanted))
        panels.append(
            CaptionedImage(
                assemble_patches(own, likely, asked.target), f"looks for it here\nrank {place} of {len(products)}"
            )
        )
    return panels
