"""The base of all supervisors: their networks, data set and progress."""

from __future__ import annotations

import inspect
import secrets
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing
from super_selfish.engine.core.attributes import Attributes, check_network
from super_selfish.engine.core.identity import algorithm_name, full_signature, library_class
from super_selfish.engine.core.late import LateState
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.errors import ConfigurationError, check_argument, validate_keywords
from super_selfish.images.buffers import Buffers
from super_selfish.loading.collate import Batch, Collate, to_device
from super_selfish.loading.loader import TrainState
from super_selfish.models.averages import Recorded
from super_selfish.models.backbones import channels_last_is_safe
from super_selfish.models.combined import CombinedNet
from super_selfish.models.shapes import feature_shape


class SupervisorBase(Attributes):
    """Networks, data set and progress of a supervisor; a :class:`~super_selfish.engine.supervisor.Supervisor` trains.

    Args:
        model: The network that is trained.
        dataset: The pretext task: a map-style data set.
        loss: The criterion; cross entropy if None.
        collate_fn: Makes a batch of items; None: the default of the data set.
        setup: Images and constructor arguments, from the subclasses of this library.

    Raises:
        ConfigurationError: If the model is no ``CombinedNet``, or the loss no callable.
    """

    images_per_sample = 1  # images that the network sees for one of the data set, in one batch
    input_size: tuple[int, ...] | None = None  # their height and width; None: as the images are
    calls_parts = False  # whether the step calls parts of the networks rather than the whole
    _hinted = False  # whether the user was told of a GPU that is not used
    is_same_dataset = True  # whether what was remembered of single images is of those of the data set

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        signature = full_signature(cls)
        cls.__signature__ = signature  # type: ignore[attr-defined]  # what help() and the flags show
        takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
        if "__init__" in vars(cls) and not takes_all:
            cls.__init__ = validate_keywords(signature.parameters)(cls.__init__)  # type: ignore[method-assign]

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
        check_argument(usable, "loss", loss, "None, a criterion such as nn.CrossEntropyLoss(), or a function")
        super().__init__()
        self.model = model
        self.average: CombinedNet | None = None
        self._late = LateState()
        self._setup = Setup.bare() if setup is None else setup
        self._shown: Any = None
        self.preprocessing = self._setup.preprocessing
        self.feature_shape: tuple[int, ...] | None = None
        self._tracked: dict[str, Any] = {}
        self._stored: dict[str, Any] = {}  # of the file that was loaded: its training, versions, columns and hash
        if setup is not None:
            self.feature_shape = feature_shape(
                model.backbone, setup.preprocessing.channels, setup.preprocessing.resolution
            )
        self.dataset = dataset
        self.loss = nn.CrossEntropyLoss() if loss is None else loss
        self.collate_fn = collate_fn
        self._history: list[dict[str, Any]] = []
        self._cursor = TrainState()
        self._skipped: dict[int, str] = {}
        self._run_id = secrets.token_hex(8)
        self._settings: Settings | None = None
        self._run: Any = None
        self._forecast: Any = None
        self._recorded = Recorded()
        self._kept: list[tuple[list[Any], Any]] = []  # in the forward pass in progress, by `keep_if_trained`

    # What the supervisor is made of

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    @property
    def image_dataset(self) -> ImageDataset | None:
        """The opened images; None without images, or with a custom data set of a bare ``Supervisor``."""
        return self._setup.images

    @property
    def image_options(self) -> ImageOptions:
        """The image options that the constructor was given, without ``cache``, ``weights`` and ``image_key``."""
        return self._setup.options

    @property
    def user_arguments(self) -> dict[str, Any]:
        """Networks, criteria and callables as the constructor was given them, by parameter name."""
        return self._setup.given

    @property
    def has_starting_weights(self) -> bool:
        """Whether the constructor was given ``weights``."""
        return self._setup.weights is not None

    def check_readable(self) -> None:
        """Raise the error of a file that could not be read when the images were opened, if there was one.

        Raises:
            UnreadableImage: That error.
        """
        if self._setup.deferred_error is not None:
            raise self._setup.deferred_error

    def preparer(self) -> Callable[[Batch], Any]:
        """From a CPU batch to what ``_forward`` receives: on the device, scaled, normalised."""
        device, preprocessing, buffers = self.device, self.preprocessing, Buffers()
        finish = None if channels_last_is_safe(self) else Tensor.contiguous
        return lambda batch: to_device(batch, device, preprocessing, finish, buffers)

    def fingerprint(self, *, renew: bool = False) -> dict[str, int | str] | None:
        """What the images are recognised by; of a custom data set, its length.

        Args:
            renew: Look at the images again, which may have changed since the last call.
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
            images: Anything that a supervisor can be made of; where the data set is a custom one, another such.

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
        """Within the block, previews are of this data set."""
        self._shown = dataset
        try:
            yield
        finally:
            self._shown = None

    def use_preprocessing(self, stored: Preprocessing, twin: SupervisorBase | None = None) -> None:
        """Take the preprocessing of a weights file, and networks that fit it.

        Args:
            stored: The preprocessing.
            twin: A supervisor whose networks and pretext task were built for it; None: those that are here fit.
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
        """Take the names of the classes from a weights file, if it has some."""
        if names is not None:
            self.model.classes = tuple(names)

    def rebuilt_for(self, stored: Preprocessing) -> SupervisorBase:
        """A supervisor with the same arguments, whose networks fit another resolution and number of channels."""
        arguments: dict[str, Any] = {
            key: value for key, value in self.hyperparameters().items() if key not in self.image_options
        }
        arguments |= {"resolution": stored.resolution, "channels": stored.channels, **self.user_arguments}
        with torch.random.fork_rng(devices=[]):
            twin: SupervisorBase = library_class(type(self))(**arguments)
        return twin.to(self.device)

    # What it says of itself

    @classmethod
    def algorithm(cls) -> str:
        """The algorithm's name, such as ``rotate_net``: the class name in snake case without "Supervisor"."""
        return algorithm_name(cls)

    @classmethod
    def takes_model(cls) -> bool:
        """Whether the constructor takes finished networks, rather than building them to fit the images."""
        return "model" in inspect.signature(library_class(cls).__init__).parameters

    def hyperparameters(self) -> dict[str, Any]:
        """The constructor's arguments that are plain values, by name, and the image options that were given."""
        skipped = {"self", "dataset", "collate_fn", "setup", "model", "discriminator", "loss", "fake_loss"}
        signature = inspect.signature(library_class(type(self)).__init__)
        plain = {
            name: getattr(self, name)
            for name, parameter in signature.parameters.items()
            if name not in skipped | set(self.user_arguments) and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        return plain | dict(self.image_options.items())

    def __repr__(self) -> str:
        given = {key: value for key, value in self.user_arguments.items() if value is not None}
        named = {key: value if isinstance(value, str) else type(value).__name__ for key, value in given.items()}
        arguments = ", ".join(f"{key}={value!r}" for key, value in (self.hyperparameters() | named).items())
        if self.dataset is not None and self.image_dataset is None:
            return f"{type(self).__name__}({arguments}) on a {type(self.dataset).__name__}"
        images = "no images" if self.dataset is None else f"{len(self.dataset)} images"
        return f"{type(self).__name__}({arguments}) on {images}, {self.preprocessing.describe()}"

    # What is trained

    @abstractmethod
    def get_backbone(self) -> nn.Module:
        """The live backbone, in eval mode."""

    def networks(self) -> list[nn.Module]:
        """The networks that are called as a whole: the trained ones, moving averages, a discriminator."""
        return [part for part in self.children() if isinstance(part, CombinedNet)]

    @property
    def forwards_as_planned(self) -> bool:
        """Whether the loss of a batch is the library's own, so that items are what it takes."""
        return type(self)._forward is library_class(type(self))._forward and "_forward" not in vars(self)

    def backbones(self) -> list[nn.Module]:
        """The backbones that are trained: one, unless views have encoders of their own."""
        return [self.model.backbone]

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Every parameter that requires a gradient."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def parameters_by_loss(self) -> list[list[nn.Parameter]]:
        """Trainable parameters by the loss that trains them: one list, unless networks compete."""
        return [self.trainable_parameters()]

    def parameter_groups(self, lr: float) -> list[Any]:  # noqa: ARG002 - for those with a rate of their own
        """What the optimizer gets."""
        return self.trainable_parameters()

    def keep_if_trained(self, kept: list[Any], thing: Any) -> None:
        """Within ``_forward``: append to a list what :meth:`_after_update` is going to use.

        In a training it is taken out again if the loss of this call is only looked at, and not trained on.
        """
        kept.append(thing)
        if self._run is not None:
            self._kept.append((kept, thing))
