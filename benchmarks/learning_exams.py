"""What each exercise is worth on images that were not trained on, beside what can be had without learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from super_selfish.losses import masked_mse
from super_selfish.models.decoders import resized_to
from super_selfish.supervisors.exhibits import few

CHUNK = 250
OWN_CLASSES = 2000


class Exam(NamedTuple):
    """A measure on a batch: the network's value and that of a predictor that has learned nothing of single images.

    ``more`` tells whether a larger value is better.
    """

    measure: Callable[[Any, Any, dict[str, Any]], tuple[float, float]]
    what: str
    trivial: str
    more: bool


def told_right(supervisor: Any, data: Any, _: dict[str, Any]) -> tuple[float, float]:
    images, labels = data
    logits = supervisor.model(images)
    return (logits.argmax(1) == labels).double().mean().item(), 1 / logits.shape[1]


def denoised(supervisor: Any, data: Any, known: dict[str, Any]) -> tuple[float, float]:
    corrupted, clean = data[0], data[1]
    guess = resized_to(supervisor.model(corrupted), clean.shape[-2:])
    trivial = min(F.mse_loss(other.expand_as(clean), clean).item() for other in (corrupted, known["mean"]))
    return F.mse_loss(guess, clean).item(), trivial


def painted(supervisor: Any, data: Any, known: dict[str, Any]) -> tuple[float, float]:
    corrupted, clean, mask = data
    guess = resized_to(supervisor.model(corrupted), clean.shape[-2:])
    trivial = min(masked_mse(other.expand_as(clean), clean, mask).item() for other in (corrupted, known["mean"]))
    return masked_mse(guess, clean, mask).item(), trivial


def bins_told(supervisor: Any, data: Any, _: dict[str, Any]) -> tuple[float, float]:
    """Cross entropy of both bins beside that of the best constant: the entropy of how often each bin occurs here."""
    lab, labels = data
    logits = resized_to(supervisor.model(lab), labels.shape[-2:])
    own = supervisor.loss(logits, labels).item()
    shares = [torch.bincount(part.flatten()).double() / part.numel() for part in labels.unbind(1)]
    return own, sum(-(share[share > 0] * share[share > 0].log()).sum().item() for share in shares)


def recognised(supervisor: Any, data: Any, _: dict[str, Any]) -> tuple[float, float]:
    """Is G(E(x)) nearer to x than G(E(y)) of another image y?"""
    images = data[1]
    there = resized_to(supervisor.model(images), images.shape[-2:])
    own = (there - images).square().mean((1, 2, 3))
    other = (there.roll(1, 0) - images).square().mean((1, 2, 3))
    return (own < other).double().mean().item(), 0.5


def found(queries: Tensor, keys: Tensor) -> float:
    """Share of queries whose own key is the nearest of all keys (batch, dim)."""
    alike = F.normalize(queries) @ F.normalize(keys).T
    return (alike.argmax(1) == torch.arange(len(alike))).double().mean().item()


def colours(views: Tensor) -> Tensor:
    """What a view can be recognised by without learning: its mean colour, around that of all."""
    means = views.mean((2, 3))
    return means - means.mean(0)


def view_found(supervisor: Any, data: Any, known: dict[str, Any]) -> tuple[float, float]:
    first, second = data[0], known["again"][0] if supervisor.algorithm() == "instance_discrimination" else data[1]
    target = getattr(supervisor, "ema", supervisor.model)
    return found(supervisor.model(first), target(second)), found(colours(first), colours(second))


def puzzle_found(supervisor: Any, data: Any, _: dict[str, Any]) -> tuple[float, float]:
    own = found(supervisor._puzzle_codes(data[1]), supervisor.codes(data)[0])
    return own, found(colours(data[1]), colours(data[0]))


def colours_found(supervisor: Any, data: Any, _: dict[str, Any]) -> tuple[float, float]:
    lightness, others = supervisor.codes(data)
    return found(lightness, others), 1 / len(lightness)


def patches_told(supervisor: Any, data: Any, _: dict[str, Any]) -> tuple[float, float]:
    candidates = len(data[0].flatten(0, -4))
    return supervisor._forward(data).item(), (supervisor.k - supervisor.ignore) * math.log(candidates)


VIEW = "its other view found among 250"
EXAMS = {
    "exemplar_net": Exam(told_right, "new versions of its 2,000 images told right", "guess", True),
    "rotate_net": Exam(told_right, "angles told right", "guess", True),
    "jigsaw_net": Exam(told_right, "orders told right", "guess", True),
    "denoise_net": Exam(denoised, "squared error", "best of mean image and input", False),
    "context_net": Exam(painted, "squared error in the blocks", "best of mean image and mean colour", False),
    "split_brain_net": Exam(bins_told, "cross entropy of L and ab bins", "how often each occurs", False),
    "bi_gan": Exam(recognised, "G(E(x)) nearer to x than another's", "guess", True),
    "instance_discrimination": Exam(view_found, VIEW, "by mean colour", True),
    "contrastive_predictive_coding": Exam(patches_told, "cross entropy of patches", "guess", False),
    "momentum_contrast": Exam(view_found, VIEW, "by mean colour", True),
    "contrastive_multiview_coding": Exam(colours_found, "its colours found among 250", "guess", True),
    "byol": Exam(view_found, VIEW, "by mean colour", True),
    "pirl": Exam(puzzle_found, "its puzzle found among 250", "by mean colour", True),
}


@torch.no_grad()
def examine(supervisor: Any, images: dict[str, np.ndarray], most: int = 2000) -> tuple[float, float]:
    """Network and trivial predictor on images that were not trained on, mean over chunks of 250."""
    name = supervisor.algorithm()
    mean = torch.from_numpy(images["x_train"].mean(0) / 255).float().permute(2, 0, 1)
    supervisor.eval()
    if name == "exemplar_net":  # its classes are its images
        return EXAMS[name].measure(supervisor, few(supervisor, None, OWN_CLASSES, seed=1), {})
    values = []
    test = images["x_test"][np.random.default_rng(0).permutation(len(images["x_test"]))[:most]]
    for first in range(0, len(test) - CHUNK + 1, CHUNK):
        part = test[first : first + CHUNK]
        known = {"mean": mean, "again": few(supervisor, part, CHUNK, seed=1)}
        values.append(EXAMS[name].measure(supervisor, few(supervisor, part, CHUNK), known))
    own, trivial = np.mean(values, axis=0)
    return float(own), float(trivial)
