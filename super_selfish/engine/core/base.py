"""Base class of all supervisors: networks, data set and training progress."""

from __future__ import annotations

import inspect
import os
import secrets
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing
from super_selfish.engine.core import identity
from super_selfish.engine.core.attributes import Attributes, check_network
from super_selfish.engine.core.deferred import DeferredState
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.constants import constants_by_argument
from super_selfish.errors import ConfigurationError, check_argument, validate_keywords
from super_selfish.images.buffers import Buffers
from super_selfish.loading.collate import Batch, Collate, to_device
from super_selfish.loading.loader import TrainState
from super_selfish.models.averages import Recorded
from super_selfish.models.backbones import channels_last_is_safe
from super_selfish.models.combined import CombinedNet
from super_selfish.models.shapes import feature_shape


class SupervisorBase(Attributes):
    """Networks, data set and progress; :class:`~super_selfish.engine.supervisor.Supervisor` adds the training.

    Args:
        model: The network to train.
        dataset: Map-style data set of the pretext task.
        loss: The criterion; None: cross entropy.
        collate_fn: Merges a list of items into a batch; None: the default of the data set.
        setup: Images and constructor arguments; passed by the subclasses in this library.

    Raises:
        ConfigurationError: If ``model`` is not a ``CombinedNet``, or ``loss`` is not callable.
    """

    images_per_sample = 1  # number of network inputs per image of the data set
    input_size: tuple[int, ...] | None = None  # (height, width) of the network inputs; None: that of the images
    calls_parts = False  # whether _forward calls submodules instead of the whole networks
    _in_callback = False  # whether a callback of a run is being called
    _initial_state: dict[str, str] | None = None  # hashes of criteria and metrics before training
    own_arguments: Mapping[str, Any] = MappingProxyType({})  # plain constructor arguments of user-defined classes
    is_same_dataset = True  # whether per-image state (bank entries) belongs to the present data set

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        signature = identity.full_signature(cls)
        cls.__signature__ = signature  # type: ignore[attr-defined]  # shown by help() and used for command-line flags
        takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
        if "__init__" in vars(cls):
            constructor = identity.recorded(cls.__init__)
            checked = constructor if takes_all else validate_keywords(signature.parameters)(constructor)
            cls.__init__ = checked  # type: ignore[method-assign]

    @validate_keywords()
    def __init__(
        self,
        model: CombinedNet,
        dataset: Any = None,
        loss: Callable[..., Tensor] | None = None,
        collate_fn: Collate | None = None,
        *,
        setup: Setup | None = None,
    ) -> None:
        check_network(model)
        usable = loss is None or (callable(loss) and not isinstance(loss, type))
        is_path = setup is None and isinstance(dataset, str | os.PathLike)
        check_argument(not is_path, "dataset", dataset, "a map-style data set, or `setup=Setup.of(...)` for a folder")
        check_argument(usable, "loss", loss, "None, a criterion such as nn.CrossEntropyLoss(), or a function")
        super().__init__()
        self.model = model
        self.average: CombinedNet | None = None
        self._deferred = DeferredState()
        self._setup = Setup.bare() if setup is None else setup
        passed = {"collate_fn": collate_fn} | ({"loss": loss} if setup is None else setup.given)
        self._constants = constants_by_argument(passed)
        self._shown: Any = None
        self.preprocessing = self._setup.preprocessing
        self.feature_shape: tuple[int, ...] | None = None
        self._tracked: dict[str, Any] = {}
        self._stored: dict[str, Any] = {}  # from the loaded file: training, versions, columns, hash
        if setup is not None:
            self.feature_shape = feature_shape(
                model.backbone, setup.preprocessing.channels, setup.preprocessing.resolution
            )
        self.dataset = dataset
        self.loss = nn.CrossEntropyLoss() if loss is None else loss
        self.collate_fn = collate_fn
        self._history: list[dict[str, Any]] = []
        self._train_state = TrainState()
        self._skipped: dict[int, str] = {}
        self._run_id = secrets.token_hex(8)
        self._settings: Settings | None = None
        self._run: Any = None
        self._forecast: Any = None
        self._recorded_weights = Recorded()
        self._appended: list[tuple[list[Any], Any]] = []  # lists and items that the current forward pass appended

    # Components

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    @property
    def image_dataset(self) -> ImageDataset | None:
        """The opened images; None without images, or if a bare ``Supervisor`` has a custom data set."""
        return self._setup.images

    @property
    def image_options(self) -> ImageOptions:
        """The image options passed to the constructor, except ``cache``, ``weights`` and ``image_key``."""
        return self._setup.options

    @property
    def user_arguments(self) -> dict[str, Any]:
        """Networks, criteria and callables passed to the constructor, by parameter name."""
        return self._setup.given

    @property
    def has_starting_weights(self) -> bool:
        """Whether ``weights`` was passed to the constructor."""
        return self._setup.weights is not None

    def check_readable(self) -> None:
        """Raise the deferred error if a file could not be read when the images were opened.

        Raises:
            UnreadableImage: If a file could not be read.
        """
        if self._setup.deferred_error is not None:
            raise self._setup.deferred_error

    def preparer(self) -> Callable[[Batch], Any]:
        """Return a function that moves a CPU batch to the device, scales and normalises it for ``_forward``."""
        device, preprocessing, buffers = self.device, self.preprocessing, Buffers()
        finish = None if channels_last_is_safe(self) else Tensor.contiguous
        return lambda batch: to_device(batch, device, preprocessing, finish, buffers)

    def fingerprint(self, *, renew: bool = False) -> dict[str, int | str] | None:
        """Fingerprint of the images; for a custom data set, its length.

        Args:
            renew: Discard the cached fingerprint. The next call computes it again.
        """
        setup = self._setup
        if renew:
            setup.fingerprint = None
        elif setup.fingerprint is None and setup.images is not None:
            setup.fingerprint = setup.images.fingerprint()
        elif setup.fingerprint is None and hasattr(self.dataset, "__len__"):
            setup.fingerprint = {"length": len(self.dataset)}
        return setup.fingerprint

    def pretext_dataset(self, images: object = None) -> Any:
        """The supervisor's own data set, or the same pretext task on other images.

        Args:
            images: Images in any form that the constructor accepts; for a custom data set, another such data set.

        Raises:
            ConfigurationError: If there are no images.
        """
        make = self._setup.make
        if images is None and self.dataset is not None:
            return self.dataset
        if images is not None and make is not None:
            return make(ImageDataset.from_(images, self.preprocessing))
        if not isinstance(images, str) and hasattr(images, "__getitem__") and hasattr(images, "__len__"):
            return images
        raise ConfigurationError(
            "There are no images for the pretext task.",
            expected="a supervisor with a data set, or images" if make else "a map-style data set like the trained one",
            received=f"images={images!r}",
            fix=f'For instance {type(self).__name__}("photos/").preview().',
        )

    def _pretext_dataset(self, images: object) -> Any:
        """Hook: the pretext task that :meth:`evaluate_pretext` scores."""
        return self.pretext_dataset(images)

    @contextmanager
    def showing(self, dataset: Any) -> Iterator[None]:
        """Context manager: previews show this data set."""
        self._shown = dataset
        try:
            yield
        finally:
            self._shown = None

    def use_preprocessing(self, stored: Preprocessing, twin: SupervisorBase | None = None) -> None:
        """Replace the preprocessing, and the networks if they do not match it.

        Args:
            stored: Preprocessing from a weights file.
            twin: A supervisor whose networks and pretext task match ``stored``; None: the present ones match.
        """
        setup = self._setup
        if twin is not None:
            for key, child in twin.named_children():
                setattr(self, key, child)
            self.feature_shape, self.input_size = twin.feature_shape, twin.input_size
            setup.make = twin._setup.make
        self.preprocessing = setup.preprocessing = stored
        if isinstance(setup.images, ImageDataset):
            setup.images.preprocessing = stored
            if twin is not None and setup.make is not None and self.dataset is setup.made:
                self.dataset = setup.dataset(setup.make)

    def use_classes(self, names: Sequence[str] | None) -> None:
        """Set the class names from a weights file; None: the file has none."""
        if names is not None:
            self.model.classes = tuple(names)

    def rebuilt_for(self, stored: Preprocessing) -> SupervisorBase:
        """Build a supervisor with the same arguments for another resolution and number of channels."""
        arguments = {
            key: value for key, value in identity.library_arguments(self).items() if key not in self.image_options
        }
        arguments |= {"resolution": stored.resolution, "channels": stored.channels, **self.user_arguments}
        with torch.random.fork_rng(devices=[]):
            twin: SupervisorBase = identity.library_class(type(self))(**arguments)
        return twin.to(self.device)

    # Description

    @classmethod
    def algorithm(cls) -> str:
        """The algorithm's name, such as ``rotate_net``: the class name in snake case without "Supervisor"."""
        return identity.algorithm_name(cls)

    @classmethod
    def takes_model(cls) -> bool:
        """Whether the constructor takes complete networks instead of building them to match the images."""
        return "model" in inspect.signature(identity.library_class(cls).__init__).parameters

    def hyperparameters(self) -> dict[str, Any]:
        """Constructor arguments with plain values, by name, and the image options that were passed."""
        return identity.library_arguments(self) | identity.own_arguments(self) | dict(self.image_options.items())

    def __repr__(self) -> str:
        given = {key: value for key, value in self.user_arguments.items() if value is not None}
        named = {key: value if isinstance(value, str) else type(value).__name__ for key, value in given.items()}
        arguments = ", ".join(f"{key}={value!r}" for key, value in (self.hyperparameters() | named).items())
        if self.dataset is not None and self.image_dataset is None:
            return f"{type(self).__name__}({arguments}) on {type(self.dataset).__name__}"
        images = "no images" if self.dataset is None else f"{len(self.dataset)} images"
        return f"{type(self).__name__}({arguments}) on {images}, {self.preprocessing.describe()}"

    # Training

    @abstractmethod
    def get_backbone(self) -> nn.Module:
        """The live backbone, in eval mode."""

    def networks(self) -> list[nn.Module]:
        """Networks that are called as a whole: trained networks, moving averages, a discriminator."""
        return [part for part in self.children() if isinstance(part, CombinedNet)]

    @property
    def forwards_as_planned(self) -> bool:
        """Whether ``_forward`` is not overridden, so that items have the structure that the library expects."""
        return type(self)._forward is identity.library_class(type(self))._forward and "_forward" not in vars(self)

    def backbones(self) -> list[nn.Module]:
        """The trained backbones: one, unless each view has its own encoder."""
        return [self.model.backbone]

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Every parameter that requires a gradient."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def parameters_by_loss(self) -> list[list[nn.Parameter]]:
        """Trainable parameters grouped by loss: one list, unless networks are adversarial."""
        return [self.trainable_parameters()]

    def parameter_groups(self, lr: float) -> list[Any]:  # noqa: ARG002 - for subclasses
        """Parameters or parameter groups for the optimizer."""
        return self.trainable_parameters()

    def keep_if_trained(self, kept: list[Any], thing: Any) -> None:
        """Append an item to a list from ``_forward``, for use in :meth:`_after_update`.

        During training, the item is removed again if no gradient of the loss of this forward pass is computed.
        """
        kept.append(thing)
        if self._run is not None:
            self._appended.append((kept, thing))
