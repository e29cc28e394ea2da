"""Scores with their evaluation protocol, and validation of features, labels and groups."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.errors import ConfigurationError, DataError

Features: TypeAlias = "npt.NDArray[Any] | torch.Tensor | Sequence[Sequence[float]]"
Labels: TypeAlias = "npt.NDArray[Any] | torch.Tensor | Sequence[int]"
Groups: TypeAlias = "npt.NDArray[Any] | torch.Tensor | Sequence[Hashable]"
Integers: TypeAlias = "npt.NDArray[np.int64]"


class Score(float):
    """An accuracy with its evaluation protocol; otherwise a float.

    Args:
        value: The accuracy, in [0, 1].
        protocol: One line with the method, its settings and the numbers of images.
        correct: Whether each test image was classified correctly (images,), for comparisons; None: not recorded.

    Raises:
        ConfigurationError: If the value is not in [0, 1].

    Examples:
        >>> score = Score(0.43125, "kNN: k=20, t=0.07")
        >>> score
        0.4313 (kNN: k=20, t=0.07)
        >>> f"{score:.2f}", score > 0.4, score + 0.5
        ('0.43', True, 0.93125)
    """

    protocol: str
    correct: npt.NDArray[np.bool_] | None

    def __new__(cls, value: float, protocol: str, correct: npt.NDArray[np.bool_] | None = None) -> Score:
        """Create a float with a protocol."""
        if not 0.0 <= value <= 1.0:
            raise ConfigurationError("The score is out of range.", expected="a number in [0, 1]", received=f"{value!r}")
        score = super().__new__(cls, value)
        score.protocol, score.correct = protocol, correct
        return score

    def __getnewargs__(self) -> tuple[float, str, npt.NDArray[np.bool_] | None]:  # type: ignore[override]
        """Arguments of ``__new__`` for pickle and copy."""
        return float(self), self.protocol, self.correct

    def __repr__(self) -> str:
        """The accuracy and its protocol."""
        return f"{float(self):.4f} ({self.protocol})"

    __str__ = __repr__


def as_features(x: Features, name: str = "x") -> torch.Tensor:
    """Validate features and convert them to a tensor (images, dim), float32 or float64, on a CUDA device or the CPU.

    Args:
        x: Features (images, dim), of any dtype and on any device.
        name: Name of the argument in error messages.

    Raises:
        DataError: If the features are not two-dimensional, empty, not real or not finite.

    Examples:
        >>> as_features([[1, 2], [3, 4]]).shape
        torch.Size([2, 2])
    """
    rows = x.detach() if isinstance(x, torch.Tensor) else _from_numpy(x, name)
    if rows.is_complex():
        raise DataError(f"`{name}` must contain real numbers.", received=str(rows.dtype), fix="Pass x.abs() or x.real.")
    if rows.device.type != "cuda":
        rows = rows.cpu()
    if rows.ndim != 2:
        raise DataError(
            f"`{name}` must have one row of features per image.",
            expected="shape (images, features)",
            received=f"shape {tuple(rows.shape)}",
            fix="Pool maps or flatten them with x.reshape(len(x), -1).",
        )
    if 0 in rows.shape:
        raise DataError(
            f"`{name}` is empty.",
            expected="at least one image and one feature",
            received=f"shape {tuple(rows.shape)}",
            fix="Check the folder or the filter of the images.",
        )
    rows = rows if rows.dtype == torch.float64 else rows.float()
    bad = ~torch.isfinite(rows).all(dim=1)
    if bad.any():
        raise DataError(
            f"`{name}` contains NaN or infinity.",
            expected="finite features",
            received=f"{int(bad.sum())} bad rows of {len(rows)}, the first at index {int(bad.nonzero()[0])}",
            fix="Check this image, and whether the training of the backbone diverged.",
        )
    return rows


def _from_numpy(x: Any, name: str) -> torch.Tensor:
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise DataError(f"`{name}` is not a two-dimensional array: its rows differ in length.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"`{name}` must contain real numbers.",
            expected="a numpy array or a torch tensor of shape (images, features)",
            received=f"{type(x).__name__} of {array.dtype}",
            fix="Use extract_features(backbone, images).",
        )
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    array = np.ascontiguousarray(array, dtype=np.float32 if single else np.float64)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def as_pair(x: Features, test_x: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Validate training and test features, and move both to the device of the training features.

    Raises:
        DataError: If :func:`as_features` raises it, or the numbers of features differ.
    """
    train, test = as_features(x, "x"), as_features(test_x, "test_x")
    if train.shape[1] != test.shape[1]:
        raise DataError(
            "`x` and `test_x` have different numbers of features.",
            expected=f"{train.shape[1]} features, as in `x`",
            received=f"{test.shape[1]} features in `test_x`",
            fix="Extract both with the same backbone and the same image size.",
        )
    return train, test.to(train.device)


