"""Transfer: a head on a frozen backbone, or the fine-tuning of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from typing_extensions import Self, Unpack

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.engine.core.attributes import check_network
from super_selfish.engine.core.setup import ImageOptions, Setup, with_passed_options
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import DataError
from super_selfish.evaluation.classification import numbered_as
from super_selfish.models.combined import CombinedNet
from super_selfish.models.shapes import output_shape
from super_selfish.pretext.base import LabelledDataset, PretextDataset, TargetDataset, split_targets


class LabelSupervisor(Supervisor):
    """Train a network with labels; by default only the predictor, on a backbone that stays as it is.

    The frozen backbone runs in eval mode without gradient: its weights, batch statistics and ``requires_grad`` flags
    are as before when training is over.

    Args:
        model: A backbone with a predictor behind it. It gets the names of the classes (``model.classes``); one that has
            them already keeps its numbers, and labels of the same class get them.
        dataset: Labelled images: a folder with a subfolder a class, a data set of (image, label), or (images, labels).
            With ``loss``, targets may be of any kind: several labels, numbers, masks as large as the images.
        loss: Criterion of (predictions, targets), with the targets as the data set returns them (batch, ...); cross
            entropy of class ids if None.
        finetune: Train the backbone too.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`. A backbone from
            ``supervisor.get_backbone()`` brings the preprocessing that it was trained with.

    Raises:
        DataError: If the images have no labels, or classes that a network with named classes does not know.

    Examples:
        >>> import numpy as np
        >>> images, labels = np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 2
        >>> net = CombinedNet(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
        >>> supervisor = LabelSupervisor(net, (images, labels))
    """

    calls_parts = True  # where the backbone is frozen

    def __init__(
        self,
        model: CombinedNet,
        dataset: Any = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        finetune: bool = False,
        **images: Unpack[ImageOptions],
    ) -> None:
        check_network(model)
        images_only, targets = (dataset, None) if loss is None else split_targets(dataset)
        setup = Setup.of(images_only, images, backbone=model.backbone, predictor=model.predictor, loss=loss)
        stored = getattr(model.backbone, "preprocessing", None)
        if isinstance(stored, Preprocessing):
            setup.use(with_passed_options(stored, setup))
        wrapped = setup.dataset(LabelledDataset if loss is None else partial(TargetDataset, targets=targets))
        if wrapped is not None and targets is None and not has_targets(wrapped, class_ids=loss is None):
            raise DataError(
                "The images have no labels.",
                expected="a folder with a subfolder for each class, a data set of (image, label), or (images, labels)",
                received=type(dataset).__name__ if not isinstance(dataset, str) else repr(dataset),
                fix="For targets that are no class ids, pass a criterion: loss=nn.BCEWithLogitsLoss(), say."
                if loss is None
                else None,
            )
        super().__init__(model, wrapped, setup.criterion(nn.CrossEntropyLoss), setup=setup)
        self.finetune = finetune
        if wrapped is not None:
            self._name_classes(wrapped, checked=loss is None)

    def _name_classes(self, dataset: LabelledDataset, checked: bool) -> None:
        """Number the labels as the network does, or from now on, the network as the labels."""
        if self.model.classes is not None:
            self._renumber(self.model.classes)
        outputs = output_shape(self.model.predictor, self.feature_shape or ())[-1]
        if checked:
            self._check_labels(self.dataset, outputs)
        if self.model.classes is None:
            numbers = tuple(map(str, range(outputs))) if checked else None  # labels without names are outputs
            self.model.classes = dataset.images.class_names or numbers

    def use_classes(self, names: Sequence[str] | None) -> None:
        """Take the names of the classes from a weights file, and number the labels of the images alike."""
        if names is not None and isinstance(self.dataset, LabelledDataset):
            self._renumber(names)
        super().use_classes(names)

    def _renumber(self, names: Sequence[str]) -> None:
        self.dataset = numbered_as(self.dataset, names)
        self._setup.images = self.dataset.images

    def pretext_dataset(self, images: object = None) -> Any:
        """The supervisor's own images, or others with their labels numbered as the network numbers classes."""
        found = super().pretext_dataset(images)
        known = self.model.classes
        return numbered_as(found, known) if known is not None and isinstance(found, LabelledDataset) else found

    def _check_labels(self, dataset: PretextDataset, outputs: int) -> None:
        if dataset.images.kind == "dataset":
            return  # each label would cost an image
        labels = {dataset.images.label(index) for index in range(len(dataset))}
        wrong = sorted(label for label in labels if label is not None and not 0 <= label < outputs)
        if wrong or None in labels:
            raise DataError(
                f"The labels do not fit the predictor, which has {outputs} outputs.",
                expected=f"labels from 0 to {outputs - 1} for every image",
                received=f"labels such as {wrong[-1]}" if wrong else "images without a label",
                fix=f"Size its last layer by the number of classes: {1 + wrong[-1]}."
                if max(wrong, default=0) > 0
                else None,
            )

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The predictor's parameters; with ``finetune`` the backbone's too."""
        part = self.model if self.finetune else self.model.predictor
        return [parameter for parameter in part.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> Self:
        """Training mode, in which a frozen backbone stays in eval mode."""
        super().train(mode)
        if not self.finetune:
            self.model.backbone.eval()
        return self

    def _forward(self, data: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = data
        if self.finetune:
            return self.loss(self.model(images), labels)
        return self.loss(self.model.with_frozen_backbone(images), labels)


def has_targets(dataset: PretextDataset, *, class_ids: bool) -> bool:
    """Whether the first image has a label, or a target of any kind."""
    return (dataset.images.label(0) if class_ids else dataset.images.with_target(0)[1]) is not None
