"""What a supervisor is used for once it is trained, and before: features, previews, scores, files."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from typing_extensions import Self

from super_selfish.distributed.placement import device_for_training, mark_placed, was_placed
from super_selfish.engine import pretext_evaluation, previews
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.followers import Followers
from super_selfish.engine.persistence import Persistence
from super_selfish.errors import ConfigurationError, validate_keywords
from super_selfish.evaluation.features import extract_named, preprocess_batch
from super_selfish.evaluation.pretext import PretextScore
from super_selfish.files import SUFFIX, with_suffix
from super_selfish.models.backbones import BackboneOutput, Output
from super_selfish.models.combined import CombinedNet
from super_selfish.models.shapes import feature_shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("super_selfish")


class Trained(SupervisorBase):
    """Features, previews and files of a supervisor; the arguments are those of the base."""

    _hinted = False  # whether the user was told of a GPU that is not used

    @validate_keywords()
    def get_backbone(self, *, output: Output | None = None, averaged: bool = False) -> nn.Module:
        """The live backbone, in eval mode; it takes what :meth:`preprocess` returns.

        Args:
            output: ``"flat"``, ``"map"`` or ``"pooled"`` (independent of the resolution); None: as the backbone is.
            averaged: With the average of its weights that ``supervise(polyak=...)`` follows.

        Raises:
            ConfigurationError: If there is no average.
        """
        return self._presented(self._networks(averaged).backbone, output)

    def _networks(self, averaged: bool) -> CombinedNet:
        """The trained networks, or their average."""
        if not averaged:
            return self.model
        if self.average is None:
            raise ConfigurationError(
                "There is no average of the weights.",
                expected="a supervisor trained with supervise(polyak=0.999), say",
                received="averaged=True",
            )
        return self.average

    def _presented(self, backbone: nn.Module, output: Output | None) -> nn.Module:
        """A backbone in a form of output, in eval mode, with the preprocessing of its images attached."""
        chosen = backbone if output is None else BackboneOutput(backbone, output)
        object.__setattr__(chosen, "preprocessing", self.preprocessing)  # extract_features then treats images alike
        if was_placed(self):
            mark_placed(chosen)
        return chosen.eval()

    def get_predictor(self) -> nn.Module:
        """The live predictor, in eval mode."""
        return self.model.predictor.eval()

    @property
    def feature_dim(self) -> int:
        """Length of the backbone's flattened features: the input size of a head behind it."""
        settled = self.preprocessing
        shape = self.feature_shape or feature_shape(self.model.backbone, settled.channels, settled.resolution)
        return int(np.prod(shape))

    @validate_keywords()
    def preprocess(self, images: object) -> Tensor:
        """Images as the backbone takes them.

        Args:
            images: One image (a path, a PIL image, an H×W[×C] array, a C×H×W tensor), a list of these, or a batch
                (N×H×W×C array, N×C×H×W tensor). Tensors and float arrays are in the value range of the training data.

        Returns:
            Float32 (N, C, H, W) on the supervisor's device, in [0, 1], or normalised if the supervisor does that.
        """
        return preprocess_batch(images, self.preprocessing).to(self.device)

    @validate_keywords()
    def extract(
        self, data: object, *, batch_size: int = 64, num_workers: int = 0, on_error: str = "raise"
    ) -> tuple[npt.NDArray[np.float32], list[str]]:
        """Features of images, with the preprocessing of the training.

        Args:
            data: Anything that a supervisor can be made of.
            batch_size: Images at a time.
            num_workers: Processes that read ahead.
            on_error: ``"raise"`` or ``"skip"`` unreadable images, which then have no row.

        Returns:
            Float32 features (N, D), maps averaged over space, and the name of each image (its path in the folder).
        """
        if not self._hinted and (device := device_for_training(self)) is not None:
            self._hinted = True
            logger.warning('Features are computed on the CPU. To use the GPU, call .to("%s") first.', device)
        backbone = self.get_backbone()
        return extract_named(backbone, data, batch_size=batch_size, num_workers=num_workers, on_error=on_error)[::2]

    @validate_keywords()
    def preview(self, images: object = None, *, count: int = 6, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the pretext task: inputs, targets and, after training, the answers of the network.

        Args:
            images: Other images than the supervisor's own: anything that a supervisor can be made of.
            count: How many of them, evenly spaced over the data set.
            path: Where to write the figure too: a file that ends in .png, .pdf or .svg.

        Returns:
            A matplotlib figure.

        Raises:
            ConfigurationError: If there are no images.
        """
        from super_selfish.drawing.figures import save
        from super_selfish.drawing.previews import preview_figure

        self._refresh_followers()
        figure = preview_figure(previews.preview(self, images, count))
        if path is not None:
            save(figure, path)
        return figure

    @validate_keywords()
    def evaluate_pretext(
        self, images: object = None, *, seed: int = 0, count: int = 2000, on_error: str = "raise"
    ) -> PretextScore:
        """Score the pretext task on held-out images, beside a trivial baseline.

        Everything runs in eval mode and nothing of the supervisor changes, so this may be called during training. With
        few images the score is noisy: the standard error of an accuracy of 50 % on 24 images is 10 points.

        Args:
            images: Held-out images: anything that a supervisor can be made of; None: those of the supervisor itself.
            seed: Random seed for the choice of images and the augmentation.
            count: Largest number of images to evaluate, at least 2. They are scored in equal chunks of at most
                ``pretext_chunk`` (250) images and averaged.
            on_error: ``"raise"`` or ``"skip"`` unreadable images.

        Returns:
            The metric of the algorithm, as described in its class, with the value of a trivial baseline: chance level,
            the mean image, or class frequencies, say. ``print`` shows both; ``better_than_trivial`` compares them.

        Raises:
            ConfigurationError: If there are no images, or an argument is out of range.
            DataError: If an image cannot be read, or there are fewer than two.
        """
        self._refresh_followers()
        return pretext_evaluation.evaluate(self, images, seed, count, on_error)

    @validate_keywords()
    def save(self, name: str | os.PathLike[str] = "store/base") -> Self:
        """Write ``<name>.safetensors`` and ``<name>.json``, each whole or not at all.

        Raises:
            CheckpointError: If they cannot be written.
        """
        self._refresh_followers()
        Persistence(self).save(name, keep=True)
        return self

    @validate_keywords()
    def load(self, name: str | os.PathLike[str] = "store/base") -> Self:
        """Read what :meth:`save` or :meth:`supervise` wrote: weights, preprocessing and history; all or nothing.

        No data set is needed; networks whose sizes follow from the images are rebuilt.

        Raises:
            CheckpointError: If there is no such file, or it is damaged.
            CheckpointMismatch: If it belongs to another class, other networks or other settings.
        """
        Persistence(self).load(name)
        return self

    def _refresh_followers(self) -> None:
        if self._run is None:
            Followers(self).refresh()


def store(supervisor: Trained, base: Path, *, keep: bool) -> Path:
    """Write the weights file, by a subclass's own ``save`` if there is one.

    Args:
        supervisor: What was trained.
        base: The path without suffix.
        keep: Keep what stood there as ``*.prev``; an own ``save`` does so if it calls that of the library.
    """
    if type(supervisor).save is Trained.save:
        return Persistence(supervisor).save(base, keep=keep)
    supervisor.save(str(base))
    return with_suffix(base, SUFFIX)
