import numpy as np
import pytest
import torch

from super_selfish.errors import ConfigurationError, DataError
from super_selfish.evaluation.splits import split


def whole(train, test, count):
    assert train.dtype == test.dtype == np.int64
    return sorted([*train, *test]) == list(range(count)) and list(train) == sorted(train) and list(test) == sorted(test)


@pytest.mark.parametrize("labels", [100, np.zeros(100, dtype=int), [3] * 100, torch.ones(100, dtype=torch.long)])
def test_fraction_is_exact_without_classes(labels):
    train, test = split(labels, test=0.3)
    assert whole(train, test, 100)
    assert len(test) == 30


def test_split_is_stratified():
    y = np.repeat([9, -2, 5, 7], [100, 50, 2, 1])
    train, test = split(y, test=0.2, seed=5)
    assert whole(train, test, len(y))
    assert {label: int(np.sum(y[test] == label)) for label in (9, -2, 5, 7)} == {9: 20, -2: 10, 5: 1, 7: 0}


def test_a_seed_gives_one_split():
    y = np.arange(60) % 3
    groups = np.arange(60) // 4
    for given in (None, groups):
        assert split(y, groups=given, seed=1)[1].tolist() == split(y, groups=given, seed=1)[1].tolist()
        assert len({tuple(split(y, groups=given, seed=seed)[1]) for seed in range(5)}) > 1


def test_groups_stay_together():
    random = np.random.default_rng(0)
    groups = random.integers(60, size=900)
    y = (groups % 3 + (random.random(900) < 0.1)) % 3
    for seed in range(5):
        train, test = split(y, groups=[f"product {number}" for number in groups], seed=seed)
        assert whole(train, test, 900)
        assert not set(groups[train]) & set(groups[test])
        assert 0.15 < len(test) / 900 < 0.25
        for label in range(3):
            assert 0.1 < np.mean(np.isin(np.flatnonzero(y == label), test)) < 0.3


def test_no_class_is_only_in_the_test_part():
    y = np.repeat([0, 1, 2], [40, 40, 5])
    groups = np.concatenate([np.arange(80) % 10, np.full(5, 10)])
    for seed in range(10):
        assert 2 in y[split(y, groups=groups, seed=seed)[0]]


def test_large_groups_give_the_smallest_excess():
    train, test = split(100, test=0.1, groups=np.repeat([0, 1, 2], [50, 30, 20]))
    assert (len(train), len(test)) == (80, 20)
    assert split(2)[0].size == 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_or_labels": 10, "test": 0.0}, ConfigurationError, "test=0.0"),
        ({"n_or_labels": 10, "test": 1.0}, ConfigurationError, "test=1.0"),
        ({"n_or_labels": 1}, ConfigurationError, "two images"),
        ({"n_or_labels": 0}, DataError, "no images"),
        ({"n_or_labels": [0, 1, 2]}, ConfigurationError, "different classes"),
        ({"n_or_labels": 4, "groups": [1] * 4}, ConfigurationError, "One group"),
        ({"n_or_labels": [0, 0, 1, 1], "groups": [5, 5, 6, 6]}, ConfigurationError, "all images of some class"),
        ({"n_or_labels": 4, "groups": [1, 2, 3]}, DataError, "4 groups"),
        ({"n_or_labels": 3, "groups": [1.0, float("nan"), 2.0]}, DataError, "image 1"),
        ({"n_or_labels": None}, DataError, "no labels"),
        ({"n_or_labels": [0.5, 1.5]}, DataError, "one integer"),
    ],
)
def test_invalid_arguments_raise(arguments, error, words):
    with pytest.raises(error, match=words):
        split(**arguments)
