import importlib
import math

import numpy as np
import pytest
import torch

from super_selfish.errors import DataError
from super_selfish.evaluation.quality import quality


def test_effective_rank_of_known_matrices():
    assert quality(np.eye(16)).effective_rank == pytest.approx(16)
    assert quality(np.tile(np.eye(5, 9), (3, 1))).effective_rank == pytest.approx(5)
    assert quality(np.outer(np.arange(1, 30), np.arange(1, 8))).effective_rank == pytest.approx(1)
    assert quality(np.random.default_rng(0).normal(size=(20000, 8))).effective_rank == pytest.approx(8, abs=0.01)


@pytest.mark.parametrize("shape", [(50, 9), (9, 50)])
def test_equals_the_definitions(shape):
    x = np.random.default_rng(1).normal(size=shape) * np.logspace(0, -2, shape[1]) + 0.5
    measures = quality(x)
    share = np.linalg.svd(x, compute_uv=False)
    share = share / share.sum()
    assert measures.effective_rank == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert measures.std == pytest.approx(unit.std(axis=0).mean())
    assert measures.std_uniform == pytest.approx(shape[1] ** -0.5)
    pairs = torch.pdist(torch.tensor(unit)).square().mul(-2).exp().mean().log()
    assert measures.uniformity == pytest.approx(float(pairs))
    assert (measures.images, measures.dimensions, measures.dead) == (*shape, 0.0)


def test_orthogonal_rows_are_at_distance_square_root_of_two():
    assert quality(np.eye(12) * 7).uniformity == pytest.approx(-4)


def test_uniform_features_have_the_uniform_deviation():
    measures = quality(np.random.default_rng(0).normal(size=(5000, 64)))
    assert measures.std == pytest.approx(measures.std_uniform, rel=0.02)
    assert measures.uniformity < -3.5


@pytest.mark.parametrize("value", [0.0, 0.3, -1e-30, 1e30])
def test_a_collapse_has_exact_numbers(value):
    measures = quality(np.full((100, 7), value))
    assert (measures.effective_rank, measures.std, measures.uniformity, measures.dead) == (1.0, 0.0, 0.0, 1.0)
    row = np.random.default_rng(0).normal(size=700).astype(np.float32) * (value or 1.0)
    measures = quality(np.tile(row, (300, 1)))
    assert (measures.effective_rank, measures.std, measures.uniformity, measures.dead) == (1.0, 0.0, 0.0, 1.0)
    assert "nan" not in str(measures)
    assert "uniformity 0.00" in str(measures)


def test_dead_dimensions_are_counted():
    x = np.random.default_rng(0).normal(size=(30, 8))
    x[:, 2] = 0
    x[:, 5] = 3.3
    assert quality(x).dead == 0.25


def test_subsampling_is_deterministic_and_accurate(monkeypatch):
    x = np.random.default_rng(0).normal(size=(4000, 10))
    whole = quality(x)
    module = importlib.import_module("super_selfish.evaluation.quality")
    for name, rows in (("_RANK_ROWS", 1000), ("_PAIR_ROWS", 700)):
        monkeypatch.setattr(module, name, rows)
    thinned = quality(x)
    assert thinned == quality(x)
    assert thinned != whole
    assert thinned.effective_rank == pytest.approx(whole.effective_rank, rel=0.02)
    assert thinned.uniformity == pytest.approx(whole.uniformity, rel=0.02)
    monkeypatch.setattr(module, "_RANK_SIDE", 8)
    assert quality(x).effective_rank <= 8
    assert quality(x).images == 4000


def test_reads_as_one_line_and_as_a_mapping():
    measures = quality(np.eye(4))
    assert "\n" not in str(measures)
    assert "effective rank 4.0 of 4" in str(measures)
    assert list(measures.as_dict()) == [
        "effective_rank", "std", "std_uniform", "uniformity", "dead", "dimensions", "images"
    ]  # fmt: skip
    assert all(math.isfinite(value) for value in measures.as_dict().values())


@pytest.mark.parametrize("x", [np.eye(3) * np.nan, np.eye(3)[:1], np.zeros((0, 3)), np.zeros(3)])
def test_invalid_arguments_raise(x):
    with pytest.raises(DataError):
        quality(x)
