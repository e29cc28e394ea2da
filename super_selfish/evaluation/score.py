"""A score that carries the protocol it was measured by, and the checks of what may be scored."""

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
    """An accuracy that says how it was measured; a float in every other respect.

    Args:
        value: The accuracy, in [0, 1].
        protocol: One line: method, settings, counts.

    Raises:
        ConfigurationError: The value is no number in [0, 1].

    Examples:
        >>> score = Score(0.43125, "kNN: k=20, t=0.07")
        >>> score
        0.4313 (kNN: k=20, t=0.07)
        >>> f"{score:.2f}", score > 0.4, score + 0.5
        ('0.43', True, 0.93125)
    """

    protocol: str

    def __new__(cls, value: float, protocol: str) -> Score:
        """Attach the protocol to the number."""
        if not 0.0 <= value <= 1.0:
            raise ConfigurationError("A score is an accuracy.", expected="a number in [0, 1]", received=f"{value!r}")
        score = super().__new__(cls, value)
        score.protocol = protocol
        return score

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]
        """What pickle and copy build the score from."""
        return float(self), self.protocol

    def __repr__(self) -> str:
        """The accuracy and its protocol."""
        return f"{float(self):.4f} ({self.protocol})"

    __str__ = __repr__


def as_features(x: Features, name: str = "x") -> torch.Tensor:
    """Features as a finite tensor (images, dim), float32 or float64, on a CUDA device or the CPU.

    Args:
        x: Numbers of shape (images, dim), of any dtype and on any device.
        name: What the messages call them.

    Raises:
        DataError: Not two-dimensional, empty, not real numbers, or not finite.

    Examples:
        >>> as_features([[1, 2], [3, 4]]).shape
        torch.Size([2, 2])
    """
    rows = x.detach() if isinstance(x, torch.Tensor) else _from_numpy(x, name)
    if rows.is_complex():
        raise DataError(f"`{name}` must hold real numbers.", received=str(rows.dtype), fix="Pass x.abs() or x.real.")
    if rows.device.type != "cuda":
        rows = rows.cpu()
    if rows.ndim != 2:
        raise DataError(
            f"`{name}` must hold one row of features for each image.",
            expected="shape (images, features)",
            received=f"shape {tuple(rows.shape)}",
            fix="Pool maps or flatten them with x.reshape(len(x), -1).",
        )
    if 0 in rows.shape:
        raise DataError(
            f"`{name}` is empty.",
            expected="at least one image and one feature",
            received=f"shape {tuple(rows.shape)}",
            fix="Check the folder or the filter that the images came from.",
        )
    rows = rows if rows.dtype == torch.float64 else rows.float()
    bad = ~torch.isfinite(rows).all(dim=1)
    if bad.any():
        raise DataError(
            f"`{name}` holds NaN or infinity.",
            expected="finite features",
            received=f"{int(bad.sum())} bad rows of {len(rows)}, the first at index {int(bad.nonzero()[0])}",
            fix="Look at that image, and at the weights: a training that diverged gives such features.",
        )
    return rows


def _from_numpy(x: Any, name: str) -> torch.Tensor:
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise DataError(f"`{name}` is no table of numbers: its rows differ in length.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"`{name}` must hold real numbers.",
            expected="a numpy array or a torch tensor of shape (images, features)",
            received=f"{type(x).__name__} of {array.dtype}",
            fix="extract_features(backbone, images) gives such an array.",
        )
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    array = np.ascontiguousarray(array, dtype=np.float32 if single else np.float64)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def as_pair(x: Features, test_x: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Training and test features, checked, on the device of the training features.

    Raises:
        DataError: As :func:`as_features`, or the two differ in their number of features.
    """
    train, test = as_features(x, "x"), as_features(test_x, "test_x")
    if train.shape[1] != test.shape[1]:
        raise DataError(
            "`x` and `test_x` come from different networks.",
            expected=f"{train.shape[1]} features, as in `x`",
            received=f"{test.shape[1]} features in `test_x`",
            fix="Extract both with the same backbone and the same image size.",
        )
    return train, test.to(train.device)


def as_labels(y: Labels | None, count: int | None = None, name: str = "y") -> Integers:
    """Labels as int64 (images,): any integers, one for each image.

    Args:
        y: An array, tensor or list of integers.
        count: How many images there are; None if unknown.
        name: What the messages call them.

    Raises:
        DataError: None, empty, not one integer for each image.

    Examples:
        >>> as_labels([7, -1, 7], 3)
        array([ 7, -1,  7])
    """
    if y is None:
        raise DataError(
            f"The data has no labels: `{name}` is None.",
            expected="one integer for each image",
            fix="Accuracies need labels, for instance a folder for each class; quality(x) needs none.",
        )
    labels = y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)
    if count is not None and labels.shape[:1] != (count,):
        received = f"{len(labels)} labels" if labels.ndim else "a single value"
        raise DataError(f"`{name}` does not fit its features.", expected=f"{count} labels", received=received)
    if labels.ndim != 1 or len(labels) == 0 or labels.dtype.kind not in "iub":
        raise DataError(
            f"`{name}` must hold one integer for each image.",
            received=f"{labels.dtype} of shape {labels.shape}",
            fix="np.unique(names, return_inverse=True)[1] turns names into integers, one_hot.argmax(1) one-hot rows.",
        )
    return labels.astype(np.int64)


def as_groups(groups: Groups, count: int, name: str = "groups") -> list[Hashable]:
    """Groups as a list: which patient, product or film each image belongs to.

    Args:
        groups: One hashable value for each image.
        count: How many images there are.
        name: What the messages call them.

    Raises:
        DataError: A group is missing (None or NaN), or there is not one for each image.

    Examples:
        >>> as_groups(["ann", "bob", "ann"], 3)
        ['ann', 'bob', 'ann']
    """
    values: list[Hashable] = list(groups.tolist() if isinstance(groups, np.ndarray | torch.Tensor) else groups)
    if len(values) != count:
        raise DataError(
            f"`{name}` does not fit the images.", expected=f"{count} groups", received=f"{len(values)} groups"
        )
    for index, value in enumerate(values):
        if not isinstance(value, Hashable):
            raise DataError(f"`{name}` must hold a number or a word for each image.", received=f"{value!r} at {index}")
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise DataError(
                f"The group of image {index} is missing in `{name}`.",
                received=f"{value!r}",
                fix="Leave the image out, or give it a group of its own.",
            )
    return values


def number_groups(groups: Sequence[Hashable]) -> Integers:
    """Number groups 0, 1, ... in the order of their first image.

    Examples:
        >>> number_groups(["ann", "bob", "ann"])
        array([0, 1, 0])
    """
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def refuse_leak(groups: Sequence[Hashable], test_groups: Sequence[Hashable]) -> None:
    """Refuse a test in which images of one group stand on both sides.

    Raises:
        ConfigurationError: At least one group is in both.
    """
    known = set(groups)
    shared = list(dict.fromkeys(group for group in test_groups if group in known))
    if shared:
        shown = ", ".join(repr(group) for group in shared[:3]) + (", ..." if len(shared) > 3 else "")
        raise ConfigurationError(
            "Images of one group are on both sides: the score would reward recognising the group.",
            expected="no group in both `groups` and `test_groups`",
            received=f"{len(shared)} shared groups ({shown})",
            fix="Split with split(labels, groups=groups), which keeps every group on one side.",
        )
