"""Monitors: callbacks that add columns to the history after each epoch, and warn about problems."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.datasets.labels import matched, report_classes
from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.datasets.sources import open_source
from super_selfish.engine.callbacks.diagnostics import has_collapsed
from super_selfish.engine.core.callback import Callback, Column, RunView
from super_selfish.engine.core.expected_loss import CollapseRisk
from super_selfish.errors import DataError, check_argument, is_count
from super_selfish.evaluation.baseline import recorded_images, shared_images
from super_selfish.evaluation.features import as_network_input, extract_features, pooled
from super_selfish.evaluation.knn import knn
from super_selfish.evaluation.linear import linear_probe
from super_selfish.evaluation.quality import quality
from super_selfish.evaluation.splits import split

logger = logging.getLogger("super_selfish")

MOST_IMAGES = 256
"""Default limit of the number of images that are measured after each epoch; ``watch`` sets another one."""

_IMAGES_PER_MEASURED = 20  # at most one of 20 images is measured
_FEWEST_IMAGES = 32
_FEWEST_EMBEDDINGS = 4
_BATCH = 64


def spread(embeddings: Tensor) -> float:
    """Spread of embeddings: 0 if all have the same direction, close to 1 if directions are uniformly distributed.

    The spread is 1 - |m|², where m is the mean of the normalised embeddings. This equals one minus the mean cosine
    similarity of all pairs.

    Args:
        embeddings: Embeddings (n, ...), one per image.

    Examples:
        >>> spread(torch.eye(4)), spread(torch.ones(4, 4))
        (0.75, 0.0)
    """
    mean = F.normalize(embeddings.detach().flatten(1).double(), dim=1).mean(dim=0)
    return max(0.0, 1.0 - float(mean @ mean))


class CollapseMonitor(Callback):
    """Adds the spread of embeddings to the history, and warns once if they collapse.

    Args:
        compiled: Whether the network is compiled.

    References:
        Chen and He, "Exploring Simple Siamese Representation Learning", 2021, section 4.1, for the spread.
    """

    columns: ClassVar = {"spread": Column("Spread of embeddings", "near 0: representation collapse")}

    def __init__(self, compiled: bool = False) -> None:
        self.compiled = compiled
        self.risk: CollapseRisk | None = None
        self.has_warned = False
        self._last: Tensor | None = None
        self._handle: Any = None

    def on_train_begin(self, run: RunView) -> None:
        """Register a forward hook on the network, if its embeddings can collapse."""
        self.risk = run.supervisor._collapse_risk(max(2, run.loader.batch_size))
        if self.risk is not None:
            hook = torch.compiler.disable(self._store_output) if self.compiled else self._store_output  # type: ignore[no-untyped-call]
            self._handle = run.supervisor.model.register_forward_hook(hook)

    def on_train_end(self, run: RunView) -> None:  # noqa: ARG002 - signature of the hook
        """Remove the forward hook."""
        if self._handle is not None:
            self._handle.remove()
        self._last = None

    def on_epoch_end(self, run: RunView) -> None:
        """Compute the spread of the last batch, and warn if embeddings have collapsed."""
        if self.risk is None or self._last is None or len(self._last) < _FEWEST_EMBEDDINGS:
            return
        entry = run.supervisor._history[-1]
        entry["spread"] = spread(self._last)
        self._last = None
        if not self.has_warned and has_collapsed(self.risk, run.supervisor._history, run.train_state.step):
            self.has_warned = entry["collapsed"] = True
            logger.warning(
                "The embeddings have collapsed: after epoch %d, all images have nearly the same embedding (spread %.3f "
                "in [0, 1], loss %.3f). Likely cause: %s",
                entry["epoch"],
                entry["spread"],
                entry["loss"],
                self.risk.cause or self.risk.likely,
            )

    def _store_output(self, network: nn.Module, inputs: Any, outputs: Any) -> None:  # noqa: ARG002 - signature of the hook
        first = outputs[0] if isinstance(outputs, tuple | list) else outputs
        if network.training and isinstance(first, Tensor) and torch.is_grad_enabled():
            self._last = first.detach()


class FeatureMonitor(Callback):
    """Adds label-free metrics of the features of a few images to the history.

    - ``effective_rank``, ``std`` (1 if uniformly distributed) and ``uniformity`` are those of
      :class:`~super_selfish.evaluation.Quality`.
    - ``alignment`` is the mean squared distance between the normalised features of an image and of its mirrored crop,
      in [0, 4].
    - ``consistency`` is the fraction of images whose own mirrored crop is the nearest of all, in [0, 1].

    Args:
        count: Number of images, evenly spaced over the data set.

    References:
        Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity", 2020.
    """

    columns: ClassVar = {
        "consistency": Column("Consistency", "images whose mirrored crop is the nearest neighbour", True),
        "effective_rank": Column("Effective rank", "number of dimensions used by the features"),
        "std": Column("Standard deviation", "of normalised features; 1: uniformly distributed"),
        "uniformity": Column("Uniformity", "lower: more uniformly distributed features"),
        "alignment": Column("Alignment", "squared distance between an image and its mirrored crop"),
    }

    def __init__(self, count: int) -> None:
        self.count = count
        self._images: Tensor | None = None

    def on_epoch_end(self, run: RunView) -> None:
        """Compute the metrics."""
        supervisor = run.supervisor
        if self._images is None:
            self._images = as_network_input(readable(supervisor.image_dataset, self.count), supervisor.preprocessing)
        if len(self._images) > 1:
            with supervisor._inspected():
                supervisor._history[-1].update(measures(supervisor.get_backbone(), self._images, supervisor.device))


def monitored_count(images: int, asked: int | None) -> int:
    """Number of images to measure after each epoch.

    Args:
        images: Number of images of the data set.
        asked: Requested number; None: at most a twentieth of the data set, and 0 if that is too few.
    """
    if asked is not None:
        return min(asked, images)
    allowed = min(MOST_IMAGES, images // _IMAGES_PER_MEASURED)
    return allowed if allowed >= _FEWEST_IMAGES else 0


def readable(images: Any, count: int) -> list[Any]:
    """Images evenly spaced over a data set; unreadable images are skipped."""
    found = []
    for index in evenly_spaced(len(images), count):
        try:
            found.append(images.read(index))
        except DataError:
            continue
    return found


def mirrored_crop(images: Tensor) -> Tensor:
    """Mirror images, crop a tenth at each side, and resize them to the original size."""
    height, width = images.shape[-2:]
    top, left = max(1, height // 10), max(1, width // 10)
    inner = images[..., top : height - top, left : width - left].flip(-1)
    return F.interpolate(inner, (height, width), mode="bilinear", align_corners=False, antialias=False)


@torch.no_grad()
def measures(backbone: nn.Module, images: Tensor, device: torch.device) -> dict[str, float]:
    """The metrics of :class:`FeatureMonitor` by name; empty if features are not finite."""
    first, second = (features_of(backbone, part, device) for part in (images, mirrored_crop(images)))
    if not torch.isfinite(first).all() or not torch.isfinite(second).all():
        return {}
    measured = quality(first)
    own, other = F.normalize(first.double()), F.normalize(second.double())
    nearest = (own @ other.T).argmax(1)
    return {
        "effective_rank": measured.effective_rank,
        "std": measured.std / measured.std_uniform,
        "uniformity": measured.uniformity,
        "alignment": float((own - other).square().sum(1).mean()),
        "consistency": float((nearest == torch.arange(len(own))).double().mean()),
    }


def features_of(backbone: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Pooled features (n, dim) of images (n, C, H, W), on the CPU. The images are unchanged by in-place layers."""
    parts = torch.split(images, _BATCH)
    return torch.cat([pooled(backbone(part.to(device, copy=True))).float().cpu() for part in parts])


