"""Figures of previews."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from super_selfish.models import CombinedNet
from super_selfish.pretext.preview import CaptionedImage, Preview
from super_selfish.reports import preview_figure
from super_selfish.supervisors import Supervisor

IMAGE = np.zeros((8, 8, 3), np.uint8)


def test_preview_has_a_row_per_image_with_captions_and_marks() -> None:
    rows = [[CaptionedImage(IMAGE, f"in {row}"), CaptionedImage(IMAGE, f"out {row}", row == 0)] for row in range(3)]
    axes = preview_figure(Preview("What?", "Why.", rows)).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["What?", "Why.", "in 0", "out 0 ✓", "in 1", "out 1 ✗", "in 2", "out 2 ✗"]
    assert len(axes.images) == 6
    lefts = [image.get_extent()[0] for image in axes.images]
    gaps = np.diff(lefts)
    assert gaps[1] > gaps[0] == pytest.approx(gaps[2]), "rows beside each other are separated by a wider gap"


def test_empty_or_ragged_preview_raises() -> None:
    for rows in ([], [[]], [[CaptionedImage(IMAGE)], [CaptionedImage(IMAGE), CaptionedImage(IMAGE)]]):
        with pytest.raises(ValueError, match="panels"):
            preview_figure(Preview("What?", "", rows))


def test_exhibit_hook_of_earlier_releases() -> None:
    class Old(Supervisor):
        def _exhibit(self, data: Any) -> Preview:
            return super()._exhibit(data)._replace(title="Old?")

    class New(Old):
        def _preview(self, data: Any) -> Preview:
            return super()._preview(data)._replace(note="New.")

    images = torch.rand(4, 3, 16, 16)
    supervisor = New(CombinedNet(nn.Flatten(), nn.Linear(768, 2)), TensorDataset(images, torch.arange(4) % 2))
    texts = [text.get_text() for text in supervisor.preview(count=1).axes[0].texts]
    assert texts[0] == "Old?"
    assert texts[1].startswith("New.\n")
