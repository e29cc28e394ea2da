"""The pixels of TIFF files as tifffile reads them, and which of them hold no data."""

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
from super_selfish.images.tiff.pages import Plan, mask_page, multiple_files, plan_of

if TYPE_CHECKING:
    import tifffile

_ORIENTATION, _NODATA = 274, 42113
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS = 0, 1, 2, 3, 5


def tifffile_of(stream: BinaryIO) -> tifffile.TiffFile:
    """A TIFF file, without the other files that it may name."""
    import tifffile  # slow to import, and few need it

    stream.seek(0)
    content = io.BytesIO(stream.read())
    file = tifffile.TiffFile(content)
    if multiple_files(str(file.pages.first.description or "")):  # tifffile fills parts that it does not find with zeros
        content.seek(0)
        file = tifffile.TiffFile(content, is_ome=False)
    return file


def decoded(stream: BinaryIO, alpha: bool = False) -> tuple[Image, Mask | None]:
    """The image in a file, upright, and which pixels hold no data if the file declares any.

    Args:
        stream: The file.
        alpha: Keep samples that are alpha, as the last channels.

    Raises:
        DataError: If it is cut short, has parts that are not stored, or has colours or a codec that are not supported.
    """
    with tifffile_of(stream) as file:
        plan = plan_of(file)
        page: Any = file.pages.first
        nodata = gdal_nodata(page.tags.valueof(_NODATA)) if _NODATA in page.tags else None
        values = _read(file, plan, nodata)
        if plan.channel_axis is None:
            values = values[:, :, None]
        elif plan.pages is None:
            values = np.moveaxis(values, plan.channel_axis, -1)
        if plan.kept is not None:
            others = [sample for sample in range(values.shape[2]) if sample not in plan.kept] if alpha else []
            values = values[:, :, plan.kept + others]
        missing = None
        if nodata is not None:
            missing = equal_to(values, nodata, colours=int(page.photometric) in (_RGB, _PALETTE, _INKS))
        orientation = _orientation(page)
        image = apply_orientation(canonical(_grey_or_rgb(values, page)), orientation)
        missing = None if missing is None else apply_orientation(missing, orientation)
        if (masking := mask_page(file)) is not None:
            masked = ~_valid(masking, orientation)
            missing = masked if missing is None else missing | masked
    return image, missing


def is_valid(stream: BinaryIO) -> Mask:
    """Which pixels of the first page are valid by its mask page: H×W×1, upright.

    Raises:
        DataError: If the mask cannot be read.
    """
    with tifffile_of(stream) as file:
        return _valid(mask_page(file), _orientation(file.pages.first))


def _valid(page: Any, orientation: int) -> Mask:
    return apply_orientation(_asarray(page)[:, :, None] != 0, orientation)


def _orientation(page: Any) -> int:
    orientation = int(page.tags.valueof(_ORIENTATION, 1))
    return orientation if 1 <= orientation <= 8 else 1


def _read(file: tifffile.TiffFile, plan: Plan, nodata: float | None) -> npt.NDArray[Any]:
    """The numbers of the pages that make the image."""
    series: Any = file.series[0]
    pages = [file.pages.first] if plan.pages is None else [series.pages[place] for place in plan.pages]
    _check_complete(file, list(series.pages) if plan.whole_series else pages, nodata is not None)
    if plan.whole_series:
        values = _asarray(series)
        if "C" in series.axes:
            values = values[tuple(slice(None) if letter in "CYX" else 0 for letter in series.axes)]
        return values
    return _asarray(pages[0]) if plan.pages is None else np.stack([_asarray(page) for page in pages], axis=2)


def _asarray(part: Any) -> npt.NDArray[Any]:
    """What a page or a series holds.

    Raises:
        DataError: If its codec needs a package that is not installed.
    """
    try:
        values: npt.NDArray[Any] = part.asarray()
    except (ValueError, ImportError) as error:
        if "imagecodecs" not in str(error):
            raise
        name = getattr(getattr(part, "keyframe", part), "compression", None)
        what = f"its compression ({getattr(name, 'name', name)}) needs another package, or it is damaged or cut short."
        raise DataError(what, fix="Run `pip install imagecodecs`.") from error
    return values


def _check_complete(file: tifffile.TiffFile, pages: list[Any], nodata: bool) -> None:
    """Refuse what tifffile would fill with zeros."""
    size = file.filehandle.size
    for page in pages:
        if page is None:
            raise DataError("a part of the image is not in the file.", fix="Write all of its parts into one file.")
        ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > size:
            raise DataError("the file is cut short.")
        absent = sum(count == 0 for count in page.databytecounts)
        if absent and not nodata:
            raise DataError(
                f"{absent} of {len(page.databytecounts)} parts of the image are not stored.",
                fix="Write the file whole (GDAL: SPARSE_OK=FALSE), or declare a value for pixels without data.",
            )


def _grey_or_rgb(values: npt.NDArray[Any], page: Any) -> npt.NDArray[Any]:
    """Numbers as grey, RGB or bands."""
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


def _from_inks(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """RGB of cyan, magenta, yellow and black (and alpha), as Pillow converts 8-bit images."""
    white = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    inks = canonical_values(values[:, :, :4]).astype(np.float64) / white
    light = (1 - inks[:, :, :3]) * (1 - inks[:, :, 3:]) * white
    colours = light.astype(values.dtype) if values.dtype.kind == "f" else np.rint(light).astype(values.dtype)
    return np.concatenate([colours, values[:, :, 4:]], axis=2)
