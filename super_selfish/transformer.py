"""Self-supervised features as a scikit-learn transformer."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from torch import nn
from typing_extensions import Self

from super_selfish.distributed.placement import device_for_training
from super_selfish.engine.persistence import Persistence
from super_selfish.errors import ConfigurationError, validate_keywords
from super_selfish.renamed import old_names
from super_selfish.saved import load
from super_selfish.suggestions import did_you_mean
from super_selfish.supervisors import Supervisor, algorithm_names, all_supervisors

logger = logging.getLogger("super_selfish")


class SelfSupervisedFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Transformer that trains a self-supervised algorithm on images, and extracts features.

    A fitted transformer is pickled with the weights file that ``supervisor_.save()`` writes, without the images.

    Args:
        algorithm: Name of the algorithm, such as ``"rotate_net"``.
        backbone: Name of the backbone; None: EfficientNet-B0.
        epochs: Number of epochs.
        batch_size: Images per step (batch size); reduced to the number of images if that is smaller.
        recipe: Training recipe, as for ``supervise``.
        resolution: Side of the images in px; None: the original size, or 225 px for image files.
        seed: Random seed of the initial weights and the training.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ...; ``"auto"`` or None: a GPU if available, otherwise the CPU.
        name: Name under which weights and checkpoints are saved; None: they are not saved.
        arguments: Additional constructor arguments of the algorithm, by name.

    Attributes:
        supervisor_: The trained supervisor. After unpickling, it has no images.
        n_features_out_: Dimension of the features.

    Raises:
        ConfigurationError: On fitting, if the algorithm is unknown.

    Examples:
        >>> images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
        >>> features = SelfSupervisedFeatures("rotate_net", backbone="small_resnet", epochs=1, batch_size=8)
        >>> features.fit(images).transform(images[:5]).shape
        (5, 256)
    """

    @validate_keywords()
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
        device: str | None = "auto",
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

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn's signature
        """Train the algorithm on images.

        Args:
            X: Images, in any form that a supervisor accepts: an array N×H×W[×C], a list of paths, a folder.
            y: Ignored.

        Returns:
            The fitted transformer.
        """
        algorithms: dict[str, Any] = dict(all_supervisors())
        if self.algorithm not in algorithms:
            raise ConfigurationError(
                "`algorithm` is unknown.",
                expected=", ".join(algorithms),
                received=f"algorithm={self.algorithm!r}",
                fix=did_you_mean(self.algorithm, {word: repr(name) for word, name in algorithm_names().items()}),
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            supervisor = algorithms[self.algorithm](
                X, backbone=self.backbone, resolution=self.resolution, **(self.arguments or {})
            )
        self.supervisor_ = supervisor if self.device in (None, "auto") else supervisor.to(self.device)
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
        """Extract features (images, n_features_out_) of images, with the preprocessing of the training."""
        if not hasattr(self, "supervisor_"):
            raise NotFittedError("SelfSupervisedFeatures is not fitted yet. Call fit(images) first.")
        features: npt.NDArray[np.float32] = self.supervisor_.extract(X)[0]
        return features

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:  # noqa: ARG002 - scikit-learn's signature
        """Names of the features: ``selfsupervisedfeatures0``, ``selfsupervisedfeatures1``, ..."""
        names = [f"selfsupervisedfeatures{index}" for index in range(self.n_features_out_)]
        return np.asarray(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "supervisor_")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "supervisor_" in state:
            state["supervisor_"] = supervisor_state(state["supervisor_"])
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        plain = {key: value for key, value in state.items() if key != "supervisor_"}
        super().__setstate__(plain)
        if "supervisor_" in state:
            self.supervisor_ = rebuild_supervisor(**state["supervisor_"])
            device = device_for_training(self.supervisor_) if self.device in (None, "auto") else self.device
            if device is None:
                return
            try:
                self.supervisor_.to(device)
            except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
                self.supervisor_.cpu()
                logger.warning("Device %r is not available: features are computed on the CPU. %s", str(device), error)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))  # in memory, copy the supervisor with its images instead of saving it
        memo[id(self)] = copied
        for name, value in vars(self).items():
            setattr(copied, name, copy.deepcopy(value, memo))
        return copied


def supervisor_state(supervisor: Supervisor) -> dict[str, Any]:
    """The picklable state of a supervisor: its weights file, and user-supplied networks and functions.

    Raises:
        ConfigurationError: If the supervisor could not be rebuilt from its state.
    """
    arguments = supervisor.user_arguments
    custom = {key: value for key, value in arguments.items() if value is not None and not isinstance(value, str)}
    for key, value in custom.items():
        for name in names(value):
            if "<" in name:
                raise ConfigurationError(
                    f"`{key}` cannot be pickled.",
                    expected="classes and functions at the top level of a module",
                    received=name,
                    fix="Define it at the top level of a module, or save only the training: supervisor_.save(name).",
                )
    with tempfile.TemporaryDirectory() as folder:
        content = Persistence(supervisor).save(Path(folder, "features")).read_bytes()
    state: dict[str, Any] = {"artefact": content, "given": custom}  # stored in pickles: do not rename
    try:
        rebuild_supervisor(**copy.deepcopy(state))
    except Exception as error:
        raise ConfigurationError(
            f"The fitted transformer cannot be pickled, because it could not be rebuilt: {error}",
            fix="Do not replace the networks of `supervisor_` after fit().",
        ) from error
    return state


def rebuild_supervisor(artefact: bytes, given: Mapping[str, Any]) -> Supervisor:
    """Rebuild a supervisor on the CPU.

    Args:
        artefact: Content of the weights file.
        given: User-supplied networks and functions, by name of the argument.
    """
    custom = {key: value.cpu() if isinstance(value, nn.Module) else value for key, value in given.items()}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "features.safetensors").write_bytes(artefact)
        return load(Path(folder, "features"), **custom)


def names(value: Any) -> Iterator[str]:
    """Qualified names of the classes and functions by which pickle stores a value."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from names(part)
    elif isinstance(value, nn.Module):
        yield from (type(part).__qualname__ for part in value.modules())
    else:
        yield getattr(value, "__qualname__", type(value).__qualname__)


__getattr__ = old_names(__name__)
