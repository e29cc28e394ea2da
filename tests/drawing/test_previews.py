"""Previews as figures."""

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


def test_a_row_an_image_with_captions_and_verdicts() -> None:
    rows = [[CaptionedImage(IMAGE, f"in {row}"), CaptionedImage(IMAGE, f"out {row}", row == 0)] for row in range(3)]
    axes = preview_figure(Preview("What?", "Why.", rows)).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["What?", "Why.", "in 0", "out 0 ✓", "in 1", "out 1 ✗", "in 2", "out 2 ✗"]
    assert len(axes.images) == 6
    lefts = [image.get_extent()[0] for image in axes.images]
    gaps = np.diff(lefts)
    assert gaps[1] > gaps[0] == pytest.approx(gaps[2]), "rows that stand side by side are told apart"


def test_nothing_to_show() -> None:
    for rows in ([], [[]], [[CaptionedImage(IMAGE)], [CaptionedImage(IMAGE), CaptionedImage(IMAGE)]]):
        with pytest.raises(ValueError, match="nothing to show"):
            preview_figure(Preview("What?", "", rows))


def test_the_hook_of_earlier_releases() -> None:
    class Old(Supervisor):
        def _exhibit(self, data: Any) -> Preview:
            return super()._exhibit(data)._replace(title="Old?")

    class New(Old):
        def _preview(self, data: Any) -> Preview:
            return super()._preview(data)._replace(note="New.")

    images = torch.rand(4, 3, 16, 16)
    supervisor = New(CombinedNet(nn.Flatten(), nn.Linear(768, 2)), TensorDataset(images, torch.arange(4) % 2))
    texts = [text.get_text() for text in supervisor.preview(count=1).axes[0].texts]
    assert texts[:2] == ["Old?", "New."]
