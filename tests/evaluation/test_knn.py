import copy
import importlib
import json
import math
import pickle

import numpy as np
import pytest
import torch

from super_selfish.errors import ConfigurationError, DataError
from super_selfish.evaluation.knn import knn, knn_predict
from super_selfish.evaluation.pretext import retrieval_accuracy
from super_selfish.evaluation.score import Score


def naive(x, y, test_x, k, t, own=None):
    """The definition, one pair at a time; own[i] == own[j] keeps j from voting for i."""
    answers = []
    for i, query in enumerate(test_x):
        similar = []
        for j, row in enumerate(x):
            if own is None or own[i] != own[j]:
                similar.append((-float(query @ row) / (np.linalg.norm(query) * np.linalg.norm(row)), j))
        votes = {}
        for negative, j in sorted(similar)[:k]:
            votes[int(y[j])] = votes.get(int(y[j]), 0.0) + math.exp(-negative / t)
        answers.append(min(votes, key=lambda label: (-votes[label], label)))
    return answers


@pytest.fixture
def cloud():
    random = np.random.default_rng(3)
    y = random.integers(4, size=90) * 5 - 7
    return random.normal(size=(90, 6)) + y[:, None] * random.normal(size=6) * 0.1, y


@pytest.mark.parametrize(("k", "t"), [(1, 0.07), (5, 0.07), (20, 0.5), (200, 0.1)])
def test_equals_the_double_loop(cloud, k, t):
    x, y = cloud
    train, test = x[:60], x[60:]
    assert knn_predict(train, y[:60], test, k=k, t=t).tolist() == naive(train, y[:60], test, k, t)
    assert knn_predict(x, y, k=k, t=t).tolist() == naive(x, y, x, k, t, own=np.arange(90))
    own = np.arange(90) // 4
    assert knn_predict(x, y, k=k, t=t, groups=own).tolist() == naive(x, y, x, k, t, own=own)
    assert knn(x, y, k=k, t=t) == np.mean(np.array(naive(x, y, x, k, t, own=np.arange(90))) == y)


def test_blocks_change_nothing(cloud, monkeypatch):
    x, y = cloud
    whole = knn_predict(x, y, k=7)
    monkeypatch.setattr(importlib.import_module("super_selfish.evaluation.knn"), "_BLOCK", 200)
    assert knn_predict(x, y, k=7).tolist() == whole.tolist()


def test_leave_one_out_never_asks_the_image_itself():
    x = np.repeat(np.eye(4), 2, axis=0)  # pairs of duplicates with different labels: the only neighbour is wrong
    y = [0, 1] * 4
    assert knn(x, y, k=1) == 0.0
    assert knn(x, y, x, y, k=1) == 0.5  # with itself in the bank, the first of each pair finds itself


def test_groups_keep_siblings_from_voting():
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 5)
    x = random.normal(size=(20, 16))[patients] + 0.01 * random.normal(size=(100, 16))
    y = random.integers(2, size=20)[patients]
    assert knn(x, y, k=3) == 1.0
    assert knn(x, y, k=3, groups=[f"patient {number}" for number in patients]) < 0.8


def test_ties_go_to_the_first_image_and_the_smallest_label():
    x = np.ones((50, 3))
    y = np.array([4] * 3 + [2] * 47)
    assert knn_predict(x, y, [[1, 1, 1]], k=3).tolist() == [4]
    assert knn_predict(x, y, [[1, 1, 1]], k=6).tolist() == [2]  # three votes each
    assert knn_predict(x, y, [[0, 0, 0]], k=3).tolist() == [4]


def test_a_tiny_temperature_and_huge_or_tiny_features_do_no_harm(cloud):
    x, y = cloud
    assert knn_predict(x, y, k=9, t=1e-6).tolist() == knn_predict(x, y, k=1).tolist()
    for scale in (1e-30, 1e30, 1e200):
        assert knn_predict(x * scale, y, k=9).tolist() == knn_predict(x, y, k=9).tolist()


def test_any_kind_of_features_and_labels(cloud):
    x, y = cloud
    x = x.astype(np.float16).astype(np.float32)
    expected = knn(x, y)
    read_only = x.copy()
    read_only.flags.writeable = False
    kinds = [x.tolist(), torch.tensor(x, requires_grad=True), torch.tensor(x).half(), x[:, ::-1][:, ::-1], read_only]
    for kind in kinds:
        assert knn(kind, y) == expected
    with torch.inference_mode():
        assert knn(torch.tensor(x), torch.tensor(y, dtype=torch.int32)) == expected
    assert knn(x, y.tolist()) == expected


