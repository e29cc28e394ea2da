"""Exhibits as pictures."""

from __future__ import annotations

import numpy as np
import pytest

from super_selfish.pretext.preview import Exhibit, Panel
from super_selfish.reports import exhibit_sheet

IMAGE = np.zeros((8, 8, 3), np.uint8)


def test_a_row_an_image_with_captions_and_verdicts() -> None:
    rows = [[Panel(IMAGE, f"in {row}"), Panel(IMAGE, f"out {row}", row == 0)] for row in range(3)]
    axes = exhibit_sheet(Exhibit("What?", "Why.", rows)).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["What?", "Why.", "in 0", "out 0 ✓", "in 1", "out 1 ✗", "in 2", "out 2 ✗"]
    assert len(axes.images) == 6
    lefts = [image.get_extent()[0] for image in axes.images]
    gaps = np.diff(lefts)
    assert gaps[1] > gaps[0] == pytest.approx(gaps[2]), "rows that stand side by side are told apart"


def test_nothing_to_show() -> None:
    for rows in ([], [[]], [[Panel(IMAGE)], [Panel(IMAGE), Panel(IMAGE)]]):
        with pytest.raises(ValueError, match="nothing to show"):
            exhibit_sheet(Exhibit("What?", "", rows))
