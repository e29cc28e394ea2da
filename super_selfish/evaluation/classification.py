"""A network's answers on labelled images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing
from super_selfish.datasets.sources import ImageSource, open_source
from super_selfish.distributed import rank
from super_selfish.errors import DataError, validate_keywords
from super_selfish.evaluation.score import Score
from super_selfish.loading.collate import tree_map
from super_selfish.models.combined import in_eval_mode
from super_selfish.pretext.base import LabelledDataset, PretextDataset


@validate_keywords()
def classification_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Share of correct answers (an accuracy, whatever its old name says).

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
) -> float:
    """Evaluate a network on every sample of a data set, in eval mode and without gradient; print the result.

    Args:
        model: Images to outputs; it is in the same mode afterwards.
        test_dataset: A data set of (image tensor, label), or a folder of classes or (images, labels), which get the
            preprocessing that the model's backbone was trained with.
        loss_f: Measure of (outputs, labels), a mean over the batch.
        batch_size: Samples at a time; the last batch may be smaller and counts by its size.
        shuffle: Of no influence on the result of a mean.
        num_workers: Processes that read ahead.
        collate_fn: Makes a batch of items.
        verbose: Print the result on stdout, in the first of several processes.

    Returns:
        The mean; an accuracy is a ``Score``, which prints its protocol.

    Raises:
        DataError: If there are no samples or no labels.
    """
    dataset = _labelled(model, test_dataset)
    loader = DataLoader(dataset, batch_size, shuffle, num_workers=num_workers, collate_fn=collate_fn)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    total, count = 0.0, 0
    with in_eval_mode(model), torch.no_grad():
        for batch in loader:
            inputs, labels = tree_map(lambda tensor: tensor.to(device), tuple(batch))[:2]
            total += float(loss_f(model(inputs), labels)) * len(labels)
            count += len(labels)
    if count == 0:
        raise DataError("There is nothing to test on.", expected="at least one sample", received="none")
    mean, protocol = total / count, f"eval mode, mean over {count} samples"
    result = Score(mean, f"accuracy, {protocol}") if loss_f is classification_loss else mean
    if verbose and rank() == 0:
        name = getattr(loss_f, "__name__", type(loss_f).__name__)
        line = str(result) if isinstance(result, Score) else f"{result:.4f} ({name}, {protocol})"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return result


test.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it


def _labelled(model: nn.Module, data: Any) -> Any:
    """A data set whose items are (image tensor, label) as the model takes them."""
    if isinstance(data, PretextDataset):
        return data
    is_dataset = not isinstance(data, str | tuple | ImageSource) and hasattr(data, "__getitem__")
    if is_dataset and len(data) > 0 and isinstance(data[0], tuple | list) and isinstance(data[0][0], Tensor):
        return data  # the user has made tensors of the images, with whatever preprocessing
    preprocessing = getattr(getattr(model, "backbone", None), "preprocessing", None)
    if isinstance(preprocessing, Preprocessing):
        source: ImageSource = ImageDataset.from_(data, preprocessing)
    else:
        source = open_source(data)
    if source.label(0) is None:
        raise DataError(
            "The images have no labels.",
            expected="a folder with a subfolder for each class, a data set of (image, label), or (images, labels)",
            received=type(data).__name__,
        )
    return LabelledDataset(source)
