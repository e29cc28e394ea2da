"""ExemplarNet: learn features by telling random versions of an image from those of all other images."""

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

VERSIONS = 4  # of an image in the picture of the exercise


class ExemplarNetSupervisor(Supervisor):
    """Each image is a class of its own; learn to tell of which image a random version was made.

    ``evaluate_pretext`` gives the accuracy on new random versions of the images that were trained on, since no other
    image has a class; the trivial baseline is chance level. Its ``images`` are only used where the supervisor has no
    data set, and then have to be the training images.

    Args:
        dataset: A folder, a data set, an array, a tensor; None to load weights only.
        n_classes: Images at most, at least 2: as many classes are told apart as there are images, up to this number.
        n_trans: Recipes for versions.
        max_elms: Places of a recipe.
        p: Probability that a place has an operation.
        backbone: Images to features: an ``nn.Module``, a name, or None for EfficientNet-B0 with a bottleneck.
        predictor: Features to one logit a class; None for a perceptron sized by the backbone.
        loss: Criterion of (logits, class ids); cross entropy if None.
        transformations: Makes the versions in place of ``n_trans``, ``max_elms`` and ``p``: a recipe, a transform of
            torchvision v2 or albumentations, or a function. It has to keep the size of the image.
        class_seed: Of the choice of images and of the operations of the recipes; training has a seed of its own.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit.
        DataError: If the images cannot be used.

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
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(2e-3),
        # Dosovitskiy et al., section 3: SGD with momentum, rate cut when the error stands still
        "paper": Recipe(sgd(), 0.01, 128, schedule=Schedule("steps", at=(0.4, 0.7, 0.9))),
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
        made = setup.dataset(
            lambda opened: ExemplarDataset(opened, transformations, n_classes, n_trans, max_elms, p, seed=class_seed)
        )
        classes = n_classes if made is None else len(made)
        # Differs from the paper: no dropout, but batch norm
        head = setup.head((1024, 1024), classes, resizable=True)
        super().__init__(head, made, setup.criterion(nn.CrossEntropyLoss), setup=setup)
        self.n_classes = n_classes
        self.n_trans = n_trans
        self.max_elms = max_elms
        self.p = p
        self.class_seed = class_seed

    def _prepare(self, train_loader: TrainLoader) -> None:  # noqa: ARG002 - the hook's
        if not isinstance(self.dataset, ExemplarDataset) or self.feature_shape is None or not self.forwards_as_planned:
            return
        self._check_classes(self.dataset)
        with contextlib.suppress(UnreadableImage):  # whether that is an error is said when training comes to it
            height, width, channels = self.dataset.sample(0, KeyedGenerator("size"))[0].shape
            if feature_shape(self.model.backbone, channels, (height, width)) != self.feature_shape:
                settled = self.preprocessing
                raise ConfigurationError(
                    "Versions have another size than the network was built for.",
                    expected="×".join(map(str, (*settled.resolution, settled.channels))),
                    received="×".join(map(str, (height, width, channels))),
                    fix="`transformations` has to keep the size of the images.",
                )

    def _check_classes(self, dataset: ExemplarDataset) -> None:
        """Make sure that the head has a logit for each image.

        Raises:
            ConfigurationError: If it has not.
        """
        (outputs,) = output_shape(self.model.predictor, self.feature_shape or ())
        if outputs != len(dataset):
            raise ConfigurationError(
                "The number of images differs from the number of classes of the head.",
                expected=f"the {outputs} images that it was trained on",
                received=f"{len(dataset)} images",
                fix="Use the images that were trained on, or start over with the trained backbone: "
                f"{type(self).__name__}(images, backbone=supervisor.get_backbone()).",
            )

    def _forward(self, data: tuple[Tensor, Tensor]) -> Tensor:
        versions, labels = data  # (batch, C, H, W) and (batch,)
        logits = self.model(versions)
        return self.loss(logits, labels)

    def _expected_loss(self) -> ExpectedLoss:
        stuck = "Every class is seen once an epoch, so it may take some epochs more; or lower `n_classes`."
        return ExpectedLoss(chance=math.log(max(2, min(self.n_classes, len(self.dataset or ())))), stuck=stuck)

    def _pretext_dataset(self, images: Any) -> Any:
        dataset = super()._pretext_dataset(images if self.dataset is None else None)
        self._check_classes(dataset)
        return dataset

    def _score_pretext(self, data: tuple[Tensor, Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        return classification_score("accuracy on new versions of the training images", self.model, data)

    def _preview(self, data: tuple[Tensor, Tensor]) -> Preview:
        exercise = self.dataset if self._shown is None else self._shown
        if not isinstance(exercise, ExemplarDataset):
            return super()._preview(data)
        labels = data[1].tolist()
        rows = [[CaptionedImage(exercise.original(label), f"image {exercise.chosen[label]}")] for label in labels]
        versions = [
            exercise.sample(label, KeyedGenerator("version", label, number))[0]
            for label in labels
            for number in range(VERSIONS)
        ]
        note = "Left, an image; right of it, random versions of it as the network sees them."
        answers: list[int] | None = None
        if self._train_state.step > 0 and exercise is self.dataset:
            seen = torch.stack([as_float(version, self.preprocessing) for version in versions]).to(self.device)
            answers = self.model(seen).argmax(1).tolist()
            right = sum(answer == labels[place // VERSIONS] for place, answer in enumerate(answers))
            note += f"\nAbove each, the network's answer: {right} of {len(versions)} right"
            note += f" (by chance 1 in {len(exercise):,})."
        elif self._train_state.step > 0:
            note += "\nNo answers: the network only knows the images that the supervisor was made with."
        for place, version in enumerate(versions):
            row, number = divmod(place, VERSIONS)
            answer = None if answers is None else answers[place]
            known = answer is not None and answer < len(exercise)
            caption = (
                f"version {number + 1}" if answer is None else f"image {exercise.chosen[answer]}" if known else "?"
            )
            rows[row].append(CaptionedImage(version, caption, None if answer is None else answer == labels[row]))
        return Preview("ExemplarNet: of which image is this a version?", note, rows)
