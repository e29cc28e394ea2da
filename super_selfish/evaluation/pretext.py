"""Evaluation of pretext tasks: scores with a trivial baseline, and the metrics that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.evaluation.intervals import accuracy_interval
from super_selfish.models.decoders import resized_to

BATCH = 64
"""Number of images that a network embeds at once."""


@dataclass(frozen=True)
class PretextScore:
    """A metric of the pretext task, with the score of a trivial baseline that does not use a network.

    Attributes:
        name: Name of the metric.
        value: Score of the network.
        trivial: Score of the trivial baseline; None if the algorithm does not define one.
        baseline: Description of the trivial baseline.
        higher_is_better: Whether a larger value is better.
        images: Number of images that were evaluated.
        is_accuracy: Whether the metric is a fraction of images, which is printed in percent.

    Examples:
        >>> score = PretextScore("accuracy of rotation angles", 0.41, 0.25, "chance level", images=24, is_accuracy=True)
        >>> print(score)
        accuracy of rotation angles: 41.0 % (95 % interval: 23.9 to 60.6 %; chance level: 25.0 %; 24 images)
        >>> score.better_than_trivial
        True
    """

    name: str
    value: float
    trivial: float | None
    baseline: str
    higher_is_better: bool = True
    images: int = 0
    is_accuracy: bool = False

    @property
    def better_than_trivial(self) -> bool | None:
        """Whether the network beats the trivial baseline; None if there is none. False if the value is not finite."""
        if self.trivial is None:
            return None
        return self.value > self.trivial if self.higher_is_better else self.value < self.trivial

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of an accuracy over the choice of images; None for other metrics."""
        is_defined = self.is_accuracy and self.images > 0 and math.isfinite(self.value)
        return accuracy_interval(self.value, self.images) if is_defined else None

    @property
    def context(self) -> str:
        """What to compare the value with: its interval, the trivial baseline, the direction of other metrics."""
        parts = [] if self.interval is None else ["95 % interval: {} to {} %".format(*map(percent, self.interval))]
        trivial = "no trivial baseline" if self.trivial is None else f"{self.baseline}: {self.format(self.trivial)}"
        direction = "higher is better" if self.higher_is_better else "lower is better"
        return "; ".join([*parts, trivial, *([] if self.is_accuracy else [direction])])

    def format(self, value: float) -> str:
        """A value of the metric as text."""
        return f"{percent(value)} %" if self.is_accuracy else f"{value:.3f}"

    def __str__(self) -> str:
        return f"{self.name}: {self.format(self.value)} ({self.context}; {self.images:,} images)"


def percent(fraction: float) -> str:
    """A fraction in percent: with one decimal place, or with more if it is positive and below 0.1 %.

    Examples:
        >>> percent(0.25), percent(1 / 3000), percent(0.0)
        ('25.0', '0.03', '0.0')
    """
    value = 100 * fraction
    digits = math.ceil(-math.log10(value)) if 1e-4 <= value < 0.1 else 1
    return f"{value:.{digits}f}"


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Accuracy of logits (batch, classes) for labels (batch,); NaN if a logit is NaN."""
    if logits.isnan().any():
        return math.nan
    return (logits.argmax(1) == labels).double().mean().item()


def retrieval_accuracy(queries: Tensor, keys: Tensor) -> float:
    """Fraction of queries whose own key has the largest cosine similarity among all keys, both (batch, dim)."""
    rows, columns = (F.normalize(each.cpu().double()) for each in (queries, keys))  # they may be nearly parallel
    return accuracy(rows @ columns.T, torch.arange(len(rows)))


def mean_colours(images: Tensor) -> Tensor:
    """Mean colours (batch, channels) of images (batch, channels, height, width), centred over the batch."""
    means = images.mean((2, 3))
    return means - means.mean(0)


def loss_score(loss: float, chance: float | None) -> PretextScore:
    """A loss with the loss at chance level as the trivial baseline; None if that is unknown."""
    return PretextScore("loss", loss, chance, "loss at chance level", higher_is_better=False)


def classification_score(name: str, model: nn.Module, data: Sequence[Tensor]) -> PretextScore:
    """Accuracy of a classifier on (images, labels), with chance level as the trivial baseline."""
    logits = in_batches(model, data[0])
    return PretextScore(name, accuracy(logits, data[1]), 1 / logits.shape[1], "chance level", is_accuracy=True)


def retrieval_score(
    what: str, queries: Tensor, keys: Tensor, views: tuple[Tensor, Tensor] | None = None
) -> PretextScore:
    """Retrieval accuracy of keys by queries, both (batch, dim).

    The trivial baseline is the better of chance level and retrieval by the mean colour of the views.

    Args:
        what: What is retrieved, for the name of the metric.
        queries: Embeddings of the queries, one row per image.
        keys: Embeddings of the keys, in the same order.
        views: Views of queries and of keys, both (batch, channels, height, width). None: the baseline is chance level.
    """
    name, value = f"retrieval accuracy of {what} among {len(queries)} images", retrieval_accuracy(queries, keys)
    if views is None:
        return PretextScore(name, value, 1 / len(queries), "chance level", is_accuracy=True)
    by_colour = retrieval_accuracy(*map(mean_colours, views))
    trivial = max(by_colour, 1 / len(queries))
    return PretextScore(name, value, trivial, "nearest mean colour", is_accuracy=True)


def reconstruction_score(
    name: str,
    model: nn.Module,
    data: Sequence[Tensor],
    error: Callable[[Tensor, Tensor], Tensor],
) -> PretextScore:
    """Reconstruction error of a network.

    The trivial baseline is the better of the corrupted input and the mean of the evaluated images.

    Args:
        name: Name of the metric.
        model: Network from corrupted images to reconstructions.
        data: Corrupted and clean images, both (batch, channels, height, width).
        error: Error of (reconstruction, clean image); lower is better.
    """
    corrupted, clean = data[0], data[1]
    reconstruction = in_batches(lambda images: resized_to(model(images), clean.shape[-2:]), corrupted)
    mean = clean.mean(0, keepdim=True).expand_as(clean)
    trivial = min(error(corrupted, clean).item(), error(mean, clean).item())
    value = error(reconstruction, clean).item()
    return PretextScore(name, value, trivial, "best of the mean image and the input", higher_is_better=False)


def in_batches(function: Callable[..., Any], *inputs: Tensor, size: int = BATCH) -> Any:
    """Apply a function to the inputs in batches, and concatenate the results.

    Args:
        function: Function from batches of all inputs to a tensor or a tuple of tensors.
        *inputs: Tensors of equal length.
        size: Number of rows per batch.
    """
    results = [function(*parts) for parts in zip(*(torch.split(rows, size) for rows in inputs), strict=True)]
    if isinstance(results[0], tuple):
        return tuple(torch.cat(parts) for parts in zip(*results, strict=True))
    return torch.cat(results)
