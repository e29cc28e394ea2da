"""CIE Lab conversion of one image, and quantisation of Lab into classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.models.lab import LINEAR_BELOW, SYMMETRIC, TO_XYZ, LabScale

Floats = npt.NDArray[np.float32]

_XYZ = np.pad(np.array(TO_XYZ, np.float32), ((0, 0), (0, 1)))
_LAB = np.array([[0, 116, 0, -16], [500, -500, 0, 0], [0, 200, -200, 0]], np.float32)


def _linear(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Convert sRGB values in [0, 1] to linear RGB."""
    return np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)


_BLOCK = 1 << 12  # pixels per block; intermediate results stay in the CPU cache
_LINEAR_BYTE = _linear(np.arange(256) / 255).astype(np.float32)


def roots(image: Image) -> Floats:
    """Return f(X), f(Y) and f(Z) of CIE XYZ, of which Lab is a linear function.

    f is the cube root, with a linear segment near 0. Averaging these values is equivalent to averaging Lab.

    Args:
        image: RGB, H×W×3 array of uint8, uint16, or floats in [0, 1].
    """
    result = np.empty(image.shape, np.float32)
    rows = max(1, _BLOCK // image.shape[1])
    for top in range(0, len(image), rows):
        result[top : top + rows] = _roots(image[top : top + rows])
    return result


def _roots(image: Image) -> Floats:
    if image.dtype == np.uint8:
        linear = functional.look_up(image, _LINEAR_BYTE)
    else:
        linear = _linear(np.clip(image / np.float32(functional.peak(image)), 0, 1)).astype(np.float32)
    xyz = functional.mix_channels(linear, _XYZ, saturating=False)
    threshold = np.float32(LINEAR_BELOW)
    below = np.minimum(xyz, threshold)
    below -= threshold
    below *= np.float32(7.787)
    root = functional.power(np.maximum(xyz, threshold), 1 / 3)  # the two segments meet at the threshold
    root += below
    return root


def lab_of(root: Floats) -> Floats:
    """Convert the output of :func:`roots` to Lab, H×W×3, within 1e-3 of :func:`super_selfish.models.rgb_to_lab`."""
    return functional.mix_channels(root, _LAB, saturating=False)


def normalised_lab_of(root: Floats, scale: LabScale = SYMMETRIC) -> Floats:
    """Convert the output of :func:`roots` to normalised Lab; see :func:`super_selfish.models.lab.normalised_lab`."""
    middle, width = (np.array(row, np.float32)[:, None] for row in scale)
    matrix = _LAB / width
    matrix[:, 3:] = matrix[:, 3:] - middle / width
    return functional.mix_channels(root, matrix, saturating=False)


@dataclass(frozen=True)
class LabBins:
    """Quantisation of L into lightness classes, and of (a, b) into colour classes on a square grid.

    Attributes:
        l_step: Bin width along L.
        l_offset: Offset added to L before the division by the bin width.
        ab_step: Bin width along a and b.
        a_offset: Offset added to a before the division by the bin width.
        b_offset: Offset added to b before the division by the bin width.

    Examples:
        >>> white, red = np.float32([[[100, 0, 0], [53.24, 80.09, 67.20]]])[0]
        >>> LabBins().labels(np.stack([white, red])[None]).tolist()
        [[[49, 26]], [[44, 87]]]
    """

    l_step: float = 2
    l_offset: float = 0
    ab_step: float = 26
    a_offset: float = 128
    b_offset: float = 128

    @property
    def side(self) -> int:
        """Number of bins along a, and along b."""
        return math.ceil(256 / self.ab_step)

    @property
    def counts(self) -> tuple[int, int]:
        """Number of lightness classes and number of colour classes."""
        return math.ceil(100 / self.l_step), self.side**2

    def labels(self, lab: Floats) -> Tensor:
        """Quantise Lab, H×W×3, to int64 classes (lightness, colour), 2×H×W. Values are clipped to the bins."""
        offsets = np.array([self.l_offset, self.a_offset, self.b_offset], np.float32)
        steps = np.array([self.l_step, self.ab_step, self.ab_step], np.float32)
        last = np.array([self.counts[0] - 1, self.side - 1, self.side - 1], np.float32)
        bins = np.floor((lab + offsets) / steps)
        lightness, a, b = np.moveaxis(np.minimum(np.maximum(bins, 0), last).astype(np.int64), 2, 0)
        return torch.from_numpy(np.stack([lightness, a * self.side + b]))

    def palettes(self, lab: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return a representative value for each class: the mean of its pixels, or the bin centre if it has none.

        Args:
            lab: Lab images (batch, 3, h, w), not normalised.
            labels: Classes of the pixels (batch, 2, h, w).

        Returns:
            Lightness values (classes, 1) and ab values (classes, 2).
        """
        steps = torch.arange(self.side, device=lab.device) + 0.5
        grid = torch.cartesian_prod(steps, steps) * self.ab_step
        centres = (
            (torch.arange(self.counts[0], device=lab.device)[:, None] + 0.5) * self.l_step - self.l_offset,
            grid - torch.tensor([self.a_offset, self.b_offset], device=lab.device),
        )
        means = []
        for centre, values, classes in zip(centres, (lab[:, :1], lab[:, 1:]), labels.unbind(1), strict=True):
            rows = values.movedim(1, -1).reshape(-1, centre.shape[1])
            count = torch.bincount(classes.flatten(), minlength=len(centre))[:, None]
            total = torch.zeros_like(centre, dtype=rows.dtype).index_add_(0, classes.flatten(), rows)
            means.append(torch.where(count > 0, total / count.clamp_min(1), centre))
        return means[0], means[1]
