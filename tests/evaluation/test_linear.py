import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from super_selfish.errors import ConfigurationError, DataError
from super_selfish.evaluation import linear
from super_selfish.evaluation.linear import linear_probe
from super_selfish.seeding import KeyedGenerator


@pytest.fixture(autouse=True)
def _one_thread():  # these problems are tiny: on a busy machine threads that wait for each other take most of the time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def clouds(count=300, dim=12, classes=3, seed=0, spread=1.5):
    random = np.random.default_rng(seed)
    y = random.integers(classes, size=count)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    mix = np.random.default_rng(98).normal(size=(dim, dim)) * np.logspace(0, -2, dim)  # strongly correlated columns
    return ((centres[y] + spread * random.normal(size=(count, dim))) @ mix + 5).astype(np.float32), y * 10 - 5


def strength(score):
    return float(re.search(r"L2 penalty (\S+)", score.protocol)[1])


@pytest.mark.parametrize(("count", "dim"), [(300, 12), (40, 60)])
@pytest.mark.parametrize("l2", [1.0, 0.03, 0.001])
@pytest.mark.parametrize("rotated", [True, False])
def test_equals_scikit_learn(count, dim, l2, rotated, monkeypatch):
    if not rotated:
        monkeypatch.setattr(linear, "_MAX_DECOMPOSED", 0)
    x, y = clouds(count, dim)
    test_x, test_y = clouds(500, dim, seed=1)
    mean, deviation = x.astype(np.float64).mean(0), x.astype(np.float64).std(0)
    reference = LogisticRegression(C=1 / (l2 * count), tol=1e-9, max_iter=20000)
    reference.fit((x - mean) / deviation, y)
    codes = np.unique(y, return_inverse=True)[1]
    chosen = reference.predict_log_proba((x - mean) / deviation)[np.arange(count), codes]
    least = -chosen.mean() + l2 / 2 * np.square(reference.coef_).sum()

    train_rows, test_rows = linear._rotated(*linear._standardised(torch.tensor(x), torch.tensor(test_x)))
    problem = linear._Problem(train_rows, codes)
    weights = problem.solve(l2)
    assert problem.loss(weights)[0] + l2 / 2 * float(weights[:, :-1].square().sum()) == pytest.approx(least, abs=1e-6)
    received = linear._logits(test_rows, weights).softmax(0).T.numpy()
    np.testing.assert_allclose(received, reference.predict_proba((test_x - mean) / deviation), atol=5e-3)
    assert linear_probe(x, y, test_x, test_y, l2=l2) == pytest.approx(
        reference.score((test_x - mean) / deviation, test_y), abs=0.005
    )


def test_the_gradient_is_the_derivative():
    rows, codes = torch.randn(20, 4), np.arange(20) % 3
    problem = linear._Problem(rows, codes)
    weights = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    logits = rows.double() @ weights[:, :-1].T + weights[:, -1]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(codes))
    (expected,) = torch.autograd.grad(loss, weights)
    value, gradient = problem.loss(weights.detach())
    assert value == pytest.approx(loss.item(), abs=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)


def test_the_strength_is_chosen_without_the_test_part():
    x, y = clouds()
    protocols = set()
    for seed in range(1, 5):
        test_x, test_y = clouds(100, seed=seed)
        protocols.add(linear_probe(x, y, test_x * 3, np.roll(test_y, seed)).protocol)
    assert len(protocols) == 1


def test_the_choice_matters_and_helps():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(80, 200)), np.arange(80) % 2
    x[:, 0] += 2 * y
    test_x, test_y = random.normal(size=(1000, 200)), np.arange(1000) % 2
    test_x[:, 0] += 2 * test_y
    chosen = linear_probe(x, y, test_x, test_y)
    assert strength(chosen) >= 0.1
    assert chosen > linear_probe(x, y, test_x, test_y, l2=1e-5)


def test_seed_determines_the_split():
    x, y = clouds(spread=4.0)
    test_x, test_y = clouds(200, seed=1, spread=4.0)
    assert str(linear_probe(x, y, test_x, test_y, 3)) == str(linear_probe(x, y, test_x, test_y, 3))
    chosen = {strength(linear_probe(x, y, test_x, test_y, seed)) for seed in range(6)}
    assert len(chosen) > 1


