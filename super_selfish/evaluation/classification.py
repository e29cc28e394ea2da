"""Evaluation of a network on labelled images."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from super_selfish.datasets.items import class_names
from super_selfish.datasets.labels import (
    UNKNOWN,
    check_classes,
    names_of,
    numbering,
    report_classes,
    with_classes,
)
from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing
from super_selfish.datasets.sources import ImageSource, open_source
from super_selfish.distributed import rank
from super_selfish.errors import ConfigurationError, DataError, validate_keywords
from super_selfish.evaluation.features import feature_batches
from super_selfish.evaluation.score import Score
from super_selfish.loading.collate import tree_map
from super_selfish.models.combined import CombinedNet, in_eval_mode
from super_selfish.pretext.base import LabelledDataset, PretextDataset, TargetDataset, split_targets

logger = logging.getLogger("super_selfish")


@validate_keywords()
def classification_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Accuracy: the fraction of correct predictions. The name is that of the release of 2020.

    Args:
        outputs: Logits (batch, classes).
        labels: Class ids (batch,).

    Examples:
        >>> classification_loss(torch.eye(3), torch.tensor([0, 1, 1])).item()
        0.6666666865348816
    """
    return (outputs.argmax(1) == labels).float().mean()


@validate_keywords()
def test(
    model: nn.Module,
    test_dataset: Any,
    loss_f: Callable[[Tensor, Tensor], Tensor] = classification_loss,
    batch_size: int = 48,
    shuffle: bool = False,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    *,
    verbose: bool = True,
    classes: Sequence[str] | None = None,
) -> float:
    """Evaluate a network on all samples of a data set, in eval mode and without gradients, and print the result.

    Args:
        model: Network from images to outputs. Its training mode is restored afterwards.
        test_dataset: A data set of (image tensor, label). A folder of classes and (images, labels) are preprocessed as
            in the training of the model's backbone.
        loss_f: Metric of (outputs, labels), averaged over the batch.
        batch_size: Number of samples per batch; a smaller last batch is weighted by its size.
        shuffle: Whether to shuffle the samples; the mean does not depend on it.
        num_workers: Number of data-loading workers.
        collate_fn: Merges a list of items into a mini-batch.
        verbose: Print the result on stdout, in the process of rank 0.
        classes: Names of the classes by output of the model. Labels are matched by name, so the data set may lack some
            classes. None: ``model.classes``, which ``LabelSupervisor`` sets.

    Returns:
        The mean over all samples. An accuracy is a ``Score``, which prints its protocol.

    Raises:
        DataError: If there are no samples or no labels, or the model does not know one of the classes.
        ConfigurationError: If ``classes`` is no list of names.
    """
    class_ids = loss_f is classification_loss
    known = class_names_of(model) if classes is None else check_classes(classes)
    dataset = _labelled(model, test_dataset, known if class_ids else None, class_ids=class_ids)
    loader = DataLoader(dataset, batch_size, shuffle, num_workers=num_workers, collate_fn=collate_fn)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    total, count, seen = 0.0, 0, set[int]()
    with in_eval_mode(model), torch.no_grad():
        for batch in loader:
            inputs, labels = tree_map(lambda tensor: tensor.to(device), tuple(batch))[:2]
            outputs = model(inputs)
            total += float(loss_f(outputs, labels)) * len(labels)
            count += len(labels)
            seen.update(labels.flatten().tolist() if known is not None else ())
    if count == 0:
        raise DataError("The test data set is empty.", expected="at least one sample", received="none")
    if known is not None:
        report_classes(range(len(known)), seen, known)
    else:
        _warn_of_other_classes(dataset, outputs)
    mean, protocol = total / count, f"eval mode, mean over {count} samples"
    result = Score(mean, f"accuracy, {protocol}") if loss_f is classification_loss else mean
    if verbose and rank() == 0:
        name = getattr(loss_f, "__name__", type(loss_f).__name__)
        line = str(result) if isinstance(result, Score) else f"{result:.4f} ({name}, {protocol})"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return result


test.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it


class Predictions(NamedTuple):
    """Predicted classes of images; one entry for each image.

    Attributes:
        labels: Name of the most probable class.
        probabilities: Float32 (images, classes), in the order of ``classes``; each row sums to 1.
        classes: Names of all classes.
        names: Names of the images: paths in the folder, or indices.
    """

    labels: list[str]
    probabilities: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    names: list[str]


class PredictionBatch(NamedTuple):
    """Predictions for consecutive images.

    Attributes:
        indices: Indices of the images; those of unreadable images are missing.
        probabilities: Float32 (images, classes); each row sums to 1.
        end: Index of the next image.
    """

    indices: list[int]
    probabilities: npt.NDArray[np.float32]
    end: int


def classes_of(model: CombinedNet) -> tuple[str, ...]:
    """The class names of a network by output.

    Raises:
        ConfigurationError: If it has none.
    """
    classes = class_names_of(model)
    if classes is None:
        raise ConfigurationError(
            "The network has no class names, so its outputs cannot be read as classes.",
            expected="a network that LabelSupervisor has trained with class ids, or model.classes = (name, ...)",
            received="model.classes is None",
        )
    return classes


