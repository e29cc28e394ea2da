"""Two players, five stages: a network that makes and a discriminator that judges, trained at once."""

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
from super_selfish.models.combined import CombinedNet, in_eval_mode, in_lower_precision

RULES = {
    "d_lr": Rule(lambda lr: lr is None or (is_number(lr, 0, 1e6) and lr > 0), "None, or a learning rate above 0"),
    "d_steps": COUNT,
}


class GanSupervisor(Supervisor):
    """Trains a network against a discriminator, with the stages of every other supervisor.

    ``_forward`` returns the sum of two losses with disjoint gradients: the discriminator's, of fakes that are cut off
    from what made them, and the maker's, judged by the discriminator as it is. So one backward pass serves both, and
    one optimizer whose second group of parameters is the discriminator's. A schedule moves both learning rates.

    Args:
        model: What makes: a backbone with a predictor behind it.
        discriminator: What judges: one logit an image, high for real ones; None trains without.
        dataset: The exercises: a map-style data set.
        loss: Adversarial criterion of (logits, targets of 0 or 1); binary cross entropy with logits if None.
        fake_loss: Criterion of (reconstruction, image); squared error if None.
        collate_fn: Makes a batch of items.
        d_lr: Learning rate of the discriminator; None: that of the rest.
        d_steps: Updates of the discriminator for each of the rest.
        setup: Images and arguments, from the subclasses of this library.

    Raises:
        ConfigurationError: If an argument is out of range.

    References:
        Goodfellow et al., "Generative Adversarial Networks", 2014.
    """

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
        """Those of every supervisor, and the discriminator."""
        return super().networks() + ([] if self.discriminator is None else [self.discriminator])

    def parameters_by_loss(self) -> list[list[nn.Parameter]]:
        """Parameters by the loss that trains them: of all else, then of the discriminator."""
        discriminator = [] if self.discriminator is None else list(self.discriminator.parameters())
        own = {id(parameter) for parameter in discriminator}
        discriminator = [parameter for parameter in discriminator if parameter.requires_grad]
        generator = [parameter for parameter in self.trainable_parameters() if id(parameter) not in own]
        return [generator, discriminator] if discriminator else [generator]

    def parameter_groups(self, lr: float) -> list[Any]:
        """A group for each player."""
        settings = self._settings
        named = settings is not None and settings.recipe is not None
        recipe = self.training_recipe(str(settings.recipe), settings.epochs) if named and settings else None
        share = 1.0 if recipe is None else recipe.judged
        rates = (lr, lr * share if self.d_lr is None else self.d_lr)
        return [
            {"params": parameters, "lr": rate}
            for parameters, rate in zip(self.parameters_by_loss(), rates, strict=False)
        ]

    @property
    def is_generator_step(self) -> bool:
        """Whether all but the discriminator is trained in this step too."""
        return self._train_state.step % self.d_steps == 0

    def discriminator_loss(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """``½ c(D(real), 1) + ½ c(D(fake), 0)``, whose gradient reaches nothing but the discriminator.

        Args:
            real: What the discriminator takes, of real images.
            fake: The same of fakes.
        """
        discriminator, precision = cast(nn.Module, self.discriminator), self.model.lowered_to
        told = [
            in_lower_precision(precision, discriminator, *(part.detach() for part in inputs)) for inputs in (real, fake)
        ]
        return (self.adversarial_loss(told[0], 1.0) + self.adversarial_loss(told[1], 0.0)) / 2

    def discriminator_logits(self, *inputs: Tensor) -> Tensor:
        """The discriminator's logits, whose gradient reaches the inputs and not the discriminator."""
        discriminator = cast(nn.Module, self.discriminator)
        frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}

        def call(*given: Tensor) -> Tensor:
            return cast(Tensor, functional_call(discriminator, frozen, given))

        return in_lower_precision(self.model.lowered_to, call, *inputs)

    def adversarial_loss(self, logits: Tensor, target: float) -> Tensor:
        """The adversarial criterion of logits that should say ``target``: 1 for real, 0 for fake."""
        return self.loss(logits, torch.full_like(logits, target))


def check_discriminator(discriminator: nn.Module, *shapes: tuple[int, ...]) -> nn.Module:
    """Make sure that a discriminator gives one logit an image.

    Args:
        discriminator: The network.
        *shapes: Of what it takes, without the batch.

    Returns:
        The discriminator.

    Raises:
        ConfigurationError: If it does not take the inputs, or gives something else.
    """
    expected = f"a network of {' and '.join(str(('batch', *shape)) for shape in shapes)} that returns (batch, 1)"
    if not isinstance(discriminator, nn.Module):
        raise ConfigurationError(
            "`discriminator` is no network.", expected=expected, received=type(discriminator).__name__
        )
    device = next((parameter.device for parameter in discriminator.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), in_eval_mode(discriminator):
            told = discriminator(*(torch.zeros(1, *shape, device=device) for shape in shapes))
    except Exception as error:  # whatever a stranger's network raises becomes one message with its cause
        raise ConfigurationError(
            f"The discriminator cannot judge: {type(error).__name__}: {error}.",
            expected=expected,
            received=type(discriminator).__name__,
        ) from error
    if not isinstance(told, Tensor) or told.numel() != 1:
        shape = tuple(told.shape) if isinstance(told, Tensor) else type(told).__name__
        raise ConfigurationError(
            "The discriminator gives no logit.", expected=expected, received=f"{shape} for a batch of one"
        )
    return discriminator
