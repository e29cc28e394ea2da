"""Transfer learning: train a head on a frozen backbone, or fine-tune both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from typing_extensions import Self, Unpack

from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing
from super_selfish.engine.core.attributes import check_network
from super_selfish.engine.core.setup import ImageOptions, Setup, with_passed_options
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import ConfigurationError, DataError, validate_keywords
from super_selfish.evaluation.classification import Predictions, numbered_as, predict
from super_selfish.models.combined import CombinedNet
from super_selfish.models.shapes import output_shape
from super_selfish.pretext.base import LabelledDataset, PretextDataset, TargetDataset, split_targets


class LabelSupervisor(Supervisor):
    """Train a network with labels; by default, only the predictor on a frozen backbone.

    The frozen backbone runs in eval mode without gradients. Training leaves its weights, batch norm
    statistics and ``requires_grad`` flags unchanged.

    Args:
        model: A backbone followed by a predictor. ``model.classes`` is set to the class names. If it is already set,
            labels are renumbered to match it.
        dataset: Labelled images: a folder with one subfolder per class, a data set of (image, label), or (images,
            labels). With ``loss``, targets may be of any kind: multiple labels, numbers, masks of the image size.
        loss: Criterion, called with predictions and targets (batch, ...) as the data set returns them; None: cross
            entropy of class ids.
        finetune: Train the backbone as well.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`. A backbone from
            ``supervisor.get_backbone()`` keeps the preprocessing of its training.

    Raises:
        DataError: If the images have no labels, or classes that are not in ``model.classes``.

    Examples:
        >>> import numpy as np
        >>> images, labels = np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 2
        >>> net = CombinedNet(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
        >>> supervisor = LabelSupervisor(net, (images, labels))
    """

    calls_parts = True  # if the backbone is frozen

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
                fix="For other targets than class ids, pass a criterion, such as loss=nn.BCEWithLogitsLoss()."
                if loss is None
                else None,
            )
        super().__init__(model, wrapped, setup.criterion(nn.CrossEntropyLoss), setup=setup)
        self.finetune = finetune
        if wrapped is not None:
            self._name_classes(wrapped, checked=loss is None)

    def _name_classes(self, dataset: LabelledDataset, checked: bool) -> None:
        """Renumber labels by the class names of the network; if it has none, set them."""
        if self.model.classes is not None:
            self._renumber(self.model.classes)
        outputs = output_shape(self.model.predictor, self.feature_shape or ())[-1]
        if checked:
            self._check_labels(self.dataset, outputs)
        if self.model.classes is None:
            numbers = tuple(map(str, range(outputs))) if checked else None  # without names, labels are output indices
            self.model.classes = dataset.images.class_names or numbers

    def use_classes(self, names: Sequence[str] | None) -> None:
        """Set the class names from a weights file, and renumber the labels to match."""
        if names is not None and isinstance(self.dataset, LabelledDataset):
            self._renumber(names)
        super().use_classes(names)

    def _renumber(self, names: Sequence[str]) -> None:
        self.dataset = numbered_as(self.dataset, names)
        self._setup.images = self.dataset.images

    def pretext_dataset(self, images: object = None) -> Any:
        """The supervisor's own data set, or other images with labels renumbered to match ``model.classes``."""
        found = super().pretext_dataset(images)
        known = self.model.classes
        return numbered_as(found, known) if known is not None and isinstance(found, LabelledDataset) else found

    def _check_labels(self, dataset: PretextDataset, outputs: int) -> None:
        if dataset.images.kind == "dataset":
            return  # reading a label may decode its image
        labels = {dataset.images.label(index) for index in range(len(dataset))}
        wrong = sorted(label for label in labels if label is not None and not 0 <= label < outputs)
        if wrong or None in labels:
            raise DataError(
                f"The labels do not fit the predictor, which has {outputs} outputs.",
                expected=f"labels from 0 to {outputs - 1} for every image",
                received=f"labels such as {wrong[-1]}" if wrong else "images without a label",
                fix=f"Set the number of outputs of its last layer to the number of classes: {1 + wrong[-1]}."
                if max(wrong, default=0) > 0
                else None,
            )

    @validate_keywords()
    def predict(
        self, images: object = None, *, batch_size: int = 64, num_workers: int = 0, on_error: str = "raise"
    ) -> Predictions:
        """Predict the classes of images, with the preprocessing used in training.

        Args:
            images: Images in any form that the constructor accepts, without labels; None: those of the supervisor.
            batch_size: Batch size.
            num_workers: Number of data-loading worker processes.
            on_error: ``"raise"`` an error for unreadable images, or ``"skip"`` them; they have no entry then.

        Returns:
            ``labels`` (names of the most probable classes), ``probabilities`` (float32 (images, classes)), ``classes``
            (all class names) and ``names`` of the images.

        Raises:
            ConfigurationError: If there are no images, or the network was not trained with class ids.
            DataError: If an image cannot be read.

        Examples:
            >>> import numpy as np
            >>> images, labels = np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 2
            >>> net = CombinedNet(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
            >>> predictions = LabelSupervisor(net, (images, labels)).predict(images[:3])
            >>> predictions.classes, predictions.probabilities.shape
            (('0', '1'), (3, 2))
        """
        data = self.image_dataset if images is None else images
        if data is None:
            raise ConfigurationError("There are no images.", fix="Pass them: predict(images).")
        opened = ImageDataset.from_(data, self.preprocessing)
        return predict(self.model, opened, batch_size=batch_size, num_workers=num_workers, on_error=on_error)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Parameters of the predictor; with ``finetune``, also those of the backbone."""
        part = self.model if self.finetune else self.model.predictor
        return [parameter for parameter in part.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> Self:
        """Set training mode, except for a frozen backbone, which stays in eval mode."""
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
