"""Images with random codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.data import BiDataset
from super_selfish.pretext.base import sample_key

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def test_codes_are_uniform_from_minus_one_to_one() -> None:
    code, image = BiDataset(IMAGES, (32, 7, 7))[1]
    assert code.shape == (32, 7, 7)
    assert code.dtype == torch.float32
    assert -1 <= code.min() < -0.99
    assert 0.99 < code.max() < 1
    assert code.mean().abs() < 0.06
    assert code.std().item() == pytest.approx(2 / 12**0.5, abs=0.03)
    assert torch.equal(image, torch.from_numpy(IMAGES[1]).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("rand_gen", [None, np.random.rand, torch.rand])
def test_codes_are_functions_of_the_key(rand_gen: Any) -> None:
    dataset = BiDataset(IMAGES, (2, 3, 3), rand_gen)
    codes = []
    for key in ((0, 0, 1), (0, 0, 1), (0, 1, 1)):
        np.random.rand(3)
        with sample_key(*key):
            codes.append(dataset[1][0])
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])
    if rand_gen is not None:
        assert codes[0].min() >= 0


def test_rand_gen_with_wrong_shape_raises() -> None:
    with pytest.raises(ValueError, match=r"`rand_gen`.*Expected: \(2, 3, 3\)"):
        BiDataset(IMAGES, (2, 3, 3), lambda *_shape: np.zeros(5))[0]


@pytest.mark.parametrize(("argument", "value"), [("shape", (3, 3)), ("shape", (0, 3, 3)), ("rand_gen", 3)])
def test_arguments_out_of_range_raise(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        BiDataset(IMAGES, **{argument: value})
