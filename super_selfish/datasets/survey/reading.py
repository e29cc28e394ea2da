"""Survey of a data set: reads every image with the rules of training."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.file_sources import FileSource
from super_selfish.datasets.image_source import ImageSource
from super_selfish.datasets.preprocessed import MINIMUM_SIDE, Preprocessing, check_channels
from super_selfish.datasets.preprocessing import fit_preprocessing
from super_selfish.datasets.sources import open_source
from super_selfish.datasets.survey.duplicates import Copies, near_duplicates, thumbnail
from super_selfish.datasets.survey.findings import DIM, Survey
from super_selfish.errors import DataError, UnreadableImage
from super_selfish.images.functional import Image
from super_selfish.images.image_files import MAX_PIXELS, printable, read_orientation

_SEEN = 128  # minimum height and width at which images are decoded, in px
_FLAT = 2  # maximum difference between the darkest and brightest pixel of a constant image, in levels of 255


def survey(data: object, *, max_pixels: int = MAX_PIXELS) -> Survey:
    """Read every image once with the rules of training, and report problems and statistics.

    Args:
        data: Any data that a supervisor accepts.
        max_pixels: Maximum number of pixels of an image; larger images are reported as unreadable.

    Raises:
        ConfigurationError: If the type of ``data`` is not supported.
        DataError: If there are fewer than two images.
    """
    source = open_source(data, max_pixels=max_pixels, minimum=2)
    found = Survey(len(source), left_out=dict(source.left_out))
    with contextlib.suppress(DataError):  # no image of the sample can be read; each is listed below
        found.preprocessing = fit_preprocessing(source, max_pixels=max_pixels, on_error="skip")
    thumbs: list[npt.NDArray[np.float32]] = []
    places: list[int] = []
    removable = found.removable
    removable |= {kind: set() for kind in ("unreadable", "exact copies", "near duplicates", "constant", "tiny")}
    sums: dict[int, npt.NDArray[np.float64]] = {}
    found.pixels.value_range = found.preprocessing.value_range
    source = source.with_alpha(found.preprocessing.alpha_rule)
    copies = Copies(source)
    for index, image, values in _readable(source, found):
        name = source.name(index)
        if not _is_constant(image):
            original = copies.original(index, image)
            if original is None:
                thumbs.append(thumbnail(values))
                places.append(index)
            else:
                found.copies.append((source.name(original), name))
                removable["exact copies"].add(index)
                labels = {source.label(original), source.label(index)} - {None}
                if len(labels) > 1:
                    found.conflicts.append((source.name(original), name))
            if image.dtype != np.uint8 and np.ptp(values) < DIM * 255:
                found.dim.append(name)
        elif index not in removable["tiny"]:  # a few pixels are often equal: such an image is too small
            found.constant.append(name)
            removable["constant"].add(index)
        moments = np.stack([values.mean((0, 1)), np.square(values).mean((0, 1))]).astype(np.float64)
        sums[image.shape[2]] = sums.get(image.shape[2], np.zeros_like(moments)) + moments
    if len(sums) == 1:
        mean, square = next(iter(sums.values())) / max(1, found.images - len(found.unreadable))
        found.mean = tuple(float(value) for value in mean / 255)
        found.std = tuple(float(value) for value in np.sqrt(np.maximum(square - mean**2, 0)) / 255)
    similar = [(places[a], places[b]) for a, b in near_duplicates(np.stack(thumbs))] if thumbs else []
    found.duplicates = [(source.name(first), source.name(second)) for first, second in similar]
    groups: dict[int, set[int]] = {}
    for first, second in similar:
        groups.setdefault(first, {first}).add(second)
    for group in groups.values():  # a thumbnail does not stay in place of its original
        removable["near duplicates"] |= group - {min(group, key=lambda index: (index in removable["tiny"], index))}
    return found


def _readable(source: ImageSource, found: Survey) -> Iterator[tuple[int, Image, npt.NDArray[np.float32]]]:
    """Iterate over the images that training accepts: index, original image, and image scaled to [0, 255]."""
    reduced = source.covering((_SEEN, _SEEN))
    for index in range(len(source)):
        name = source.name(index)
        try:
            header = source.header(index)
            found.channels[header.channels] += 1
            image = found.pixels.add(name, *reduced.examine(index))
            values = _levels(image, found.preprocessing, name)
        except DataError as error:
            found.unreadable.append((name, str(error)))
            found.removable["unreadable"].add(index)
            found.skippable = found.skippable and isinstance(error, UnreadableImage)
            continue
        found.sizes[header.height, header.width] += 1
        found.depths[header.dtype] += 1
        if min(header.height, header.width) < MINIMUM_SIDE:
            found.tiny.append(name)
            found.removable["tiny"].add(index)
        if isinstance(source, FileSource):
            orientation = read_orientation(source.path(index), source.max_pixels)
            found.orientations[orientation] += 1
            if orientation >= 5 and header.width > header.height:  # cameras store portraits in landscape format
                found.turned_twice.append(name)
        yield index, image, values


def _levels(image: Image, preprocessing: Preprocessing, name: str) -> npt.NDArray[np.float32]:
    """Scale the values of an image like training does, but to [0, 255] and at its original size.

    Raises:
        DataError: If training would raise an error for the image; the message names it.
    """
    same_size = dataclasses.replace(preprocessing, resolution=image.shape[:2], channels=image.shape[2])
    try:
        check_channels(image.shape[2], preprocessing.channels)
        values = same_size.image(image)
    except DataError as error:
        raise type(error)(f"Image `{printable(name)}`: {error}") from error
    return values.astype(np.float32) if values.dtype == np.uint8 else values * np.float32(255)


def _is_constant(image: Image) -> bool:
    """Whether an image has a single colour, apart from compression noise."""
    spread = image.max((0, 1)).astype(np.float64) - image.min((0, 1))
    return bool(spread.max() <= (_FLAT if image.dtype == np.uint8 else 0))
