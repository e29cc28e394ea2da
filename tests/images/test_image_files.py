"""Reading image files and images in memory."""

import io
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

from super_selfish.errors import DataError
from super_selfish.images import functional
from super_selfish.images import image_files as images
from super_selfish.images.image_files import Header, read_header, read_image, to_image

TRANSPOSED = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def check(path, expected):
    """Both the image and its header are as expected."""
    image = read_image(path)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)
    assert image.flags.c_contiguous
    assert image.flags.owndata
    assert image.flags.writeable
    assert read_header(path) == Header(*expected.shape, expected.dtype.name)


def upright(array, orientation):
    """What Pillow's own table of orientations makes of an array, band by band."""
    if orientation == 1:
        return array
    bands = [
        np.asarray(Pillow.fromarray(array[:, :, band]).transpose(TRANSPOSED[orientation]))
        for band in range(array.shape[2])
    ]
    return np.stack(bands, axis=2)


def exif_bytes(orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_chunks(data):
    place, chunks = 8, []
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append(data[place : place + 12 + length])
        place += 12 + length
    return chunks


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.tiff", "lossless.webp"])
def test_rgb_is_read_exactly(tmp_path, rng, name):
    array = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Pillow.fromarray(array).save(tmp_path / name, **({"lossless": True} if "webp" in name else {}))
    check(tmp_path / name, array)


def test_jpeg_is_read_as_pillow_reads_it(tmp_path, rng):
    Pillow.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(tmp_path / "x.jpg")
    with Pillow.open(tmp_path / "x.jpg") as picture:
        check(tmp_path / "x.jpg", np.asarray(picture))


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.bmp"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_one_channel_modes(tmp_path, rng, mode, name):
    array = rng.integers(0, 2, (9, 11), dtype=np.uint8) * np.uint8(255)
    Pillow.fromarray(array).convert(mode).save(tmp_path / name)
    check(tmp_path / name, array[:, :, None])


def test_alpha_is_dropped_not_blended(tmp_path, rng):
    array = rng.integers(0, 256, (5, 7, 4), dtype=np.uint8)
    array[0, 0] = (10, 20, 30, 0)
    Pillow.fromarray(array).save(tmp_path / "rgba.png")
    Pillow.fromarray(array).save(tmp_path / "rgba.tif")
    Pillow.fromarray(array[:, :, :2]).save(tmp_path / "la.png")
    check(tmp_path / "rgba.png", array[:, :, :3])
    check(tmp_path / "rgba.tif", array[:, :, :3])
    check(tmp_path / "la.png", array[:, :, :1])
    assert images.inspect_image(tmp_path / "rgba.png")[1]
    assert images.decode(tmp_path / "la.png")[1]


def test_palettes_become_rgb(tmp_path, rng):
    picture = Pillow.fromarray(rng.integers(0, 4, (5, 7), dtype=np.uint8), "L").convert("P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    expected = np.asarray(picture.convert("RGB"))
    picture.save(tmp_path / "p.png")
    picture.save(tmp_path / "transparent.png", transparency=bytes([0, 128, 255, 255]))
    check(tmp_path / "p.png", expected)
    check(tmp_path / "transparent.png", expected)


def test_print_colours_become_rgb(tmp_path):
    Pillow.new("CMYK", (7, 5), (0, 255, 255, 0)).save(tmp_path / "cmyk.tif")
    check(tmp_path / "cmyk.tif", np.full((5, 7, 3), (255, 0, 0), np.uint8))
    Pillow.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    assert np.abs(read_image(tmp_path / "cmyk.jpg").astype(int) - (255, 0, 0)).max() < 8
    grey = to_image(Pillow.new("YCbCr", (7, 5), (128, 128, 128)))  # Pillow 12.3 cannot read its own YCbCr TIFF files
    assert np.array_equal(grey, np.full((5, 7, 3), 128, np.uint8))


def test_lab_is_refused(tmp_path):
    Pillow.new("LAB", (7, 5)).save(tmp_path / "lab.tif")
    with pytest.raises(DataError, match=r"lab\.tif.*Lab.*Convert"):
        read_image(tmp_path / "lab.tif")


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bit_grey_keeps_every_value(tmp_path, rng, name):
    array = rng.integers(0, 65536, (5, 7), dtype=np.uint16)
    Pillow.fromarray(array).save(tmp_path / name)
    check(tmp_path / name, array[:, :, None])


def test_big_endian_and_white_is_zero(tmp_path, rng):
    array = rng.integers(0, 65536, (5, 7), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "be.tif", array, byteorder=">")
    tifffile.imwrite(tmp_path / "white.tif", array, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "big.tif", array, bigtiff=True)
    check(tmp_path / "be.tif", array[:, :, None])
    check(tmp_path / "white.tif", 65535 - array[:, :, None])
    check(tmp_path / "big.tif", array[:, :, None])


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_png_keeps_every_bit(tmp_path, rng, channels):
    array = rng.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    order = [2, 1, 0, 3][:channels]
    cv2.imwrite(str(tmp_path / "x.png"), array[:, :, order])
    check(tmp_path / "x.png", array[:, :, :3])
    assert images.inspect_image(tmp_path / "x.png")[1] == (channels == 4)


def test_sixteen_bit_grey_and_alpha_png(tmp_path, rng):
    array = rng.integers(0, 65536, (5, 7, 2), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", 7, 5, 16, 4, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    check(tmp_path / "x.png", array[:, :, :1])


@pytest.mark.parametrize(
    ("dtype", "low", "high", "expected"),
    [
        ("int16", 0, 4096, "uint16"),
        ("int16", -1000, 3000, "float32"),
        ("int32", 0, 65536, "uint16"),
        ("int32", 0, 1 << 20, "float32"),
        ("uint32", 1 << 31, 1 << 32, "float32"),
        ("float32", -3, 3, "float32"),
        ("float64", -3, 3, "float32"),
        ("float16", -3, 3, "float32"),
    ],
)
def test_other_depths_are_never_clipped(tmp_path, rng, dtype, low, high, expected):
    array = rng.uniform(low, high, (5, 7)).astype(dtype)
    array[0, 0], array[0, 1] = low, np.array(high - 1).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", array)
    check(tmp_path / "x.tif", array.astype(expected)[:, :, None])


@pytest.mark.parametrize(
    ("stored", "options", "back"),
    [
        ((16, 16, 13), {}, (16, 16, 13)),
        ((20, 24, 5), {}, (20, 24, 5)),
        ((13, 40, 40), {}, (40, 40, 13)),
        ((16, 18, 13), {"photometric": "minisblack", "planarconfig": "contig"}, (16, 18, 13)),
        ((13, 16, 18), {"photometric": "minisblack", "planarconfig": "separate"}, (16, 18, 13)),
        ((5, 7, 3), {"photometric": "rgb"}, (5, 7, 3)),
        ((3, 50, 70), {"photometric": "rgb", "planarconfig": "separate"}, (50, 70, 3)),
        ((5, 20, 24), {"imagej": True, "metadata": {"axes": "CYX"}}, (20, 24, 5)),
        ((16, 18, 13), {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}, (16, 18, 13)),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "float32", "uint8"])
def test_tiff_with_bands(tmp_path, rng, stored, options, back, dtype):
    array = rng.uniform(0, 255, stored).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", array, **options)
    check(tmp_path / "x.tif", array if stored == back else np.moveaxis(array, 0, -1))


def test_unspecified_fourth_band_is_no_alpha(tmp_path, rng):
    array = rng.integers(0, 256, (16, 18, 4), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "nir.tif", array, photometric="rgb", extrasamples=["unspecified"])
    tifffile.imwrite(tmp_path / "deep.tif", array.astype(np.uint16), photometric="rgb", extrasamples=["unassalpha"])
    check(tmp_path / "nir.tif", array)
    check(tmp_path / "deep.tif", array[:, :, :3].astype(np.uint16))


def test_several_pages_give_the_first(tmp_path, rng):
    pages = rng.integers(0, 256, (3, 20, 30), dtype=np.uint8)
    pictures = [Pillow.fromarray(page) for page in pages]
    pictures[0].save(tmp_path / "pages.tif", save_all=True, append_images=pictures[1:])
    check(tmp_path / "pages.tif", pages[0][:, :, None])
    with tifffile.TiffWriter(tmp_path / "deep.tif") as writer:
        for page in pages:
            writer.write(page.astype(np.uint16), contiguous=False)
    check(tmp_path / "deep.tif", pages[0][:, :, None].astype(np.uint16))
    many = rng.integers(0, 60000, (70, 80, 90), dtype=np.uint16)  # more pages than an image has channels
    tifffile.imwrite(tmp_path / "stack.tif", many)
    check(tmp_path / "stack.tif", many[0][:, :, None])


def test_animation_gives_the_first_frame(tmp_path):
    frames = [Pillow.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    check(tmp_path / "x.webp", np.full((16, 16, 3), (255, 0, 0), np.uint8))


@pytest.mark.skipif("imagecodecs" in sys.modules, reason="the codec is installed")
def test_missing_codec_names_the_package(tmp_path, monkeypatch, rng):
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, rng.integers(0, 9, (16, 18, 13), dtype=np.uint16), photometric="minisblack", planarconfig="contig"
    )
    data = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.tags["Compression"].valueoffset
    path.write_bytes(data[:place] + struct.pack("<H", 34712) + data[place + 2 :])  # JPEG 2000
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(DataError, match=r"x\.tif.*pip install imagecodecs"):
        read_image(path)


def raw_png(rows, width, bits, colour_type, *chunks):
    """A PNG of given rows of bytes, with other chunks between its header and its pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_with_less_than_eight_bits(tmp_path, rng, bits):
    levels = rng.integers(0, 1 << bits, (5, 8), dtype=np.uint8)
    planes = (levels[:, :, None] >> np.arange(bits)[::-1]) & 1
    rows = [row.tobytes() for row in np.packbits(planes.reshape(5, -1), axis=1)]
    (tmp_path / "grey.png").write_bytes(raw_png(rows, 8, bits, 0))
    check(tmp_path / "grey.png", (levels * (255 // ((1 << bits) - 1)))[:, :, None].astype(np.uint8))
    palette = rng.integers(0, 256, (1 << bits, 3), dtype=np.uint8)
    (tmp_path / "palette.png").write_bytes(raw_png(rows, 8, bits, 3, png_chunk(b"PLTE", palette.tobytes())))
    check(tmp_path / "palette.png", palette[levels])


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (3, 2)])
@pytest.mark.parametrize("kind", [b"tRNS", b"gAMA", b"iCCP", b"tEXt"])
def test_other_png_chunks_change_no_pixel(tmp_path, rng, channels, colour_type, kind, capfd):
    array = rng.integers(0, 3, (5, 8, channels), dtype=np.uint8)
    content = {
        b"tRNS": b"\0\1" * channels,
        b"gAMA": struct.pack(">I", 100_000),
        b"iCCP": b"x\0\0" + zlib.compress(b"damaged profile"),
        b"tEXt": b"key\0text",
    }
    data = raw_png([row.tobytes() for row in array], 8, 8, colour_type, png_chunk(kind, content[kind]))
    (tmp_path / "x.png").write_bytes(data)
    check(tmp_path / "x.png", array)
    assert images.inspect_image(tmp_path / "x.png")[1] == (kind == b"tRNS")
    assert capfd.readouterr().err == ""


def test_animated_png_gives_the_first_frame(tmp_path):
    frames = [Pillow.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:])
    check(tmp_path / "x.png", np.full((16, 16, 3), (255, 0, 0), np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
class TestOrientation:
    def asymmetric(self, dtype=np.uint8, channels=3):
        return np.random.default_rng(1).integers(0, 256, (6, 9, channels)).astype(dtype)

    def test_jpeg(self, tmp_path, orientation):
        array = np.zeros((32, 48, 3), np.uint8)
        array[:16, :16], array[16:, 32:] = 255, 128
        Pillow.fromarray(array).save(tmp_path / "x.jpg", exif=exif_bytes(orientation), quality=100)
        expected = upright(array, orientation)
        assert np.abs(read_image(tmp_path / "x.jpg").astype(int) - expected).max() < 4
        assert read_header(tmp_path / "x.jpg") == Header(*expected.shape, "uint8")

    @pytest.mark.parametrize("late", [False, True])
    def test_png(self, tmp_path, orientation, late):
        array = self.asymmetric()
        Pillow.fromarray(array).save(tmp_path / "x.png", exif=exif_bytes(orientation))
        if late:  # the standard allows the chunk after the pixels, too
            chunks = png_chunks((tmp_path / "x.png").read_bytes())
            chunks.sort(key=lambda chunk: [b"IHDR", b"IDAT", b"eXIf", b"IEND"].index(chunk[4:8]))
            (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        check(tmp_path / "x.png", upright(array, orientation))

    def test_webp(self, tmp_path, orientation):
        array = self.asymmetric()
        Pillow.fromarray(array).save(tmp_path / "x.webp", lossless=True, exif=exif_bytes(orientation))
        check(tmp_path / "x.webp", upright(array, orientation))

    def test_deep_png(self, tmp_path, orientation):
        array = self.asymmetric(np.uint16) * 257
        cv2.imwrite(str(tmp_path / "x.png"), array[:, :, ::-1])
        chunks = png_chunks((tmp_path / "x.png").read_bytes())
        exif = png_chunk(b"eXIf", exif_bytes(orientation).removeprefix(b"Exif\0\0"))
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join([chunks[0], exif, *chunks[1:]]))
        check(tmp_path / "x.png", upright(array, orientation))

    @pytest.mark.parametrize(
        ("dtype", "channels"), [("uint8", 3), ("uint16", 1), ("uint16", 3), ("uint16", 13), ("float32", 1)]
    )
    def test_tiff(self, tmp_path, orientation, dtype, channels):
        array = self.asymmetric(dtype, channels)
        options = {"photometric": "rgb" if channels == 3 else "minisblack", "planarconfig": "contig"}
        stored = array[:, :, 0] if channels == 1 else array
        tag = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(tmp_path / "x.tif", stored, extratags=tag, **(options if channels > 1 else {}))
        check(tmp_path / "x.tif", upright(array, orientation))


def test_damaged_metadata_does_not_lose_the_picture(tmp_path):
    Pillow.new("RGB", (8, 8), "red").save(tmp_path / "x.png", exif=b"Exif\0\0nonsense")
    check(tmp_path / "x.png", np.full((8, 8, 3), (255, 0, 0), np.uint8))


class TestLimit:
    @pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif", "x.webp", "x.bmp", "bands.tif", "deep.png"])
    def test_checked_before_decoding(self, tmp_path, name, monkeypatch):
        if name == "bands.tif":
            tifffile.imwrite(tmp_path / name, np.zeros((40, 50, 13), np.uint16))
        elif name == "deep.png":
            cv2.imwrite(str(tmp_path / name), np.zeros((40, 50, 3), np.uint16))
        else:
            Pillow.new("RGB", (50, 40)).save(tmp_path / name)
        assert read_image(tmp_path / name, max_pixels=2000).shape[:2] == (40, 50)
        monkeypatch.setattr(Pillow.Image, "load", lambda _: pytest.fail("decoded"))
        for read in (read_header, read_image):
            with pytest.raises(DataError, match=r"40×50 = 2,000 pixels.*max_pixels=1999"):
                read(tmp_path / name, max_pixels=1999)

    def test_pillows_own_limit_stays_out_of_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 10)
        Pillow.new("RGB", (50, 40)).save(tmp_path / "x.png")
        assert read_image(tmp_path / "x.png").shape == (40, 50, 3)

    def test_bomb(self, tmp_path):
        header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
        chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
        with pytest.raises(DataError, match="max_pixels"):
            read_header(tmp_path / "x.png")


def truncated(array, extension, **options):
    stream = io.BytesIO()
    Pillow.fromarray(array).save(stream, extension, **options)
    return stream.getvalue()[: len(stream.getvalue()) // 2]


class TestFailures:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "empty"),
            (b"garbage" * 100, "not a JPEG"),
            (b"\n<!DOCTYPE html><html></html>", "web page"),
            (b"\xff\xd8\xff" + b"x" * 100, ""),
            (b"\x89PNG\r\n\x1a\n" + b"x" * 100, ""),
            (b"II*\0" + b"\xff" * 100, ""),
            (b"RIFF\0\0\0\0WEBP" + b"x" * 100, ""),
            (b"BM" + b"x" * 100, ""),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG"),
        ],
    )
    def test_not_an_image(self, tmp_path, content, reason):
        (tmp_path / "bad.jpg").write_bytes(content)
        for read in (read_header, read_image):
            with pytest.raises(DataError, match=rf"bad\.jpg.*{reason}"):
                read(tmp_path / "bad.jpg")

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
    def test_cut_short(self, tmp_path, rng, kind):
        array = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        (tmp_path / "half.img").write_bytes(truncated(array, kind))
        with pytest.raises(DataError, match=r"half\.img") as caught:
            read_image(tmp_path / "half.img")
        assert caught.value.__cause__ is not None

    def test_deep_files_cut_short(self, tmp_path, rng):
        array = rng.integers(0, 65536, (64, 64, 3), dtype=np.uint16)
        cv2.imwrite(str(tmp_path / "a.png"), array)
        tifffile.imwrite(tmp_path / "b.tif", array, photometric="rgb")
        for name, match in (("a.png", "truncated|damaged"), ("b.tif", "truncated")):
            data = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
            with pytest.raises(DataError, match=match):
                read_image(tmp_path / name)
        cv2.imwrite(str(tmp_path / "a.png"), array)
        data = bytearray((tmp_path / "a.png").read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(DataError, match="damaged"):
            read_image(tmp_path / "a.png")

    def test_missing_and_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"gone\.jpg.*No such file"):
            read_image(tmp_path / "gone.jpg")
        (tmp_path / "dir.jpg").mkdir()
        with pytest.raises(DataError, match=r"dir\.jpg.*is a folder"):
            read_image(tmp_path / "dir.jpg")

    def test_names_are_printable(self, tmp_path):
        for name in ("a\nb.jpg", b"\xff\xfe.jpg"):
            folder = str(tmp_path) + "/" if isinstance(name, str) else str(tmp_path).encode() + b"/"
            with pytest.raises(DataError) as caught:
                read_image(folder + name)
            assert str(caught.value).isprintable()
        with pytest.raises(DataError, match=r"a\\nb\.jpg"):
            read_image(tmp_path / "a\nb.jpg")


class TestToImage:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_canonical_types_keep_their_values_in_their_own_memory(self, rng, dtype):
        array = rng.uniform(0, 200, (6, 9, 3)).astype(dtype)
        image = to_image(array)
        np.testing.assert_array_equal(image, array)
        assert image.dtype == dtype
        assert not np.shares_memory(image, array)

    @pytest.mark.parametrize(
        ("dtype", "expected"),
        [
            ("bool", "uint8"),
            ("int8", "uint16"),
            ("int64", "uint16"),
            (">u2", "uint16"),
            ("float16", "float32"),
            ("float64", "float32"),
        ],
    )
    def test_other_types(self, dtype, expected):
        image = to_image(np.array([[0, 1], [1, 0]], dtype))
        assert image.dtype == expected
        assert image.shape == (2, 2, 1)
        assert image.max() == (255 if dtype == "bool" else 1)

    def test_integers_that_do_not_fit_are_floats(self):
        assert to_image(np.array([[-1, 70000]])).tolist() == [[[-1.0], [70000.0]]]

    def test_tensors_are_channels_first(self, rng):
        array = rng.random((6, 9, 3), dtype=np.float32)
        tensor = torch.from_numpy(array).permute(2, 0, 1)
        np.testing.assert_array_equal(to_image(tensor), array)
        assert to_image(tensor[0]).shape == (6, 9, 1)
        assert to_image(tensor.bfloat16().requires_grad_()).dtype == np.float32

    @pytest.mark.parametrize(
        ("shape", "back"),
        [
            ((28, 28, 1), (28, 28, 1)),
            ((3, 64, 64), (64, 64, 3)),
            ((13, 64, 64), (64, 64, 13)),
            ((16, 16, 13), (16, 16, 13)),
        ],
    )
    @pytest.mark.parametrize("make", [np.zeros, torch.zeros])
    def test_layout_is_told_by_the_sizes(self, make, shape, back):
        assert to_image(make(shape)).shape == back

    def test_ambiguous_layouts_follow_the_kind(self):
        assert to_image(np.zeros((3, 5, 3))).shape == (3, 5, 3)
        assert to_image(torch.zeros(4, 5, 4)).shape == (5, 4, 4)

    def test_pillow(self):
        assert to_image(Pillow.new("RGBA", (7, 5))).shape == (5, 7, 3)
        assert to_image(Pillow.new("I;16", (7, 5))).dtype == np.uint16

    @pytest.mark.parametrize(
        "value",
        [
            "x",
            None,
            np.zeros(3),
            np.zeros((2, 2, 2, 2)),
            np.zeros((0, 3)),
            np.zeros((80, 80, 80)),
            np.zeros((2, 2), complex),
        ],
    )
    def test_anything_else_is_refused(self, value):
        with pytest.raises(DataError):
            to_image(value)


def photograph(height, width):
    """A picture with edges, gradients and fine structure in all channels."""
    y, x = np.mgrid[:height, :width].astype(np.float32) * 640 / max(height, width)
    waves = [np.sin(x / (7 + 4 * band) + y / 31) * np.cos(y / (11 + 3 * band)) for band in range(3)]
    picture = 120 + 70 * np.stack(waves, axis=2)
    picture[height // 3 : height // 2, width // 4 : width // 2] += 40
    return np.clip(picture, 0, 255).astype(np.uint8)


def saved(path, height, width, mode="RGB", **options):
    Pillow.fromarray(photograph(height, width)).convert(mode).save(path, "JPEG", quality=92, **options)
    return path


class TestReducedJpeg:
    @pytest.mark.parametrize(
        ("size", "cover", "expected"),
        [
            ((480, 640), (60, 60), (60, 80)),
            ((480, 640), (61, 61), (120, 160)),
            ((480, 640), (60, 100), (120, 160)),
            ((480, 640), (225, 225), (240, 320)),
            ((449, 640), (225, 225), (449, 640)),
            ((451, 639), (225, 225), (226, 320)),
            ((901, 902), (225, 225), (225, 226)),
            ((100, 100), (225, 225), (100, 100)),
        ],
    )
    @pytest.mark.parametrize("by", ["OpenCV", "Pillow"])
    def test_as_small_as_still_covers(self, tmp_path, size, cover, expected, by):
        path = saved(tmp_path / "x.jpg", *size)
        if by == "Pillow":
            path.write_bytes(path.read_bytes() + b"something after the end")
        image, _ = images.decode(path, cover=cover)
        assert image.shape[:2] == expected
        assert image.flags.owndata
        assert image.flags.c_contiguous
        assert read_header(path)[:2] == read_image(path).shape[:2] == size

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation_is_applied(self, tmp_path, orientation):
        path = saved(tmp_path / "x.jpg", 480, 320, exif=exif_bytes(orientation))
        upside = (480, 320) if orientation < 5 else (320, 480)
        cover = tuple(side // 4 for side in upside)
        image, _ = images.decode(path, cover=cover)
        assert image.shape[:2] == cover
        whole = functional.fit(read_image(path), *cover)
        assert np.abs(image.astype(int) - whole).mean() < 1.5

    @pytest.mark.parametrize("size", [(600, 800), (452, 460), (901, 901)])
    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
    def test_is_as_good_as_the_whole_picture_averaged(self, tmp_path, size, options):
        path = saved(tmp_path / "x.jpg", *size, **options)
        image, _ = images.decode(path, cover=(225, 225))
        assert image.size < read_image(path).size / 3.9
        difference = np.abs(functional.fit(image, 225, 225).astype(int) - functional.fit(read_image(path), 225, 225))
        assert difference.mean() < 1.9  # of 255; less than a shift by half a pixel makes

    @pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("CMYK", 3)])
    def test_grey_and_print_colours(self, tmp_path, mode, channels):
        path = saved(tmp_path / "x.jpg", 480, 640, mode)
        image, _ = images.decode(path, cover=(120, 120))
        assert image.shape == (120, 160, channels)
        assert np.abs(image.astype(int) - functional.fit(read_image(path), 120, 160)).mean() < 1.5

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    @pytest.mark.parametrize("cover", [None, (30, 30)])
    @pytest.mark.parametrize("left", [0.3, 0.6, 0.999])
    def test_cut_short(self, tmp_path, mode, cover, left, monkeypatch):
        monkeypatch.setattr(
            functional, "decode", lambda *_, **__: np.zeros((480, 640, 3), np.uint8)
        )  # as OpenCV 4 does
        path = saved(tmp_path / "x.jpg", 480, 640, mode)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * left)])
        with pytest.raises(DataError, match=r"x\.jpg.*cannot be read"):
            images.decode(path, cover=cover)

    def test_limit_holds_for_the_file(self, tmp_path):
        with pytest.raises(DataError, match="max_pixels"):
            images.decode(saved(tmp_path / "x.jpg", 480, 640), 480 * 640 - 1, cover=(30, 30))

    @pytest.mark.parametrize("by", ["OpenCV", "Pillow"])
    def test_both_decoders_agree(self, tmp_path, by):
        path = saved(tmp_path / "x.jpg", 333, 517)
        if by == "Pillow":
            path.write_bytes(path.read_bytes() + b"\0")
        expected = np.asarray(Pillow.open(path))
        assert np.abs(read_image(path).astype(int) - expected).max() <= 2

    def test_other_formats_and_depths_stay_whole(self, tmp_path, rng):
        deep = rng.integers(0, 65536, (96, 128), dtype=np.uint16)
        Pillow.fromarray(deep).save(tmp_path / "deep.png")
        Pillow.fromarray(photograph(96, 128)).save(tmp_path / "x.webp")
        assert images.decode(tmp_path / "deep.png", cover=(12, 12))[0].shape == (96, 128, 1)
        assert images.decode(tmp_path / "x.webp", cover=(12, 12))[0].shape == (96, 128, 3)
