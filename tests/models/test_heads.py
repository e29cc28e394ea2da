"""Heads in two stages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import Classification, SequentialUpTo


def test_modules_in_a_row_up_to_one_of_them() -> None:
    stages = [nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)]
    row, x = SequentialUpTo(*stages), torch.rand(2, 6)
    assert torch.equal(row(x), nn.Sequential(*stages)(x))
    for up_to, count in ((0, 1), (1, 2), (2, 3), (-1, 3), (-2, 2), (-3, 1)):
        expected = nn.Sequential(*stages[:count])(x)
        assert torch.equal(row(x, up_to=up_to), expected)
        assert torch.equal(SequentialUpTo(*stages, up_to=up_to)(x), expected)
    assert torch.equal(SequentialUpTo(*stages, up_to=0)(x, up_to=-1), row(x))
    assert row(torch.rand(2, 6, 1, 1)).shape == (2, 3)
    assert set(row.state_dict()) == set(nn.Sequential(*stages).state_dict())


@pytest.mark.parametrize("up_to", [3, -4, 1.0, True, None])
def test_there_has_to_be_such_a_module(up_to: object) -> None:
    stages = [nn.Linear(6, 6) for _ in range(3)]
    with pytest.raises(ConfigurationError, match=r"`up_to`.* one of 3 modules"):
        SequentialUpTo(*stages, up_to=up_to)
    if up_to is not None:
        with pytest.raises(ConfigurationError, match="`up_to`"):
            SequentialUpTo(*stages)(torch.rand(2, 6), up_to=up_to)


def test_the_last_layer_may_have_no_bias() -> None:
    assert Classification([4, 3, 2], last_bias=False).layers[-1].bias is None
    assert Classification([4, 3, 2]).layers[-1].bias is not None


def test_centred_outputs() -> None:
    head = Classification([6, 5, 3], norm_type="layer", centred=True)
    outputs = head(torch.rand(16, 6) + 3)
    assert torch.allclose(outputs.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(outputs.std(0, correction=0), torch.ones(3), atol=1e-1)
