"""Pretext task of the denoising autoencoder: restore a corrupted image."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from super_selfish.errors import COUNT, PROBABILITY, Rule, is_number, one_of, validate_arguments
from super_selfish.images.functional import Image, peak, repeated
from super_selfish.pretext.base import PretextDataset, Sample
from super_selfish.seeding import KeyedGenerator

Noise = Literal["mask", "gaussian", "saltpepper"]

RULES = {
    "p": PROBABILITY._replace(fix="The default is 0.7."),
    "noise": one_of("mask", "gaussian", "saltpepper"),
    "patch": COUNT._replace(fix="1 corrupts single pixels, 16 corrupts blocks of 16×16 px."),
    "sigma": Rule(lambda sigma: is_number(sigma, 0, 1e6), "a number of at least 0"),
}


class DenoiseDataset(PretextDataset):
    """Images with a random part of their pixels corrupted, with the clean images.

    Item: (corrupted C×H×W, clean C×H×W, mask 1×H×W). The mask is boolean, and True where all channels of a pixel are
    corrupted. Other pixels are identical in both images.

    Args:
        dataset: Images; anything that :func:`super_selfish.data.open_source` accepts.
        p: Probability that a pixel is corrupted, in [0, 1].
        noise: ``"mask"``: corrupted pixels become 0; ``"saltpepper"``: black or white; ``"gaussian"``: noise is added,
            and the sum is clipped to the range of the image.
        patch: Side in px of the blocks that are corrupted as a whole; blocks at the right and bottom edge are clipped.
        sigma: Standard deviation of the Gaussian noise, for pixel values in [0, 1].

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> corrupted, clean, mask = DenoiseDataset(np.full((2, 32, 48, 3), 200, np.uint8), p=0.5)[0]
        >>> corrupted.shape, mask.shape, bool((corrupted[:, mask[0]] == 0).all())
        (torch.Size([3, 32, 48]), torch.Size([1, 32, 48]), True)

    References:
        Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", 2008.
    """

    @validate_arguments(RULES)
    def __init__(
        self, dataset: object, p: float = 0.7, *, noise: Noise = "mask", patch: int = 1, sigma: float = 0.25
    ) -> None:
        super().__init__(dataset)
        self.p = p
        self.noise = noise
        self.patch = patch
        self.sigma = sigma

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        """The corrupted image, the clean image and the mask."""
        clean = self.images.read(index)
        height, width = clean.shape[:2]
        blocks = -(-height // self.patch), -(-width // self.patch)
        draw = np.random.Generator(np.random.SFC64(generator.bits())).random(blocks, np.float32)
        mask = self._as_pixels(draw < self.p, height, width)
        all_channels = repeated(mask.view(np.uint8), clean.shape[2])
        if self.noise == "mask":
            return clean * (all_channels ^ 1), clean, torch.from_numpy(mask)[None]
        if self.noise == "gaussian":
            noise = self._noisy(clean, generator)
        else:
            white = self._as_pixels(draw < self.p / 2, height, width)
            noise = (white * peak(clean)).astype(clean.dtype)[:, :, None]
        return np.where(all_channels.view(np.bool_), noise, clean), clean, torch.from_numpy(mask)[None]

    def _as_pixels(self, blocks: npt.NDArray[np.bool_], height: int, width: int) -> npt.NDArray[np.bool_]:
        if self.patch > 1:
            blocks = blocks.repeat(self.patch, axis=0)[:height].repeat(self.patch, axis=1)[:, :width]
        return np.ascontiguousarray(blocks)

    def _noisy(self, image: Image, generator: KeyedGenerator) -> Image:
        top = peak(image)
        drawn = np.random.Generator(np.random.SFC64(generator.bits())).standard_normal(image.shape, np.float32)
        drawn *= np.float32(self.sigma * top)
        noisy: Image = np.clip(image + drawn, 0, top)
        return (noisy if image.dtype == np.float32 else np.rint(noisy)).astype(image.dtype)