def test_protocol_names_what_was_done(cloud):
    x, y = cloud
    assert knn(x[:60], y[:60], x[60:], y[60:]).protocol == (
        "kNN: k=20, t=0.07, cosine, 60 train / 30 test images, 6 features"
    )
    assert knn(x, y, k=200).protocol == (
        "kNN: k=89 (all; 200 requested), t=0.07, cosine, leave-one-out over 90 images, 6 features"
    )
    assert "leave-one-group-out over 90 images in 9 groups" in knn(x, y, groups=np.arange(90) // 10).protocol


def test_labels_unknown_to_training_are_wrong_and_one_class_is_fine():
    assert knn([[1.0], [2.0]], [5, 5], [[1.0], [1.0]], [5, 6]) == 0.5
    assert knn([[1.0], [2.0]], [5, 5]) == 1.0


X = np.eye(3)
Y = [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"y": None}, DataError, "no labels"),
        ({"test_y": None}, DataError, "no labels"),
        ({"y": [0, 1]}, DataError, "Expected: 3 labels. Received: 2 labels"),
        ({"y": [0.5, 1, 2]}, DataError, "one integer"),
        ({"y": np.eye(3, dtype=int)}, DataError, "one integer"),
        ({"x": np.zeros((0, 3)), "y": []}, DataError, "empty"),
        ({"x": np.full((3, 3), np.nan)}, DataError, "3 bad rows of 3, the first at index 0"),
        ({"x": np.zeros((3, 2, 2))}, DataError, "reshape"),
        ({"x": [["a"]]}, DataError, "real numbers"),
        ({"x": [[1], [1, 2]]}, DataError, "differ in length"),
        ({"test_x": np.ones((1, 2)), "test_y": [0]}, DataError, "2 features in `test_x`"),
        ({"k": 0}, ConfigurationError, "k=0"),
        ({"k": 1.5}, ConfigurationError, "k=1.5"),
        ({"t": 0.0}, ConfigurationError, "t=0.0"),
        ({"t": math.nan}, ConfigurationError, "t=nan"),
        ({"test_x": None}, ConfigurationError, "without `test_x`"),
        ({"groups": [0, 0, 1]}, ConfigurationError, "`test_groups` is missing"),
        ({"groups": [0, 0, 1], "test_groups": [2, 3, 1]}, ConfigurationError, "1 shared groups \\(1\\)"),
        ({"groups": [0, 1], "test_groups": [2, 3, 4]}, DataError, "3 groups"),
        ({"groups": [0, None, 1], "test_groups": [2, 3, 4]}, DataError, "group of image 1 is missing"),
        ({"test_x": None, "test_y": None, "groups": [7, 7, 7]}, ConfigurationError, "two groups"),
    ],
)
def test_invalid_arguments_raise(arguments, error, words):
    with pytest.raises(error, match=words):
        knn(**{"x": X, "y": Y, "test_x": X, "test_y": Y} | arguments)


def test_leave_one_out_of_one_image_raises():
    with pytest.raises(ConfigurationError, match="two images"):
        knn([[1.0]], [0])


def test_score_is_a_float_with_a_protocol():
    score = Score(0.43125, "kNN")
    assert f"{score:.3f}" == "0.431"
    assert str(score) == repr(score) == f"{score}" == "0.4313 (kNN)"
    assert score == 0.43125
    assert type(score + 0.1) is float
    assert json.dumps(score) == "0.43125"
    for twin in (pickle.loads(pickle.dumps(score)), copy.deepcopy(score)):
        assert (twin, twin.protocol) == (0.43125, "kNN")
    for wrong in (1.5, -0.1, math.nan):
        with pytest.raises(ConfigurationError):
            Score(wrong, "")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("common", [0.0, 1.0, 1e3])
def test_nearly_parallel_features(common, dtype):
    """A large common part leaves differences of similarities that float32 does not resolve."""
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (common * 16 + np.eye(3, 16)[y] + 0.05 * generator.normal(size=(60, 16))).astype(dtype)
    assert knn(x[:30], y[:30], x[30:], y[30:], k=5) == 1.0
    assert knn(x, y, k=5) == 1.0
    train, test = x[:30].astype(float), x[30:].astype(float)
    assert (knn_predict(x[:30], y[:30], x[30:], k=5) == naive(train, y[:30], test, 5, 0.07)).all()


def test_retrieval_of_nearly_parallel_embeddings():
    rows = 1e3 + torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    assert retrieval_accuracy(rows, rows + 0.01) == 1.0