class Probe(Callback):
    """Evaluates the features on labelled images every few epochs, and adds ``knn`` and ``probe`` to the history.

    The labels do not influence the training. To report results, do not select an epoch by the test images.

    Args:
        data: Labelled images: a folder with a subfolder per class, a data set of (image, label), or (images, labels).
        test: Labelled test images, whose labels are matched by class name; None: a fixed fifth of ``data``.
        every: Number of epochs between two evaluations, also over a resume. The last epoch is always evaluated.
        linear: Also fit a linear probe, which takes longer than kNN.

    Examples:
        >>> import numpy as np
        >>> probe = Probe((np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 2), every=5)
    """

    columns: ClassVar = {
        key: Column(title, "accuracy on held-out labelled images", True, True)
        for key, title in (("knn", "kNN"), ("probe", "Linear probe"))
    }

    _reported = False
    _images: list[Any] | None = None  # images of the evaluation before training

    def __init__(self, data: Any, test: Any = None, *, every: int = 10, linear: bool = True) -> None:
        check_argument(is_count(every, 1), "every", every, "a number of epochs, at least 1")
        self.data, self.test, self.every, self.linear = data, test, every, linear

    def on_train_begin(self, run: RunView) -> None:
        """Evaluate the present weights, so that invalid data raises an error before training; report shared images."""
        self._images = []
        self.before = self.scores(run.supervisor)
        for note in shared_images(*self._images):
            logger.warning("`evaluate`: %s.", note)
        self._images = None

    def on_epoch_end(self, run: RunView) -> None:
        """Evaluate every few epochs, and after the last."""
        done = run.train_state.epoch - run.start_epoch  # continues over a resume
        if done % self.every == 0 or run.finished_epochs == run.epochs:
            run.supervisor._history[-1].update(self.scores(run.supervisor))

    def scores(self, supervisor: Any) -> dict[str, float]:
        """Accuracies in [0, 1] by name."""
        self._match(supervisor.preprocessing.max_pixels)
        with supervisor._inspected():
            backbone = supervisor.get_backbone()
            x, y = self._labelled(backbone, self.data)
            if self.test is None:
                train, test = split(y, test=0.2, seed=0)
                parts = (x[train], y[train], x[test], y[test])
            else:
                parts = (x, y, *self._labelled(backbone, self.test))
                self._report(y, parts[3])
        found = {"knn": float(knn(*parts))}
        if self.linear:
            found["probe"] = float(linear_probe(*parts, seed=0))
        return found

    def _match(self, max_pixels: int) -> None:
        """Open both data sets, if there are two: the same class gets the same label."""
        if self.test is not None:
            self.data = open_source(self.data, max_pixels=max_pixels)
            self.test = matched(open_source(self.test, max_pixels=max_pixels), self.data)

    def _report(self, y: Any, test_y: Any) -> None:
        """Log once the classes that only one of the data sets has."""
        if not self._reported:
            self._reported = True
            report_classes(y.tolist(), test_y.tolist(), self.test.class_names or self.data.class_names)

    def _labelled(self, backbone: nn.Module, data: Any) -> tuple[Any, Any]:
        with recorded_images(backbone) as images:
            features, labels = extract_features(backbone, data)
        if self._images is not None:
            self._images.append(images)
        if labels is None:
            raise DataError("`evaluate` needs labels.", expected="a folder with a subfolder per class, for example")
        return features, labels


def as_probe(evaluate: Any) -> Sequence[Callback]:
    """The callback for ``supervise(evaluate=...)``, or none."""
    if evaluate is None:
        return []
    return [evaluate if isinstance(evaluate, Callback) else Probe(evaluate)]
