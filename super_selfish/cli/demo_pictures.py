"""The demo's pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import super_selfish.reports as reports
from super_selfish.cli.demo_images import Part
from super_selfish.cli.demo_scores import Views
from super_selfish.cli.demo_training import Course, Turned

_SHOWN = 8


def pretext(path: Path, turned: Turned, answers: npt.NDArray[np.int64]) -> None:
    """The first test images, turned by each angle, with the network's answer."""
    images, titles, right = [], [], []
    for index in range(min(_SHOWN, len(answers))):
        for place, angle in enumerate(turned.angles):
            said = int(answers[index, place])
            images.append(turned.inputs[index, place])
            titles.append(f"turned {angle:.0f}°\nsaid {turned.angles[said]:.0f}°")
            right.append(said == place)
    figure = reports.image_grid(
        images,
        titles,
        right=right,
        columns=8,
        title="The exercise: by which angle was the image turned?",
        subtitle=f"The first {len(images) // 4} test images, neither digit nor photograph seen in training. "
        "✓ right, ✗ wrong.",
    )
    reports.save(figure, path)


def loss(path: Path, history: Sequence[Mapping[str, Any]], course: Course) -> None:
    """The course of the training, with what guessing would give."""
    figure = reports.loss_curve(
        history,
        points=course.loss,
        chance=math.log(4),
        accuracy=course.accuracy,
        accuracy_chance=0.25,
        accuracy_name="angles told right on test images",
        title="Learning to tell by which angle an image was turned",
        subtitle="Guessing among four angles costs ln 4 = 1.39 and is right in 25 % of cases.",
    )
    reports.save(figure, path)


def neighbours(path: Path, train: Part, test: Part, before: Views, after: Views) -> None:
    """The first test image of each digit and the training images most like it, before and after training."""
    asked = [int(np.flatnonzero(test.labels == digit)[0]) for digit in np.unique(test.labels)]
    found = {
        name: reports.nearest(views.test[asked], views.train, k=6)
        for name, views in (("before training", before), ("after training", after))
    }
    hits = {name: float((train.labels[places] == test.labels[asked][:, None]).mean()) for name, places in found.items()}
    figure = reports.neighbours(
        [test.images[index] for index in asked],
        list(train.images),
        {f"{name}: {hits[name]:.0%} show the query's digit": places for name, places in found.items()},
        labels=train.labels.tolist(),
        query_labels=test.labels[asked].tolist(),
        title="Test images and the training images most like them",
        subtitle="✓ the same digit, ✗ another: the labels are only used for these marks. "
        "One query a digit, the first in the test part.",
    )
    reports.save(figure, path)


def feature_map(path: Path, test: Part, before: Views, after: Views) -> None:
    """The test images on a plane, before and after training."""
    figure = reports.feature_map(
        {"before training": before.test, "after training": after.test},
        test.labels,
        title=f"The {len(test.labels)} test images by their features (t-SNE)",
        subtitle="Each is drawn as its digit. The labels only colour the map: they were not used in training.",
        legend="digit",
    )
    reports.save(figure, path)
