"""Linear probe: logistic regression on frozen features."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch

from super_selfish.errors import ConfigurationError, DataError, validate_keywords
from super_selfish.evaluation.score import (
    Features,
    Groups,
    Integers,
    Labels,
    Score,
    as_groups,
    as_labels,
    as_pair,
    refuse_leak,
)
from super_selfish.evaluation.splits import split

_PATH = tuple(10.0 ** (step / 2) for step in range(2, -12, -1))  # penalties from 10 down to 10^-5.5
_DEFAULT = 0.1  # penalty if there are too few labels to select it
_EARLY_STOPPING = 3  # number of penalties without improvement that ends the path
_MAX_DECOMPOSED = 4096  # largest number of dimensions whose covariance is decomposed
_VALIDATION_FRACTION = 0.2
_MAX_STEPS = 500
_TOLERANCE = 1e-6  # largest gradient at convergence, in coordinates with a curvature of about 1
_ROUGH_TOLERANCE = 1e-4  # during the selection of the penalty


@validate_keywords()
def linear_probe(
    x: Features,
    y: Labels | None,
    test_x: Features,
    test_y: Labels | None,
    seed: int = 0,
    *,
    groups: Groups | None = None,
    test_groups: Groups | None = None,
    l2: float | None = None,
) -> Score:
    """Accuracy of multinomial logistic regression on frozen features.

    Features are standardised with the statistics of the training set; constant features become zero. The L2 penalty is
    selected by the accuracy on a stratified 20 % of the training set (which contains whole groups if there are groups),
    never on the test set. The model is then fitted to the whole training set.

    Args:
        x: Training features (train, dim).
        y: Training labels (train,): any integers, at least two different ones.
        test_x: Test features (test, dim).
        test_y: Test labels (test,). A label that does not occur in training counts as an error.
        seed: Random seed of the validation split.
        groups: Group of each training image, such as a patient (train,).
        test_groups: Group of each test image (test,); a group in both sets is an error.
        l2: Penalty λ > 0 of mean cross-entropy + λ/2 · |weights|², 1 / (C · train) in scikit-learn. None: selected.

    Returns:
        The accuracy in [0, 1] with its protocol.

    Raises:
        DataError: If features or labels are missing, not finite, of different lengths, or there is only one class.
        ConfigurationError: If `l2` is not positive, a group is in both sets, or `groups` is missing.

    Examples:
        >>> x = [[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [0.9, 0.0]]
        >>> score = linear_probe(x, [5, 5, 7, 7], [[0.0, 0.9], [1.0, 0.2]], [5, 7], l2=0.1)
        >>> print(f"{score:.2f}", score.protocol.split(",")[0])
        1.00 linear: logistic regression with L2 penalty 0.1 (given)

    References:
        Zhang, Isola and Efros, "Colorful image colorization", 2016: frozen features as the test of a pretext task.
        Kornblith, Shlens and Le, "Do better ImageNet models transfer better?", 2019: L-BFGS along a path of penalties.
        Böhning, "Multinomial logistic regression algorithm", 1992: the curvature that scales the coordinates.
    """
    train, test = as_pair(x, test_x)
    labels, truth = as_labels(y, len(train)), as_labels(test_y, len(test), "test_y")
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            "A linear probe needs at least two classes.",
            expected="at least two different labels in `y`",
            received=f"only label {classes[0]}",
            fix="Add images of another class; quality(x) needs no labels.",
        )
    if l2 is not None and not (l2 > 0 and math.isfinite(l2)):
        raise ConfigurationError("`l2` must be positive.", received=f"l2={l2!r}", fix="None selects it.")
    _check_groups(groups, test_groups, len(train), len(test))
    # Inference mode or autocast of the caller must not affect the fit.
    with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(train.device.type, enabled=False):
        train_rows, test_rows = _rotated(*_standardised(train, test))
        problem = _Problem(train_rows, codes)
        start, selection = None, "given"
        if l2 is None:
            l2, start, selection = _select_penalty(problem, groups, seed)
        predicted = _predict(test_rows, problem.solve(l2, start))
    protocol = (
        f"linear: logistic regression with L2 penalty {l2:.3g} ({selection}), "
        f"{len(train)} train / {len(test)} test images, {len(classes)} classes, {train.shape[1]} standardised features"
    )
    correct = classes[predicted] == truth
    return Score(float(np.mean(correct)), protocol, correct)


def _check_groups(groups: Groups | None, test_groups: Groups | None, train: int, test: int) -> None:
    if groups is not None:
        own = as_groups(groups, train)
        if test_groups is not None:
            refuse_leak(own, as_groups(test_groups, test, "test_groups"))
    elif test_groups is not None:
        raise ConfigurationError(
            "`groups` is missing, so groups in both training and test set cannot be detected.",
            expected="`groups` for the training images as well",
        )


def _standardised(train: torch.Tensor, test: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardise both sets with the training statistics, as float32; constant columns become 0."""
    origin = train[0].double()  # subtracted first, so that a constant column becomes exactly 0
    scale = torch.stack([(part - origin).abs().amax(dim=0) for part in torch.split(train, 4096)]).amax(dim=0)
    scale = torch.where(scale > 0, scale, 1.0)
    total = torch.zeros_like(origin)
    squares = torch.zeros_like(origin)
    for part in torch.split(train, 4096):
        moved = (part - origin) / scale
        total += moved.sum(dim=0)
        squares += moved.square().sum(dim=0)
    mean = total / len(train)
    deviation = (squares / len(train) - mean.square()).clamp_min(0).sqrt()
    varied = deviation > 0
    deviation = torch.where(varied, deviation, 1.0)

    def apply(rows: torch.Tensor) -> torch.Tensor:
        parts = [(((part - origin) / scale - mean) / deviation * varied).float() for part in torch.split(rows, 4096)]
        return torch.cat(parts)

    return apply(train), apply(test)


def _rotated(train: torch.Tensor, test: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate the rows to the principal components of the training set.

    The L2 penalty is invariant to rotation, so the solution does not change. The curvature becomes nearly diagonal, and
    the fit takes tens of steps instead of hundreds. Directions without training variance have zero weight and are left
    out.
    """
    if len(train) < train.shape[1]:
        basis = torch.linalg.qr(train.T).Q
        train, test = train @ basis, test @ basis
    if train.shape[1] > _MAX_DECOMPOSED:
        return train, test
    # in float32, LAPACK does not converge for some features of low rank with constant columns
    basis = torch.linalg.eigh((train.T @ train).double()).eigenvectors.float()
    return train @ basis, test @ basis


class _Problem:
    """Minimisation of the mean cross-entropy of a linear classifier plus an L2 penalty.

    Weights are float64 of shape (classes, dim + 1); the last column is the bias, which is not penalised. Logits have
    shape (classes, images): products with a tall matrix of few columns take ten times as long.
    """

    def __init__(self, rows: torch.Tensor, codes: Integers) -> None:
        self.rows = rows
        self.codes = torch.from_numpy(codes).to(rows.device)
        self.classes = int(codes.max()) + 1
        ones = torch.ones(1, dtype=torch.float64, device=rows.device)
        # Böhning's bound on the curvature for equal class probabilities, along each dimension
        self.curvature = torch.cat([rows.square().mean(dim=0).double(), ones]) / self.classes

    def part(self, chosen: Integers) -> _Problem:
        """The same problem on a subset of the rows."""
        index = torch.from_numpy(chosen).to(self.rows.device)
        other = copy.copy(self)
        other.rows, other.codes = self.rows[index], self.codes[index]
        return other

    def solve(self, l2: float, start: torch.Tensor | None = None, tolerance: float = _TOLERANCE) -> torch.Tensor:
        """Fit by L-BFGS in coordinates scaled to a curvature of about 1."""
        penalty = torch.full_like(self.curvature, l2)
        penalty[-1] = 0
        scale = (self.curvature + penalty).rsqrt()
        first = torch.zeros_like(scale).repeat(self.classes, 1) if start is None else start / scale
        point = torch.nn.Parameter(first)
        optimizer = torch.optim.LBFGS(
            [point],
            max_iter=_MAX_STEPS,
            history_size=20,
            tolerance_grad=tolerance,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            with torch.no_grad():
                weights = point * scale
                loss, gradient = self.loss(weights)
                point.grad = (gradient + penalty * weights) * scale
                return loss + 0.5 * float((penalty * weights.square()).sum())

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return point.detach() * scale

    def loss(self, weights: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Mean cross-entropy and its gradient."""
        log_probabilities = _logits(self.rows, weights).log_softmax(dim=0)
        images = torch.arange(len(self.codes), device=weights.device)
        loss = -log_probabilities[self.codes, images].mean()
        error = log_probabilities.exp_()
        error[self.codes, images] -= 1
        error /= len(images)
        gradient = torch.cat([(error.float() @ self.rows).double(), error.sum(dim=1, keepdim=True)], dim=1)
        return float(loss), gradient

    def evaluate(self, weights: torch.Tensor) -> tuple[float, float]:
        """Accuracy and mean cross-entropy of the weights."""
        hits = _predict(self.rows, weights) == self.codes.cpu().numpy()
        return float(np.mean(hits)), self.loss(weights)[0]


def _logits(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Logits (classes, images)."""
    return (weights[:, :-1].float() @ rows.T).double() + weights[:, -1:]


def _predict(rows: torch.Tensor, weights: torch.Tensor) -> Integers:
    return _logits(rows, weights).argmax(dim=0).cpu().numpy()


def _select_penalty(problem: _Problem, groups: Groups | None, seed: int) -> tuple[float, torch.Tensor | None, str]:
    """Select the penalty with the best accuracy on a validation split of the training set; cross-entropy breaks ties.

    Returns:
        The penalty, its weights (None without a split), and a description of the selection.
    """
    codes = problem.codes.cpu().numpy()
    try:
        kept, held = split(codes, test=_VALIDATION_FRACTION, groups=groups, seed=seed)
    except ConfigurationError:
        reason = "one image per class" if groups is None else "too few groups"
        return _DEFAULT, None, f"not selected: {reason}"
    inner, outer = problem.part(kept), problem.part(held)
    best: tuple[tuple[float, float], float, torch.Tensor] | None = None
    weights: torch.Tensor | None = None
    waited = 0
    for l2 in _PATH:
        weights = inner.solve(l2, weights, tolerance=_ROUGH_TOLERANCE)
        accuracy, loss = outer.evaluate(weights)
        if best is None or (accuracy, -loss) > best[0]:
            best, waited = ((accuracy, -loss), l2, weights), 0
        elif (waited := waited + 1) == _EARLY_STOPPING:
            break
    how = f"selected on {len(held)} training images{' in whole groups' if groups is not None else ''}, seed {seed}"
    single = int(np.sum(np.bincount(codes) == 1))
    if single:
        how += f", {single} of {problem.classes} classes too small for the split"
    return (_DEFAULT, None, how) if best is None else (best[1], best[2], how)
