"""Results of a survey of a data set, and recommendations for training."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from super_selfish.datasets.folders import describe_left_out
from super_selfish.datasets.image_source import expectation_of_few, most_skipped
from super_selfish.datasets.preprocessed import MINIMUM_SIDE, Preprocessing, check_channels
from super_selfish.datasets.preprocessing import fit_preprocessing, sufficient_side
from super_selfish.datasets.survey.pixel_findings import PixelFindings
from super_selfish.errors import DataError
from super_selfish.images.image_files import printable

DIM = 0.01
"""Fraction of the value range below which an image is dim."""

MANY_DUPLICATES = 0.1
"""Fraction of near duplicates above which they are doubtful, so that a list of the images to keep has them."""

_FEW_DUPLICATES = 5  # so many are not doubtful in any data set
_SHOWN = 5


@dataclass
class Survey:
    """Results of a survey. Images are listed by their names in the data set.

    Attributes:
        images: Number of images.
        unreadable: Names and error messages of images that training would stop at: damaged, not finite, or with a
            different number of channels.
        left_out: Counts of files in the folder that are not read, by extension, and of ignored folders.
        tiny: Images with a side below 32 px.
        constant: Images with a single colour that are not tiny.
        dim: 16-bit and float images that use less than 1 % of the value range that training maps to [0, 1].
        copies: Pairs that are equal in every pixel; each copy is paired with the first image of its group.
        duplicates: Pairs of near duplicates; each is paired with the first image of its group.
        conflicts: The pairs of :attr:`copies` with different labels.
        turned_twice: Files with an EXIF orientation of 90° that are wider than high after it is applied. Their pixels
            were probably rotated already, so that rotation prediction would learn from wrong labels.
        sizes: Number of images by (height, width), with the EXIF orientation applied.
        channels: Number of images by number of channels.
        depths: Number of images by dtype.
        preprocessing: Preprocessing that training uses for these images by default.
        skippable: Whether ``on_error="skip"`` can skip all unreadable images.
        removable: Indices of images by kind of problem: ``"unreadable"``, ``"exact copies"``, ``"near duplicates"``,
            ``"constant"`` and ``"tiny"``.
        near_duplicates: Whether :attr:`removed` has near duplicates: ``"drop"``, ``"keep"``, or ``"auto"``: unless they
            are more than 10 % of the images, as images of one kind can be similar without being duplicates.
        is_for_list: Whether the results are for a list of the images to keep: then few images are counted in it.
        orientations: Number of files by EXIF orientation.
        mean: Mean per channel on the scale [0, 1]; empty if the number of channels differs.
        std: Standard deviation per channel, likewise.
        pixels: Missing pixels, values outside the value range, and damage.
    """

    images: int
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    tiny: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    dim: list[str] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    turned_twice: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    depths: Counter[str] = field(default_factory=Counter)
    orientations: Counter[int] = field(default_factory=Counter)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pixels: PixelFindings = field(default_factory=PixelFindings)
    preprocessing: Preprocessing = field(default_factory=lambda: fit_preprocessing(None))
    skippable: bool = True
    removable: dict[str, set[int]] = field(default_factory=dict)
    near_duplicates: str = "auto"
    is_for_list: bool = False

    @property
    def removed(self) -> dict[str, set[int]]:
        """The part of ``removable`` to remove before training, each image once.

        Constant and tiny images are not in it if most images are, nor are near duplicates that should be kept.
        """
        stays = set() if self._removes_poor else {"constant", "tiny"}
        if self.near_duplicates == "keep" or (self.near_duplicates == "auto" and self.has_many_duplicates):
            stays.add("near duplicates")
        removed: dict[str, set[int]] = {}
        for kind, places in self.removable.items():
            if kind not in stays:
                removed[kind] = places - set().union(*removed.values())
        return removed

    @property
    def has_many_duplicates(self) -> bool:
        """Whether there are more than 10 % near duplicates, and more than five."""
        return len(self.duplicates) > max(_FEW_DUPLICATES, MANY_DUPLICATES * self.images)

    @property
    def kept(self) -> list[int]:
        """Indices of the images that should stay: all without :attr:`removed`."""
        removed = set().union(*self.removed.values())
        return [index for index in range(self.images) if index not in removed]

    @property
    def _removes_poor(self) -> bool:
        return len({*self.constant, *self.tiny}) <= self.images // 2

    @property
    def recommendations(self) -> list[str]:
        """Recommended settings and actions before training."""
        return [line for part in _RECOMMENDATIONS for line in part(self)] + self.pixels.recommendations

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _on_count(found: Survey) -> Iterator[str]:
    count = len(found.kept) if found.is_for_list else found.images - len(found.unreadable)
    text = expectation_of_few(count)
    if text:
        yield (
            f"{count} of {found.images} images are kept. {text}" if found.is_for_list and count < found.images else text
        )


def _on_unreadable(found: Survey) -> Iterator[str]:
    count = len(found.unreadable)
    if count and found.skippable and count <= most_skipped(found.images) and found.images - count >= 2:
        yield 'Repair or remove the unreadable files, or train with on_error="skip".'
    elif count:
        yield "Repair or remove the unreadable files: training stops at them."


def _on_channels(found: Survey) -> Iterator[str]:
    kinds = sorted(found.channels)
    if len(kinds) < 2:
        return
    accepted = [wanted for wanted in sorted({1, 3, *kinds}) if all(_are_converted(kind, wanted) for kind in kinds)]
    if not accepted:
        yield (
            "The number of channels differs and cannot be converted: use only images with "
            f"{_listed(kinds)} channels in one data set."
        )
    elif 3 in accepted:
        others = [f"channels={number}" for number in accepted if number != 3]
        option = f", unless you set {_listed(others)}" if others else ""
        yield f"The number of channels differs: all images are converted to 3 channels{option}."
    else:
        yield f"The number of channels differs: set {_listed([f'channels={number}' for number in accepted])}."


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
        middle, side = sufficient_side(side for size, count in found.sizes.items() for side in [min(size)] * count)
        yield f"The median of the shorter side is {middle} px: resolution={side} is sufficient."


def _on_values(found: Survey) -> Iterator[str]:
    if found.std and (min(found.std) < 0.1 or not 0.2 < sum(found.mean) / len(found.mean) < 0.8):
        yield (
            "Brightness or contrast of the images differs from that of photographs: set "
            'normalize="dataset" (not supported by algorithms that work in Lab).'
        )
    if found.dim and not found.pixels.is_low_contrast:
        low, high = found.preprocessing.value_range or (0.0, 1.0)
        yield (
            f"{len(found.dim)} images use less than {DIM:.0%} of the value range {low:g} to {high:g}. If these values "
            "are not black and white, pass `value_range`."
        )


def _on_repetition(found: Survey) -> Iterator[str]:
    if found.copies or found.duplicates:
        yield (
            "Copies and near duplicates become false negatives in contrastive learning, and can leak from the training "
            "to the test set: keep one of each (`super-selfish check DATA --write keep.csv` lists them), or split with "
            "`groups`."
        )
    if found.has_many_duplicates:
        yield (
            f"{len(found.duplicates)} of {found.images} images are near duplicates, which is more than "
            f"{MANY_DUPLICATES:.0%}: look at some of the pairs above. If they are duplicates, leave them out with "
            'near_duplicates="drop" and --write; otherwise --write keeps them.'
        )
    if found.conflicts:
        yield (
            f"{len(found.conflicts)} exact copies have labels that conflict: correct the label of one image of each "
            "pair, or remove both. --write keeps the first."
        )
    if found.turned_twice:
        yield "Remove the EXIF orientation of files that are already rotated (exiftool -Orientation= FILES)."


def _on_content(found: Survey) -> Iterator[str]:
    poor = {*found.constant, *found.tiny}
    if poor and found._removes_poor:
        yield "Remove constant and tiny images: they do not contribute to training."
    elif len(found.constant) > found.images // 2:
        yield "Most images are constant: they do not contribute to training."
    elif poor:
        yield f"Most images have a side below {MINIMUM_SIDE} px: upscaling them costs time and adds no detail."


_RECOMMENDATIONS = (_on_count, _on_unreadable, _on_channels, _on_size, _on_values, _on_repetition, _on_content)


def _lines(found: Survey) -> Iterator[str]:
    yield f"{found.images} images"
    if found.left_out:
        yield f"  {describe_left_out(found.left_out)}"
    tallies: dict[str, Counter[Any]] = {
        "height×width in px": found.sizes,
        "channels": found.channels,
        "data types": found.depths,
    }
    for title, counts in tallies.items():
        common = [f"{_size(key)} ({count})" for key, count in counts.most_common(_SHOWN)]
        more = [f"{len(counts) - _SHOWN} more"] if len(counts) > _SHOWN else []
        yield f"  {title}: {', '.join(common + more) or 'none'}"
    if set(found.orientations) - {1}:
        turns = ", ".join(f"{key} ({count})" for key, count in sorted(found.orientations.items()))
        yield f"  EXIF orientations: {turns}"
    if found.mean:
        mean, std = (", ".join(f"{value:.3f}" for value in row) for row in (found.mean, found.std))
        yield f"  per channel, for values in [0, 1]: mean ({mean}), standard deviation ({std})"
    groups: list[tuple[str, list[str]]] = [
        ("unreadable", [reason for _, reason in found.unreadable]),
        ("constant", found.constant),
        (f"with a side below {MINIMUM_SIDE} px", found.tiny),
        ("exact copies", [f"{b} of {a}" for a, b in found.copies]),
        ("exact copies with labels that conflict", [f"{b} and {a}" for a, b in found.conflicts]),
        ("near duplicates", [f"{b} of {a}" for a, b in found.duplicates]),
        ("rotated already, but with an EXIF orientation that rotates them again", found.turned_twice),
    ]
    for title, names in groups:
        if names:
            yield f"{len(names)} {title}:"
            shown = len(names) if title == "unreadable" else _SHOWN  # each unreadable file requires an action
            yield from (f"  {printable(name)}" for name in names[:shown])
            if len(names) > shown:
                yield f"  and {len(names) - shown} more"
    yield from found.pixels.lines()
    yield from found.recommendations


def _size(key: object) -> str:
    return f"{key[0]}×{key[1]}" if isinstance(key, tuple) else os.fspath(str(key))
