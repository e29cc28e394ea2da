"""Self-supervised features as a step of a scikit-learn pipeline."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from typing_extensions import Self

from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import all_supervisors


class SelfSupervisedFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Trains an algorithm on images, without their labels, and turns images into features.

    Args:
        algorithm: Its name, such as ``"rotate_net"``.
        backbone: A name; None for EfficientNet-B0.
        epochs: Passes over the images.
        batch_size: Images an update, at most as many as there are.
        recipe: As of ``supervise``.
        resolution: Side of the images in px; None: as they are, 225 for files.
        seed: Of initial weights and training.
        device: ``"cpu"``, ``"cuda"`` ...
        name: Where weights and checkpoints are stored; None: nowhere.
        arguments: More arguments of the algorithm's class, by name.

    Attributes:
        supervisor_: The trained supervisor, once fitted.
        n_features_out_: Length of the features.

    Raises:
        ConfigurationError: If there is no such algorithm.

    Examples:
        >>> images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
        >>> features = SelfSupervisedFeatures("rotate_net", backbone="small_resnet", epochs=1, batch_size=8)
        >>> features.fit(images).transform(images[:5]).shape
        (5, 256)
    """

    def __init__(
        self,
        algorithm: str = "momentum_contrast",
        *,
        backbone: str | None = "small_resnet",
        epochs: int = 50,
        batch_size: int = 64,
        recipe: str | None = "auto",
        resolution: int | None = None,
        seed: int = 0,
        device: str = "cpu",
        name: str | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.backbone = backbone
        self.epochs = epochs
        self.batch_size = batch_size
        self.recipe = recipe
        self.resolution = resolution
        self.seed = seed
        self.device = device
        self.name = name
        self.arguments = arguments

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - labels are of no use here
        """Train on images.

        Args:
            X: Anything that a supervisor can be made of: an array N×H×W[×C], a list of paths, a folder.
            y: Ignored.
        """
        algorithms: dict[str, Any] = dict(all_supervisors())
        if self.algorithm not in algorithms:
            raise ConfigurationError(
                "`algorithm` is unknown.", expected=", ".join(algorithms), received=f"algorithm={self.algorithm!r}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            supervisor = algorithms[self.algorithm](
                X, backbone=self.backbone, resolution=self.resolution, **(self.arguments or {})
            )
        self.supervisor_ = supervisor.to(self.device)
        size = min(self.batch_size, len(supervisor.dataset))
        settings: dict[str, Any] = {"epochs": self.epochs, "batch_size": size, "recipe": self.recipe, "seed": self.seed}
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "run") if self.name is None else self.name
            every = 0 if self.name is None else None
            self.supervisor_.supervise(name=place, verbose=False, checkpoint_every=every, **settings)
        with torch.no_grad():
            images = torch.zeros(1, supervisor.preprocessing.channels, *supervisor.preprocessing.resolution)
            backbone = self.supervisor_.get_backbone(output="pooled")
            self.n_features_out_ = int(backbone(images.to(supervisor.device)).shape[1])
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Features (images, n_features_out_) of images, with the preprocessing of the training."""
        if not hasattr(self, "supervisor_"):
            raise NotFittedError("SelfSupervisedFeatures has not been fitted: call fit(images) first.")
        features: npt.NDArray[np.float32] = self.supervisor_.extract(X)[0]
        return features

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:  # noqa: ARG002 - sklearn's
        """Names of the features: ``selfsupervisedfeatures0`` and so on."""
        names = [f"selfsupervisedfeatures{index}" for index in range(self.n_features_out_)]
        return np.asarray(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "supervisor_")
