"""SequentialUpTo, and options of Classification."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.models import Classification, SequentialUpTo


def test_sequential_up_to() -> None:
    stages = [nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)]
    head, x = SequentialUpTo(*stages), torch.rand(2, 6)
    assert torch.equal(head(x), nn.Sequential(*stages)(x))
    for up_to, count in ((0, 1), (1, 2), (2, 3), (-1, 3), (-2, 2), (-3, 1)):
        expected = nn.Sequential(*stages[:count])(x)
        assert torch.equal(head(x, up_to=up_to), expected)
        assert torch.equal(SequentialUpTo(*stages, up_to=up_to)(x), expected)
    assert torch.equal(SequentialUpTo(*stages, up_to=0)(x, up_to=-1), head(x))
    assert head(torch.rand(2, 6, 1, 1)).shape == (2, 3)
    assert set(head.state_dict()) == set(nn.Sequential(*stages).state_dict())


@pytest.mark.parametrize("up_to", [3, -4, 1.0, True, None])
def test_up_to_out_of_range(up_to: object) -> None:
    stages = [nn.Linear(6, 6) for _ in range(3)]
    with pytest.raises(ConfigurationError, match="`up_to`"):
        SequentialUpTo(*stages, up_to=up_to)
    if up_to is not None:
        with pytest.raises(ConfigurationError, match="`up_to`"):
            SequentialUpTo(*stages)(torch.rand(2, 6), up_to=up_to)


def test_last_bias() -> None:
    assert Classification([4, 3, 2], last_bias=False).layers[-1].bias is None
    assert Classification([4, 3, 2]).layers[-1].bias is not None


def test_centred_normalises_the_outputs() -> None:
    head = Classification([6, 5, 3], norm_type="layer", centred=True)
    outputs = head(torch.rand(16, 6) + 3)
    assert torch.allclose(outputs.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(outputs.std(0, correction=0), torch.ones(3), atol=1e-1)
