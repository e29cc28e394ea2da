"""Adversarial training: a generator and a discriminator that are updated in one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from super_selfish.engine.core.setup import Setup
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import COUNT, ConfigurationError, Rule, is_number, validate_arguments
from super_selfish.loading.collate import Collate
from super_selfish.models.averages import FrozenTwin
from super_selfish.models.combined import CombinedNet, in_eval_mode, in_lower_precision

RULES = {
    "d_lr": Rule(lambda lr: lr is None or (is_number(lr, 0, 1e6) and lr > 0), "None, or a learning rate above 0"),
    "d_steps": COUNT,
}


class GanSupervisor(Supervisor):
    """Base class of supervisors that train networks against a discriminator.

    ``_forward`` returns the sum of two losses with disjoint gradients. The discriminator loss is computed on detached
    fake images, and the generator loss on frozen parameters of the discriminator. One backward pass therefore suffices,
    and one optimizer, whose second parameter group belongs to the discriminator. A learning rate schedule applies to
    both groups.

    Args:
        model: Network that generates or reconstructs images: a backbone followed by a predictor.
        discriminator: Network from images to one logit per image, high for real images. None: no adversarial training.
        dataset: Map-style data set of the pretext task.
        loss: Adversarial criterion of (logits, targets of 0 or 1). None: binary cross entropy with logits.
        fake_loss: Criterion of (reconstruction, image). None: mean squared error.
        collate_fn: Merges a list of items into a mini-batch.
        d_lr: Learning rate of the discriminator. None: the learning rate of the other networks.
        d_steps: Number of discriminator updates per generator update.
        setup: Images and arguments; only for subclasses in this library.

    Raises:
        ConfigurationError: If an argument is out of range.

    References:
        Goodfellow et al., "Generative Adversarial Networks", 2014.
    """

    _twin: FrozenTwin[nn.Module] | None = None  # of the discriminator

    @validate_arguments(RULES)
    def __init__(
        self,
        model: CombinedNet,
        discriminator: nn.Module | None,
        dataset: Any = None,
        loss: Callable[..., Tensor] | None = None,
        fake_loss: Callable[..., Tensor] | None = None,
        collate_fn: Collate | None = None,
        *,
        d_lr: float | None = None,
        d_steps: int = 1,
        setup: Setup | None = None,
    ) -> None:
        super().__init__(model, dataset, nn.BCEWithLogitsLoss() if loss is None else loss, collate_fn, setup=setup)
        self.discriminator = discriminator
        self.fake_loss = nn.MSELoss() if fake_loss is None else fake_loss
        self.d_lr = d_lr
        self.d_steps = d_steps

    def networks(self) -> list[nn.Module]:
        """All networks, including the discriminator."""
        return super().networks() + ([] if self.discriminator is None else [self.discriminator])

    def parameters_by_loss(self) -> list[list[nn.Parameter]]:
        """Parameters of the generator loss, followed by those of the discriminator loss."""
        discriminator = [] if self.discriminator is None else list(self.discriminator.parameters())
        own = {id(parameter) for parameter in discriminator}
        discriminator = [parameter for parameter in discriminator if parameter.requires_grad]
        generator = [parameter for parameter in self.trainable_parameters() if id(parameter) not in own]
        return [generator, discriminator] if discriminator else [generator]

    def parameter_groups(self, lr: float) -> list[Any]:
        """One parameter group per loss, with its learning rate.

        Args:
            lr: Learning rate of the generator loss.
        """
        settings = self._settings
        named = settings is not None and settings.recipe is not None
        recipe = self.training_recipe(str(settings.recipe), settings.epochs) if named and settings else None
        factor = 1.0 if recipe is None else recipe.judged
        rates = (lr, lr * factor if self.d_lr is None else self.d_lr)
        return [
            {"params": parameters, "lr": rate}
            for parameters, rate in zip(self.parameters_by_loss(), rates, strict=False)
        ]

    @property
    def is_generator_step(self) -> bool:
        """Whether this step trains all networks, rather than only the discriminator."""
        return self._train_state.step % self.d_steps == 0

    def discriminator_loss(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """``½ c(D(real), 1) + ½ c(D(fake), 0)``; gradients flow to the discriminator only.

        Args:
            real: Inputs of the discriminator for real images.
            fake: Inputs of the discriminator for fake images.
        """
        discriminator, precision = cast(nn.Module, self.discriminator), self.model.lowered_to
        logits = [
            in_lower_precision(precision, discriminator, *(part.detach() for part in inputs)) for inputs in (real, fake)
        ]
        return (self.adversarial_loss(logits[0], 1.0) + self.adversarial_loss(logits[1], 0.0)) / 2

    def discriminator_logits(self, *inputs: Tensor) -> Tensor:
        """Logits of the discriminator; gradients flow to the inputs only."""
        return in_lower_precision(self.model.lowered_to, self._frozen_discriminator(), *inputs)

    def _frozen_discriminator(self) -> Callable[..., Tensor]:
        """Return the discriminator with weights that require no gradient."""
        discriminator = cast(nn.Module, self.discriminator)
        if self._twin is None or self._twin.network is not discriminator or not self._twin.shares_weights():
            self._twin = FrozenTwin(discriminator)
        if self._twin.shares_weights() and not (self._settings is not None and self._settings.compile):
            return cast(Callable[..., Tensor], self._twin.in_same_mode())
        frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
        return lambda *given: cast(Tensor, functional_call(discriminator, frozen, given))

    def adversarial_loss(self, logits: Tensor, target: float) -> Tensor:
        """Adversarial criterion of logits and one target: 1 for real, 0 for fake."""
        return self.loss(logits, torch.full_like(logits, target))


def check_discriminator(discriminator: nn.Module, *shapes: tuple[int, ...]) -> nn.Module:
    """Check that a discriminator returns one logit per image.

    Args:
        discriminator: The network.
        *shapes: Shapes of its inputs, without the batch dimension.

    Returns:
        The discriminator.

    Raises:
        ConfigurationError: If it cannot process the inputs, or the output has another shape.
    """
    expected = f"a network of {' and '.join(str(('batch', *shape)) for shape in shapes)} that returns (batch, 1)"
    if not isinstance(discriminator, nn.Module):
        raise ConfigurationError(
            "`discriminator` is not a network.", expected=expected, received=type(discriminator).__name__
        )
    device = next((parameter.device for parameter in discriminator.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), in_eval_mode(discriminator):
            logits = discriminator(*(torch.zeros(1, *shape, device=device) for shape in shapes))
    except Exception as error:  # user-supplied networks may raise anything
        raise ConfigurationError(
            f"The discriminator cannot process its inputs: {type(error).__name__}: {error}.",
            expected=expected,
            received=type(discriminator).__name__,
        ) from error
    if not isinstance(logits, Tensor) or logits.numel() != 1:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigurationError(
            "The discriminator does not return one logit per image.",
            expected=expected,
            received=f"{shape} for a batch of one",
        )
    return discriminator
