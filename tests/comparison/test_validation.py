"""Cross-validation of features, and features without training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from super_selfish.comparison.references import OrientedGradients, PrincipalComponents
from super_selfish.comparison.validation import (
    cross_validated,
    folds,
    joint_groups,
    principal_components,
    ridge_predict,
)
from super_selfish.errors import ConfigurationError


def test_folds_are_stratified_and_differ_between_repeats() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    found = folds(labels, np.arange(100), 0)
    counts = np.stack([np.bincount(labels[found == fold], minlength=3) for fold in range(5)])
    assert np.array_equal(counts, np.tile([10, 6, 4], (5, 1)))
    assert not np.array_equal(found, folds(labels, np.arange(100), 1))


def test_groups_stay_in_one_fold() -> None:
    groups = np.repeat(np.arange(20), 5)
    labels = groups % 2
    found = folds(labels, groups, 0)
    assert all(len(set(found[groups == group])) == 1 for group in range(20))
    assert np.bincount(found).tolist() == [20] * 5
    assert all(set(labels[found == fold]) == {0, 1} for fold in range(5))


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(ConfigurationError, match="two groups"):
        folds(np.arange(4) % 2, np.zeros(4, np.int64), 0)


def test_two_groups_give_two_folds() -> None:
    assert set(folds(np.arange(8) % 2, np.repeat([0, 1], 4), 0)) == {0, 1}


def test_features_that_identify_groups_do_not_score() -> None:
    groups = np.repeat(np.arange(20), 5)
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], 10))[groups]
    x = np.eye(20)[groups] + 0.01 * np.random.default_rng(1).normal(size=(100, 20))
    leaking = cross_validated(x, labels, np.arange(100), 1).mean.mean()
    kept = cross_validated(x, labels, groups, 1).mean.mean()
    assert leaking > 0.9
    assert kept < 0.7


def test_duplicates_and_groups_are_joined() -> None:
    assert joint_groups(5, None, ["a", "b", "c", "a", "e"]).tolist() == [0, 1, 2, 0, 3]
    assert len(set(joint_groups(3, ["x", "x", "y"], [1, 2, 2]).tolist())) == 1
    assert joint_groups(3, None, None).tolist() == [0, 1, 2]


def test_ridge_finds_a_direction_that_neighbours_miss() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([3, 8], 100)
    x = generator.normal(size=(200, 60))
    x[:, 0] += 4 * (labels == 8) - 2
    x[:, 1:] *= 5
    found = cross_validated(x, labels, np.arange(200), 1)
    assert found.ridge.mean() > 0.9
    assert found.ridge.mean() > found.knn.mean()


def test_ridge_handles_more_features_than_images_and_constant_ones() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    x = np.concatenate([generator.normal(size=(40, 100)) + labels[:, None], np.ones((40, 3))], axis=1)
    rows = principal_components(x)
    predicted = ridge_predict(rows[::2], labels[::2], rows[1::2], np.arange(20), 0)
    assert np.isfinite(rows).all()
    assert np.mean(predicted == labels[1::2]) > 0.9


def test_many_features_are_reduced_without_loss_where_there_are_fewer_images() -> None:
    x = np.random.default_rng(0).normal(size=(30, 50)).astype(np.float32)
    rows = principal_components(x, most=40)
    reference = (x - x.mean(0)) / x.std(0)
    distance = np.linalg.norm(reference[0] - reference[1])
    assert rows.shape == (30, 30)
    assert np.linalg.norm(rows[0] - rows[1]) == pytest.approx(distance, rel=1e-3)


def test_principal_components_are_whitened() -> None:
    images = torch.rand(100, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    features = PrincipalComponents(images)(images)
    assert features.shape == (100, 64)
    assert torch.allclose(torch.cov(features.T, correction=0), torch.eye(64), atol=1e-3)
    assert torch.isfinite(PrincipalComponents(torch.ones(4, 1, 32, 32))(torch.ones(2, 1, 32, 32))).all()


def test_oriented_gradients_see_orientation_and_not_brightness() -> None:
    stripes = (torch.arange(32) // 4 % 2).float()
    across, down = stripes.expand(1, 3, 32, 32), stripes[:, None].expand(1, 3, 32, 32)
    network = OrientedGradients()
    first, second = network(across), network(down)
    assert first.shape == (1, 324)
    assert torch.allclose(first, network(0.5 * across + 0.2), atol=1e-3)
    assert torch.nn.functional.cosine_similarity(first, second).item() < 0.2
    assert torch.isfinite(network(torch.zeros(1, 1, 32, 32))).all()
