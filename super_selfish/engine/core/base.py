"""What a supervisor consists of: networks and what is stored with them, and what images mean to them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from super_selfish.engine import pretext_evaluation
from super_selfish.engine import previews as exhibits
from super_selfish.engine.callbacks.collapse import Signs
from super_selfish.engine.callbacks.diagnosis import Expectation
from super_selfish.engine.core.identity import algorithm_name, description, full_signature, hyperparameters
from super_selfish.engine.core.setup import Setup
from super_selfish.errors import ConfigurationError, check_argument
from super_selfish.evaluation.features import extract_named, preprocess_batch
from super_selfish.evaluation.pretext import PretextScore
from super_selfish.loading.loader import TrainLoader
from super_selfish.models.backbones import BackboneOutput, Output
from super_selfish.models.combined import CombinedNet
from super_selfish.models.placement import Placed, device_for_training, mark_placed, was_placed
from super_selfish.models.shapes import feature_shape
from super_selfish.pretext.preview import Exhibit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from super_selfish.engine.supervisor import Supervisor

logger = logging.getLogger("super_selfish")


class Trained(Placed):
    """A backbone and a predictor with the preprocessing of their images: what is trained, and what can be used.

    Args:
        model: The networks.
        setup: Images and arguments.
    """

    dataset: Any = None
    pretext_chunk = 250  # largest number of images that `evaluate_pretext` compares with each other
    calls_parts = False  # whether the step calls parts of the networks rather than the whole
    _hinted = False  # whether the user was told of a GPU that is not used
    of_these_images = True  # whether what was remembered of single images is of those of the data set

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__signature__ = full_signature(cls)  # type: ignore[attr-defined]  # what help() and the flags show

    def __init__(self, model: CombinedNet, setup: Setup | None) -> None:
        super().__init__()
        self.model = model
        self.average: CombinedNet | None = None
        self._setup = Setup.bare() if setup is None else setup
        self.preprocessing = self._setup.preprocessing
        self.feature_shape: tuple[int, ...] | None = None
        self.tracked: dict[str, Any] = {}
        self.stored: dict[str, Any] = {}  # of the file that was loaded: its training, versions and hash
        if setup is not None:
            self.feature_shape = feature_shape(
                model.backbone, setup.preprocessing.channels, setup.preprocessing.resolution
            )

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

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def preprocess(self, images: object) -> Tensor:
        """Images as the backbone takes them.

        Args:
            images: One image (a path, a PIL image, an H×W[×C] array, a C×H×W tensor), a list of these, or a batch
                (N×H×W×C array, N×C×H×W tensor). Tensors and float arrays are in the value range of the training data.

        Returns:
            Float32 (N, C, H, W) on the supervisor's device, in [0, 1], or normalised if the supervisor does that.
        """
        return preprocess_batch(images, self.preprocessing).to(self.device)

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

    @property
    def decomposable(self) -> bool:
        """Whether the loss of a batch is the mean of the losses of its parts."""
        return True

    def _collapse_signs(self) -> Signs | None:
        """Hook: how embeddings become alike, for algorithms that compare them; None: they cannot."""
        return None

    def _expectation(self) -> Expectation:
        """Hook: how the loss behaves in a healthy training."""
        return Expectation()

    def _prepare(self, train_loader: TrainLoader) -> None:
        """Hook: size what depends on the loader, before the first epoch."""

    def _after_update(self) -> None:
        """Hook: follow an update of the weights (moving averages, queues, banks)."""

    def _skip_update(self) -> None:
        """Hook: an update is left out: forget what :meth:`_after_update` was going to use."""

    def _follow_images(self, before: npt.NDArray[np.int64] | None, now: npt.NDArray[np.int64] | None) -> None:
        """Hook: training goes on with other images than before; keys of both, where they have names."""

    def _exhibit(self, data: Any) -> Exhibit:
        """Hook: what :meth:`preview` shows of a batch; answers only if ``self.cursor.step`` tells of a training."""
        return exhibits.inputs_only(cast("Supervisor", self), data)

    def _pretext_dataset(self, images: Any) -> Any:
        """Hook: the pretext task on the images that are evaluated; None: on those of the supervisor."""
        return pretext_evaluation.pretext_dataset(cast("Supervisor", self), images)

    def _score_pretext(self, data: Any, draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002 - for two views
        """Hook: the score of the pretext task on a batch, and that of the trivial baseline.

        Without an override: the loss, beside the loss at chance level if :meth:`_expectation` has one.

        Args:
            data: A batch of at most ``pretext_chunk`` images, as ``_forward`` receives it.
            draw_again: Returns the same images in another batch, with other random augmentations.
        """
        loss = pretext_evaluation.loss_of(cast("Supervisor", self), data)
        return PretextScore("loss", loss, self._expectation().chance, "loss at chance level", higher_is_better=False)

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
        return pretext_evaluation.evaluate(cast("Supervisor", self), images, seed, count, on_error)

    def preview(self, images: object = None, *, count: int = 6, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the exercise: what goes in, what the target is and, after training, what the network answers.

        Args:
            images: Other images than the supervisor's own: anything that a supervisor can be made of.
            count: How many of them, evenly spaced over the data set.
            path: Where to write the picture too: a file that ends in .png, .pdf or .svg.

        Returns:
            A picture of matplotlib.

        Raises:
            ConfigurationError: If there are no images.
        """
        from super_selfish.reports import exhibit_sheet, save

        figure = exhibit_sheet(exhibits.exhibit(cast("Supervisor", self), images, count))
        if path is not None:
            save(figure, path)
        return figure

    def track(self, name: str, thing: Any) -> Any:
        """Store something with every checkpoint: what has state, and is neither a module nor a buffer.

        Args:
            name: What to call it.
            thing: With ``state_dict()``, of tensors, numbers, words, lists and dictionaries, and ``load_state_dict()``.

        Returns:
            The thing.

        Raises:
            ConfigurationError: If it has no such methods, or the name is taken.
        """
        complete = all(callable(getattr(thing, method, None)) for method in ("state_dict", "load_state_dict"))
        check_argument(complete, "thing", thing, "something with state_dict() and load_state_dict()")
        check_argument(self.tracked.get(name, thing) is thing, "name", name, "a name that is not taken")
        self.tracked[name] = thing
        return thing

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Every parameter that requires a gradient."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def players(self) -> list[list[nn.Parameter]]:
        """Trainable parameters by the loss that trains them: one list, unless networks play against each other."""
        return [self.trainable_parameters()]

    def parameter_groups(self, lr: float) -> list[Any]:  # noqa: ARG002 - for those with a rate of their own
        """What the optimizer gets."""
        return self.trainable_parameters()

    @classmethod
    def algorithm(cls) -> str:
        """The algorithm's name, such as ``rotate_net``: the class name in snake case without "Supervisor"."""
        return algorithm_name(cls)

    def hyperparameters(self) -> dict[str, Any]:
        """The constructor's arguments that are plain values, by name, and the image options that were given."""
        return hyperparameters(self)

    def __repr__(self) -> str:
        return description(self)
