"""What is in a data set, before hours are spent on it: what cannot be read, what says nothing, what is there twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.file_sources import FileSource
from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.pixel_findings import PixelFindings
from super_selfish.datasets.preprocessed import LUMA, MINIMUM_SIDE
from super_selfish.datasets.scaling import without_uint16
from super_selfish.datasets.sources import open_source
from super_selfish.errors import DataError
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.image_files import MAX_PIXELS, read_orientation

_THUMB = 16  # px of a side of what images are compared by
_SEEN = 128  # px that an image is at least read at
_BITS = 64
_BAND = 16  # bits that two alike hashes share at least once
_FEW_BITS = 3
_ALIKE = 6.0  # levels of 255 that thumbnails of one image differ by on average
_FLAT = 2.0  # levels between the darkest and the brightest pixel of a constant image
_SHOWN = 5


@dataclass
class Survey:
    """What was found; names are those of the data set.

    Attributes:
        images: How many there are.
        unreadable: Names with reasons.
        tiny: Images with a side below 32 px.
        constant: Images of one colour.
        duplicates: Pairs that show nearly the same; of a group, each with the first.
        turned_twice: Files whose EXIF data ask for a turn by 90° though they are stored upright: their pixels were
            probably turned before, and algorithms that learn which side is up get a wrong answer.
        sizes: Images by (height, width), upright.
        channels: Images by number of channels.
        depths: Images by type of numbers.
        orientations: Files by EXIF orientation.
        mean: Of each channel on the scale of 0 to 1; empty where channels differ.
        std: Likewise.
        pixels: Missing pixels, values beyond the range, and damage.
    """

    images: int
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    tiny: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    turned_twice: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    depths: Counter[str] = field(default_factory=Counter)
    orientations: Counter[int] = field(default_factory=Counter)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pixels: PixelFindings = field(default_factory=PixelFindings)

    @property
    def recommendations(self) -> list[str]:
        """What to set, or to do, before training."""
        told = []
        if self.unreadable:
            told.append('Repair or remove the unreadable files, or train with supervise(on_error="skip").')
        if len(self.channels) > 1:
            told.append(f"Channels differ: all become 3, unless you set channels={min(self.channels)}.")
        if self.sizes:
            sides = sorted(side for size, count in self.sizes.items() for side in [min(size)] * count)
            middle = sides[len(sides) // 2]
            told.append(
                f"Half of the images have a short side of {middle} px or more: resolution={min(middle, 225)} is enough."
            )
        if self.std and (min(self.std) < 0.1 or not 0.2 < sum(self.mean) / len(self.mean) < 0.8):
            told.append('Images are darker, brighter or flatter than photographs: set normalize="dataset".')
        if self.duplicates:
            told.append(
                "Near duplicates are each other's negatives in contrastive learning, and leak from training to test: "
                "remove them, or split with groups=."
            )
        if self.turned_twice:
            told.append("Remove the EXIF orientation of files that were turned already (exiftool -Orientation= FILES).")
        if self.constant or self.tiny:
            told.append("Constant and tiny images teach nothing: remove them.")
        return told + self.pixels.recommendations

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def survey(data: object, *, max_pixels: int = MAX_PIXELS) -> Survey:
    """Read every image once, and tell what there is.

    Args:
        data: Anything that a supervisor can be made of.
        max_pixels: Larger images count as unreadable.

    Raises:
        ConfigurationError: If this kind of data is not accepted.
        DataError: If there are no images.
    """
    source = open_source(data, max_pixels=max_pixels)
    found = Survey(len(source), pixels=PixelFindings.of(source))
    thumbs: list[npt.NDArray[np.float32]] = []
    names: list[str] = []
    sums: dict[int, npt.NDArray[np.float64]] = {}
    for index, image in _readable(source, found):
        name = source.name(index)
        values = _levels(image)
        if values.max() - values.min() <= _FLAT:
            found.constant.append(name)
        else:
            grey = values @ LUMA if values.shape[2] == 3 else values.mean(axis=2)
            thumbs.append(functional.resize(np.ascontiguousarray(grey[:, :, None]), _THUMB, _THUMB)[:, :, 0])
            names.append(name)
        moments = np.stack([values.mean((0, 1)), np.square(values).mean((0, 1))]).astype(np.float64)
        sums[image.shape[2]] = sums.get(image.shape[2], np.zeros_like(moments)) + moments
    if len(sums) == 1:
        mean, square = next(iter(sums.values())) / max(1, found.images - len(found.unreadable))
        found.mean = tuple(float(value) for value in mean / 255)
        found.std = tuple(float(value) for value in np.sqrt(np.maximum(square - mean**2, 0)) / 255)
    found.duplicates = [(names[a], names[b]) for a, b in _pairs(np.stack(thumbs))] if thumbs else []
    return found


def _readable(source: ImageSource, found: Survey) -> Iterator[tuple[int, Image]]:
    reduced = source.covering((_SEEN, _SEEN))
    for index in range(len(source)):
        name = source.name(index)
        try:
            header = source.header(index)
            image = found.pixels.add(name, *reduced.examine(index))
        except DataError as error:
            found.unreadable.append((name, str(error)))
            continue
        found.sizes[header.height, header.width] += 1
        found.channels[header.channels] += 1
        found.depths[header.dtype] += 1
        if min(header.height, header.width) < MINIMUM_SIDE:
            found.tiny.append(name)
        if isinstance(source, FileSource):
            orientation = read_orientation(source.path(index), source.max_pixels)
            found.orientations[orientation] += 1
            if orientation >= 5 and header.width > header.height:  # cameras store portraits in landscape format
                found.turned_twice.append(name)
        yield index, image


def _levels(image: Image) -> npt.NDArray[np.float32]:
    """Values on the scale of 0 to 255, whatever the image has."""
    values = without_uint16(image).astype(np.float32)
    return values if image.dtype == np.uint8 else values * 255


def _pairs(thumbs: npt.NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Pairs of thumbnails that show the same, each with the first of its kind."""
    small = thumbs.reshape(len(thumbs), 8, 2, 8, 2).mean((2, 4))
    steps = (np.diff(np.concatenate([small, small[:, :, :1]], axis=2), axis=2) > 0).reshape(len(thumbs), _BITS)
    bands = [steps[:, start : start + _BAND] for start in range(0, _BITS, _BAND)]
    keys = [np.packbits(band, axis=1).view(np.uint16)[:, 0] for band in bands]
    seen: list[dict[int, list[int]]] = [{} for _ in keys]
    for index in range(len(thumbs)):
        candidates = sorted(
            {other for key, table in zip(keys, seen, strict=True) for other in table.get(int(key[index]), ())}
        )
        if candidates:
            others = np.array(candidates)
            near = (steps[others] != steps[index]).sum(axis=1) <= _FEW_BITS
            alike = np.abs(thumbs[others] - thumbs[index]).mean((1, 2)) <= _ALIKE
            if (near & alike).any():
                yield int(others[near & alike][0]), index
                continue  # the first stands for all of its kind
        for key, table in zip(keys, seen, strict=True):
            table.setdefault(int(key[index]), []).append(index)


