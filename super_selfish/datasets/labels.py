"""Matching of the labels of two sources by class name, so that the same class has the same label in both."""

from __future__ import annotations

import copy
import logging
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from super_selfish.datasets.image_dataset import ImageDataset
from super_selfish.datasets.image_source import ImageSource, Loaded
from super_selfish.datasets.items import as_label
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.images.functional import Image
from super_selfish.images.image_files import AlphaRule, Header, printable

UNKNOWN = -1
"""Label of images whose class is not in a list of classes, if classes have no names."""

_SHOWN = 5

logger = logging.getLogger("super_selfish")

Names = tuple[str, ...] | None
"""Class names by label; None: labels are plain integers."""


class RenumberedSource(ImageSource):
    """The images of a source with remapped labels.

    Args:
        source: Source of images and labels.
        numbers: Mapping from old to new labels; other labels become -1.
        class_names: Class names by new label.
    """

    def __init__(self, source: ImageSource, numbers: Mapping[int, int], class_names: Names) -> None:
        self.source = source
        self.numbers = dict(numbers)
        self.class_names = class_names
        self.kind = source.kind
        self.thread_safe = source.thread_safe
        self.left_out, self.remarks = source.left_out, source.remarks

    def __len__(self) -> int:
        """The number of images."""
        return len(self.source)

    def read(self, index: int) -> Image:
        """Return image ``index`` of the source."""
        return self.source.read(index)

    def header(self, index: int) -> Header:
        """Return the header of image ``index`` of the source."""
        return self.source.header(index)

    def label(self, index: int) -> int | None:
        """Return the new label of image ``index``."""
        return self._renumbered(self.source.label(index))

    def item(self, index: int) -> tuple[Image, int | None]:
        """Return the image and its new label; the item is read once."""
        image, label = self.source.item(index)
        return image, self._renumbered(label)

    def load(self, index: int) -> Loaded:
        """Return the image, its new label and its mask; the item is read once."""
        return self._with_new_label(self.source.load(index))

    def with_target(self, index: int) -> tuple[Loaded, Any]:
        """Return the result of :meth:`load`, and the target; one that is a label is renumbered, others stay."""
        loaded, target = self.source.with_target(index)
        label = as_label(target)
        return self._with_new_label(loaded), target if label is None else self._renumbered(label)

    def examine(self, index: int) -> tuple[Loaded, list[str], tuple[str, ...]]:
        """Return the result of :meth:`load`, the messages of the decoder, and notes."""
        loaded, messages, notes = self.source.examine(index)
        return self._with_new_label(loaded), messages, notes

    def with_alpha(self, rule: AlphaRule) -> RenumberedSource:
        """Return the same images with another rule for alpha channels."""
        return RenumberedSource(self.source.with_alpha(rule), self.numbers, self.class_names)

    def covering(self, resolution: tuple[int, int]) -> RenumberedSource:
        """Return the same images, which may be decoded at reduced size, but not below ``resolution``."""
        return RenumberedSource(self.source.covering(resolution), self.numbers, self.class_names)

    def name(self, index: int) -> str:
        """Return the name of image ``index`` in the source."""
        return self.source.name(index)

    def keys(self) -> npt.NDArray[np.int64] | None:
        """Return the keys of the source."""
        return self.source.keys()

    def stamp(self) -> str | None:
        """Return the stamp of the source."""
        return self.source.stamp()

    def fingerprint(self) -> dict[str, int | str]:
        """Return the fingerprint of the source."""
        return self.source.fingerprint()

    def _with_new_label(self, loaded: Loaded) -> Loaded:
        return loaded._replace(label=self._renumbered(loaded.label))

    def _renumbered(self, label: int | None) -> int | None:
        return None if label is None else self.numbers.get(label, UNKNOWN)


