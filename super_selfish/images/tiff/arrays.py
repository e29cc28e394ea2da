"""Decoding of TIFF files with tifffile, and masks of their missing pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from super_selfish.errors import DataError
from super_selfish.images.arrays import apply_orientation, canonical, canonical_values
from super_selfish.images.functional import Image
from super_selfish.images.nodata import equal_to, gdal_nodata
from super_selfish.images.open_image import Mask
from super_selfish.images.tiff.pages import Plan, main_page, main_series, mask_page, multiple_files, plan_of

if TYPE_CHECKING:
    import tifffile

_ORIENTATION, _NODATA = 274, 42113
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS = 0, 1, 2, 3, 5
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of alpha


def tifffile_of(stream: BinaryIO) -> tifffile.TiffFile:
    """Open a TIFF file without the other files that it may refer to."""
    import tifffile  # imported on first use, because it is slow

    stream.seek(0)
    content = io.BytesIO(stream.read())
    file = tifffile.TiffFile(content)
    if multiple_files(str(file.pages.first.description or "")):  # tifffile would fill missing files with zeros
        content.seek(0)
        file = tifffile.TiffFile(content, is_ome=False)
    return file


def decoded(stream: BinaryIO, alpha: bool = False) -> tuple[Image, Mask | None]:
    """Decode the image in a file with its orientation applied, and the mask of missing pixels, if any are declared.

    Args:
        stream: Binary file.
        alpha: Keep alpha samples as the last channels.

    Raises:
        DataError: If the file is truncated, has parts that are not stored, or its colours or codec are not supported.
    """
    with tifffile_of(stream) as file:
        plan = plan_of(file)
        page: Any = main_page(file)
        nodata = gdal_nodata(page.tags.valueof(_NODATA)) if _NODATA in page.tags else None
        values = _read(file, plan, nodata)
        if plan.channel_axis is None:
            values = values[:, :, None]
        elif plan.pages is None:
            values = np.moveaxis(values, plan.channel_axis, -1)
        premultiplied = _premultiplied(page)
        opacity = None if premultiplied is None else values[:, :, premultiplied]
        if plan.kept is not None:
            others = [sample for sample in range(values.shape[2]) if sample not in plan.kept] if alpha else []
            values = values[:, :, plan.kept + others]
        missing = None
        if nodata is not None:
            missing = equal_to(values, nodata, colours=int(page.photometric) in (_RGB, _PALETTE, _INKS))
        if opacity is not None:
            values = _unmultiplied(values, opacity, page.samplesperpixel - len(page.extrasamples))
        orientation = _orientation(page)
        image = apply_orientation(canonical(_grey_or_rgb(values, page)), orientation)
        missing = None if missing is None else apply_orientation(missing, orientation)
        if (masking := mask_page(file)) is not None:
            masked = ~_valid(masking, orientation)
            missing = masked if missing is None else missing | masked
    return image, missing


def is_valid(stream: BinaryIO) -> Mask:
    """Return the mask page of the main page, True where pixels are valid: H×W×1, with the orientation applied.

    Raises:
        DataError: If the mask cannot be read.
    """
    with tifffile_of(stream) as file:
        return _valid(mask_page(file), _orientation(main_page(file)))


def _valid(page: Any, orientation: int) -> Mask:
    return apply_orientation(_asarray(page)[:, :, None] != 0, orientation)


def _orientation(page: Any) -> int:
    orientation = int(page.tags.valueof(_ORIENTATION, 1))
    return orientation if 1 <= orientation <= 8 else 1


def _read(file: tifffile.TiffFile, plan: Plan, nodata: float | None) -> npt.NDArray[Any]:
    """Return the values of the pages that form the image."""
    series: Any = main_series(file)
    pages = [main_page(file)] if plan.pages is None else [series.pages[place] for place in plan.pages]
    _check_complete(file, list(series.pages) if plan.whole_series else pages, nodata is not None)
    if plan.whole_series:
        values = _asarray(series)
        if "C" in series.axes:
            values = values[tuple(slice(None) if letter in "CYX" else 0 for letter in series.axes)]
        return values
    return _asarray(pages[0]) if plan.pages is None else np.stack([_asarray(page) for page in pages], axis=2)


def _asarray(part: Any) -> npt.NDArray[Any]:
    """Decode a page or a series.

    Raises:
        DataError: If the codec requires a package that is not installed.
    """
    try:
        values: npt.NDArray[Any] = part.asarray()
    except (ValueError, ImportError) as error:
        if "imagecodecs" not in str(error):
            raise
        name = getattr(getattr(part, "keyframe", part), "compression", None)
        codec = getattr(name, "name", name)
        what = f"its compression ({codec}) requires another package, or the file is damaged or truncated."
        raise DataError(what, fix="Run `pip install imagecodecs`.") from error
    return values


def _check_complete(file: tifffile.TiffFile, pages: list[Any], nodata: bool) -> None:
    """Raise an error if parts are missing that tifffile would fill with zeros."""
    size = file.filehandle.size
    for page in pages:
        if page is None:
            raise DataError("a part of the image is not in the file.", fix="Save all parts in one file.")
        ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > size:
            raise DataError("the file is truncated.")
        absent = sum(count == 0 for count in page.databytecounts)
        if absent and not nodata:
            raise DataError(
                f"{absent} of {len(page.databytecounts)} parts of the image are not stored.",
                fix="Save the complete file (GDAL: SPARSE_OK=FALSE), or declare a no-data value.",
            )


def _grey_or_rgb(values: npt.NDArray[Any], page: Any) -> npt.NDArray[Any]:
    """Convert stored values to grey, RGB or bands."""
    photometric = int(page.photometric)
    if photometric in (_BLACK_IS_ZERO, _RGB):
        return values
    if photometric == _WHITE_IS_ZERO:
        if values.dtype.kind == "b":
            return ~values
        return values.dtype.type((1 << page.bitspersample) - 1) - values if values.dtype.kind == "u" else values
    if photometric == _PALETTE:
        colours: npt.NDArray[Any] = np.moveaxis(page.colormap, 0, -1)
        if values.dtype.itemsize == 1:
            colours = (colours >> 8).astype(np.uint8)
        return np.asarray(colours[values[:, :, 0]])
    return _from_inks(values)


def _premultiplied(page: Any) -> int | None:
    """Return the place of the sample by which the others are multiplied (associated alpha); None if there is none."""
    extra = [int(kind) for kind in page.extrasamples]
    alone = extra.count(_ASSOCIATED) == 1 and _UNASSOCIATED not in extra
    if not alone or "S" not in page.axes or int(page.photometric) not in (_BLACK_IS_ZERO, _RGB):
        return None
    return int(page.samplesperpixel) - len(extra) + extra.index(_ASSOCIATED)


def _unmultiplied(values: npt.NDArray[Any], opacity: npt.NDArray[Any], colours: int) -> npt.NDArray[Any]:
    """Divide the colours by alpha; where it is 0, they stay."""
    white = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    divisor = np.where(opacity == 0, white, opacity)[:, :, None] / white
    divided = np.minimum(values[:, :, :colours] / divisor, white)
    divided = divided if values.dtype.kind == "f" else np.rint(divided)
    return np.concatenate([divided.astype(values.dtype), values[:, :, colours:]], axis=2)


def _from_inks(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert CMYK (and alpha) to RGB (and alpha) with the formula that Pillow uses for 8-bit images."""
    white = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    inks = canonical_values(values[:, :, :4]).astype(np.float64) / white
    light = (1 - inks[:, :, :3]) * (1 - inks[:, :, 3:]) * white
    colours = light.astype(values.dtype) if values.dtype.kind == "f" else np.rint(light).astype(values.dtype)
    return np.concatenate([colours, values[:, :, 4:]], axis=2)
