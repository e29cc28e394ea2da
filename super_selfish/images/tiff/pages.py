"""Selection of the pages of a TIFF file that form one image, and of its channel axis."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from super_selfish.errors import DataError
from super_selfish.images.arrays import MAX_CHANNELS
from super_selfish.images.open_image import Header

_MOST_PAGES = 16  # maximum number of pages read as bands of one image if the file has no further metadata
_REDUCED, _MASK = 1, 4  # bits of the subfile type
_ALPHA = (1, 2)
_GREY_OR_RGB, _PALETTE, _MASK_PHOTOMETRIC, _INKS, _LAB = (0, 1, 2), 3, 4, 5, (8, 9, 10)
_INK_SET = 332


class Plan(NamedTuple):
    """Parameters for reading a file with tifffile.

    Attributes:
        header: Header of the image; alpha is not counted as a channel.
        channel_axis: Channel axis of the array that is read; None: there is one channel.
        pages: Indices, in the first series, of the pages that hold the channels; None: only the first page is read.
        whole_series: Whether the first series is read as one array.
        kept: Indices of the samples that are not alpha; None: no sample is alpha.
        alpha: Number of alpha samples.
        left_out: Number of further images in the file.
        allocated: Number of pixels that decoding allocates.
        notes: Assumptions made where the file is ambiguous.
    """

    header: Header
    channel_axis: int | None = None
    pages: list[int] | None = None
    whole_series: bool = False
    kept: list[int] | None = None
    alpha: int = 0
    left_out: int = 0
    allocated: int = 0
    notes: tuple[str, ...] = ()


def plan_of(file: Any) -> Plan:
    """Determine how to read an open ``tifffile.TiffFile``.

    Raises:
        DataError: If the file does not contain a 2-D image, or its colours are not supported.
    """
    page, series = main_page(file), main_series(file)
    _check_colours(page)
    shape, axis, pages, whole = page.shape, None, None, False
    notes: tuple[str, ...] = ()
    if "S" in page.axes:
        axis = page.axes.index("S")
    elif series.axes == "QYX" and file.is_shaped:
        place, note = bands_of_stack(series.shape)
        if place is not None:
            shape, axis, whole, notes = series.shape, place, True, note
    elif "C" in series.axes and 1 < series.shape[series.axes.index("C")] <= MAX_CHANNELS:
        pages = _channel_pages(series)
        whole = pages is None
        count = series.shape[series.axes.index("C")]
        shape, axis = ((*page.shape, count), 2) if pages else _channels_of_series(series)
    sizes = [size for place, size in enumerate(shape) if place != axis]
    if len(sizes) != 2:
        raise DataError("the TIFF is not a 2-D image.", received=f"axes {page.axes} of sizes {page.shape}")
    kept = _without_alpha(page) if "S" in page.axes else None
    channels = 1 if axis is None else shape[axis] if kept is None else len(kept)
    alpha = 0 if kept is None else page.samplesperpixel - len(kept)
    if int(page.photometric) in (_PALETTE, _INKS):
        channels = 3
    header = Header(sizes[0], sizes[1], channels, _dtype_name(page))
    used = len(series.pages) if whole else len(pages or [0])
    left_out = max(0, -(-count_images(file) // used) - 1)
    allocated = _allocated(page, series.shape if whole else None, channels)
    return Plan(header, axis, pages, whole, kept, alpha, left_out, allocated, notes)


def main_page(file: Any) -> Any:
    """Return the first page that is neither a mask nor a reduced-resolution copy; the first page if there is none."""
    return next((page for page in file.pages if not _kind(page) & (_REDUCED | _MASK)), file.pages.first)


def main_series(file: Any) -> Any:
    """Return the series of pages that contains the main page."""
    wanted = main_page(file).index
    holds = (any(page is not None and page.index == wanted for page in series.pages) for series in file.series)
    return next((series for series, found in zip(file.series, holds, strict=True) if found), file.series[0])


def _kind(page: Any) -> int:
    return int(getattr(page, "subfiletype", 0) or 0)


def _check_colours(page: Any) -> None:
    kind = int(page.photometric)
    cmyk = page.samplesperpixel >= 4 and int(page.tags.valueof(_INK_SET, 1)) == 1
    if kind in _GREY_OR_RGB or (kind == _PALETTE and page.colormap is not None) or (kind == _INKS and cmyk):
        return
    name = "CIE Lab" if kind in _LAB else getattr(page.photometric, "name", str(kind))
    raise DataError(f"TIFF files in {name} are not supported.", fix="Convert them to RGB or grey first.")


def bands_of_stack(shape: tuple[int, ...]) -> tuple[int | None, tuple[str, ...]]:
    """Infer the channel axis of a stack of pages that was saved without axis metadata.

    An H×W×C array is saved as H pages of W×C px, a C×H×W array as C pages. Pages are separate images unless the last
    axis is clearly the channel axis, or there are at most 16 pages.

    Args:
        shape: Number of pages, and height and width of a page.

    Returns:
        The axis, or None if pages are separate images; and a note if the axis was inferred from the sizes alone.

    Examples:
        >>> [bands_of_stack(shape)[0] for shape in ((64, 64, 13), (13, 64, 64), (100, 64, 64), (300, 200, 4))]
        [2, 0, None, 2]
    """
    count, height, width = shape
    square_image = count == height and width < height
    if width <= MAX_CHANNELS and (square_image or (width <= _MOST_PAGES and 2 * width < min(count, height))):
        return 2, ()
    if 1 < count <= _MOST_PAGES:
        return 0, (f"its {count} pages are read as {count} channels of one image, as the file has no axis metadata",)
    return None, ()


def _channel_pages(series: Any) -> list[int] | None:
    """Return the pages that hold the channels of the first image of a series; None if pages are not 2-D planes."""
    leading, counts = series.axes[:-2], series.shape[:-2]
    planes = int(np.prod(counts))
    if series.axes[-2:] != "YX" or len(series.pages) != planes:
        return None
    places = np.arange(planes).reshape(counts)
    first = places[tuple(slice(None) if letter == "C" else 0 for letter in leading)]
    return [int(place) for place in first]


def _channels_of_series(series: Any) -> tuple[tuple[int, ...], int]:
    kept = [(letter, series.shape[place]) for place, letter in enumerate(series.axes) if letter in "CYX"]
    return tuple(size for _, size in kept), "".join(letter for letter, _ in kept).index("C")


def count_images(file: Any) -> int:
    """Return the number of pages that are separate images, without masks and reduced-resolution copies."""
    return sum(not _kind(page) & (_REDUCED | _MASK) for page in file.pages)


def mask_page(file: Any) -> Any:
    """Return the page that masks the valid pixels of the main page; None if there is none."""
    first = main_page(file)
    for page in file.pages:
        if _kind(page) != _MASK or int(page.photometric) != _MASK_PHOTOMETRIC:
            continue
        if (page.imagelength, page.imagewidth) == (first.imagelength, first.imagewidth):
            return page
    return None


def multiple_files(description: str) -> list[str]:
    """Return the file names of an OME image that is split into several files; empty if it is not."""
    names = sorted(set(re.findall(r'\bFileName="([^"]*)"', description)))
    if "<BinaryOnly" in description or "<OME:BinaryOnly" in description:
        names += re.findall(r'\bMetadataFile="([^"]*)"', description)
        return names
    return names if len(names) > 1 else []


def channels_of_ome(description: str) -> int:
    """Return the number of channels declared in the description of an OME image; 0 if it declares none."""
    found = re.search(r'\bSizeC="(\d+)"', description)
    return int(found[1]) if found else 0


def _without_alpha(page: Any) -> list[int] | None:
    colours = page.samplesperpixel - len(page.extrasamples)
    alpha = {colours + place for place, kind in enumerate(page.extrasamples) if int(kind) in _ALPHA}
    return [sample for sample in range(page.samplesperpixel) if sample not in alpha] if alpha else None


def _dtype_name(page: Any) -> str:
    dtype = page.dtype
    if dtype is None:
        fix = "Convert the file to 16-bit integers or floats."
        raise DataError("the TIFF has a pixel type that NumPy does not support.", fix=fix)
    if int(page.photometric) == _PALETTE:
        return "uint8" if dtype.itemsize == 1 else "uint16"
    if dtype.kind in "iu" and dtype not in (np.uint8, np.uint16):
        return ""  # uint16 or float32, depending on the values
    return {"b": "uint8", "f": "float32"}.get(dtype.kind, str(dtype.name))


def _allocated(page: Any, series: tuple[int, ...] | None, channels: int) -> int:
    """Return the number of pixels that decoding allocates: a whole series, or a tile larger than the image."""
    whole = 0 if series is None else int(np.prod(series)) // max(1, channels)
    return max(whole, int(page.tilewidth or 0) * int(page.tilelength or 0))