def as_labels(y: Labels | None, count: int | None = None, name: str = "y") -> Integers:
    """Validate labels, one integer per image, and convert them to int64 (images,).

    Args:
        y: Array, tensor or list of integers.
        count: Number of images; None if unknown.
        name: Name of the argument in error messages.

    Raises:
        DataError: If there are no labels, or not one integer per image.

    Examples:
        >>> as_labels([7, -1, 7], 3)
        array([ 7, -1,  7])
    """
    if y is None:
        raise DataError(
            f"The data has no labels: `{name}` is None.",
            expected="one integer per image",
            fix="Pass labels, or images in one folder per class. quality(x) needs no labels.",
        )
    labels = y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)
    if count is not None and labels.shape[:1] != (count,):
        received = f"{len(labels)} labels" if labels.ndim else "a single value"
        raise DataError(f"`{name}` does not fit the features.", expected=f"{count} labels", received=received)
    if labels.ndim != 1 or len(labels) == 0 or labels.dtype.kind not in "iub":
        raise DataError(
            f"`{name}` must have one integer per image.",
            received=f"{labels.dtype} of shape {labels.shape}",
            fix="Use np.unique(names, return_inverse=True)[1] for names, or one_hot.argmax(1) for one-hot labels.",
        )
    return labels.astype(np.int64)


def as_groups(groups: Groups, count: int, name: str = "groups") -> list[Hashable]:
    """Validate groups, such as patients, products or films, and convert them to a list.

    Args:
        groups: One hashable value per image.
        count: Number of images.
        name: Name of the argument in error messages.

    Raises:
        ConfigurationError: If they are a string, which is no sequence of groups.
        DataError: If a group is missing (None or NaN), or there is not one group per image.

    Examples:
        >>> as_groups(["ann", "bob", "ann"], 3)
        ['ann', 'bob', 'ann']
    """
    if isinstance(groups, str | bytes):
        raise ConfigurationError(
            f"`{name}` must have one value per image, in the order of the images.",
            expected=f"a sequence of {count} values, such as patients",
            received=f"the string {groups!r}",
            fix="A regular expression is for the command line. In Python, pass its match in each path: "
            f"{name}=[re.search(pattern, path)[0] for path in paths].",
        )
    values: list[Hashable] = list(groups.tolist() if isinstance(groups, np.ndarray | torch.Tensor) else groups)
    if len(values) != count:
        raise DataError(
            f"`{name}` does not fit the images.", expected=f"{count} groups", received=f"{len(values)} groups"
        )
    for index, value in enumerate(values):
        if not isinstance(value, Hashable):
            raise DataError(f"`{name}` must have a number or a string per image.", received=f"{value!r} at {index}")
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise DataError(
                f"The group of image {index} is missing in `{name}`.",
                received=f"{value!r}",
                fix="Leave out the image, or assign it to a separate group.",
            )
    return values


def number_groups(groups: Sequence[Hashable]) -> Integers:
    """Number groups 0, 1, ... in order of first occurrence.

    Examples:
        >>> number_groups(["ann", "bob", "ann"])
        array([0, 1, 0])
    """
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def refuse_leak(groups: Sequence[Hashable], test_groups: Sequence[Hashable]) -> None:
    """Check that no group is in both the training and the test set.

    Raises:
        ConfigurationError: If a group is in both sets.
    """
    known = set(groups)
    shared = list(dict.fromkeys(group for group in test_groups if group in known))
    if shared:
        shown = ", ".join(repr(group) for group in shared[:3]) + (", ..." if len(shared) > 3 else "")
        raise ConfigurationError(
            "Groups are in both the training and the test set, so the score would be too high (data leakage).",
            expected="no group in both `groups` and `test_groups`",
            received=f"{len(shared)} shared groups ({shown})",
            fix="Split with split(labels, groups=groups), which keeps groups together.",
        )
