"""The demo's measurement: what features are worth with few labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import nn

from super_selfish.cli.demo_images import Labels, Part
from super_selfish.evaluation import extract_features, knn, linear_probe
from super_selfish.seeding import Stream

DRAWS = 5
NEIGHBOURS = 5
Rows = npt.NDArray[np.float32]


class Views(NamedTuple):
    """The same images in one kind of features: those that may be labelled, and those to test on."""

    train: Rows
    test: Rows


class Mean(NamedTuple):
    """A mean accuracy and its standard deviation over the draws of labelled images."""

    value: float
    spread: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ± {100 * self.spread:.1f}"


def pixels(train: Part, test: Part) -> Views:
    """The images themselves as features."""
    flat = [(part.images.reshape(len(part.images), -1) / 255 - 0.5).astype(np.float32) for part in (train, test)]
    return Views(flat[0], flat[1])


def seen_by(backbone: nn.Module, train: Part, test: Part) -> Views:
    """The images as a network sees them."""
    return Views(*(extract_features(backbone, part.images, batch_size=256)[0] for part in (train, test)))


def scores(views: Views, train: Labels, test: Labels, a_class: int) -> dict[str, Mean]:
    """Accuracy on the test digits with so many labels a class, drawn several times."""
    found: dict[str, list[float]] = {"linear probe": [], f"kNN (k={NEIGHBOURS})": []}
    probe, vote = found
    for draw in range(DRAWS):
        chosen = _draw(train, a_class, draw)
        given = (views.train[chosen], train[chosen], views.test, test)
        found[probe].append(linear_probe(*given))
        found[vote].append(knn(*given, NEIGHBOURS))
    means = {how: Mean(float(np.mean(values)), float(np.std(values))) for how, values in found.items()}
    means[f"kNN, all {len(train):,} labels"] = Mean(float(knn(views.train, train, views.test, test)), float("nan"))
    return means


def _draw(labels: Labels, a_class: int, draw: int) -> Labels:
    """Places of so many images of each class, at random."""
    order = np.array(Stream("demo labels", draw).permutation(len(labels)))
    return np.concatenate([order[labels[order] == label][:a_class] for label in np.unique(labels)])


def table(rows: Mapping[str, Mapping[str, Mean]]) -> str:
    """The scores as text: a row for each kind of features."""
    methods = list(next(iter(rows.values())))
    wide = max(len(name) for name in rows)
    widths = [max(len(method), 14) for method in methods]
    lines = ["  ".join([" " * wide, *(method.rjust(size) for method, size in zip(methods, widths, strict=True))])]
    for name, means in rows.items():
        cells = [_cell(means[method]).rjust(size) for method, size in zip(methods, widths, strict=True)]
        lines.append("  ".join([name.ljust(wide), *cells]))
    return "\n".join(f"  {line}" for line in lines)


def _cell(mean: Mean) -> str:
    return f"{100 * mean.value:.1f} %" if np.isnan(mean.spread) else str(mean)
