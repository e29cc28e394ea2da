"""How well a pretext task is solved: a score beside that of a trivial baseline, and the measures that scores share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.models.decoders import resized_to

BATCH = 64
"""Images that a network embeds at once."""


@dataclass(frozen=True)
class PretextScore:
    """A metric of the pretext task, and what a predictor scores that has learned nothing about single images.

    Attributes:
        name: Of the metric.
        value: What the network scores.
        trivial: What the trivial baseline scores; None if the algorithm defines none.
        baseline: What the trivial baseline is.
        higher_is_better: Whether a larger value is better.
        images: Number of images that were evaluated.

    Examples:
        >>> score = PretextScore("accuracy of rotation angles", 0.41, 0.25, "chance level", images=24)
        >>> print(score)
        accuracy of rotation angles: 0.410 (chance level: 0.250, higher is better, 24 images)
        >>> score.better_than_trivial
        True
    """

    name: str
    value: float
    trivial: float | None
    baseline: str
    higher_is_better: bool = True
    images: int = 0

    @property
    def better_than_trivial(self) -> bool | None:
        """Whether the network beats the trivial baseline; None if there is none. False if the value is not finite."""
        if self.trivial is None:
            return None
        return self.value > self.trivial if self.higher_is_better else self.value < self.trivial

    def __str__(self) -> str:
        baseline = "no trivial baseline" if self.trivial is None else f"{self.baseline}: {self.trivial:.3f}"
        direction = "higher" if self.higher_is_better else "lower"
        return f"{self.name}: {self.value:.3f} ({baseline}, {direction} is better, {self.images:,} images)"


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Fraction of rows (batch, classes) whose largest logit is that of the label (batch,); NaN if a logit is NaN."""
    if logits.isnan().any():
        return math.nan
    return (logits.argmax(1) == labels).double().mean().item()


def retrieval_accuracy(queries: Tensor, keys: Tensor) -> float:
    """Fraction of queries whose own key has the largest cosine similarity among all keys, both (batch, dim)."""
    similarities = F.normalize(queries) @ F.normalize(keys).T
    return accuracy(similarities, torch.arange(len(similarities), device=similarities.device))


def mean_colours(images: Tensor) -> Tensor:
    """Mean colours (batch, channels) of images (batch, channels, height, width), centred over the batch."""
    means = images.mean((2, 3))
    return means - means.mean(0)


def loss_score(loss: float, chance: float | None) -> PretextScore:
    """A loss beside the loss at chance level, where that is known."""
    return PretextScore("loss", loss, chance, "loss at chance level", higher_is_better=False)


def classification_score(name: str, model: nn.Module, data: Sequence[Tensor]) -> PretextScore:
    """Accuracy of a classifier on (images, labels) beside chance level, one over the number of classes."""
    logits = in_batches(model, data[0])
    return PretextScore(name, accuracy(logits, data[1]), 1 / logits.shape[1], "chance level")


def retrieval_score(
    what: str, queries: Tensor, keys: Tensor, views: tuple[Tensor, Tensor] | None = None
) -> PretextScore:
    """Retrieval accuracy of keys by queries, both (batch, dim).

    The trivial baseline is chance level, or retrieval by the mean colour of what was embedded, whichever is better.

    Args:
        what: What is retrieved, for the name of the metric.
        queries: A row for each image.
        keys: In the same order.
        views: What queries and keys were made of, both (batch, channels, height, width); None: chance level alone.
    """
    name, value = f"retrieval accuracy of {what} among {len(queries)} images", retrieval_accuracy(queries, keys)
    if views is None:
        return PretextScore(name, value, 1 / len(queries), "chance level")
    by_colour = retrieval_accuracy(*map(mean_colours, views))
    return PretextScore(name, value, max(by_colour, 1 / len(queries)), "nearest mean colour")


def reconstruction_score(
    name: str,
    model: nn.Module,
    data: Sequence[Tensor],
    error: Callable[[Tensor, Tensor], Tensor],
) -> PretextScore:
    """Error of reconstructed images beside the best that is possible without a network.

    The trivial baseline is the better of two: the corrupted input as it is, and the mean of the evaluated images.

    Args:
        name: Of the metric.
        model: Corrupted images to reconstructions.
        data: Corrupted and clean images, both (batch, channels, height, width).
        error: Of (reconstruction, clean image); lower is better.
    """
    corrupted, clean = data[0], data[1]
    reconstruction = in_batches(lambda images: resized_to(model(images), clean.shape[-2:]), corrupted)
    mean = clean.mean(0, keepdim=True).expand_as(clean)
    trivial = min(error(corrupted, clean).item(), error(mean, clean).item())
    value = error(reconstruction, clean).item()
    return PretextScore(name, value, trivial, "best of the mean image and the input", higher_is_better=False)


def in_batches(function: Callable[..., Any], *inputs: Tensor, size: int = BATCH) -> Any:
    """What a function returns for all rows of the inputs, computed ``size`` rows at a time to bound memory.

    Args:
        function: Of parts of all inputs, to a tensor or a tuple of tensors.
        *inputs: Tensors of equal length.
        size: Rows at a time.
    """
    results = [function(*parts) for parts in zip(*(torch.split(rows, size) for rows in inputs), strict=True)]
    if isinstance(results[0], tuple):
        return tuple(torch.cat(parts) for parts in zip(*results, strict=True))
    return torch.cat(results)
