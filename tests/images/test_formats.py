"""The table of image formats."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from super_selfish.datasets.sources import open_source
from super_selfish.errors import DataError
from super_selfish.images import formats
from super_selfish.images.formats import EXTENSIONS, FORMATS, Format
from super_selfish.images.image_files import read_header, read_image, read_orientation
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


@pytest.mark.parametrize(("missing", "named"), [("toylib", "super-selfish\\[toys\\]"), ("other", "other")])
def test_a_missing_package_is_named(missing: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_without_package(stream: BinaryIO, cover: Cover) -> OpenImage:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    (tmp_path / "x.toy").write_bytes(TOY)
    add(monkeypatch, Format("Toy", (".toy",), b"TOY", open_without_package, package="toylib", extra="toys"))
    with pytest.raises(DataError, match=named):
        read_image(tmp_path / "x.toy")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_read_orientation(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "turned", kind, exif=exif)
    Image.new("RGB", (40, 30)).save(tmp_path / "upright", kind)
    assert read_orientation(tmp_path / "turned") == 6
    assert read_orientation(tmp_path / "upright") == 1
    assert read_header(tmp_path / "turned")[:2] == (40, 30)
