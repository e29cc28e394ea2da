"""Monitors: callbacks that add a column to the history each epoch, and report what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.engine.callbacks.diagnostics import has_collapsed
from super_selfish.engine.core.callback import Callback, Column, RunView
from super_selfish.engine.core.expected_loss import CollapseRisk
from super_selfish.errors import DataError, check_argument, is_count
from super_selfish.evaluation.features import as_network_input, extract_features, pooled
from super_selfish.evaluation.knn import knn
from super_selfish.evaluation.linear import linear_probe
from super_selfish.evaluation.quality import quality
from super_selfish.evaluation.splits import split
from super_selfish.models.combined import in_eval_mode

logger = logging.getLogger("super_selfish")

MOST_IMAGES = 256
"""Images whose features are measured each epoch, unless ``watch`` asks for more."""

_IMAGES_PER_MEASURED = 20  # one image in so many is measured
_FEWEST_IMAGES = 32
_FEWEST_EMBEDDINGS = 4
_BATCH = 64


def spread(embeddings: Tensor) -> float:
    """How different embeddings are: 0 if all have one direction, nearly 1 if directions are uniform.

    It is 1 - |m|², where m is the mean of the normalised rows: one minus the mean cosine similarity of all pairs.

    Args:
        embeddings: (n, ...), one per image.

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
        Chen and He, "Exploring Simple Siamese Representation Learning", 2021, section 4.1: the spread of embeddings.
    """

    columns: ClassVar = {"spread": Column("Spread of embeddings", "near 0: representation collapse")}

    def __init__(self, compiled: bool = False) -> None:
        self.compiled = compiled
        self.risk: CollapseRisk | None = None
        self.has_warned = False
        self._last: Tensor | None = None
        self._handle: Any = None

    def on_train_begin(self, run: RunView) -> None:
        """Observe what the network returns, if its embeddings can collapse."""
        self.risk = run.supervisor._collapse_risk(max(2, run.loader.batch_size))
        if self.risk is not None:
            hook = torch.compiler.disable(self._keep) if self.compiled else self._keep  # type: ignore[no-untyped-call]
            self._handle = run.supervisor.model.register_forward_hook(hook)

    def on_train_end(self, run: RunView) -> None:  # noqa: ARG002 - the protocol's
        """Stop observing."""
        if self._handle is not None:
            self._handle.remove()
        self._last = None

    def on_epoch_end(self, run: RunView) -> None:
        """Measure the last batch, and warn."""
        if self.risk is None or self._last is None or len(self._last) < _FEWEST_EMBEDDINGS:
            return
        entry = run.supervisor._history[-1]
        entry["spread"] = spread(self._last)
        self._last = None
        if not self.has_warned and has_collapsed(self.risk, run.supervisor._history, run.train_state.step):
            self.has_warned = entry["collapsed"] = True
            logger.warning(
                "The embeddings have collapsed: after epoch %d they are nearly the same for all images (spread %.3f of "
                "1, loss %.3f). Likely cause: %s",
                entry["epoch"],
                entry["spread"],
                entry["loss"],
                self.risk.cause or self.risk.likely,
            )

    def _keep(self, network: nn.Module, inputs: Any, outputs: Any) -> None:  # noqa: ARG002 - the protocol's
        first = outputs[0] if isinstance(outputs, tuple | list) else outputs
        if network.training and isinstance(first, Tensor) and torch.is_grad_enabled():
            self._last = first.detach()


class FeatureMonitor(Callback):
    """Adds measures of the features of a few images, which need no labels, to the history.

    ``effective_rank``, ``std`` (1 if spread evenly) and ``uniformity`` as in
    :class:`~super_selfish.evaluation.Quality`; ``alignment``: mean squared distance between the normalised features of
    an image and of its mirrored, slightly enlarged version, in [0, 4]; ``consistency``: how often that version is the
    nearest of all, in [0, 1].

    Args:
        count: Number of images that are measured, evenly spaced.

    References:
        Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity", 2020.
    """

    columns: ClassVar = {
        "consistency": Column("Consistency", "how often an image's mirrored crop is its nearest neighbour", True),
        "effective_rank": Column("Effective rank", "number of dimensions that the features use"),
        "std": Column("Standard deviation", "of normalised features; 1: spread evenly"),
        "uniformity": Column("Uniformity", "lower: features are spread more evenly"),
        "alignment": Column("Alignment", "squared distance between an image and its mirrored crop"),
    }

    def __init__(self, count: int) -> None:
        self.count = count
        self._images: Tensor | None = None

    def on_epoch_end(self, run: RunView) -> None:
        """Measure."""
        supervisor = run.supervisor
        if self._images is None:
            self._images = as_network_input(readable(supervisor.image_dataset, self.count), supervisor.preprocessing)
        if len(self._images) > 1:
            with in_eval_mode(supervisor):
                supervisor._history[-1].update(measures(supervisor.get_backbone(), self._images, supervisor.device))


def monitored_count(images: int, asked: int | None) -> int:
    """Number of images to measure each epoch: as asked, or by default at most a twentieth of an epoch; 0: none."""
    if asked is not None:
        return min(asked, images)
    allowed = min(MOST_IMAGES, images // _IMAGES_PER_MEASURED)
    return allowed if allowed >= _FEWEST_IMAGES else 0


def readable(images: Any, count: int) -> list[Any]:
    """Images evenly spaced over a data set, without unreadable ones."""
    found = []
    for index in evenly_spaced(len(images), count):
        try:
            found.append(images.read(index))
        except DataError:
            continue
    return found


def mirrored_crop(images: Tensor) -> Tensor:
    """Images mirrored, with a tenth cut off at each side, as large as before."""
    height, width = images.shape[-2:]
    top, left = max(1, height // 10), max(1, width // 10)
    inner = images[..., top : height - top, left : width - left].flip(-1)
    return F.interpolate(inner, (height, width), mode="bilinear", align_corners=False, antialias=False)


@torch.no_grad()
def measures(backbone: nn.Module, images: Tensor, device: torch.device) -> dict[str, float]:
    """The measures of :class:`FeatureMonitor` by name; none where features are not finite."""
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
    """Features (n, dim) of images, on the CPU."""
    parts = torch.split(images, _BATCH)
    return torch.cat([pooled(backbone(part.to(device))).float().cpu() for part in parts])


class Probe(Callback):
    """Adds scores of the features on labelled images, ``knn`` and ``probe``, to the history every few epochs.

    Labels do not influence the training; do not choose an epoch by the images on which you report results.

    Args:
        data: Labelled images: a folder with a subfolder per class, a data set of (image, label), or (images, labels).
        test: Other such images to test on; None: a fifth of ``data``, the same each time.
        every: Number of epochs between two scores; the last epoch is scored in any case.
        linear: Fit a linear probe too, which takes longer than kNN.

    Examples:
        >>> import numpy as np
        >>> probe = Probe((np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 2), every=5)
    """

    columns: ClassVar = {
        key: Column(title, "accuracy on labelled images that are not used in training", True, True)
        for key, title in (("knn", "kNN"), ("probe", "Linear probe"))
    }

    def __init__(self, data: Any, test: Any = None, *, every: int = 10, linear: bool = True) -> None:
        check_argument(is_count(every, 1), "every", every, "a number of epochs, at least 1")
        self.data, self.test, self.every, self.linear = data, test, every, linear

    def on_train_begin(self, run: RunView) -> None:
        """Score the weights before training, so that unusable data is reported first."""
        self.before = self.scores(run.supervisor)

    def on_epoch_end(self, run: RunView) -> None:
        """Score, if it is time."""
        if run.finished_epochs % self.every == 0 or run.finished_epochs == run.epochs:
            run.supervisor._history[-1].update(self.scores(run.supervisor))

    def scores(self, supervisor: Any) -> dict[str, float]:
        """Accuracies in [0, 1] by name."""
        with in_eval_mode(supervisor):
            backbone = supervisor.get_backbone()
            x, y = self._labelled(backbone, self.data)
            if self.test is None:
                train, test = split(y, test=0.2, seed=0)
                parts = (x[train], y[train], x[test], y[test])
            else:
                parts = (x, y, *self._labelled(backbone, self.test))
        found = {"knn": float(knn(*parts))}
        if self.linear:
            found["probe"] = float(linear_probe(*parts, seed=0))
        return found

    def _labelled(self, backbone: nn.Module, data: Any) -> tuple[Any, Any]:
        features, labels = extract_features(backbone, data)
        if labels is None:
            raise DataError("`evaluate` needs labels.", expected="a folder with a subfolder per class, say")
        return features, labels


def as_probe(evaluate: Any) -> Sequence[Callback]:
    """The callback, if there is one, that ``supervise(evaluate=...)`` asks for."""
    if evaluate is None:
        return []
    return [evaluate if isinstance(evaluate, Callback) else Probe(evaluate)]
