"""Survey of pixel values: missing pixels, values outside the value range, and damaged files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from super_selfish.datasets.image_source import Loaded
from super_selfish.datasets.preprocessed import Preprocessing, not_finite
from super_selfish.errors import UnreadableImage
from super_selfish.images.functional import Image
from super_selfish.images.image_files import printable

_SHOWN = 5
_SMALL_PART = 0.4  # fraction of the value range below which images have low contrast


@dataclass
class PixelFindings:
    """Results for the pixels of a data set. Images are listed by their names.

    Attributes:
        damaged: Names and decoder messages of images that are damaged but can be read.
        remarks: Names of files that are read with a loss or an assumption, and what it is.
        nodata: Names and fractions of pixels that are declared as no data.
        clipped: Names and fractions of values outside the automatic value range.
        value_range: Automatic value range of images that are not uint8; None: there are none, or they are in [0, 1].
        lowest: Minimum of the images that are not uint8.
        highest: Maximum of the images that are not uint8.
        values: Number of values of these images, without missing pixels.
        beyond: Number of these values that are outside the automatic value range.
    """

    damaged: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    nodata: list[tuple[str, float]] = field(default_factory=list)
    clipped: list[tuple[str, float]] = field(default_factory=list)
    value_range: tuple[float, float] | None = None
    lowest: float = np.inf
    highest: float = -np.inf
    values: int = 0
    beyond: float = 0.0

    def add(self, name: str, loaded: Loaded, messages: Sequence[str], notes: Sequence[str] = ()) -> Image:
        """Add the pixels of an image to the results.

        Returns:
            The image, with missing pixels replaced by the median of the others.

        Raises:
            DataError: If values are neither finite nor declared as no data.
        """
        image, _, missing = loaded
        if not_finite(image, missing) is not None:
            raise UnreadableImage(f"Image `{printable(name)}`: pixel values are not finite.")
        if messages:
            self.damaged.append((name, "; ".join(dict.fromkeys(messages))))
        if notes:
            self.remarks.append((name, "; ".join(notes)))
        valid = image
        if missing is not None and missing.any():
            everywhere = np.broadcast_to(missing, image.shape)
            valid = image[~everywhere]
            self.nodata.append((name, float(everywhere.mean())))
            image = np.where(everywhere, np.median(valid) if valid.size else 0, image).astype(image.dtype)
        if image.dtype != np.uint8 and valid.size:
            self._count(name, valid)
        return image

    def _count(self, name: str, valid: Image) -> None:
        self.lowest, self.highest = min(self.lowest, float(valid.min())), max(self.highest, float(valid.max()))
        share = Preprocessing((1, 1), 1, self.value_range, None, None).clipped(valid)
        self.values += valid.size
        self.beyond += share * valid.size
        if share:
            self.clipped.append((name, share))

    @property
    def is_low_contrast(self) -> bool:
        """Whether the values of all images use only a small part of the automatic value range."""
        return bool(self.values) and 0 < self._used < _SMALL_PART

    @property
    def _used(self) -> float:
        low, high = self.value_range or (0.0, 1.0)
        return (self.highest - self.lowest) / (high - low)

    @property
    def recommendations(self) -> list[str]:
        """Recommended settings and actions before training."""
        found = []
        if self.damaged:
            found.append("Inspect the damaged files, as the decoder replaced missing data. Replace or remove them.")
        if self.nodata:
            found.append("Missing pixels become black; set fill= to use another value, on the scale of the files.")
        if self.is_low_contrast:
            low, high = self.value_range or (0.0, 1.0)
            found.append(
                f"The values are within {self.lowest:g} to {self.highest:g}, {self._used:.0%} of the range {low:g} to "
                f'{high:g} that is mapped to [0, 1]: set value_range="all" or '
                f"value_range=({self.lowest:g}, {self.highest:g}) for full contrast."
            )
        if self.clipped and self.value_range is not None:
            found.append(
                f"Values outside {self.value_range[0]:g} to {self.value_range[1]:g} are clipped: set "
                f'value_range=({self.lowest:g}, {self.highest:g}) or value_range="all" to keep them.'
            )
        return found

    def lines(self) -> Iterator[str]:
        """Format the results, one line at a time."""
        if self.values:
            yield f"  values of more than 8 bits: {self.lowest:g} to {self.highest:g}"
        if self.nodata:
            yield f"{len(self.nodata)} with missing pixels (no data):"
            yield from _shown([f"{name}: {_percent(share)} of its pixels" for name, share in self.nodata])
        if self.clipped:
            share = self.beyond / max(1, self.values)
            yield f"{len(self.clipped)} with values outside the automatic range ({_percent(share)} of all values):"
            yield from _shown([f"{name}: {_percent(share)}" for name, share in self.clipped])
        if self.remarks:
            yield f"{len(self.remarks)} with remarks:"
            yield from _shown([f"{name}: {remark}" for name, remark in self.remarks])
        if self.damaged:
            yield f"{len(self.damaged)} damaged, but readable:"
            yield from _shown([f"{name}: {reason}" for name, reason in self.damaged], most=len(self.damaged))


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _shown(lines: list[str], most: int = _SHOWN) -> Iterator[str]:
    yield from (f"  {printable(line)}" for line in lines[:most])
    if len(lines) > most:
        yield f"  and {len(lines) - most} more"
