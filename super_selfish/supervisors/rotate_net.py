"""RotateNet: learn features by telling how an image was turned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from typing_extensions import Unpack

from super_selfish.data.collate import batched_collate
from super_selfish.data.rotate import QUARTER_TURNS, RotateDataset, checked_rotations
from super_selfish.supervisors.base import Supervisor
from super_selfish.supervisors.setup import ImageOptions, Setup


class RotateNetSupervisor(Supervisor):
    """Turn each image by every angle, and learn to tell which angle it was.

    Fits images that have an upright: photographs of things, people, scenes. It cannot learn from images without one
    (satellite, microscopy): its accuracy then stays at chance.

    Args:
        dataset: A folder, a data set, an array, a tensor; None to load weights only.
        rotations: Angles in degrees, counter-clockwise; the classes of the task, in this order.
        backbone: Images to features: an ``nn.Module``, a name, or None for EfficientNet-B0 with a bottleneck.
        predictor: Features to one logit an angle; None for a perceptron sized by the backbone.
        loss: Criterion of (logits, rotation ids); cross entropy if None.
        transform: Called on each image before it is turned (random crop and flip in the paper's code).
        **images: See :class:`~super_selfish.supervisors.setup.ImageOptions`.

    Raises:
        ConfigurationError: If the angles make no task, or the networks do not fit.
        DataError: If the images cannot be used.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = RotateNetSupervisor(images, backbone="small_resnet")
        >>> supervisor.feature_dim
        256

    References:
        Gidaris, Singh and Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", 2018.
    """

    def __init__(
        self,
        dataset: Any = None,
        rotations: Sequence[float] = QUARTER_TURNS,
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        transform: Callable[[Any], Any] | None = None,
        **images: Unpack[ImageOptions],
    ) -> None:
        angles = checked_rotations(rotations)
        setup = Setup.of(dataset, images, backbone=backbone, predictor=predictor, loss=loss, transform=transform)
        super().__init__(
            setup.classifier(hidden=(1024, 256), outputs=len(angles)),
            setup.dataset(lambda opened: RotateDataset(opened, angles, transform=transform)),
            setup.criterion(nn.CrossEntropyLoss),
            batched_collate,
            setup=setup,
        )
        self.rotations = angles
        self.images_per_sample = len(angles)

    def _forward(self, data: tuple[Tensor, Tensor]) -> Tensor:
        turned, rotation = data  # (batch · R, C, S, S) and (batch · R,)
        logits = self.model(turned)
        return self.loss(logits, rotation)
