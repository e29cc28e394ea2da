"""RotateNet: learn features by telling how an image was turned."""

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
    """Turn each image by every angle, and learn to tell which angle it was.

    Before it is turned, each image is cropped at random and mirrored half the time. Without that, the network finds
    shortcuts: JPEG leaves traces on a grid of pixels that differ between rows and columns, and tell the angle better
    than what is in the picture (see docs/papers/rotate_net.md for the measurement).

    Fits images that have an upright: photographs of things, people, scenes. It cannot learn from images without one
    (satellite, microscopy): its accuracy then stays at chance.

    ``evaluate_pretext`` gives the accuracy of the rotation angles; the trivial baseline is chance level.

    Args:
        dataset: A folder, a data set, an array, a tensor; None to load weights only.
        rotations: Angles in degrees, counter-clockwise; the classes of the task, in this order.
        backbone: Images to features: an ``nn.Module``, a name, or None for EfficientNet-B0 with a bottleneck.
        predictor: Features to one logit an angle; None for a perceptron sized by the backbone.
        loss: Criterion of (logits, rotation ids); cross entropy if None.
        crop: Smallest and largest area of a random crop before turning; None for the square in the middle.
        flip: Probability of mirroring before turning.
        transform: Called on each image before all that, with H×W×C arrays in and out.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If the angles make no task, or the networks do not fit.
        DataError: If the images cannot be used.

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
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(2e-3),
        # Gidaris et al., code for ImageNet: batches of 192, rate cut after 15, 30 and 45 of 50 epochs
        "paper": Recipe(sgd(5e-4, nesterov=True), 0.01, 192, schedule=Schedule("steps", at=(0.3, 0.6, 0.9))),
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
        turned, rotation = data  # (batch · R, C, S, S) and (batch · R,)
        logits = self.model(turned)
        return self.loss(logits, rotation)

    def _expected_loss(self) -> ExpectedLoss:
        stuck = (
            "Images without an upright (satellites, microscopes, textures) cannot be told from turned ones: take "
            "another algorithm, such as momentum_contrast. If yours have one, lower or raise `lr` by a factor of three."
        )
        return ExpectedLoss(chance=math.log(len(self.rotations)), stuck=stuck)

    def _score_pretext(self, data: tuple[Tensor, Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        return classification_score("accuracy of rotation angles", self.model, data)

    def _preview(self, data: tuple[Tensor, Tensor]) -> Preview:
        turned, rotation = data
        count = len(self.rotations)
        said = self.model(turned).argmax(1) if self._train_state.step else None
        panels = []
        for place, image in enumerate(self.preprocessing.visible(turned)):
            caption = f"turned {self.rotations[rotation[place]]:g}°"
            if said is not None:
                caption += f"\nsaid {self.rotations[said[place]]:g}°"
            panels.append(
                CaptionedImage(image, caption, None if said is None else bool(said[place] == rotation[place]))
            )
        note = "Each image is rotated by each angle; the network predicts which."
        if said is not None:
            right = (said == rotation).double().mean().item()
            note += f"\nTold right: {right:.0%}; guessing gives {1 / count:.0%}."
        rows = [panels[first : first + count] for first in range(0, len(panels), count)]
        return Preview("By which angle was the image turned?", note, rows)
