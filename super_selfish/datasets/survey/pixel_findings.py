"""What a survey finds in the pixels of images: missing ones, those beyond the value range, and reports of damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from super_selfish.datasets.image_source import Loaded
from super_selfish.datasets.preprocessed import Preprocessing, not_finite
from super_selfish.errors import UnreadableImage
from super_selfish.images.functional import Image
from super_selfish.images.image_files import printable

_SHOWN = 5


@dataclass
class PixelFindings:
    """What was found; names are those of the data set.

    Attributes:
        damaged: Names with what decoders report of images that they read all the same.
        nodata: Names with the share of pixels that are declared to hold no data.
        clipped: Names with the share of values outside the automatic value range.
        value_range: The automatic range of images that are not uint8; None: there are none, or they are in [0, 1].
        lowest: Smallest value of images that are not uint8.
        highest: Largest.
        values: Number of their values, those missing left out.
        beyond: How many of them are outside the automatic value range.
    """

    damaged: list[tuple[str, str]] = field(default_factory=list)
    nodata: list[tuple[str, float]] = field(default_factory=list)
    clipped: list[tuple[str, float]] = field(default_factory=list)
    value_range: tuple[float, float] | None = None
    lowest: float = np.inf
    highest: float = -np.inf
    values: int = 0
    beyond: float = 0.0

    def add(self, name: str, loaded: Loaded, messages: list[str]) -> Image:
        """Count what is in an image.

        Returns:
            The image, with its missing pixels as others that it has.

        Raises:
            DataError: If values are not finite though nothing declares them.
        """
        image, _, missing = loaded
        if not_finite(image, missing) is not None:
            raise UnreadableImage(f"Image `{printable(name)}`: pixel values are not finite.")
        if messages:
            self.damaged.append((name, "; ".join(dict.fromkeys(messages))))
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
    def recommendations(self) -> list[str]:
        """What to set, or to do, before training."""
        found = []
        if self.damaged:
            found.append("Look at the damaged files: decoders filled in what is missing. Replace or remove them.")
        if self.nodata:
            found.append("Pixels without data become black; fill= sets another value, on the scale of the files.")
        if self.clipped and self.value_range is not None:
            found.append(
                f"Values outside {self.value_range[0]:g} to {self.value_range[1]:g} are clipped: set "
                f'value_range=({self.lowest:g}, {self.highest:g}) or value_range="all" to keep them.'
            )
        return found

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.values:
            yield f"  values of more than 8 bits: {self.lowest:g} to {self.highest:g}"
        if self.nodata:
            yield f"{len(self.nodata)} with pixels that hold no data:"
            yield from _shown([f"{name}: {_percent(share)} of its pixels" for name, share in self.nodata])
        if self.clipped:
            share = self.beyond / max(1, self.values)
            yield f"{len(self.clipped)} with values outside the automatic range ({_percent(share)} of all values):"
            yield from _shown([f"{name}: {_percent(share)}" for name, share in self.clipped])
        if self.damaged:
            yield f"{len(self.damaged)} damaged, though decoders read them:"
            yield from _shown([f"{name}: {reason}" for name, reason in self.damaged], most=len(self.damaged))


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _shown(lines: list[str], most: int = _SHOWN) -> Iterator[str]:
    yield from (f"  {printable(line)}" for line in lines[:most])
    if len(lines) > most:
        yield f"  and {len(lines) - most} more"