def _lines(found: Survey) -> Iterator[str]:
    yield f"{found.images} images"
    for title, counts in (("sizes", found.sizes), ("channels", found.channels), ("depths", found.depths)):
        common = [f"{_size(key)} ({count})" for key, count in counts.most_common(_SHOWN)]
        more = [f"{len(counts) - _SHOWN} more"] if len(counts) > _SHOWN else []
        yield f"  {title}: {', '.join(common + more) or 'none'}"
    if set(found.orientations) - {1}:
        turns = ", ".join(f"{key} ({count})" for key, count in sorted(found.orientations.items()))
        yield f"  EXIF orientations: {turns}"
    if found.mean:
        mean, std = (", ".join(f"{value:.3f}" for value in row) for row in (found.mean, found.std))
        yield f"  mean ({mean}), standard deviation ({std})"
    groups: list[tuple[str, list[str]]] = [
        ("unreadable", [reason for _, reason in found.unreadable]),
        ("of one colour", found.constant),
        (f"with a side below {MINIMUM_SIDE} px", found.tiny),
        ("near duplicates", [f"{b} of {a}" for a, b in found.duplicates]),
        ("turned before, and marked to be turned again", found.turned_twice),
    ]
    for title, names in groups:
        if names:
            yield f"{len(names)} {title}:"
            yield from (f"  {name}" for name in names[:_SHOWN])
            if len(names) > _SHOWN:
                yield f"  and {len(names) - _SHOWN} more"
    yield from found.pixels.lines()
    yield from found.recommendations


def _size(key: object) -> str:
    return f"{key[1]}×{key[0]}" if isinstance(key, tuple) else os.fspath(str(key))
