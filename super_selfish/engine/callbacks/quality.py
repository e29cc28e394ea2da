"""Watching a training: a file of its history, the quality of features without labels, and a score now and then."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import Callback, RunView
from super_selfish.errors import CheckpointError, DataError, check_argument, is_count
from super_selfish.evaluation.features import extract_features, pooled
from super_selfish.evaluation.knn import knn
from super_selfish.evaluation.linear import linear_probe
from super_selfish.evaluation.quality import quality
from super_selfish.evaluation.splits import split
from super_selfish.files import replacing, with_suffix
from super_selfish.loading.collate import Collator, Item, to_device
from super_selfish.models.combined import in_eval_mode

logger = logging.getLogger("super_selfish")

HISTORY = ".history.csv"
MOST = 256
"""Images whose features are measured each epoch."""

_SHARE = 20  # of the images of an epoch, one in so many
_FEWEST = 32  # that say something
_BATCH = 64


class HistoryFile(Callback):
    """Keeps ``<name>.history.csv``: a line an epoch, a column for each measure, whole at any time.

    Args:
        base: The path without suffix.
    """

    def __init__(self, base: Path) -> None:
        self.path = with_suffix(base, HISTORY)

    def on_epoch_end(self, run: RunView) -> None:
        """Write it anew; a full disk is a warning."""
        history = run.supervisor.history
        names = list(dict.fromkeys(key for entry in history for key in entry))
        text = io.StringIO()
        rows = csv.DictWriter(text, names, lineterminator="\n")
        rows.writeheader()
        rows.writerows(history)
        try:
            with replacing(self.path) as temporary:
                temporary.write_text(text.getvalue(), encoding="utf-8")
        except CheckpointError as error:
            logger.warning("The history is not written. %s", error)


class QualityWatch(Callback):
    """Adds to every epoch's entry what features are like, measured on a few images without labels.

    ``effective_rank``, ``std`` (1 if spread evenly) and ``uniformity`` as in
    :class:`~super_selfish.evaluation.Quality`; ``alignment``: mean squared distance between the features, of length
    one, of an image and of its mirrored, slightly enlarged version, in [0, 4]; ``consistency``: how often that version
    is the nearest of all, in [0, 1].

    Args:
        supervisor: What is trained; it must have images.
        count: How many are measured, evenly spaced.

    References:
        Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity", 2020.
    """

    def __init__(self, supervisor: SupervisorBase, count: int) -> None:
        self.supervisor = supervisor
        self.count = count
        self._images: Tensor | None = None

    def on_epoch_end(self, run: RunView) -> None:
        """Measure."""
        if self._images is None:
            self._images = some_images(self.supervisor, self.count)
        if len(self._images) > 1:
            run.supervisor.history[-1].update(measured(self.supervisor, self._images))


def images_to_watch(supervisor: SupervisorBase, asked: int | None) -> int:
    """How many images to measure each epoch: as asked, or by default at most a twentieth of an epoch; 0: none."""
    images = supervisor.image_dataset
    if images is None:
        return 0
    if asked is not None:
        return min(asked, len(images))
    allowed = min(MOST, len(images) // _SHARE)
    return allowed if allowed >= _FEWEST else 0


def some_images(supervisor: SupervisorBase, count: int) -> Tensor:
    """Images evenly spaced over the data set, as the network takes them (n, C, H, W); unreadable ones are left out."""
    images = supervisor.image_dataset
    found = []
    for index in evenly_spaced(len(images), count) if images is not None else []:
        try:
            found.append(images.read(index))  # type: ignore[union-attr]
        except DataError:
            continue
    return ready(supervisor, found) if found else torch.zeros(0)


def ready(supervisor: SupervisorBase, images: Sequence[Any]) -> Tensor:
    """Images that were read, as the network takes them (n, C, H, W), on the CPU."""
    batch = Collator()([Item(index, (image,)) for index, image in enumerate(images)])
    made: Tensor = to_device(batch, torch.device("cpu"), supervisor.preprocessing)[0]
    return made


def altered(images: Tensor) -> Tensor:
    """Images mirrored, with a tenth cut off at each side, as large as before."""
    height, width = images.shape[-2:]
    top, left = max(1, height // 10), max(1, width // 10)
    inner = images[..., top : height - top, left : width - left].flip(-1)
    return F.interpolate(inner, (height, width), mode="bilinear", align_corners=False, antialias=False)


@torch.no_grad()
def measured(supervisor: SupervisorBase, images: Tensor) -> dict[str, float]:
    """The measures of :class:`QualityWatch` by name."""
    with in_eval_mode(supervisor):
        backbone = supervisor.get_backbone()
        first, second = (features_of(backbone, part, supervisor.device) for part in (images, altered(images)))
    if not torch.isfinite(first).all() or not torch.isfinite(second).all():
        return {}
    told = quality(first)
    own, other = F.normalize(first.double()), F.normalize(second.double())
    nearest = (own @ other.T).argmax(1)
    return {
        "effective_rank": told.effective_rank,
        "std": told.std / told.std_uniform,
        "uniformity": told.uniformity,
        "alignment": float((own - other).square().sum(1).mean()),
        "consistency": float((nearest == torch.arange(len(own))).double().mean()),
    }


def features_of(backbone: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Features (n, dim) of images, on the CPU."""
    parts = torch.split(images, _BATCH)
    return torch.cat([pooled(backbone(part.to(device))).float().cpu() for part in parts])