def with_classes(source: ImageSource, classes: Sequence[str]) -> ImageSource:
    """Remap the labels of a source to indices into a list of class names.

    Classes that are not in the list are appended to it. Labels of a source without class names are matched with names
    that are numbers (``"7"`` is 7); if there are none, labels are used as indices into the list.

    Args:
        source: Labelled images.
        classes: Class names by label.

    Returns:
        The same images with new labels; ``source`` itself if no label changes.

    Raises:
        ConfigurationError: If ``classes`` is not a list of distinct names.
        DataError: If no class of the source is in the list.
    """
    names = check_classes(classes)
    own = source.class_names
    if own is None and names == _counted(len(names)):
        return source
    numbers, all_names = numbering(own, names)
    if own is None and numbers and source.kind != "dataset":  # other kinds return labels without reading images
        present = {label for index in range(len(source)) if (label := source.label(index)) is not None}
        extra = sorted(present - set(numbers))
        numbers |= {label: len(names) + place for place, label in enumerate(extra)}
        all_names = (*all_names, *map(str, extra))
    if not numbers or (own == all_names and all(old == new for old, new in numbers.items())):
        return source
    if not isinstance(source, ImageDataset):
        return RenumberedSource(source, numbers, all_names)
    images = copy.copy(source)
    images.source, images.class_names = RenumberedSource(source.source, numbers, all_names), all_names
    images.preprocessing = source.preprocessing  # reopens the cache and the size-reduced source
    return images


def matched(source: ImageSource, reference: ImageSource) -> ImageSource:
    """Remap the labels of a source to those of a reference source; see :func:`with_classes`.

    Raises:
        DataError: If both have class names, but none in common.
    """
    if reference.class_names is not None:
        return with_classes(source, reference.class_names)
    own = source.class_names
    if own is None:
        return source
    if not any(map(_is_integer, own)):
        _warn_of_positions(own)
        return source
    numbers = {label: int(name) if _is_integer(name) else -1 - label for label, name in enumerate(own)}
    return RenumberedSource(source, numbers, None)


def numbering(own: Names, classes: Sequence[str]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Map labels to indices into a list of class names.

    Args:
        own: Class names of the labels; None if labels are plain integers.
        classes: List of class names.

    Returns:
        The index of each label, empty if labels already are indices; and ``classes`` with unlisted names appended.

    Raises:
        DataError: If the labels have names, but none is in the list.
    """
    names = tuple(classes)
    if own is None:
        numbers = {int(name): label for label, name in enumerate(names) if _is_integer(name)}
        if not numbers:
            _warn_of_positions(names)
        return numbers, names
    known = {_key(name): label for label, name in enumerate(names)}
    if not any(_key(name) in known for name in own):
        if names == _counted(len(names)) and not any(map(_is_integer, own)):
            _warn_of_positions(own)
            return {}, own
        raise DataError(
            "The two data sets have no class in common.",
            expected=f"some of the classes {names_of(range(len(names)), names)}",
            received=names_of(range(len(own)), own),
            fix="Use the same class folders, or the same names in the label column, in both data sets.",
        )
    extra = [name for name in own if _key(name) not in known]
    known |= {_key(name): len(names) + place for place, name in enumerate(extra)}
    return {label: known[_key(name)] for label, name in enumerate(own)}, (*names, *extra)


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Return class names as a tuple.

    Raises:
        ConfigurationError: If they are not distinct strings.
    """
    names = () if isinstance(classes, str) else tuple(classes)
    if not names or not all(isinstance(name, str) for name in names) or len(set(map(_key, names))) < len(names):
        raise ConfigurationError(
            "`classes` is not a list of class names.",
            expected="distinct names by label, such as open_source(train).class_names",
            received=repr(classes),
        )
    return names


def report_classes(train: Iterable[int], test: Iterable[int], names: Names = None) -> None:
    """Log the classes that occur in only one of two data sets.

    Args:
        train: Labels of the training images, or the labels that the classifier can predict.
        test: Labels of the test images.
        names: Class names of both data sets by label.
    """
    known, found = set(train), set(test)
    if found - known:
        logger.warning(
            "Classes that occur only in the test images (counted as errors): %s.", names_of(found - known, names)
        )
    if known - found:
        logger.warning("Classes without test images: %s.", names_of(known - found, names))


def names_of(labels: Collection[int], names: Names) -> str:
    """Format labels for display, by name if they have names."""
    words = [
        printable(names[label]) if names is not None and 0 <= label < len(names) else str(label)
        for label in sorted(labels)
    ]
    return ", ".join(words[:_SHOWN]) + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS stores decomposed accents


def _is_integer(name: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,18}", name) is not None


def _counted(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def _warn_of_positions(names: Sequence[str]) -> None:
    logger.warning(
        "Labels of one data set are integers, those of the other are names: label 0 is matched with %s, and so on.",
        printable(names[0]),
    )
