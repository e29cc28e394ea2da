"""TIFF files, those included that Pillow would spoil: many bands, deep colour, stacks written as one array.

Rules: a file of several pages gives its first page, unless its own description says that the pages are one array
(tifffile, ImageJ, OME) that has a legal channel axis; alpha is dropped; white-is-zero is turned around.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from PIL import TiffImagePlugin

from super_selfish.errors import DataError
from super_selfish.images.arrays import (
    MAX_CHANNELS,
    apply_orientation,
    canonical,
    channels_last,
    exif_orientation,
    from_pillow,
)
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Cover, Header, OpenImage, open_pillow

if TYPE_CHECKING:
    import tifffile

WIDTH, HEIGHT, BITS, PHOTOMETRIC, DESCRIPTION, ORIENTATION, SAMPLES = 256, 257, 258, 262, 270, 274, 277
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_ONE_ARRAY = ('{"shape":', "ImageJ=", "<?xml", "<OME")


class _Plan(NamedTuple):
    """How tifffile is to read a file: which axis of which part of it holds the channels."""

    header: Header
    orientation: int
    whole_series: bool
    channel_axis: int | None
    kept: list[int] | None  # samples that are not alpha, where some are


def open_tiff(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a TIFF file; it is decoded at full size.

    Pillow reads what it reads without loss: it has the codecs of old files (LZW, JPEG, fax), and reads PackBits seven
    times as fast as tifffile, which reads the others.
    """
    tags, several_pages = first_directory(stream)
    if not pillow_suffices(tags, several_pages):
        return _open_deep(stream)
    stream.seek(0)
    file = TiffImagePlugin.TiffImageFile(stream)
    opened = open_pillow(file)

    def decode() -> Image:
        file.load()  # Pillow applies the orientation of TIFF files itself, and then forgets the tag
        return apply_orientation(from_pillow(file), exif_orientation(file))

    size = opened.header._replace(height=int(tags[HEIGHT]), width=int(tags[WIDTH]))
    return opened._replace(header=size, decode=decode)


