"""Use of a supervisor outside training: features, previews, evaluation, files."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from typing_extensions import Self

from super_selfish.distributed.placement import device_for_training, mark_placed, was_placed
from super_selfish.engine import pretext_evaluation, previews
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.followers import Followers
from super_selfish.engine.core.identity import as_json
from super_selfish.engine.persistence import Persistence
from super_selfish.errors import ConfigurationError, validate_keywords
from super_selfish.evaluation.features import extract_named, preprocess_batch
from super_selfish.evaluation.pretext import PretextScore
from super_selfish.files import SUFFIX, with_suffix
from super_selfish.models.averages import copied
from super_selfish.models.backbones import BackboneOutput, Output
from super_selfish.models.combined import CombinedNet, in_eval_mode
from super_selfish.models.shapes import feature_shape
from super_selfish.seeding import keyed_randomness
from super_selfish.storage.origins import set_origin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("super_selfish")


class Trained(SupervisorBase):
    """Features, previews, evaluation and files of a supervisor; takes the arguments of :class:`SupervisorBase`."""

    _hinted = False  # whether the hint about an unused GPU was logged
    _is_inspected = False  # whether the networks are in eval mode and handed out themselves

    @validate_keywords()
    def get_backbone(self, *, output: Output | None = None, averaged: bool = False) -> nn.Module:
        """Return the backbone in eval mode. Its input is the output of :meth:`preprocess`.

        It is the trained backbone itself. During :meth:`supervise`, callbacks get a copy, and custom stages a backbone
        with shared weights: neither affects the mode of the networks in training.

        Args:
            output: ``"flat"``, ``"map"`` or ``"pooled"`` (independent of the resolution); None: unchanged.
            averaged: Use the EMA of its weights from ``supervise(polyak=...)``.

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
                expected="a supervisor trained with, for example, supervise(polyak=0.999)",
                received="averaged=True",
            )
        return self.average

    def _presented(self, backbone: nn.Module, output: Output | None) -> nn.Module:
        """Return a backbone with the chosen output, in eval mode, with its preprocessing as an attribute."""
        chosen = self._outside_of_training(backbone if output is None else BackboneOutput(backbone, output))
        object.__setattr__(chosen, "preprocessing", self.preprocessing)  # used by extract_features
        set_origin(chosen, self._backbone_origin(output))
        if was_placed(self):
            mark_placed(chosen)
        return chosen.eval()

    def _outside_of_training(self, network: nn.Module) -> nn.Module:
        """Return a network that can be set to eval mode without affecting a run in progress."""
        if self._run is None or self._is_inspected:
            return network
        return copied(network, shared=not self._in_callback)

    @contextlib.contextmanager
    def _inspected(self) -> Iterator[None]:
        """Context manager: all networks are in eval mode, and :meth:`get_backbone` returns the trained one itself."""
        before = self._is_inspected
        self._is_inspected = True
        try:
            with in_eval_mode(self):
                yield
        finally:
            self._is_inspected = before

    def train(self, mode: bool = True) -> Self:
        """Set training mode, except for batch norm that was frozen when training began."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def _backbone_origin(self, output: Output | None) -> dict[str, Any] | None:
        """How :meth:`get_backbone` of a rebuilt supervisor returns such a network; None for a custom backbone."""
        given = self.user_arguments.get("backbone")
        if self.takes_model() or not (given is None or isinstance(given, str)):
            return None
        arguments = {"arguments": as_json(self.hyperparameters()), "preprocessing": self.preprocessing.as_json()}
        networks = dict.fromkeys(self.user_arguments) | {"backbone": given}
        return {"supervisor": self.algorithm(), **arguments, "networks": networks, "output": output}

    def get_predictor(self) -> nn.Module:
        """Return the predictor in eval mode; during training, as described for :meth:`get_backbone`."""
        return self._outside_of_training(self.model.predictor).eval()

    @property
    def feature_dim(self) -> int:
        """Number of features per image that :meth:`extract` returns: the input size of an ``nn.Linear`` as a head.

        Of a feature map, it is the number of channels.
        """
        settled = self.preprocessing
        shape = self.feature_shape or feature_shape(self.model.backbone, settled.channels, settled.resolution)
        return shape[0]

    @validate_keywords()
    def preprocess(self, images: object) -> Tensor:
        """Convert images to inputs of the backbone.

        Args:
            images: One image (a path, a PIL image, an H×W[×C] array, a C×H×W tensor), a list of these, or a batch
                (N×H×W×C array, N×C×H×W tensor). Tensors and float arrays are in the value range of the training data.

        Returns:
            Float32 (N, C, H, W) on the supervisor's device, in [0, 1], or normalised with ``normalize``.
        """
        return preprocess_batch(images, self.preprocessing).to(self.device)

    @validate_keywords()
    def extract(
        self, data: object, *, batch_size: int = 64, num_workers: int = 0, on_error: str = "raise"
    ) -> tuple[npt.NDArray[np.float32], list[str]]:
        """Extract features of images, with the preprocessing used in training.

        Args:
            data: Images in any form that the constructor accepts.
            batch_size: Batch size.
            num_workers: Number of data-loading worker processes.
            on_error: ``"raise"`` an error for unreadable images, or ``"skip"`` them: they get no row in the result.

        Returns:
            Float32 features (N, D), with feature maps averaged over space, and the names of the images (paths in the
            folder).
        """
        if not self._hinted and (device := device_for_training(self)) is not None:
            self._hinted = True
            logger.warning('Features are computed on the CPU. To use the GPU, call .to("%s") first.', device)
        settings: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers, "on_error": on_error}
        if self._run is None:
            return extract_named(self.get_backbone(), data, **settings)[::2]
        with keyed_randomness(0, self.device), self._inspected():
            return extract_named(self.get_backbone(), data, **settings)[::2]

    @validate_keywords()
    def preview(self, images: object = None, *, count: int = 6, path: str | os.PathLike[str] | None = None) -> Figure:
        """Plot the pretext task: inputs, targets and, after training, predictions.

        Args:
            images: Images in any form that the constructor accepts; None: those of the supervisor.
            count: Number of images, evenly spaced over the data set.
            path: File to save the figure to (.png, .pdf or .svg).

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
        """Evaluate the pretext task on held-out images, and compare the score with a trivial baseline.

        The evaluation runs in eval mode and does not change the supervisor, so it may be called during training. With
        few images the score is noisy: the standard error of an accuracy of 50 % on 24 images is 10 percentage points.

        Args:
            images: Held-out images in any form that the constructor accepts; None: those of the supervisor.
            seed: Random seed for the choice of images and the augmentation.
            count: Maximum number of images to evaluate, at least 2. The score is the mean over equal chunks of at most
                ``pretext_chunk`` (250) images.
            on_error: ``"raise"`` an error for unreadable images, or ``"skip"`` them.

        Returns:
            The metric of the algorithm, documented in its class, and the value of a trivial baseline, such as chance
            level, the mean image or class frequencies. ``print`` shows both; ``better_than_trivial`` compares them.

        Raises:
            ConfigurationError: If there are no images, or an argument is out of range.
            DataError: If an image cannot be read, or there are fewer than two images.
        """
        self._refresh_followers()
        return pretext_evaluation.evaluate(self, images, seed, count, on_error)

    @validate_keywords()
    def save(self, name: str | os.PathLike[str] = "store/base") -> Self:
        """Save ``<name>.safetensors`` and ``<name>.json``; each file is written atomically.

        Raises:
            CheckpointError: If they cannot be written.
        """
        self._refresh_followers()
        Persistence(self).save(name, keep=True)
        return self

    @validate_keywords()
    def load(self, name: str | os.PathLike[str] = "store/base") -> Self:
        """Load weights, preprocessing and history saved by :meth:`save` or :meth:`supervise`, all or nothing.

        No data set is needed. Networks whose sizes depend on the images are rebuilt.

        Raises:
            CheckpointError: If the file does not exist or is damaged.
            CheckpointMismatch: If it belongs to another class, other networks or other settings.
        """
        Persistence(self).load(name)
        return self

    def _refresh_followers(self) -> None:
        if self._run is None:
            Followers(self).refresh()


def store(supervisor: Trained, base: Path, *, keep: bool) -> Path:
    """Save the weights file, with ``save`` of a subclass if it is overridden.

    Args:
        supervisor: The trained supervisor.
        base: Path without suffix.
        keep: Rename an existing file to ``*.prev``. An overridden ``save`` does so if it calls ``super().save``.
    """
    if type(supervisor).save is Trained.save:
        return Persistence(supervisor).save(base, keep=keep)
    supervisor.save(str(base))
    return with_suffix(base, SUFFIX)