def prediction_batches(model: CombinedNet, images: ImageDataset, **settings: Any) -> Iterator[PredictionBatch]:
    """Iterate over the predicted probabilities of images, in order; arguments as for :func:`predict`.

    Raises:
        ConfigurationError: If the classes have no names, or the outputs are not one logit per class.
        DataError: If an image cannot be read, or none can be.
    """
    classes, count = classes_of(model), 0
    for batch in feature_batches(model, images, **settings):
        logits = batch.features
        if batch.indices and (logits.ndim != 2 or logits.shape[1] != len(classes)):
            raise ConfigurationError(
                "The outputs of the network are not one logit per class.",
                expected=f"shape (images, {len(classes)})",
                received=f"shape {tuple(logits.shape)}",
            )
        count += len(batch.indices)
        if batch.indices:
            yield PredictionBatch(batch.indices, logits.softmax(1).numpy(), batch.end)
    if not count:
        raise DataError("None of the images can be read.", received=f"{len(images)} unreadable images")


def predict(model: CombinedNet, images: ImageDataset, **settings: Any) -> Predictions:
    """Predict the classes of images by the softmax of the outputs, in eval mode.

    Args:
        model: Network from images to logits (batch, classes), with names for its classes.
        images: The images, with the preprocessing of the training.
        **settings: ``batch_size``, ``num_workers`` and ``on_error``, as for ``extract_features``.

    Raises:
        ConfigurationError: If the classes have no names, or the outputs are not one logit per class.
        DataError: If an image cannot be read, or none can be.
    """
    classes, batches = classes_of(model), list(prediction_batches(model, images, **settings))
    probabilities = np.concatenate([batch.probabilities for batch in batches])
    names = [images.name(index) for batch in batches for index in batch.indices]
    return Predictions([classes[label] for label in probabilities.argmax(1)], probabilities, classes, names)


class _Renumbered(Dataset[Any]):
    """A data set of (image tensor, label, ...) with other numbers for its labels."""

    def __init__(self, dataset: Any, numbers: Mapping[int, int]) -> None:
        self.dataset, self.numbers = dataset, numbers

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image, label, *rest = self.dataset[index]
        return image, self.numbers.get(int(label), UNKNOWN), *rest


def class_names_of(model: object) -> tuple[str, ...] | None:
    """The names of a network's classes by output, if it has such."""
    names = getattr(model, "classes", None)
    return names if isinstance(names, tuple) and all(isinstance(name, str) for name in names) else None


def numbered_as(dataset: LabelledDataset, classes: Sequence[str]) -> LabelledDataset:
    """Labelled images whose labels are positions in a list of classes.

    Raises:
        DataError: If they are of a class that is not in it.
    """
    images = with_classes(dataset.images, classes)
    _refuse_unknown(images.class_names, classes)
    return dataset if images is dataset.images else LabelledDataset(images)


def _refuse_unknown(names: tuple[str, ...] | None, classes: Sequence[str]) -> None:
    unknown = [] if names is None else names[len(classes) :]
    if unknown:
        raise DataError(
            "The images are of classes that the network does not know.",
            expected=names_of(range(len(classes)), tuple(classes)),
            received=names_of(range(len(unknown)), tuple(unknown)),
            fix="Leave these images out, or train a network with a larger predictor on all classes.",
        )


def _labelled(model: nn.Module, data: Any, classes: tuple[str, ...] | None, *, class_ids: bool) -> Any:
    """A data set whose items are (image tensor, label) as the model takes them; any target without ``class_ids``."""
    if isinstance(data, PretextDataset):
        return data if classes is None or not isinstance(data, LabelledDataset) else numbered_as(data, classes)
    is_dataset = not isinstance(data, str | tuple | ImageSource) and hasattr(data, "__getitem__")
    if is_dataset and len(data) > 0 and isinstance(data[0], tuple | list) and isinstance(data[0][0], Tensor):
        return _renumbered(data, classes)  # already preprocessed by the user
    targets = None
    if not class_ids:
        data, targets = split_targets(data)
    preprocessing = getattr(getattr(model, "backbone", None), "preprocessing", None)
    if isinstance(preprocessing, Preprocessing):
        source: ImageSource = ImageDataset.from_(data, preprocessing)
    else:
        source = open_source(data)
    if not class_ids and (targets is not None or source.with_target(0)[1] is not None):
        return TargetDataset(source, targets)
    if source.label(0) is None:
        raise DataError(
            "The images have no labels.",
            expected="a folder with a subfolder for each class, a data set of (image, label), or (images, labels)",
            received=type(data).__name__,
        )
    dataset = LabelledDataset(source)
    return dataset if classes is None else numbered_as(dataset, classes)


def _warn_of_other_classes(dataset: Any, outputs: Any) -> None:
    """Log that labels may be numbered otherwise than the outputs of a network whose classes have no names."""
    names = class_names(dataset) if not isinstance(dataset, LabelledDataset) else dataset.images.class_names
    if names is not None and isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] != len(names):
        logger.warning(
            "The network has %d outputs, and the images are of %d classes: pass classes=, the names by output, if "
            "these are numbered otherwise.",
            *(outputs.shape[1], len(names)),
        )


def _renumbered(dataset: Any, classes: tuple[str, ...] | None) -> Any:
    own = class_names(dataset)
    if classes is None or own is None or own == classes:
        return dataset
    numbers, names = numbering(own, classes)
    _refuse_unknown(names, classes)
    return _Renumbered(dataset, numbers) if numbers else dataset
