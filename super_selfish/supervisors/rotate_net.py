"""RotateNet: learn features by predicting the rotation angle of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from typing_extensions import Unpack

from super_selfish.engine.core.expected_loss import ExpectedLoss
from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adamw_recipe, sgd
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.engine.supervisor import Supervisor
from super_selfish.evaluation.pretext import PretextScore, classification_score
from super_selfish.loading.collate import batched_collate
from super_selfish.pretext.preview import CaptionedImage, Preview
from super_selfish.pretext.rotation import QUARTER_TURNS, RotateDataset, checked_crop, checked_flip, checked_rotations


# Differs from the paper: networks are those of this library
class RotateNetSupervisor(Supervisor):
    """Rotate each image by every angle, and classify the angles.

    By default, each image is randomly cropped and flipped before rotation. Otherwise the network learns a shortcut:
    JPEG compression leaves artifacts on a pixel grid that reveal the angle (measured in docs/papers/rotate_net.md).

    Requires images with a canonical orientation, such as photographs of objects, people and scenes. Without one, as in
    satellite or microscopy images, the accuracy stays at chance level.

    ``evaluate_pretext`` returns the accuracy of the rotation angles; the trivial baseline is chance level.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        rotations: Angles in degrees, counter-clockwise; one class per angle, in this order.
        backbone: Network from images to features: an ``nn.Module`` or a name. None: EfficientNet-B0 with a bottleneck.
        predictor: Head from features to one logit per angle. None: an MLP that fits the backbone.
        loss: Criterion of (logits, rotation ids). None: cross entropy.
        crop: Smallest and largest area of a random crop before rotation, relative to the centre square. None: centre
            crop.
        flip: Probability of a horizontal flip before rotation, in [0, 1].
        transform: Function from H×W×C arrays to H×W×C arrays, applied before the crop.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit the images.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = RotateNetSupervisor(images, backbone="small_resnet")
        >>> supervisor.feature_dim
        256

    References:
        Gidaris, Singh and Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", 2018.
    """

    aliases = ("rotation", "rotnet")
    relative_cost = 2.4
    paper = Paper(
        "Gidaris, Singh and Komodakis",
        "Unsupervised Representation Learning by Predicting Image Rotations",
        2018,
        "1803.07728",
    )
    family = "predictive"
    learns_by = "predicting the rotation angle of an image"
    use_when = "images have a canonical orientation; small budget, any batch size"
    needs = Needs(canonical_orientation=True)
    first_choice = True
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(2e-3),
        # Gidaris et al., code for ImageNet: batch size 192, learning rate decays after 15, 30 and 45 of 50 epochs
        "paper": Recipe(
            sgd(5e-4, nesterov=True), 0.01, 192, schedule=Schedule("steps", at=(0.3, 0.6, 0.9)), decay_all=True
        ),
    }

    def __init__(
        self,
        dataset: Any = None,
        rotations: Sequence[float] = QUARTER_TURNS,
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        crop: tuple[float, float] | None = (0.3, 1.0),
        flip: float = 0.5,
        transform: Callable[[Any], Any] | None = None,
        **images: Unpack[ImageOptions],
    ) -> None:
        angles, crop, flip = checked_rotations(rotations), checked_crop(crop), checked_flip(flip)
        setup = Setup.of(dataset, images, backbone=backbone, predictor=predictor, loss=loss, transform=transform)
        super().__init__(
            setup.head((1024, 256), len(angles), size=min(setup.preprocessing.resolution)),
            setup.dataset(lambda opened: RotateDataset(opened, angles, crop=crop, flip=flip, transform=transform)),
            setup.criterion(nn.CrossEntropyLoss),
            batched_collate,
            setup=setup,
        )
        self.rotations = angles
        self.crop = crop
        self.flip = flip
        self.images_per_sample = len(angles)
        self.input_size = (min(setup.preprocessing.resolution),) * 2

    def _forward(self, data: tuple[Tensor, Tensor]) -> Tensor:
        rotated, labels = data  # (batch · R, C, S, S) and (batch · R,)
        logits = self.model(rotated)
        return self.loss(logits, labels)

    def _expected_loss(self) -> ExpectedLoss:
        stuck = (
            "If the images have no canonical orientation (satellite, microscopy, textures), use another algorithm, "
            "such as momentum_contrast. Otherwise, change `lr` by a factor of three."
        )
        return ExpectedLoss(chance=math.log(len(self.rotations)), stuck=stuck)

    def _score_pretext(self, data: tuple[Tensor, Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        return classification_score("accuracy of rotation angles", self.model, data)

    def _preview(self, data: tuple[Tensor, Tensor]) -> Preview:
        rotated, labels = data
        count = len(self.rotations)
        predictions = self.model(rotated).argmax(1) if self._train_state.step else None
        panels = []
        for place, image in enumerate(self.preprocessing.visible(rotated)):
            caption, correct = f"rotated {self.rotations[labels[place]]:g}°", None
            if predictions is not None:
                caption += f"\npredicted {self.rotations[predictions[place]]:g}°"
                correct = bool(predictions[place] == labels[place])
            panels.append(CaptionedImage(image, caption, correct))
        note = "Each image is rotated by each angle; the network predicts the angle."
        rows = [panels[first : first + count] for first in range(0, len(panels), count)]
        return Preview("By which angle is the image rotated?", note, rows)
