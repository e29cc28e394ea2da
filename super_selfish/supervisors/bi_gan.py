"""BiGAN: train an encoder and a generator against a discriminator of (image, code) pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from super_selfish.engine.core.expected_loss import ExpectedLoss
from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.setup import ImageOptions, Setup, Shape
from super_selfish.engine.gan import GanSupervisor, check_discriminator
from super_selfish.engine.optim.recipes import Recipe, adam, adamw_recipe
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.errors import ConfigurationError, Rule, is_number, one_of, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, in_batches
from super_selfish.models import Classification, EfficientFeatures, LatentNet, PairDiscriminator, ReshapeChannels
from super_selfish.models.bidirectional import dcgan_discriminator
from super_selfish.models.decoders import Upsampling, decoder_layers, image_activation, resized_to
from super_selfish.models.efficient import NormType
from super_selfish.models.shapes import check_decoded, feature_shape
from super_selfish.pretext.gan import BIDIRECTIONAL_RULES, BiDataset
from super_selfish.pretext.preview import CaptionedImage, Preview
from super_selfish.pretext.rotation import checked_crop, checked_flip

RULES = {
    **BIDIRECTIONAL_RULES,
    "rec_weight": Rule(lambda weight: is_number(weight, 0, 1e6), "a number of at least 0"),
    "discriminator_type": one_of("dcgan", "backbone"),
}
CODE_CHANNELS = 32


# Differs from the paper: codes are maps, not vectors
# Differs from the paper: the encoder is that of the other algorithms, not AlexNet
class BiGanSupervisor(GanSupervisor):
    """Train an encoder and a generator so that a discriminator cannot separate their (image, code) pairs.

    The encoder E is the backbone and the generator G is the predictor. The discriminator classifies pairs (x, E(x)) of
    a real image and its code against pairs (G(z), z) of a generated image and a random code. At the optimum, E and G
    invert each other, so codes represent the content of images.

    ``evaluate_pretext`` returns the fraction of images x that are nearer to G(E(x)) than to G(E(y)) of another image y,
    by mean squared error; the trivial baseline is chance level, 0.5.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        shape: Shape of a code (channels, height, width); height and width are those of the backbone's feature map.
            None: 32 channels.
        rand_gen: Function that draws a random code, called as ``rand_gen(*shape)``. None: uniform in [-1, 1).
        backbone: Network from images to features: an ``nn.Module`` or a name. A 1×1 convolution maps its features to
            codes. None: EfficientNet-B0 with a linear bottleneck, whose features are the codes.
        predictor: Generator from codes to images. None: a decoder that fits the codes.
        discriminator: Network from (images, codes) to one logit per pair, high for real pairs. None: convolutions,
            followed by an MLP of their features and the code; see ``discriminator_type``.
        loss: Adversarial criterion of (logits, 0 or 1). None: binary cross entropy with logits.
        fake_loss: Criterion of (G(E(x)), x), weighted by ``rec_weight``. None: mean squared error.
        rec_weight: Weight of the reconstruction loss; 0 in the paper.
        d_lr: Learning rate of the discriminator. None: the learning rate of the other networks, or a fifth of it with
            the recipe ``"auto"``.
        d_steps: Number of discriminator updates per generator update.
        discriminator_type: Network for images in the default discriminator. ``"dcgan"``: strided convolutions with
            batch norm. ``"backbone"``: a network like the backbone, as in 0.1.0.
        output_activation: Activation of the generator: ``"sigmoid"``, scaled to the range of the normalised images, or
            None. A user-supplied ``predictor`` has its own.
        crop: Smallest and largest area of a random crop relative to the image; it is resized to the image size. None:
            no crop.
        flip: Probability of a horizontal flip, in [0, 1].
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit the images.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> BiGanSupervisor(images, backbone="small_resnet").dataset[0][0].shape
        torch.Size([32, 4, 4])

    References:
        Donahue, Krähenbühl and Darrell, "Adversarial Feature Learning", 2016.
    """

    former_defaults: ClassVar[Mapping[str, Any]] = {
        "discriminator_type": "backbone",
        "output_activation": None,
        "crop": None,
        "flip": 0.0,
    }
    aliases = ("bigan",)
    uses_map = True
    relative_cost = 3.2
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
        "auto": adamw_recipe(1e-3, betas=(0.5, 0.999), judged=0.2),
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
        discriminator_type: Literal["dcgan", "backbone"] = "dcgan",
        output_activation: Literal["sigmoid"] | None = "sigmoid",
        crop: tuple[float, float] | None = (0.3, 1.0),
        flip: float = 0.5,
        **images: Unpack[ImageOptions],
    ) -> None:
        networks = {"backbone": backbone, "predictor": predictor, "discriminator": discriminator}
        setup = Setup.of(dataset, images, **networks, loss=loss, fake_loss=fake_loss, rand_gen=rand_gen)
        activation = image_activation(output_activation, setup.preprocessing.mean, setup.preprocessing.std)
        model, code = encoder_and_generator(setup, shape, activation)
        crop, flip = checked_crop(crop), checked_flip(flip)
        super().__init__(
            model,
            pair_discriminator(setup, code, discriminator_type),
            setup.dataset(lambda opened: BiDataset(opened, code, rand_gen, crop=crop, flip=flip)),
            setup.criterion(nn.BCEWithLogitsLoss),
            fake_loss,
            d_lr=d_lr,
            d_steps=d_steps,
            setup=setup,
        )
        self.shape = shape
        self.rec_weight = rec_weight
        self.discriminator_type = discriminator_type
        self.output_activation = output_activation
        self.crop = crop
        self.flip = flip

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        drawn, images = data  # z (batch, *shape) and x (batch, C, H, W)
        size = images.shape[-2:]
        code = self.model.features(images)  # E(x)
        generated = resized_to(self.model.predict(drawn), size)  # G(z)
        discriminator_loss = self.discriminator_loss((images, code), (generated, drawn))
        if not self.is_generator_step:
            return discriminator_loss
        generator_loss = self.adversarial_loss(self.discriminator_logits(images, code), 0.0) + self.adversarial_loss(
            self.discriminator_logits(generated, drawn), 1.0
        )
        # paper, eq. 4; for E and G the labels are swapped instead of the sign
        loss = discriminator_loss + generator_loss / 2
        if self.rec_weight:
            loss = loss + self.rec_weight * self.fake_loss(resized_to(self.model.predict(code), size), images)
        return loss

    def _expected_loss(self) -> ExpectedLoss:
        return ExpectedLoss(falls=False)

    def _score_pretext(self, data: Sequence[Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        images = data[1]
        reconstructed = in_batches(lambda batch: resized_to(self.model(batch), batch.shape[-2:]), images)
        own = (reconstructed - images).square().mean((1, 2, 3))
        other = (reconstructed.roll(1, 0) - images).square().mean((1, 2, 3))
        value = (own < other).double().mean().item()
        name = "fraction of images nearer to G(E(x)) than to another's"
        return PretextScore(name, value, 0.5, "chance level", is_accuracy=True)

    def _preview(self, data: Sequence[Tensor]) -> Preview:
        drawn, images = data
        title = "Which image belongs to which code?"
        if self._train_state.step == 0:
            note = "The encoder E computes the code of an image x, the generator G an image from a code z."
            return Preview(title, note, [[CaptionedImage(image, "image x")] for image in images])
        size = images.shape[-2:]
        reconstructed = resized_to(self.model(images), size).clamp(images.min(), images.max())
        generated = resized_to(self.model.predict(drawn), size).clamp(images.min(), images.max())
        rows = [
            [CaptionedImage(image, "image x"), CaptionedImage(own, "G(E(x))"), CaptionedImage(fake, "G(z), z random")]
            for image, own, fake in zip(images, reconstructed, generated, strict=True)
        ]
        note = "An image, its reconstruction, and an image generated from a random code.\n"
        note += "G(E(x)) should have the same content as x, but not the same pixels."
        return Preview(title, note, rows)


def encoder_and_generator(
    setup: Setup, shape: Shape | None, output_activation: nn.Module | None
) -> tuple[LatentNet, Shape]:
    """Build the encoder and the generator, and return them with the shape of a code."""
    preprocessing = setup.preprocessing
    channels = CODE_CHANNELS if shape is None else shape[0]
    latent: nn.Module | None = None
    backbone = linear_backbone(setup, channels)
    features, *grid = setup.map_shape(backbone)
    if setup.given.get("backbone") is not None:
        latent = nn.Conv2d(features, channels, 1)  # linear: random codes have both signs
    code = (channels, *grid)
    if shape is not None and tuple(shape) != code:
        raise ConfigurationError(
            "`shape` does not fit the encoder.",
            expected=f"{code}, with the size of the backbone's feature map, or None",
            received=f"shape={tuple(shape)}",
        )
    predictor = setup.given.get("predictor")
    if predictor is None:
        sizes = (grid[0], grid[1]), preprocessing.resolution
        layers = decoder_layers(*sizes, channels, preprocessing.channels, (128, 256, 128, 64))
        predictor = Upsampling(layers, out_resolution=None, output_activation=output_activation)
    net = LatentNet(backbone, predictor, latent)
    check_decoded(net.predictor, code, preprocessing.channels)
    return net, (channels, grid[0], grid[1])


def linear_backbone(setup: Setup, channels: int, *, for_discriminator: bool = False) -> nn.Module:
    """The user's backbone or a copy of it. Default: EfficientNet-B0 with a bottleneck without activation."""
    if setup.given.get("backbone") is not None:
        return setup.another_backbone() if for_discriminator else setup.backbone()
    norm: NormType = "layer" if for_discriminator else "batch"  # the discriminator has no batch statistics
    trunk = EfficientFeatures(norm_type=norm, channels=setup.preprocessing.channels)
    made = ReshapeChannels(trunk, out_channels=channels, activation=nn.Identity)
    return made if for_discriminator or setup.weights is None else setup.weights.into(made)


def pair_discriminator(setup: Setup, code: Shape, kind: str) -> nn.Module:
    """The user's discriminator. Default: convolutions, or a network like the backbone, and an MLP for pairs."""
    channels, resolution = setup.preprocessing.channels, setup.preprocessing.resolution
    given = setup.given.get("discriminator")
    if given is not None:
        return check_discriminator(given, (channels, *resolution), code)
    if kind == "dcgan":
        return dcgan_discriminator(channels, resolution, torch.Size(code).numel())
    backbone = linear_backbone(setup, code[0], for_discriminator=True)
    features = torch.Size(feature_shape(backbone, channels, resolution)).numel()
    sizes = [features + torch.Size(code).numel(), 1024, 256, 1]
    return PairDiscriminator(backbone, Classification(sizes, norm_type="layer"))
