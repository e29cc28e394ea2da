"""BiGAN: an encoder and a generator that a discriminator of pairs cannot tell apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from super_selfish.engine.core.expected_loss import ExpectedLoss
from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.setup import ImageOptions, Setup, Shape
from super_selfish.engine.gan import GanSupervisor, check_discriminator
from super_selfish.engine.optim.recipes import Recipe, adam, adamw_recipe
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.errors import ConfigurationError, Rule, is_number, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, in_batches
from super_selfish.models import Classification, EfficientFeatures, LatentNet, PairDiscriminator, ReshapeChannels
from super_selfish.models.decoders import Upsampling, decoder_layers, resized_to
from super_selfish.models.efficient import NormType
from super_selfish.models.shapes import check_decoded, feature_shape
from super_selfish.pretext.gan import BIDIRECTIONAL_RULES, BiDataset
from super_selfish.pretext.preview import CaptionedImage, Preview

RULES = {
    **BIDIRECTIONAL_RULES,
    "rec_weight": Rule(lambda weight: is_number(weight, 0, 1e6), "a number of at least 0"),
}
CODE_CHANNELS = 32


# Differs from the paper: codes are maps, not vectors
# Differs from the paper: networks are those of the other algorithms, not AlexNet and DCGAN
# Differs from the paper: the discriminator has layer norm, not batch norm
class BiGanSupervisor(GanSupervisor):
    """Pairs of (image, its code) and of (generated image, code it was made from) should be told apart by no network.

    An encoder E, the backbone, and a generator G, the predictor, play together against a discriminator of pairs. At
    the optimum each inverts the other, so codes say what is in an image.

    ``evaluate_pretext`` gives the fraction of images x that are nearer to G(E(x)) than to G(E(y)) of another image y,
    by mean squared error; the trivial baseline is chance level, one half.

    Args:
        dataset: A folder, a data set, an array, a tensor; None to load weights only.
        shape: Of a code: channels, and the height and width of the backbone's map; None: 32 channels.
        rand_gen: Draws a code, called as ``rand_gen(*shape)``; None: uniform in [-1, 1).
        backbone: Images to features: an ``nn.Module``, a name, or None for EfficientNet-B0 with a linear bottleneck,
            whose features are the code; behind another backbone a 1×1 convolution makes the code.
        predictor: Codes to images; None for a decoder that fits.
        discriminator: (images, codes) to a logit, high for real pairs; None for a network like the backbone with a
            perceptron behind it that sees the code too.
        loss: Adversarial criterion of (logits, 0 or 1); binary cross entropy with logits if None.
        fake_loss: Criterion of (G(E(x)), x), weighted by ``rec_weight``; squared error if None.
        rec_weight: Weight of the reconstruction; the paper has none.
        d_lr: Learning rate of the discriminator; None: that of the rest.
        d_steps: Updates of the discriminator for each of the rest.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit.
        DataError: If the images cannot be used.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> BiGanSupervisor(images, backbone="small_resnet").dataset[0][0].shape
        torch.Size([32, 4, 4])

    References:
        Donahue, Krähenbühl and Darrell, "Adversarial Feature Learning", 2016.
    """

    aliases = ("bigan",)
    relative_cost = 5.1
    paper = Paper(
        "Donahue, Krähenbühl and Darrell",
        "Adversarial Feature Learning",
        2016,
        "1605.09782",
    )
    family = "generative"
    learns_by = "generating pairs of image and code that a discriminator cannot separate"
    use_when = "codes and generated images are of interest themselves"
    needs = Needs(batch=2)
    network_arguments = ("backbone", "predictor", "discriminator")
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(1e-3, betas=(0.5, 0.999)),
        # Donahue et al., appendix C: rate falling exponentially over the second half
        "paper": Recipe(adam((0.5, 0.999), 2.5e-5), 2e-4, schedule=Schedule("exponential", begin=0.5, end=0.01)),
    }
    calls_parts = True

    @validate_arguments(RULES)
    def __init__(
        self,
        dataset: Any = None,
        shape: Shape | None = None,
        rand_gen: Callable[..., Any] | None = None,
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        fake_loss: Callable[..., Tensor] | None = None,
        *,
        rec_weight: float = 0.0,
        d_lr: float | None = None,
        d_steps: int = 1,
        **images: Unpack[ImageOptions],
    ) -> None:
        networks = {"backbone": backbone, "predictor": predictor, "discriminator": discriminator}
        setup = Setup.of(dataset, images, **networks, loss=loss, fake_loss=fake_loss, rand_gen=rand_gen)
        model, code = both_ways(setup, shape)
        super().__init__(
            model,
            pair_discriminator(setup, code),
            setup.dataset(lambda opened: BiDataset(opened, code, rand_gen)),
            setup.criterion(nn.BCEWithLogitsLoss),
            fake_loss,
            d_lr=d_lr,
            d_steps=d_steps,
            setup=setup,
        )
        self.shape = shape
        self.rec_weight = rec_weight

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        drawn, images = data  # z (batch, *shape) and x (batch, C, H, W)
        size = images.shape[-2:]
        code = self.model.features(images)  # E(x)
        generated = resized_to(self.model.predict(drawn), size)  # G(z)
        told = self.discriminator_loss((images, code), (generated, drawn))
        if not self.is_generator_step:
            return told
        fooled = self.adversarial_loss(self.discriminator_logits(images, code), 0.0) + self.adversarial_loss(
            self.discriminator_logits(generated, drawn), 1.0
        )
        loss = told + fooled / 2  # paper, eq. 4, with the labels exchanged instead of the sign for E and G
        if self.rec_weight:
            loss = loss + self.rec_weight * self.fake_loss(resized_to(self.model.predict(code), size), images)
        return loss

    def _expected_loss(self) -> ExpectedLoss:
        return ExpectedLoss(falls=False)

    def _score_pretext(self, data: Sequence[Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        images = data[1]
        rebuilt = in_batches(lambda part: resized_to(self.model(part), part.shape[-2:]), images)
        own = (rebuilt - images).square().mean((1, 2, 3))
        others = (rebuilt.roll(1, 0) - images).square().mean((1, 2, 3))
        value = (own < others).double().mean().item()
        return PretextScore("fraction of images nearer to G(E(x)) than to another's", value, 0.5, "chance level")

    def _preview(self, data: Sequence[Tensor]) -> Preview:
        drawn, images = data
        size = images.shape[-2:]
        there = resized_to(self.model(images), size).clamp(images.min(), images.max())
        made = resized_to(self.model.predict(drawn), size).clamp(images.min(), images.max())
        rows = [
            [CaptionedImage(image, "image x"), CaptionedImage(back, "G(E(x))"), CaptionedImage(fake, "G(z), z drawn")]
            for image, back, fake in zip(images, there, made, strict=True)
        ]
        trained = "after training" if self._train_state.step else "before training"
        note = f"The image, what the generator makes of its code, and of a code drawn at random, {trained}.\n"
        note += "G(E(x)) should show the same kind of thing as x; nothing asks for the same pixels."
        return Preview("Which image belongs to which code?", note, rows)


def both_ways(setup: Setup, shape: Shape | None) -> tuple[LatentNet, Shape]:
    """Encoder and generator, and the shape of the codes between them."""
    settled = setup.preprocessing
    channels = CODE_CHANNELS if shape is None else shape[0]
    latent: nn.Module | None = None
    backbone = linear_backbone(setup, channels)
    found, *grid = setup.map_shape(backbone)
    if setup.given.get("backbone") is not None:
        latent = nn.Conv2d(found, channels, 1)  # codes of any sign, as those that are drawn
    code = (channels, *grid)
    if shape is not None and tuple(shape) != code:
        raise ConfigurationError(
            "`shape` does not fit the encoder.",
            expected=f"{code}, the backbone's grid, or None",
            received=f"shape={tuple(shape)}",
        )
    predictor = setup.given.get("predictor")
    if predictor is None:
        layers = decoder_layers((grid[0], grid[1]), settled.resolution, channels, settled.channels, (128, 256, 128, 64))
        predictor = Upsampling(layers, out_resolution=None)
    net = LatentNet(backbone, predictor, latent)
    check_decoded(net.predictor, code, settled.channels)
    return net, (channels, grid[0], grid[1])


def linear_backbone(setup: Setup, channels: int, *, judges: bool = False) -> nn.Module:
    """The backbone that was given, or a copy of it; else EfficientNet-B0 with a bottleneck without activation."""
    if setup.given.get("backbone") is not None:
        return setup.another_backbone() if judges else setup.backbone()
    norm: NormType = "layer" if judges else "batch"  # a judge sees each image by itself
    trunk = EfficientFeatures(norm_type=norm, channels=setup.preprocessing.channels)
    return ReshapeChannels(trunk, out_channels=channels, activation=nn.Identity)


def pair_discriminator(setup: Setup, code: Shape) -> nn.Module:
    """The discriminator that was given, or one that sees images with a network like the backbone."""
    settled = setup.preprocessing
    given = setup.given.get("discriminator")
    if given is not None:
        return check_discriminator(given, (settled.channels, *settled.resolution), code)
    backbone = linear_backbone(setup, code[0], judges=True)
    features = torch.Size(feature_shape(backbone, settled.channels, settled.resolution)).numel()
    sizes = [features + torch.Size(code).numel(), 1024, 256, 1]
    return PairDiscriminator(backbone, Classification(sizes, norm_type="layer"))
