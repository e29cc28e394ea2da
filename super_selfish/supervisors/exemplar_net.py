"""ExemplarNet: learn features by classifying which image a random version is derived from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from super_selfish.datasets.scaling import as_float
from super_selfish.engine.core.expected_loss import ExpectedLoss
from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adamw_recipe, sgd
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import ConfigurationError, UnreadableImage, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, classification_score
from super_selfish.loading.loader import TrainLoader
from super_selfish.models.shapes import feature_shape, output_shape
from super_selfish.pretext.exemplar import RULES, SEED, ExemplarDataset
from super_selfish.pretext.preview import CaptionedImage, Preview
from super_selfish.pretext.views import Views
from super_selfish.seeding import KeyedGenerator

VERSIONS = 4  # number of versions per image in previews


class ExemplarNetSupervisor(Supervisor):
    """Treat each image as a class, and classify random versions of the images.

    ``evaluate_pretext`` returns the accuracy on new random versions of the training images, since other images have no
    class; the trivial baseline is chance level. Its ``images`` are only used if the supervisor has no data set, and
    must then be the training images.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        n_classes: Maximum number of classes, at least 2. Of a larger data set, a random subset of this size is used.
        n_trans: Number of different compositions of operations from which versions are drawn.
        max_elms: Maximum number of operations of a composition.
        p: Probability of each of the ``max_elms`` operations.
        backbone: Network from images to features: an ``nn.Module`` or a name. None: EfficientNet-B0 with a bottleneck.
        predictor: Head from features to one logit per class. None: an MLP that fits the backbone.
        loss: Criterion of (logits, class ids). None: cross entropy.
        transformations: Transform or callable that returns a version, in place of ``n_trans``, ``max_elms`` and ``p``;
            transforms of torchvision v2 and albumentations are supported. It must keep the image size.
        class_seed: Random seed for the choice of images and operations; independent of the training seed.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit the images.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = ExemplarNetSupervisor(images, backbone="small_resnet")
        >>> supervisor.get_predictor().layers[-1]
        ResizableLinear(in_features=1024, out_features=8, bias=True)

    References:
        Dosovitskiy et al., "Discriminative Unsupervised Feature Learning with Exemplar Convolutional Neural Networks",
        2014.
    """

    aliases = ("exemplar", "exemplar_cnn")
    relative_cost = 1.0
    paper = Paper(
        "Dosovitskiy et al.",
        "Discriminative Unsupervised Feature Learning with Exemplar Convolutional Neural Networks",
        2014,
        "1406.6909",
    )
    family = "predictive"
    learns_by = "classifying which image a random version is of"
    use_when = "there are some thousand images, and you know what features should ignore"
    needs = Needs(batch=2)
    first_choice = True
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(2e-3),
        # Dosovitskiy et al., section 3: SGD with momentum; the learning rate is reduced on plateaus
        "paper": Recipe(sgd(), 0.01, 128, schedule=Schedule("steps", at=(0.4, 0.7, 0.9), factor=1 / 3)),
    }

    @validate_arguments({**RULES, "class_seed": SEED})
    def __init__(
        self,
        dataset: Any = None,
        n_classes: int = 8000,
        n_trans: int = 100,
        max_elms: int = 10,
        p: float = 0.5,
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        transformations: Views | None = None,
        class_seed: int = 0,
        **images: Unpack[ImageOptions],
    ) -> None:
        given = {"backbone": backbone, "predictor": predictor, "loss": loss, "transformations": transformations}
        setup = Setup.of(dataset, images, **given)
        pretext = setup.dataset(
            lambda opened: ExemplarDataset(opened, transformations, n_classes, n_trans, max_elms, p, seed=class_seed)
        )
        classes = n_classes if pretext is None else len(pretext)
        # Differs from the paper: no dropout, but batch norm
        head = setup.head((1024, 1024), classes, resizable=True)
        super().__init__(head, pretext, setup.criterion(nn.CrossEntropyLoss), setup=setup)
        self.n_classes = n_classes
        self.n_trans = n_trans
        self.max_elms = max_elms
        self.p = p
        self.class_seed = class_seed

    def _prepare(self, train_loader: TrainLoader) -> None:  # noqa: ARG002 - the hook's
        if not isinstance(self.dataset, ExemplarDataset) or self.feature_shape is None or not self.forwards_as_planned:
            return
        self._check_classes(self.dataset)
        with contextlib.suppress(UnreadableImage):  # handled by the loader during training
            height, width, channels = self.dataset.sample(0, KeyedGenerator("size"))[0].shape
            if feature_shape(self.model.backbone, channels, (height, width)) != self.feature_shape:
                preprocessing = self.preprocessing
                raise ConfigurationError(
                    "The versions do not have the input size of the network.",
                    expected="×".join(map(str, (*preprocessing.resolution, preprocessing.channels))),
                    received="×".join(map(str, (height, width, channels))),
                    fix="`transformations` must keep the size of the images.",
                )

    def _check_classes(self, dataset: ExemplarDataset) -> None:
        """Check that the head has one logit per image.

        Raises:
            ConfigurationError: If the numbers differ.
        """
        outputs = self._count_logits()
        if outputs != len(dataset):
            raise ConfigurationError(
                "The number of images differs from the number of classes of the head.",
                expected=f"the {outputs} images of the training",
                received=f"{len(dataset)} images",
                fix="Pass the training images, or start over with the trained backbone: "
                f"{type(self).__name__}(images, backbone=supervisor.get_backbone()).",
            )

    def _forward(self, data: tuple[Tensor, Tensor]) -> Tensor:
        versions, labels = data  # (batch, C, H, W) and (batch,)
        logits = self.model(versions)
        return self.loss(logits, labels)

    def _expected_loss(self) -> ExpectedLoss:
        stuck = "Each class has one sample per epoch, so more epochs may help; or lower `n_classes`."
        classes = self._count_classes()
        return ExpectedLoss(chance=None if classes is None else math.log(max(2, classes)), stuck=stuck)

    def _count_classes(self) -> int | None:
        """Number of classes: one per image, or one per output of the head without images; None if unknown."""
        if self.dataset is not None:
            return min(self.n_classes, len(self.dataset))
        return None if self.feature_shape is None else self._count_logits()

    def _count_logits(self) -> int:
        """Number of outputs of the head."""
        (outputs,) = output_shape(self.model.predictor, self.feature_shape or ())
        return outputs

    def _pretext_dataset(self, images: Any) -> Any:
        dataset = super()._pretext_dataset(images if self.dataset is None else None)
        self._check_classes(dataset)
        return dataset

    def _score_pretext(self, data: tuple[Tensor, Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        return classification_score("accuracy on new versions of the training images", self.model, data)

    def _preview(self, data: tuple[Tensor, Tensor]) -> Preview:
        dataset = self.dataset if self._shown is None else self._shown
        if not isinstance(dataset, ExemplarDataset):
            return super()._preview(data)
        labels = data[1].tolist()
        rows = [[CaptionedImage(dataset.original(label), f"image {dataset.chosen[label]}")] for label in labels]
        versions = [
            dataset.sample(label, KeyedGenerator("version", label, number))[0]
            for label in labels
            for number in range(VERSIONS)
        ]
        note = "Each row shows an image and random versions of it, as the network sees them."
        predictions: list[int] | None = None
        if self._train_state.step > 0 and dataset is self.dataset:
            seen = torch.stack([as_float(version, self.preprocessing) for version in versions]).to(self.device)
            predictions = self.model(seen).argmax(1).tolist()
            note += "\nCaptions are predictions."
        elif self._train_state.step > 0:
            note += "\nNo predictions: only the training images have classes."
        for place, version in enumerate(versions):
            row, number = divmod(place, VERSIONS)
            predicted = None if predictions is None else predictions[place]
            known = predicted is not None and predicted < len(dataset)
            caption = (
                f"version {number + 1}"
                if predicted is None
                else f"image {dataset.chosen[predicted]}"
                if known
                else "unknown class"
            )
            correct_or_none = None if predicted is None else predicted == labels[row]
            rows[row].append(CaptionedImage(version, caption, correct_or_none))
        return Preview("ExemplarNet: which image is this a version of?", note, rows)
