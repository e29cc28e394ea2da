"""Context encoder: inpaint erased blocks of an image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.setup import ImageOptions, Setup, Shape
from super_selfish.engine.gan import GanSupervisor, check_discriminator
from super_selfish.engine.optim.recipes import Recipe, adam, adamw_recipe
from super_selfish.errors import PROBABILITY, SWITCH, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, reconstruction_score
from super_selfish.losses import masked_mse
from super_selfish.models import ChannelwiseFC, Classification, CombinedNet
from super_selfish.models.decoders import image_activation, resized_to
from super_selfish.models.shapes import feature_shape
from super_selfish.pretext.inpainting import CONTEXT_RULES, ContextDataset
from super_selfish.pretext.preview import CaptionedImage, Preview
from super_selfish.pretext.rotation import checked_crop, checked_flip

logger = logging.getLogger("super_selfish")

RULES = {
    **{"block_fill" if name == "fill" else name: rule for name, rule in CONTEXT_RULES.items()},
    "adversarial": SWITCH,
    "adv_weight": PROBABILITY,
}
LARGEST_GRID = 8  # largest side of the map of the channel-wise layer; larger maps are pooled to it


# Differs from the paper: a discriminator of least squares, which sees the whole image
# Differs from the paper: the discriminator has layer norm, and is updated in the same step
# Differs from the paper: blocks may cover more than a quarter of the image
# Differs from the paper: no heavier weight where block and surroundings meet
class ContextNetSupervisor(GanSupervisor):
    """Inpaint erased blocks of each image, with a reconstruction loss and an adversarial loss.

    ``evaluate_pretext`` returns the mean squared error in the erased blocks; the trivial baseline is the better of the
    fill colour and the mean of the evaluated images.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        p: Probability of erasing each of ``n_blocks`` blocks; at least one block is erased.
        n_blocks: Maximum number of erased blocks.
        scale_range: Smallest and largest area of a block, relative to the image.
        backbone: Network from images to features: an ``nn.Module`` or a name. None: EfficientNet-B0 with a bottleneck.
        predictor: Decoder from the backbone's feature map to images. None: a channel-wise layer and a decoder that fit
            the backbone.
        discriminator: Network from images to one logit per image, high for real images. None: a network like the
            backbone, followed by an MLP.
        loss: Adversarial criterion of (logits, 0 or 1). None: squared error (least squares).
        fake_loss: Criterion of (image with inpainted blocks, image). None: mean squared error of the erased pixels.
        block_fill: Value of erased pixels in [0, 1], or one value per channel. None: the mean colour of the data set.
        adversarial: Whether to train with a discriminator. False: reconstruction loss only.
        adv_weight: Weight λ of the adversarial loss, in [0, 1]; the reconstruction loss has weight 1 - λ.
        d_lr: Learning rate of the discriminator. None: the learning rate of the other networks.
        d_steps: Number of discriminator updates per generator update.
        output_activation: Activation of the decoder: ``"sigmoid"``, scaled to the range of the normalised images, or
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
        >>> ContextNetSupervisor(images, backbone="small_resnet", adversarial=False).feature_dim
        256

    References:
        Pathak, Krähenbühl, Donahue, Darrell and Efros, "Context Encoders: Feature Learning by Inpainting", 2016.
    """

    renamed_arguments: ClassVar[Mapping[str, str]] = {"fill": "block_fill"}  # of 0.1.0
    former_defaults: ClassVar[Mapping[str, Any]] = {"output_activation": None, "crop": None, "flip": 0.0}
    aliases = ("context_encoder", "inpainting")
    uses_map = True
    relative_cost = 3.6
    paper = Paper(
        "Pathak, Krähenbühl, Donahue, Darrell and Efros",
        "Context Encoders: Feature Learning by Inpainting",
        2016,
        "1604.07379",
    )
    family = "generative"
    learns_by = "inpainting blocks that were erased"
    use_when = "the layout of images matters; you want to look at what is learned"
    needs = Needs(batch=2)
    network_arguments = ("backbone", "predictor", "discriminator")
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(2e-3),
        # Pathak et al., section 4 and code: a tenth of the learning rate for the discriminator
        "paper": Recipe(adam((0.5, 0.999)), 2e-3, judged=0.1),
    }

    @validate_arguments(RULES)
    def __init__(
        self,
        dataset: Any = None,
        p: float = 0.3,
        n_blocks: int = 10,
        scale_range: tuple[float, float] = (0.05, 0.1),
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        fake_loss: Callable[..., Tensor] | None = None,
        *,
        block_fill: float | Sequence[float] | None = None,
        adversarial: bool = True,
        adv_weight: float = 0.001,
        d_lr: float | None = None,
        d_steps: int = 1,
        output_activation: Literal["sigmoid"] | None = "sigmoid",
        crop: tuple[float, float] | None = (0.3, 1.0),
        flip: float = 0.5,
        **images: Unpack[ImageOptions],
    ) -> None:
        if images.get("fill") is not None and block_fill is None:
            logger.warning("`fill` is the value of missing pixels; the fill of erased blocks is `block_fill`.")
        networks = {"backbone": backbone, "predictor": predictor, "discriminator": discriminator}
        setup = Setup.of(dataset, images, **networks, loss=loss, fake_loss=fake_loss)
        erasing = (p, n_blocks, scale_range)
        crop, flip = checked_crop(crop), checked_flip(flip)
        activation = image_activation(output_activation, setup.preprocessing.mean, setup.preprocessing.std)
        super().__init__(
            setup.autoencoder(setup.preprocessing.channels, channelwise, activation),
            build_discriminator(setup) if adversarial else None,
            setup.dataset(lambda opened: ContextDataset(opened, *erasing, fill=block_fill, crop=crop, flip=flip)),
            setup.criterion(nn.MSELoss),
            fake_loss,
            d_lr=d_lr,
            d_steps=d_steps,
            setup=setup,
        )
        self.p = p
        self.n_blocks = n_blocks
        self.scale_range = tuple(scale_range)
        self.block_fill = block_fill
        self.adversarial = adversarial
        self.adv_weight = adv_weight
        self.output_activation = output_activation
        self.crop = crop
        self.flip = flip

    def _forward(self, data: Sequence[Tensor]) -> Tensor:
        corrupted, clean, mask = data  # (batch, C, H, W) twice, and (batch, 1, H, W) of bool
        inpainted = resized_to(self.model(corrupted), clean.shape[-2:])
        composite = torch.where(mask, inpainted, clean)
        reconstruction = (
            self.fake_loss(composite, clean) if self.has_custom_fake_loss else masked_mse(inpainted, clean, mask)
        )
        if not self.adversarial:
            return reconstruction
        discriminator_loss = self.discriminator_loss((clean,), (composite,))
        if not self.is_generator_step:
            return discriminator_loss
        joint = (1 - self.adv_weight) * reconstruction + self.adv_weight * self.adversarial_loss(
            self.discriminator_logits(composite), 1.0
        )
        return discriminator_loss + joint  # paper, eq. 3

    @property
    def has_custom_fake_loss(self) -> bool:
        """Whether the user supplied ``fake_loss``."""
        return self.user_arguments.get("fake_loss") is not None

    def _score_pretext(self, data: Sequence[Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        def error(inpainted: Tensor, clean: Tensor) -> Tensor:
            return masked_mse(inpainted, clean, data[2])

        return reconstruction_score("mean squared error in the erased blocks", self.model, data, error)

    def _preview(self, data: Sequence[Tensor]) -> Preview:
        corrupted, clean, mask = data
        rows = [
            [CaptionedImage(erased, "erased"), CaptionedImage(image, "original")]
            for erased, image in zip(*data[:2], strict=True)
        ]
        note = "Blocks are erased and filled with one colour; the network predicts the erased pixels."
        if self._train_state.step:
            inpainted = resized_to(self.model(corrupted), clean.shape[-2:])
            composite = torch.where(mask, inpainted, clean).clamp(min=clean.min(), max=clean.max())
            for row, image in zip(rows, composite, strict=True):
                row.insert(1, CaptionedImage(image, "inpainted"))
        return Preview("What did the erased blocks show?", note, rows)


def channelwise(shape: Shape) -> tuple[nn.Module, Shape]:
    """Bottleneck of the paper: a fully connected layer within each channel, then a 1×1 convolution."""
    channels, *grid = shape
    height, width = (min(side, LARGEST_GRID) for side in grid)
    shrink = nn.Identity() if [height, width] == grid else nn.AdaptiveAvgPool2d((height, width))
    places = height * width
    spread = ChannelwiseFC([places, places], channels=channels)
    mix = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.PReLU())
    return nn.Sequential(shrink, spread, mix), (channels, height, width)


def build_discriminator(setup: Setup) -> nn.Module:
    """The user's discriminator. Default: a network like the backbone, followed by an MLP."""
    preprocessing = setup.preprocessing
    given = setup.given.get("discriminator")
    if given is not None:
        return check_discriminator(given, (preprocessing.channels, *preprocessing.resolution))
    backbone = setup.another_backbone("layer")  # no batch statistics: a batch of only fakes would be normalised
    features = int(torch.Size(feature_shape(backbone, preprocessing.channels, preprocessing.resolution)).numel())
    return CombinedNet(backbone, Classification([features, 1024, 256, 1], norm_type="layer"))
