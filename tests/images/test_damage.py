"""Damaged files that decoders accept: noticed, and tied to the file's name; and sound files that Pillow refuses."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from super_selfish.datasets.survey import survey
from super_selfish.errors import DataError
from super_selfish.images import image_files
from super_selfish.images.decoder_messages import decoder_messages
from super_selfish.images.image_files import read_image

RNG = np.random.default_rng(0)
END = b"\xff\xd9"


def picture() -> Image.Image:
    return Image.fromarray(np.kron(RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8)))


def jpeg(mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    picture().convert(mode).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def damaged(kind: str) -> bytes:
    if kind == "print colours":
        data = jpeg("CMYK")
        return data[: len(data) // 2] + END
    data = jpeg()
    half = len(data) // 2
    return {
        "ends early": data[:half] + END,
        "ends early, with bytes behind": data[:half] + END + b"\0" * 9,
        "junk": data[:-2] + b"\0\0junk\0\0" + END,
        "overwritten": data[:half] + b"\x55" * 40 + data[half + 40 :],
    }[kind]


@pytest.mark.parametrize(
    "kind", ["ends early", "ends early, with bytes behind", "junk", "overwritten", "print colours"]
)
def test_jpeg(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sound.jpg").write_bytes(jpeg())
    (tmp_path / "harmed.jpg").write_bytes(damaged(kind))
    found = survey(tmp_path)
    assert [name for name, _ in found.pixels.damaged] == ["harmed.jpg"]
    assert "harmed.jpg" in str(found)
    assert not found.unreadable
    assert capfd.readouterr().err == ""


def test_sound_files_are_not_reported(tmp_path: Path) -> None:
    for suffix in ("jpg", "png", "webp", "tif", "bmp"):
        picture().save(tmp_path / f"x.{suffix}")
    found = survey(tmp_path)
    assert not found.pixels.damaged
    assert not found.unreadable


def test_messages_of_all_kinds_are_caught(capfd: pytest.CaptureFixture[str]) -> None:
    with decoder_messages() as messages:
        os.write(2, b"of a library\n")
        logging.getLogger("tifffile").warning("of tifffile")
    assert messages == ["of tifffile", "of a library"]
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "later\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", ["profile", "text", "wrong checksum of a text"])
def test_png_with_metadata_that_pillow_refuses(tmp_path: Path, kind: str) -> None:
    values = np.asarray(picture())
    stream = io.BytesIO()
    profile = {"icc_profile": os.urandom(99) + b"\0" * 1_500_000} if kind == "profile" else {}
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(values).save(stream, "PNG", exif=exif, **profile)
    data = stream.getvalue()
    text = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 3_000_000))
    if kind == "wrong checksum of a text":
        text = chunk(b"tEXt", b"key\0text")[:-1] + b"?"
    if kind != "profile":
        data = data[:33] + text + data[33:]
    (tmp_path / "x.png").write_bytes(data)
    assert np.array_equal(read_image(tmp_path / "x.png"), values[::-1, ::-1])
    assert image_files.read_header(tmp_path / "x.png")[:2] == values.shape[:2]


@pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL"
)  # the library ignores messages about metadata, which pytest undoes
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    ("directory", "orientation", "is_damaged"),
    [
        (b"\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0", 6, False),
        (b"\2\0\x12\1\3\0\1\0\0\0\6\0\0\0\x0f\1", 6, True),
        (b"\2\0\x0f\1\2\0\xff\0\0\0\xff\0\0\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0", 6, True),
        (b"\xff\xff\x12\1\3\0", 1, True),
        (b"", 1, True),
        (b"\0\0\0\0\0\0", 1, False),
    ],
)
def test_damaged_exif_is_a_note_of_the_file(
    tmp_path: Path, suffix: str, directory: bytes, orientation: int, is_damaged: bool
) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.new("RGB", (60, 40)).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0" + directory)
    decoded, messages = image_files.examine(path)
    assert image_files.read_orientation(path) == orientation
    assert decoded.image.shape[:2] == ((60, 40) if orientation == 6 else (40, 60))
    assert any("EXIF" in note for note in decoded.notes) == is_damaged
    assert not messages


def test_links_to_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"x\.png.*link"):
        image_files.read_image(tmp_path / "x.png")
