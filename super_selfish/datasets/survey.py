"""What is in a data set, before hours are spent on it: what cannot be read, what says nothing, what is there twice."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.duplicates import Copies, near_duplicates
from super_selfish.datasets.file_sources import FileSource
from super_selfish.datasets.folders import describe_left_out
from super_selfish.datasets.image_source import ImageSource, most_skipped
from super_selfish.datasets.preprocessed import LUMA, MINIMUM_SIDE, check_channels
from super_selfish.datasets.preprocessing import DEFAULT_SIDE, Preprocessing, fit_preprocessing
from super_selfish.datasets.sources import open_source
from super_selfish.errors import DataError, UnreadableImage
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.image_files import MAX_PIXELS, printable, read_orientation

_THUMB = 16  # px of a side of what images are compared by
_SEEN = 128  # px that an image is at least read at
_FLAT = 2  # levels between the darkest and the brightest pixel of a constant image
_DIM = 0.01  # of the range of values that others use
_SHOWN = 5


@dataclass
class Survey:
    """What was found; names are those of the data set.

    Attributes:
        images: How many there are.
        unreadable: Names with reasons: what training would stop at, be it damaged, not finite, or of other channels.
        left_out: Counts of the files in the folder that are not read, by extension, and of folders passed over.
        tiny: Images with a side below 32 px.
        constant: Images of one colour.
        dim: Images of 16 bits or floats that use less than a hundredth of the values that training maps to [0, 1].
        copies: Pairs that are the same in every pixel; of a group, each with the first.
        duplicates: Pairs that show nearly the same; of a group, each with the first.
        turned_twice: Files whose EXIF data ask for a turn by 90° though they are stored upright: their pixels were
            probably turned before, and algorithms that learn which side is up get a wrong answer.
        sizes: Images by (height, width), upright.
        channels: Images by number of channels.
        depths: Images by type of numbers.
        preprocessing: What training settles for these images if it is given no other options.
        skippable: Whether ``on_error="skip"`` passes over all unreadable ones.
        orientations: Files by EXIF orientation.
        mean: Of each channel on the scale of 0 to 1; empty where channels differ.
        std: Likewise.
    """

    images: int
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    tiny: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    dim: list[str] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    turned_twice: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    depths: Counter[str] = field(default_factory=Counter)
    orientations: Counter[int] = field(default_factory=Counter)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    preprocessing: Preprocessing = field(default_factory=lambda: fit_preprocessing(None))
    skippable: bool = True

    @property
    def recommendations(self) -> list[str]:
        """What to set, or to do, before training."""
        return [line for part in _ADVICE for line in part(self)]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def survey(data: object, *, max_pixels: int = MAX_PIXELS) -> Survey:
    """Read every image once by the rules of training, and report what there is.

    Args:
        data: Anything that a supervisor can be made of.
        max_pixels: Larger images count as unreadable.

    Raises:
        ConfigurationError: If this kind of data is not accepted.
        DataError: If there are fewer than two images.
    """
    source = open_source(data, max_pixels=max_pixels, minimum=2)
    found = Survey(len(source), left_out=dict(source.left_out))
    with contextlib.suppress(DataError):  # of none that were looked at; each is named below
        found.preprocessing = fit_preprocessing(source, max_pixels=max_pixels, on_error="skip")
    thumbs: list[npt.NDArray[np.float32]] = []
    names: list[str] = []
    sums: dict[int, npt.NDArray[np.float64]] = {}
    copies = Copies(source)
    for index, image, values in _readable(source, found):
        name = source.name(index)
        if not _is_constant(image):
            original = copies.original(index, image)
            if original is None:
                thumbs.append(_thumbnail(values))
                names.append(name)
            else:
                found.copies.append((source.name(original), name))
            if image.dtype != np.uint8 and np.ptp(values) < _DIM * 255:
                found.dim.append(name)
        else:
            found.constant.append(name)
        moments = np.stack([values.mean((0, 1)), np.square(values).mean((0, 1))]).astype(np.float64)
        sums[image.shape[2]] = sums.get(image.shape[2], np.zeros_like(moments)) + moments
    if len(sums) == 1:
        mean, square = next(iter(sums.values())) / max(1, found.images - len(found.unreadable))
        found.mean = tuple(float(value) for value in mean / 255)
        found.std = tuple(float(value) for value in np.sqrt(np.maximum(square - mean**2, 0)) / 255)
    found.duplicates = [(names[a], names[b]) for a, b in near_duplicates(np.stack(thumbs))] if thumbs else []
    return found


def _readable(source: ImageSource, found: Survey) -> Iterator[tuple[int, Image, npt.NDArray[np.float32]]]:
    """Each image that training accepts, as it is and as training scales it: from 0 to 255."""
    reduced = source.covering((_SEEN, _SEEN))
    for index in range(len(source)):
        name = source.name(index)
        try:
            header = source.header(index)
            found.channels[header.channels] += 1
            image = reduced.read(index)
            values = _levels(image, found.preprocessing, name)
        except DataError as error:
            found.unreadable.append((name, str(error)))
            found.skippable = found.skippable and isinstance(error, UnreadableImage)
            continue
        found.sizes[header.height, header.width] += 1
        found.depths[header.dtype] += 1
        if min(header.height, header.width) < MINIMUM_SIDE:
            found.tiny.append(name)
        if isinstance(source, FileSource):
            orientation = read_orientation(source.path(index), source.max_pixels)
            found.orientations[orientation] += 1
            if orientation >= 5 and header.width > header.height:  # cameras store portraits in landscape format
                found.turned_twice.append(name)
        yield index, image, values


def _levels(image: Image, preprocessing: Preprocessing, name: str) -> npt.NDArray[np.float32]:
    """An image at its own size as training scales it, on the scale of 0 to 255.

    Raises:
        DataError: If training refuses it; the message names it.
    """
    same_size = dataclasses.replace(preprocessing, resolution=image.shape[:2], channels=image.shape[2])
    try:
        check_channels(image.shape[2], preprocessing.channels)
        values = same_size.image(image)
    except DataError as error:
        raise type(error)(f"Image `{printable(name)}`: {error}") from error
    return values.astype(np.float32) if values.dtype == np.uint8 else values * np.float32(255)


def _is_constant(image: Image) -> bool:
    """Whether an image is of one colour, but for the noise of a compression."""
    spread = image.max((0, 1)).astype(np.float64) - image.min((0, 1))
    return bool(spread.max() <= (_FLAT if image.dtype == np.uint8 else 0))


def _thumbnail(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    grey = values @ LUMA if values.shape[2] == 3 else values.mean(axis=2)
    return functional.resize(np.ascontiguousarray(grey[:, :, None]), _THUMB, _THUMB)[:, :, 0]


def _on_unreadable(found: Survey) -> Iterator[str]:
    count = len(found.unreadable)
    if count and found.skippable and count <= most_skipped(found.images) and found.images - count >= 2:
        yield 'Repair or remove the unreadable files, or train with on_error="skip" (--on-error skip).'
    elif count:
        yield "Repair or remove the unreadable files: training stops at them."


def _on_channels(found: Survey) -> Iterator[str]:
    kinds = sorted(found.channels)
    if len(kinds) < 2:
        return
    accepted = [wanted for wanted in sorted({1, 3, *kinds}) if all(_are_converted(kind, wanted) for kind in kinds)]
    if not accepted:
        yield f"Channels differ, and have no conversion: keep images of {_listed(kinds)} channels apart."
    elif 3 in accepted:
        others = [f"channels={number}" for number in accepted if number != 3]
        yield f"Channels differ: all become 3{f', unless you set {_listed(others)}' if others else ''}."
    else:
        yield f"Channels differ: set {_listed([f'channels={number}' for number in accepted])}."


def _are_converted(found: int, wanted: int) -> bool:
    try:
        check_channels(found, wanted)
    except DataError:
        return False
    return True


def _listed(words: Iterable[object]) -> str:
    return " or ".join(map(str, words))


def _on_size(found: Survey) -> Iterator[str]:
    if found.sizes:
        sides = sorted(side for size, count in found.sizes.items() for side in [min(size)] * count)
        middle = sides[len(sides) // 2]
        side = max(MINIMUM_SIDE, min(middle, DEFAULT_SIDE))
        yield f"Half of the images have a short side of {middle} px or more: resolution={side} is enough."


def _on_values(found: Survey) -> Iterator[str]:
    if found.std and (min(found.std) < 0.1 or not 0.2 < sum(found.mean) / len(found.mean) < 0.8):
        yield (
            'Images are darker, brighter or flatter than photographs: set normalize="dataset" (algorithms that work in '
            "Lab do without)."
        )
    if found.dim:
        low, high = found.preprocessing.value_range or (0.0, 1.0)
        yield (
            f"{len(found.dim)} images use less than {_DIM:.0%} of the values from {low:g} to {high:g}: if these are "
            "not what black and white are, set value_range=."
        )


def _on_repetition(found: Survey) -> Iterator[str]:
    if found.copies or found.duplicates:
        yield (
            "Copies and near duplicates are each other's negatives in contrastive learning, and leak from training to "
            "test: keep one of each, or split with groups=."
        )
    if found.turned_twice:
        yield "Remove the EXIF orientation of files that were turned already (exiftool -Orientation= FILES)."


def _on_content(found: Survey) -> Iterator[str]:
    poor = {*found.constant, *found.tiny}
    if poor and len(poor) <= found.images // 2:
        yield "Constant and tiny images teach nothing: remove them."
    elif len(found.constant) > found.images // 2:
        yield "Most images are of one colour: there is little to learn from them."
    elif poor:
        yield f"Most images have a side below {MINIMUM_SIDE} px: they are enlarged, which costs time and adds nothing."


_ADVICE = (_on_unreadable, _on_channels, _on_size, _on_values, _on_repetition, _on_content)


def _lines(found: Survey) -> Iterator[str]:
    yield f"{found.images} images"
    if found.left_out:
        yield f"  {describe_left_out(found.left_out)}"
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
        ("exact copies", [f"{b} of {a}" for a, b in found.copies]),
        ("near duplicates", [f"{b} of {a}" for a, b in found.duplicates]),
        ("turned before, and marked to be turned again", found.turned_twice),
    ]
    for title, names in groups:
        if names:
            yield f"{len(names)} {title}:"
            shown = len(names) if title == "unreadable" else _SHOWN  # each of these has to be dealt with
            yield from (f"  {printable(name)}" for name in names[:shown])
            if len(names) > shown:
                yield f"  and {len(names) - shown} more"
    yield from found.recommendations


def _size(key: object) -> str:
    return f"{key[1]}×{key[0]}" if isinstance(key, tuple) else os.fspath(str(key))