def first_directory(stream: BinaryIO) -> tuple[dict[int, Any], bool]:
    """The tags of the first page, and whether there are more pages; nothing is decoded."""
    stream.seek(0)
    head = stream.read(8)
    if head[2] == 43 or head[3] == 43:  # BigTIFF
        head += stream.read(8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(head)
    stream.seek(directory.next)
    directory.load(stream)
    tags = {tag: directory[tag] for tag in directory}
    return tags, bool(directory.next)


def _numbers(value: Any, default: tuple[int, ...]) -> tuple[int, ...]:
    if value is None:
        return default
    return tuple(int(item) for item in value) if isinstance(value, tuple) else (int(value),)


def pillow_suffices(tags: dict[int, Any], several_pages: bool) -> bool:
    """Whether Pillow reads the first page without losing bits, bands or pages."""
    samples = _numbers(tags.get(SAMPLES), (1,))[0]
    bits = max(_numbers(tags.get(BITS), (1,)))
    kind = _numbers(tags.get(SAMPLE_FORMAT), (_UNSIGNED,))[0]
    photometric = _numbers(tags.get(PHOTOMETRIC), (_BLACK_IS_ZERO,))[0]
    if several_pages and str(tags.get(DESCRIPTION, "")).startswith(_ONE_ARRAY):
        return False
    if samples > 1:
        return bits <= 8 and samples <= 5 and 0 not in _numbers(tags.get(EXTRA_SAMPLES), ())
    if bits > 8 and photometric == _WHITE_IS_ZERO:
        return False
    if bits <= 8:
        return kind == _UNSIGNED
    return (bits <= 16 and kind in (_UNSIGNED, _SIGNED)) or (bits == 32 and kind in (_SIGNED, _FLOAT))


def _open_deep(stream: BinaryIO) -> OpenImage:
    with _tifffile(stream) as file:
        plan = _plan(file)
    return OpenImage(plan.header, plan.orientation, plan.kept is not None, lambda: _decode(stream))


def _tifffile(stream: BinaryIO) -> tifffile.TiffFile:
    import tifffile  # slow to import, and few need it

    stream.seek(0)
    return tifffile.TiffFile(io.BytesIO(stream.read()))


def _plan(file: tifffile.TiffFile) -> _Plan:
    page = file.pages.first
    series = file.series[0]
    shape, axes, axis, whole = page.shape, page.axes, None, False
    if "S" in axes:
        axis = axes.index("S")
    elif series.axes == "QYX" and file.is_shaped and min(series.shape[0], series.shape[2]) <= MAX_CHANNELS:
        shape, whole = series.shape, True
        axis = 2 if channels_last(shape, default_last=True) else 0
    elif "C" in series.axes and 1 < series.shape[series.axes.index("C")] <= MAX_CHANNELS:
        kept = [place for place, letter in enumerate(series.axes) if letter in "CYX"]
        shape, whole = tuple(series.shape[place] for place in kept), True
        axis = "".join(series.axes[place] for place in kept).index("C")
    sizes = [size for place, size in enumerate(shape) if place != axis]
    if len(sizes) != 2:
        raise DataError("the TIFF is not a picture.", received=f"axes {page.axes} of sizes {page.shape}")
    samples = _without_alpha(page) if "S" in axes else None
    channels = 1 if axis is None else shape[axis] if samples is None else len(samples)
    orientation = int(page.tags.valueof(ORIENTATION, 1))
    header = Header(sizes[0], sizes[1], channels, _dtype_name(page.dtype))
    return _Plan(header, orientation if 1 <= orientation <= 8 else 1, whole, axis, samples)


def _without_alpha(page: Any) -> list[int] | None:
    colours = page.samplesperpixel - len(page.extrasamples)
    alpha = {colours + place for place, kind in enumerate(page.extrasamples) if int(kind) in (1, 2)}
    return [sample for sample in range(page.samplesperpixel) if sample not in alpha] if alpha else None


def _dtype_name(dtype: np.dtype[Any] | None) -> str:
    if dtype is None:
        raise DataError("the TIFF has a pixel type that numpy lacks.")
    if dtype.kind in "iu" and dtype not in (np.uint8, np.uint16):
        return ""  # uint16 or float32: the values decide
    return {"b": "uint8", "f": "float32"}.get(dtype.kind, dtype.name)


def _decode(stream: BinaryIO) -> Image:
    with _tifffile(stream) as file:
        plan = _plan(file)
        page: Any = file.pages.first
        if int(page.photometric) not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            raise DataError(f"deep TIFF files of colour type {page.photometric.name} are not supported.")
        _check_complete(file, plan.whole_series)
        try:
            array = file.series[0].asarray() if plan.whole_series else page.asarray()
        except (ValueError, ImportError) as error:
            if "imagecodecs" not in str(error):
                raise
            what = f"its compression ({page.compression.name}) needs another package."
            raise DataError(what, fix="Run `pip install imagecodecs`.") from error
        if plan.whole_series and "C" in file.series[0].axes:
            kept = tuple(slice(None) if letter in "CYX" else 0 for letter in file.series[0].axes)
            array = array[kept]
        if plan.channel_axis is not None:
            array = np.moveaxis(array, plan.channel_axis, -1)
        if plan.kept is not None:
            array = array[:, :, plan.kept]
        if int(page.photometric) == _WHITE_IS_ZERO and array.dtype.kind in "bu":
            array = ~array
        return apply_orientation(canonical(array), plan.orientation)


def _check_complete(file: tifffile.TiffFile, all_pages: bool) -> None:
    size = file.filehandle.size
    pages: Any = file.series[0].pages if all_pages else [file.pages.first]
    for page in pages:
        if page is None:
            continue
        ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > size:  # tifffile fills what is missing with zeros
            raise DataError("the file is cut short.")
