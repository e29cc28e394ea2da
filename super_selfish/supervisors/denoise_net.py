"""Denoising autoencoder: learn features by restoring corrupted images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from super_selfish.engine.core.facts import Needs, Paper
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adamw_recipe
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import one_of, validate_arguments
from super_selfish.evaluation.pretext import PretextScore, reconstruction_score
from super_selfish.losses import masked_mse
from super_selfish.models.decoders import resized_to
from super_selfish.pretext import denoising as denoise
from super_selfish.pretext.denoising import DenoiseDataset, Noise
from super_selfish.pretext.preview import CaptionedImage, Preview

RULES = denoise.RULES | {"loss_on": one_of("all", "masked")}


class DenoiseNetSupervisor(Supervisor):
    """Restore images of which a random part of the pixels is corrupted.

    Works on images with any number of channels. Single pixels can be restored from their neighbours, so features
    represent edges and texture rather than content. Larger blocks, such as ``patch=8``, require more context.

    ``evaluate_pretext`` returns the mean squared error; the trivial baseline is the better of the corrupted input and
    the mean of the evaluated images.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        p: Probability that a pixel, or a block, is corrupted, in [0, 1].
        backbone: Network from images to features: an ``nn.Module`` or a name. None: EfficientNet-B0 with a bottleneck.
        predictor: Decoder from the backbone's feature map to images of any size, which are resized to the target size.
            None: transposed convolutions that fit the map.
        loss: Criterion of (reconstruction, image). With ``loss_on="masked"``, the reconstruction contains the original
            pixels where the image is not corrupted. None: mean squared error.
        noise: ``"mask"``: corrupted pixels become 0; ``"saltpepper"``: black or white; ``"gaussian"``: noise is added.
        patch: Side in px of the blocks that are corrupted as a whole.
        sigma: Standard deviation of the Gaussian noise, for pixel values in [0, 1].
        loss_on: Pixels of the loss: ``"all"``, or ``"masked"`` for the mean over the corrupted pixels of each image.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, or the networks do not fit the images.
        DataError: If the images cannot be read or do not fit the algorithm.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> supervisor = DenoiseNetSupervisor(images, backbone="small_resnet", patch=4, loss_on="masked")
        >>> supervisor.model(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])

    References:
        Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", 2008.
    """

    aliases = ("denoise", "denoising", "denoising_autoencoder")
    uses_map = True
    relative_cost = 2.0
    paper = Paper(
        "Vincent et al.",
        "Extracting and Composing Robust Features with Denoising Autoencoders",
        2008,
        url="https://www.cs.toronto.edu/~larocheh/publications/icml-2008-denoising-autoencoders.pdf",
    )
    family = "generative"
    learns_by = "restoring pixels that were corrupted"
    use_when = "images of any kind, with any number of channels; texture and colour matter"
    needs = Needs(batch=2)
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(2e-3),
        # Vincent et al.: SGD without momentum, constant learning rate
        "paper": Recipe(torch.optim.SGD, 0.01),
    }

    @validate_arguments(RULES)
    def __init__(
        self,
        dataset: Any = None,
        # Differs from the paper: each pixel is corrupted with probability p, independently of the others
        p: float = 0.7,  # Differs from the paper: at most 0.4
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        noise: Noise = "mask",
        patch: int = 1,
        sigma: float = 0.25,
        loss_on: Literal["all", "masked"] = "all",
        **images: Unpack[ImageOptions],
    ) -> None:
        setup = Setup.of(dataset, images, backbone=backbone, predictor=predictor, loss=loss)
        super().__init__(
            # Differs from the paper: convolutions, and a decoder with separate weights and a linear last layer
            setup.autoencoder(setup.preprocessing.channels),
            setup.dataset(lambda opened: DenoiseDataset(opened, p, noise=noise, patch=patch, sigma=sigma)),
            # Differs from the paper: squared error, not the cross entropy of pixels
            masked_mse if loss is None and loss_on == "masked" else setup.criterion(nn.MSELoss),
            setup=setup,
        )
        self.p = p
        self.noise = noise
        self.patch = patch
        self.sigma = sigma
        self.loss_on = loss_on

    def _forward(self, data: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        corrupted, clean, mask = data  # (batch, C, H, W) twice, and (batch, 1, H, W)
        reconstruction = resized_to(self.model(corrupted), clean.shape[-2:])
        if self.loss_on == "all":
            return self.loss(reconstruction, clean)
        if self.loss is masked_mse:
            return masked_mse(reconstruction, clean, mask)
        return self.loss(torch.where(mask, reconstruction, clean), clean)

    def _score_pretext(self, data: Sequence[Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        return reconstruction_score("mean squared error", self.model, data, F.mse_loss)

    def _preview(self, data: tuple[Tensor, Tensor, Tensor]) -> Preview:
        corrupted, clean, _ = data
        seen = [("input: corrupted", corrupted), ("target: original", clean)]
        note = f"Each {'pixel' if self.patch == 1 else f'block of {self.patch}×{self.patch} px'} is corrupted"
        note += f" with a probability of {self.p:g}."
        if self._train_state.step > 0:
            restored = resized_to(self.model(corrupted), clean.shape[-2:])
            seen.append(("output: restored", restored))
        rows = [
            [CaptionedImage(self.preprocessing.visible(images[index]), caption) for caption, images in seen]
            for index in range(len(clean))
        ]
        return Preview("Denoising: what is the original image?", note, rows)