def test_constant_and_badly_scaled_features_survive():
    x, y = clouds()
    test_x, test_y = clouds(200, seed=1)
    plain = linear_probe(x, y, test_x, test_y, l2=0.01)
    assert plain > 0.6

    def spoiled(rows, constant):
        extra = np.full((len(rows), 1), constant)
        return np.concatenate([rows[:, :6].astype(np.float64) * 1e20, extra, rows[:, 6:] * 1e-20, 0 * extra], axis=1)

    assert linear_probe(spoiled(x, 7.3), y, spoiled(test_x, 1e9), test_y, l2=0.01) == pytest.approx(plain, abs=0.01)


@pytest.mark.parametrize("seed", [3, 13, 48, 81, 102, 184])
def test_features_of_low_rank_with_dead_channels_are_fitted(seed):  # LAPACK does not converge for them in float32
    random = np.random.default_rng(seed)
    rank = int(random.integers(3, 60))
    features = np.maximum(random.normal(size=(500, rank)) @ random.normal(size=(rank, 256)), 0)
    alive = random.random(64) < random.choice([0.3, 0.6])
    x = (features * np.repeat(alive, 4)).astype(np.float32)
    y = (x.sum(1) > np.median(x.sum(1))).astype(np.int64)
    assert linear_probe(x[:400], y[:400], x[400:], y[400:], l2=0.01) > 0.7


@pytest.mark.parametrize("shots", [1, 2, 3, 10])
def test_few_labels_of_each_class(shots):
    y = np.repeat([3, -9, 40], shots)
    centres = KeyedGenerator(1).uniforms(3, 50)
    x = centres[np.repeat([0, 1, 2], shots)] + 0.3 * KeyedGenerator(0).uniforms(len(y), 50)
    score = linear_probe(x, y, centres + 0.15, [3, -9, 40])
    assert score == 1.0
    assert ("not selected: one image per class" in score.protocol) == (shots == 1)


def test_class_of_one_image_is_kept_and_reported():
    x, y = clouds()
    x, y = np.concatenate([x, 100 * np.ones((1, 12))]), np.append(y, 77)
    score = linear_probe(x, y, 100 * np.ones((2, 12)), [77, 78])
    assert score == 0.5  # 78 is in the test part only: wrong
    assert "1 of 4 classes too small" in score.protocol


def test_groups_stay_whole_while_choosing(monkeypatch):
    x, y = clouds()
    groups = [f"patient {index % 30}" for index in range(300)]
    seen = []
    part = linear._Problem.part
    monkeypatch.setattr(linear._Problem, "part", lambda self, chosen: seen.append(chosen) or part(self, chosen))
    score = linear_probe(x, y, x[:5], y[:5], groups=groups, test_groups=["a"] * 5)
    kept, held = ({groups[index] for index in chosen} for chosen in seen)
    assert kept
    assert held
    assert not kept & held
    assert "in whole groups, seed 0" in score.protocol
    fixed = linear_probe(x, y, x[:5], y[:5], groups=["one"] * 300)
    assert "not selected: too few groups" in fixed.protocol


def test_protocol_and_inference_mode():
    x, y = clouds()
    score = linear_probe(x, y, x[:7], y[:7], seed=4)
    assert re.fullmatch(
        r"linear: logistic regression with L2 penalty \S+ \(selected on \d+ training images, seed 4\), "
        r"300 train / 7 test images, 3 classes, 12 standardised features",
        score.protocol,
    )
    with torch.inference_mode():
        inside = linear_probe(torch.tensor(x), torch.tensor(y), torch.tensor(x[:7]), torch.tensor(y[:7]), seed=4)
    assert str(inside) == str(score)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"y": None}, DataError, "no labels"),
        ({"test_y": None}, DataError, "no labels"),
        ({"y": [5, 5, 5]}, DataError, "only label 5"),
        ({"x": np.full((3, 3), np.inf)}, DataError, "infinity"),
        ({"test_x": np.ones((3, 2))}, DataError, "numbers of features"),
        ({"test_y": [1]}, DataError, "3 labels"),
        ({"l2": 0.0}, ConfigurationError, "`l2` must be positive"),
        ({"test_groups": [0, 1, 2]}, ConfigurationError, "`groups` is missing"),
        ({"groups": [0, 1, 2], "test_groups": [3, 1, 2]}, ConfigurationError, "2 shared groups"),
    ],
)
def test_invalid_arguments_raise(arguments, error, words):
    usual = {"x": np.eye(3), "y": [0, 1, 2], "test_x": np.eye(3), "test_y": [0, 1, 2]}
    with pytest.raises(error, match=words):
        linear_probe(**usual | arguments)