class Probe(Callback):
    """Scores of features with labels, every few epochs: ``knn`` and ``probe`` in the history.

    Nothing of it reaches the training; do not choose by it what you will report on the same images.

    Args:
        data: Labelled images: a folder with a subfolder a class, a data set of (image, label), or (images, labels).
        test: Others to test on; None: a fifth of ``data``, the same each time.
        every: Epochs between two scores; the last epoch is scored in any case.
        linear: Fit a linear probe too, which takes longer than kNN.

    Examples:
        >>> import numpy as np
        >>> probe = Probe((np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 2), every=5)
    """

    def __init__(self, data: Any, test: Any = None, *, every: int = 10, linear: bool = True) -> None:
        check_argument(is_count(every, 1), "every", every, "a number of epochs, at least 1")
        self.data, self.test, self.every, self.linear = data, test, every, linear

    def on_train_begin(self, run: RunView) -> None:
        """Score what there is before training: bad data are told now."""
        self.before = self.scores(run.supervisor)

    def on_epoch_end(self, run: RunView) -> None:
        """Score, if it is time."""
        if run.finished_epochs % self.every == 0 or run.finished_epochs == run.epochs:
            run.supervisor.history[-1].update(self.scores(run.supervisor))

    def scores(self, supervisor: Any) -> dict[str, float]:
        """Accuracies in [0, 1] by name."""
        with in_eval_mode(supervisor):
            backbone = supervisor.get_backbone()
            x, y = extract_features(backbone, self.data)
            if y is None:
                raise DataError("`evaluate` needs labels.", expected="a folder with a subfolder for each class, say")
            if self.test is None:
                train, test = split(y, test=0.2, seed=0)
                test_x, test_y = x[test], y[test]
                x, y = x[train], y[train]
            else:
                test_x, labels = extract_features(backbone, self.test)
                if labels is None:
                    raise DataError("`evaluate` needs labels.", expected="labelled images in `test`")
                test_y = labels
            pair = (x, y, test_x, test_y)
        found = {"knn": float(knn(*pair))}
        if self.linear:
            found["probe"] = float(linear_probe(*pair, seed=0))
        return found


def as_probe(evaluate: Any) -> Callback | None:
    """What ``supervise(evaluate=...)`` was given, as a callback."""
    if evaluate is None or isinstance(evaluate, Callback):
        return evaluate
    return Probe(evaluate)
