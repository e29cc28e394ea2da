"""TIFF files: which pages make an image, colours that Pillow lacks, and what is left out or missing."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from super_selfish.errors import DataError
from super_selfish.images import image_files
from super_selfish.images.image_files import read_header, read_image
from super_selfish.images.tiff.pages import bands_of_stack

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 60_000, (20, 30), dtype=np.uint16)


def written(path: Path, values: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, values, **options)
    return path


def one_band_planar(path: Path, values: np.ndarray) -> Path:
    """What GDAL writes for one band with INTERLEAVE=BAND."""
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags += [(279, values.nbytes), (284, 2), (339, 2 if values.dtype.kind == "i" else 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = struct.pack("<2sHI", b"II", 42, 8 + values.nbytes)
    path.write_bytes(head + values.tobytes() + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))
    return path


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((64, 64, 13), 2),
        ((300, 200, 5), 2),
        ((128, 128, 40), 2),
        ((13, 64, 64), 0),
        ((100, 64, 64), None),
        ((30, 64, 64), None),
        ((64, 64, 64), None),
        ((100, 64, 48), None),
    ],
)
def test_pages_are_bands_only_where_sizes_say_so(tmp_path: Path, shape: tuple[int, ...], axis: int | None) -> None:
    assert bands_of_stack(shape)[0] == axis
    values = RNG.integers(0, 60_000, shape, dtype=np.uint16)
    path = written(tmp_path / "x.tif", values)
    expected = values[0][:, :, None] if axis is None else np.moveaxis(values, axis, -1)
    assert np.array_equal(read_image(path), expected)
    assert read_header(path)[:3] == expected.shape
    found = image_files.contents(path)
    assert found.left_out == (shape[0] - 1 if axis is None else 0)
    assert bool(found.notes) == (axis == 0)


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channel_axes_give_the_channels_of_the_first_image(tmp_path: Path, kind: str) -> None:
    values = RNG.integers(0, 60_000, (3, 2, 4, 20, 30), dtype=np.uint16)
    options: dict[str, Any] = {"imagej": True} if kind == "imagej" else {}
    path = written(
        tmp_path / ("x.ome.tif" if kind == "ome" else "x.tif"), values, metadata={"axes": "TZCYX"}, **options
    )
    assert np.array_equal(np.moveaxis(read_image(path, max_pixels=600), -1, 0), values[0, 0])
    assert image_files.contents(path).left_out == 5


def test_further_pages_of_rgb(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (7, 20, 30, 3), dtype=np.uint8)
    path = written(tmp_path / "x.tif", values, photometric="rgb")
    assert np.array_equal(read_image(path), values[0])
    assert image_files.contents(path).left_out == 6


def ome(*planes: tuple[int, str]) -> str:
    data = "".join(f'<TiffData FirstC="{place}" IFD="0" PlaneCount="1">{plane}</TiffData>' for place, plane in planes)
    pixels = 'DimensionOrder="XYZCT" ID="P:0" SizeX="30" SizeY="20" SizeC="2" SizeZ="1" SizeT="1" Type="uint16"'
    channels = '<Channel ID="C:0"/><Channel ID="C:1"/>'
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    body = f'<Image ID="Image:0"><Pixels {pixels}>{channels}{data}</Pixels></Image>'
    return f'<?xml version="1.0"?><OME xmlns="{space}">{body}</OME>'


@pytest.mark.filterwarnings("ignore")
def test_a_missing_part_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "x.ome.tif", DEEP, description=ome((0, "")), metadata=None)
    with pytest.raises(DataError, match="part"):
        read_image(path)


def test_a_part_of_several_files_is_read_alone(tmp_path: Path) -> None:
    files = [
        f'<UUID FileName="{name}.ome.tif">urn:uuid:0000000{name}-0000-0000-0000-000000000000</UUID>' for name in "12"
    ]
    path = written(tmp_path / "1.ome.tif", DEEP, description=ome((0, files[0]), (1, files[1])), metadata=None)
    assert np.array_equal(read_image(path)[:, :, 0], DEEP)
    assert "2.ome.tif" in str(image_files.contents(path).notes)


def test_absent_tiles_are_an_error_unless_they_hold_no_data(tmp_path: Path) -> None:
    for nodata in (None, "7"):
        tag = [] if nodata is None else [(42113, "s", 0, nodata, True)]
        path = written(tmp_path / "x.tif", np.zeros((40, 32), np.uint16), tile=(16, 32), metadata=None, extratags=tag)
        with tifffile.TiffFile(path, mode="r+") as file:
            counts = file.pages.first.tags["TileByteCounts"]
            counts.overwrite((0, *counts.value[1:]))
        if nodata is None:
            with pytest.raises(DataError, match="not stored"):
                read_image(path)
        else:
            missing = image_files.load(path).missing
            assert missing is not None
            assert missing[:16].all()
            assert not missing[16:].any()


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_one_band_planar(tmp_path: Path, dtype: Any) -> None:
    values = (DEEP // 2).astype(dtype)
    assert np.array_equal(read_image(one_band_planar(tmp_path / "x.tif", values))[:, :, 0], values)


@pytest.mark.parametrize("options", [{"bigtiff": True, "byteorder": ">"}, {"byteorder": ">"}, {"bigtiff": True}])
def test_byte_orders_and_sizes(tmp_path: Path, options: dict[str, Any]) -> None:
    values = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(read_image(written(tmp_path / "x.tif", values, photometric="rgb", **options)), values)


def test_deep_palettes_and_inks_become_rgb(tmp_path: Path) -> None:
    colours = np.stack([np.roll(np.arange(65536), shift) for shift in (0, 50, 99)]).astype(np.uint16)
    path = written(tmp_path / "palette.tif", DEEP, photometric="palette", colormap=colours)
    assert np.array_equal(read_image(path), np.moveaxis(colours[:, DEEP], 0, -1))
    inks = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    small = read_image(written(tmp_path / "8.tif", inks, photometric="separated"))
    deep = read_image(written(tmp_path / "16.tif", inks.astype(np.uint16) * 257, photometric="separated"))
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - small).max() <= 1


def test_two_extra_samples_of_rgb(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (20, 30, 5), dtype=np.uint8)
    path = written(tmp_path / "x.tif", values, photometric="rgb", extrasamples=["unassalpha", "unassalpha"])
    assert np.array_equal(read_image(path), values[:, :, :3])
    kept = image_files.load(path, alpha=image_files.AlphaRule(channels=5))
    assert np.array_equal(kept.image, values)


def test_a_tile_counts_as_what_it_allocates(tmp_path: Path) -> None:
    path = written(tmp_path / "x.tif", DEEP, tile=(4096, 4096), compression="zlib")
    for read in (read_header, read_image):
        with pytest.raises(DataError, match="max_pixels"):
            read(path, max_pixels=100_000)


def test_other_colours_are_refused_with_a_way_out(tmp_path: Path) -> None:
    path = written(tmp_path / "x.tif", RNG.integers(0, 9, (20, 30, 3), dtype=np.uint16), photometric="cielab")
    for read in (read_header, read_image):
        with pytest.raises(DataError, match="Convert"):
            read(path)


@pytest.mark.parametrize("several", [False, True])
def test_a_reduced_copy_is_read_only_where_it_is_all_there_is(tmp_path: Path, several: bool) -> None:
    path = tmp_path / "thumbnail_first.tif"
    colours = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    small = colours[::4, ::4].copy()
    with tifffile.TiffWriter(path) as file:
        file.write(small, photometric="rgb", subfiletype=1, metadata=None)
        if several:
            file.write(colours, photometric="rgb", metadata=None)
    expected = colours if several else small
    assert read_header(path)[:3] == expected.shape
    assert np.array_equal(read_image(path), expected)


def test_a_reduced_copy_before_the_image_hides_no_mask_and_no_page(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(DEEP[::2, ::2].copy(), subfiletype=1, metadata=None)
        file.write(DEEP, metadata=None, extratags=[(42113, 2, 0, str(DEEP[0, 0]), True)])
        file.write(DEEP[:5].copy(), metadata=None)
    found = image_files.load(path)
    assert np.array_equal(found.image[..., 0], DEEP)
    assert found.missing is not None
    assert np.array_equal(found.missing[..., 0], DEEP[0, 0] == DEEP)
    assert found.left_out == 1


def test_images_of_several_channels_are_counted_as_images(tmp_path: Path) -> None:
    stack = RNG.integers(0, 9, (4, 2, 20, 30), dtype=np.uint16)
    path = written(tmp_path / "stack.ome.tif", stack, metadata={"axes": "ZCYX"}, photometric="minisblack")
    assert image_files.load(path).left_out == 3


def test_a_volume_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "volume.tif", np.zeros((20, 32, 32), np.uint8), volumetric=True, tile=(4, 16, 16))
    with pytest.raises(DataError, match="not a 2-D image"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_white_is_zero_of_signed_values_is_told(tmp_path: Path, dtype: Any) -> None:
    path = written(tmp_path / "white.tif", DEEP.astype(dtype), photometric="miniswhite")
    assert any("white is zero" in note for note in image_files.load(path).notes)


def gdal(*items: tuple[str, int, str]) -> dict[str, Any]:
    """Metadata of GDAL: role, band and value."""
    lines = "".join(f'<Item name="X" sample="{band}" role="{role}">{value}</Item>\n' for role, band, value in items)
    return {"metadata": None, "extratags": [(42112, 2, 0, f"<GDALMetadata>\n{lines}</GDALMetadata>", True)]}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_scale_and_offset_of_gdal_are_applied(tmp_path: Path, dtype: Any, bands: int) -> None:
    values = RNG.integers(0, 200, (20, 30, bands)).astype(dtype)
    options = {"photometric": "rgb" if bands == 3 else "minisblack", "planarconfig": "contig"} if bands > 1 else {}
    tags = gdal(("scale", bands - 1, "0.5"), ("offset", bands - 1, "-7"), ("description", 0, "red"))
    path = written(tmp_path / "scaled.tif", values if bands > 1 else values[..., 0], **options, **tags)
    expected = values.astype(np.float32)
    expected[..., -1] = expected[..., -1] * 0.5 - 7
    assert read_header(path) == (20, 30, bands, "float32")
    assert np.array_equal(read_image(path), expected)


def test_no_data_is_compared_before_scaling(tmp_path: Path) -> None:
    values = np.arange(600, dtype=np.int16).reshape(20, 30)
    tags = gdal(("scale", 0, "0.1"))
    path = written(tmp_path / "x.tif", values, metadata=None, extratags=[*tags["extratags"], (42113, 2, 0, "7", True)])
    found = image_files.load(path)
    assert found.missing is not None
    assert np.array_equal(found.missing[..., 0], values == 7)
    assert np.allclose(found.image[..., 0], values * 0.1)


@pytest.mark.parametrize("value", ["0", "nan", "many"])
def test_a_scale_that_is_no_number_is_an_error(tmp_path: Path, value: str) -> None:
    path = written(tmp_path / "x.tif", DEEP, **gdal(("scale", 0, value)))
    with pytest.raises(DataError, match=r"scale|parsed"):
        read_image(path)


def test_a_scale_of_palette_colours_is_an_error(tmp_path: Path) -> None:
    palette = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)
    values = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
    path = written(tmp_path / "x.tif", values, photometric="palette", colormap=palette, **gdal(("scale", 0, "2")))
    with pytest.raises(DataError, match="palette"):
        read_image(path)
