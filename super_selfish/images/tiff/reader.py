"""Reader of TIFF files, including those that Pillow does not read correctly: many bands, 16-bit colour, stacks.

Only the first page that is no thumbnail is read, unless the metadata (tifffile, ImageJ, OME) describes the pages as
channels of one image. GDAL's scale and offset of each band are applied.
Alpha is dropped; white-is-zero images are inverted; palettes and CMYK become RGB. GDAL's no-data values and mask pages
mark missing pixels. Files that Pillow would read with losses are read by tifffile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import TiffImagePlugin

from super_selfish.errors import DataError
from super_selfish.images.arrays import apply_orientation, from_pillow, has_alpha
from super_selfish.images.exif import exif_orientation
from super_selfish.images.functional import Image
from super_selfish.images.nodata import equal_to, gdal_nodata
from super_selfish.images.open_image import Cover, Mask, OpenImage, open_pillow
from super_selfish.images.tiff.arrays import decoded, is_valid, tifffile_of
from super_selfish.images.tiff.pages import channels_of_ome, count_images, main_page, mask_page, multiple_files, plan_of
from super_selfish.images.tiff.scales import scaled

KIND, OLD_KIND = 254, 255
WIDTH, HEIGHT, BITS, PHOTOMETRIC, DESCRIPTION, ORIENTATION, SAMPLES = 256, 257, 258, 262, 270, 274, 277
TILE_WIDTH, TILE_HEIGHT = 322, 323
STRIP_BYTES, TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT, DEPTH, METADATA, NODATA = 279, 325, 338, 339, 32997, 42112, 42113
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_ONE_ARRAY = ('{"shape":', "ImageJ=", "<?xml", "<OME")


def open_tiff(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a TIFF file, which is decoded at full size.

    Pillow reads the files that it can read without losses: it has more codecs (LZW, JPEG, fax), and decodes PackBits
    seven times as fast as tifffile. tifffile reads all other files.
    """
    try:
        tags, several_pages = first_directory(stream)
        opened = _open_by_pillow(stream, tags, several_pages) if pillow_suffices(tags, several_pages) else None
    except DataError:
        raise
    except Exception:  # Pillow rejects some valid files; for invalid ones, tifffile raises the error
        opened = None
    return _open_by_tifffile(stream) if opened is None else opened


def first_directory(stream: BinaryIO) -> tuple[dict[int, Any], bool]:
    """Return the tags of the first page, and whether there are more pages; nothing is decoded."""
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
    """Whether Pillow reads the first page without losing bits, bands or pages, and all of it is stored."""
    samples = _numbers(tags.get(SAMPLES), (1,))[0]
    bits = max(_numbers(tags.get(BITS), (1,)))
    kind = _numbers(tags.get(SAMPLE_FORMAT), (_UNSIGNED,))[0]
    photometric = _numbers(tags.get(PHOTOMETRIC), (_BLACK_IS_ZERO,))[0]
    description = str(tags.get(DESCRIPTION, ""))
    if description.startswith(_ONE_ARRAY) and (several_pages or channels_of_ome(description) > samples):
        return False
    reduced = _numbers(tags.get(KIND), (0,))[0] & 5 or _numbers(tags.get(OLD_KIND), (1,))[0] == 2  # or a mask
    if (reduced and several_pages) or _numbers(tags.get(DEPTH), (1,))[0] > 1:
        return False
    if 0 in _numbers(tags.get(STRIP_BYTES), ()) + _numbers(tags.get(TILE_BYTES), ()):
        return False
    if samples == 2 and 1 in _numbers(tags.get(EXTRA_SAMPLES), ()):  # grey multiplied by alpha
        return False
    if samples > 1:
        return bits <= 8 and samples <= 4 and 0 not in _numbers(tags.get(EXTRA_SAMPLES), ())
    if bits > 8 and photometric == _WHITE_IS_ZERO:
        return False
    if bits <= 8:
        return kind == _UNSIGNED
    return (bits <= 16 and kind in (_UNSIGNED, _SIGNED)) or (bits == 32 and kind in (_SIGNED, _FLOAT))


