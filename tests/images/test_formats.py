"""The table of image formats."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, features

from super_selfish.datasets.sources import open_source
from super_selfish.errors import DataError
from super_selfish.images import formats, image_files
from super_selfish.images.formats import EXTENSIONS, FORMATS, Format
from super_selfish.images.image_files import AlphaRule, read_header, read_image, read_orientation
from super_selfish.images.open_image import Cover, Header, OpenImage

PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
TOY = b"TOY" + bytes([2, 3]) + PIXELS.tobytes()


def open_toy(stream: BinaryIO, cover: Cover) -> OpenImage:
    height, width = stream.read(5)[3:]

    def decode() -> np.ndarray:
        return np.frombuffer(bytearray(stream.read()), np.uint8).reshape(height, width, 1)

    return OpenImage(Header(height, width, 1, "uint8"), 1, False, decode)


def add(monkeypatch: pytest.MonkeyPatch, row: Format) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, row))


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_extensions_are_lower_case_and_unique(row: Format) -> None:
    assert row.extensions
    for extension in row.extensions:
        assert extension.startswith(".")
        assert extension == extension.lower()
        assert EXTENSIONS.count(extension) == 1


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_an_extension_makes_a_file_part_of_a_folder(row: Format, tmp_path: Path) -> None:
    for extension in row.extensions:
        (tmp_path / f"x{extension.upper()}").write_bytes(b"")
    assert len(open_source(tmp_path)) == len(row.extensions)


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_unknown_content_is_refused_with_all_formats_listed(row: Format, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"anything")
    with pytest.raises(DataError, match=row.name):
        read_image(tmp_path / "x")


def test_files_are_recognised_by_content(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[:, :, 0]).save(tmp_path / "x.jpg", "PNG")
    assert np.array_equal(read_image(tmp_path / "x.jpg"), PIXELS)


def test_a_row_makes_a_format_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.toy").write_bytes(TOY)
    with pytest.raises(DataError):
        read_image(tmp_path / "x.toy")
    add(monkeypatch, Format("Toy", (".toy",), b"TOY", open_toy))
    assert np.array_equal(read_image(tmp_path / "x.toy"), PIXELS)
    assert read_header(tmp_path / "x.toy") == (2, 3, 1, "uint8")


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


LOSSLESS = [".gif", ".jp2", ".j2k", ".ppm", ".pgm"]


@pytest.mark.parametrize("extension", LOSSLESS)
def test_lossless_formats_of_pillow(extension: str, tmp_path: Path) -> None:
    pixels = noise(40, 50) if extension in (".gif", ".pgm") else noise(40, 50, 3)
    Image.fromarray(pixels).save(tmp_path / f"x{extension}")
    read = read_image(open_source(tmp_path).path(0))
    assert np.array_equal(read, pixels.reshape(40, 50, -1))
    assert read_header(tmp_path / f"x{extension}") == (*read.shape, "uint8")


@pytest.mark.parametrize("extension", [".gif", ".avif", ".jfif", ".pbm"])
def test_other_formats_of_pillow(extension: str, tmp_path: Path) -> None:
    smooth = Image.fromarray(noise(6, 8, 3)).resize((64, 48), Image.Resampling.BICUBIC)
    smooth = smooth.convert({".gif": "P", ".pbm": "1"}.get(extension, "RGB"))
    smooth.save(tmp_path / f"x{extension}", format="JPEG" if extension == ".jfif" else None, quality=95)
    read, right = read_image(open_source(tmp_path).path(0)), np.asarray(smooth.convert("RGB"), np.float64)
    assert read.shape[:2] == (48, 64)
    assert np.abs(read - right).mean() < 6
    assert read_header(tmp_path / f"x{extension}") == (*read.shape, "uint8")


def test_an_animation_gives_its_first_picture(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(40, 50) // (1 + page)) for page in range(3)]
    pages[0].save(tmp_path / "x.gif", save_all=True, append_images=pages[1:])
    assert np.array_equal(read_image(tmp_path / "x.gif")[:, :, 0], np.asarray(pages[0]))


@pytest.mark.parametrize("channels", [1, 3])
def test_deep_pnm_and_jpeg_2000_keep_their_depth(channels: int, tmp_path: Path) -> None:
    pixels = noise(40, 50, channels, dtype=np.uint16)
    header = b"P%d # a comment\n50 40\n65535\n" % (5 if channels == 1 else 6)
    (tmp_path / "x.pnm").write_bytes(header + pixels.astype(">u2").tobytes())
    lossless = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    cv2.imwrite(str(tmp_path / "x.jp2"), pixels[:, :, ::-1], lossless)
    for name in ("x.pnm", "x.jp2"):
        assert np.array_equal(read_image(tmp_path / name), pixels)
        assert read_header(tmp_path / name) == (40, 50, channels, "uint16")


@pytest.mark.parametrize("kind", [b"P5", b"P6"])
def test_white_of_deep_pnm_is_that_of_the_file(kind: bytes, tmp_path: Path) -> None:
    values = np.array([0, 1000, 4095], ">u2").repeat(1 if kind == b"P5" else 3)
    (tmp_path / "x").write_bytes(kind + b"\n3 1\n4095\n" + values.tobytes())
    assert read_image(tmp_path / "x")[0, :, 0].tolist() == [0, round(1000 * 65535 / 4095), 65535]


@pytest.mark.parametrize("kind", [2, 3, 5, 6])
@pytest.mark.parametrize("white", [256, 1023, 4095, 65535])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_deep_pnm_is_scaled_by_its_white(kind: int, white: int, end: bytes, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, white + 1, (4, 5, 3 if kind in (3, 6) else 1))
    values[-1, -1, -1] = white
    text = b"P%d # 65535\n5 4 # of 12 bits\n%d\n" % (kind, white)
    rows = b" # a row\n".join(b" ".join(b"%d" % value for value in row.reshape(-1)) for row in values)
    body = rows if kind < 4 else values.astype(">u2").tobytes()
    (tmp_path / "x.ppm").write_bytes(text + body + end)
    expected = np.rint(values * (65535 / white))
    assert np.array_equal(read_image(tmp_path / "x.ppm"), expected)
    assert read_header(tmp_path / "x.ppm") == (*expected.shape, "uint16")


@pytest.mark.parametrize(
    "content",
    [
        b"P5\n2 2\n4095\n" + b"\0" * 7,
        b"P3\n1 1\n4095\n1 2",
        b"P3\n1 1\n4095\n1 2 -3",
        b"P2\n1 1\n4095\n4096",
        b"P5\n1 1\n4095\n\xff\xff",
        b"P5\n1 1\n70000\n\xff\xff",
        b"P5\n1 0\n255\n",
    ],
)
def test_damaged_pnm_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pgm").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.pgm.*(damaged|truncated)"):
        read_image(tmp_path / "x.pgm")


@pytest.mark.parametrize("head", [b"P4\n9 2\n", b"P5\n2 2\n1\n", b"P5\n2 2\n255\n", b"P5\n1 2\n4095\n"])
def test_further_images_of_a_pnm_file_are_counted(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pnm").write_bytes((head + b"\0\1\0\1") * 3)
    assert image_files.contents(tmp_path / "x.pnm").left_out == 2
    assert read_image(tmp_path / "x.pnm").shape[0] == 2


def test_a_long_comment_of_a_pnm_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"P5\n# %b\n2 1\n255\n\1\2" % (b"x" * 500))
    assert read_image(open_source(tmp_path).path(0))[0, :, 0].tolist() == [1, 2]


HEIC = b"\0\0\0\x18ftypheic" + b"\0" * 99


def test_heif_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "x.HEIC").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"super-selfish\[heif\]"):
        read_image(open_source(tmp_path).path(0))


def test_heif_is_read_by_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Toy(ImageFile.ImageFile):
        def _open(self) -> None:
            self._size, self._mode, self.tile = (50, 40), "RGB", []
            self.im = Image.new("RGB", (50, 40), "red").im

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(HeifImageFile=Toy))
    (tmp_path / "x.heic").write_bytes(HEIC)
    assert read_image(tmp_path / "x.heic")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("module", "extension"), [("avif", ".avif"), ("jpg_2000", ".jp2")])
def test_a_pillow_that_lacks_a_codec_is_named(
    module: str, extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(40, 50, 3)).save(tmp_path / f"x{extension}")
    monkeypatch.setattr(features, "check", lambda name: name != module)
    with pytest.raises(DataError, match="pillow"):
        read_image(tmp_path / f"x{extension}")


@pytest.mark.parametrize(("missing", "named"), [("toylib", "super-selfish\\[toys\\]"), ("other", "other")])
def test_a_missing_package_is_named(missing: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_without_package(stream: BinaryIO, cover: Cover) -> OpenImage:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    (tmp_path / "x.toy").write_bytes(TOY)
    add(monkeypatch, Format("Toy", (".toy",), b"TOY", open_without_package, package="toylib", extra="toys"))
    with pytest.raises(DataError, match=named):
        read_image(tmp_path / "x.toy")


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("left", [4, 8, 100, 0.5, 0.99])
def test_truncated_tiff_raises_and_names_the_file(compression: str | None, left: float, tmp_path: Path) -> None:
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "x.tif", compression=compression)
    content = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(content[: left if left > 1 else int(left * len(content))])
    with pytest.raises(DataError, match=r"x\.tif.*truncated"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_read_orientation(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "turned", kind, exif=exif)
    Image.new("RGB", (40, 30)).save(tmp_path / "upright", kind)
    assert read_orientation(tmp_path / "turned") == 6
    assert read_orientation(tmp_path / "upright") == 1
    assert read_header(tmp_path / "turned")[:2] == (40, 30)


def test_deep_jpeg2000_keeps_its_alpha(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 50, 4), np.uint16)
    lossless = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    cv2.imwrite(str(tmp_path / "x.jp2"), pixels[:, :, [2, 1, 0, 3]], lossless)
    assert np.array_equal(read_image(tmp_path / "x.jp2"), pixels[:, :, :3])
    assert np.array_equal(open_source([tmp_path / "x.jp2"]).with_alpha(AlphaRule(channels=4)).read(0), pixels)
