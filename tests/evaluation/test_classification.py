"""Evaluation of a network on labelled images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from super_selfish.distributed import group
from super_selfish.errors import DataError
from super_selfish.utils import test as measure

LABELLED = TensorDataset(torch.eye(4), torch.tensor([0, 1, 2, 0]))


def mean_output(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.mean()


def test_the_accuracy_is_printed_and_returned(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = measure(nn.Identity(), LABELLED, batch_size=3)
    output = capsys.readouterr()
    assert accuracy == 0.75
    assert output.out == f"{accuracy}\n"
    assert output.err == ""


def test_another_measure_is_printed_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(nn.Identity(), LABELLED, mean_output) == 0.25
    (line,) = capsys.readouterr().out.splitlines()
    assert "0.25" in line
    assert "mean_output" in line
    measure(nn.Identity(), LABELLED, nn.CrossEntropyLoss())
    assert "CrossEntropyLoss" in capsys.readouterr().out


def test_nothing_is_printed_if_not_verbose_or_by_other_processes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(nn.Identity(), LABELLED, verbose=False)
    monkeypatch.setattr(group, "_group", group.Group(rank=1, world=2))
    measure(nn.Identity(), LABELLED)
    assert capsys.readouterr().out == ""


def test_no_samples() -> None:
    with pytest.raises(DataError):
        measure(nn.Identity(), TensorDataset(torch.zeros(0, 4), torch.zeros(0)))