def _open_by_pillow(stream: BinaryIO, tags: dict[int, Any], several_pages: bool) -> OpenImage:
    stream.seek(0)
    file = TiffImagePlugin.TiffImageFile(stream)
    opened = open_pillow(file)
    nodata = gdal_nodata(tags[NODATA]) if NODATA in tags else None
    left_out, valid = _other_pages(stream) if several_pages else (0, None)

    def read(alpha: bool = False) -> Image:
        try:
            file.load()  # Pillow applies the orientation of TIFF files itself, and then forgets the tag
        except Exception:  # Pillow does not support the codec or layout after all
            return decoded(stream, alpha)[0]
        return apply_orientation(from_pillow(file, alpha), exif_orientation(file))

    def read_with_mask() -> tuple[Image, Mask]:
        try:
            file.load()
        except Exception:
            image, missing = decoded(stream)
            return image, _no_mask(image) if missing is None else missing
        image = from_pillow(file)
        missing = _no_mask(image)
        if nodata is not None:
            white_is_zero = _numbers(tags.get(PHOTOMETRIC), (1,))[0] == _WHITE_IS_ZERO
            missing = missing | equal_to(_stored(file), 255 - nodata if white_is_zero else nodata, _is_colour(file))
        orientation = exif_orientation(file)
        missing = apply_orientation(missing, orientation)
        if valid is not None:
            missing = missing | ~valid()
        return apply_orientation(image, orientation), missing

    declares = nodata is not None or valid is not None
    opened = opened._replace(
        header=opened.header._replace(height=int(tags[HEIGHT]), width=int(tags[WIDTH])),
        decode=read,
        decode_with_alpha=(lambda: read(alpha=True)) if has_alpha(file) else None,
        decode_with_mask=read_with_mask if declares else None,
        left_out=left_out,
        allocated=int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_HEIGHT, 0)),
        notes=_notes(tags.get(DESCRIPTION), tags.get(NODATA)),
    )
    return scaled(opened, tags.get(METADATA), _numbers(tags.get(PHOTOMETRIC), (1,))[0] in (_BLACK_IS_ZERO, _RGB))


def _stored(file: TiffImagePlugin.TiffImageFile) -> npt.NDArray[Any]:
    """Return the stored values of an image without alpha: H×W×C."""
    values = np.asarray(file)
    values = values[:, :, None] if values.ndim == 2 else values
    return values[:, :, : {"LA": 1, "RGBA": 3, "RGBX": 3, "RGBa": 3}.get(file.mode)]


def _is_colour(file: TiffImagePlugin.TiffImageFile) -> bool:
    return file.mode not in ("1", "L", "LA", "F", "I") and not file.mode.startswith("I;16")


def _no_mask(image: Image) -> Mask:
    return np.zeros((*image.shape[:2], 1), np.bool_)


def _notes(description: object, nodata: object) -> tuple[str, ...]:
    notes = []
    if names := multiple_files(str(description or "")):
        notes.append(f"the other files of this image ({', '.join(names[:3])}) are not read")
    if nodata is not None and gdal_nodata(nodata) is None:
        notes.append(f"its no-data value is not a number ({str(nodata)[:20]!r})")
    return tuple(notes)


def _other_pages(stream: BinaryIO) -> tuple[int, Callable[[], Mask] | None]:
    """Return the number of images on further pages, and a function that reads the mask of the first, if any."""
    with tifffile_of(stream) as file:
        left_out, found = count_images(file) - 1, mask_page(file)
    return max(0, left_out), None if found is None else lambda: is_valid(stream)


def _open_by_tifffile(stream: BinaryIO) -> OpenImage:
    with tifffile_of(stream) as file:
        plan = plan_of(file)
        page: Any = main_page(file)
        orientation = int(page.tags.valueof(ORIENTATION, 1))
        nodata, masked = page.tags.valueof(NODATA), mask_page(file) is not None
        metadata, kind = page.tags.valueof(METADATA), int(page.photometric)
        notes = plan.notes + _notes(page.description, nodata)
        if kind == _WHITE_IS_ZERO and page.dtype.kind in "if":
            notes += ("it declares that white is zero, but its values are signed or floats, and are not inverted",)

    def read_with_mask() -> tuple[Image, Mask]:
        image, missing = decoded(stream)
        return image, _no_mask(image) if missing is None else missing

    opened = OpenImage(
        plan.header,
        orientation if 1 <= orientation <= 8 else 1,
        plan.alpha,
        lambda: decoded(stream)[0],
        decode_with_alpha=(lambda: decoded(stream, alpha=True)[0]) if plan.alpha else None,
        decode_with_mask=read_with_mask if nodata is not None or masked else None,
        left_out=plan.left_out,
        allocated=plan.allocated,
        notes=notes,
    )
    return scaled(opened, metadata, kind in (_BLACK_IS_ZERO, _RGB))
