"""What a survey found in a data set, for people and for programs, and what follows from it for training."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from super_selfish.datasets.folders import describe_left_out
from super_selfish.datasets.image_source import most_skipped
from super_selfish.datasets.preprocessed import MINIMUM_SIDE, Preprocessing, check_channels
from super_selfish.datasets.preprocessing import DEFAULT_SIDE, fit_preprocessing
from super_selfish.datasets.survey.pixel_findings import PixelFindings
from super_selfish.errors import DataError
from super_selfish.images.image_files import printable

DIM = 0.01
"""Share of the range of values below which an image is dim."""

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
        pixels: Missing pixels, values beyond the range, and damage.
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
    pixels: PixelFindings = field(default_factory=PixelFindings)
    preprocessing: Preprocessing = field(default_factory=lambda: fit_preprocessing(None))
    skippable: bool = True

    @property
    def recommendations(self) -> list[str]:
        """What to set, or to do, before training."""
        return [line for part in _ADVICE for line in part(self)] + self.pixels.recommendations

    def __str__(self) -> str:
        return "\n".join(_lines(self))


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
            f"{len(found.dim)} images use less than {DIM:.0%} of the values from {low:g} to {high:g}: if these are "
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
    yield from found.pixels.lines()
    yield from found.recommendations


def _size(key: object) -> str:
    return f"{key[1]}×{key[0]}" if isinstance(key, tuple) else os.fspath(str(key))
