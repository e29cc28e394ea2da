"""What is in a data set, told before it is trained on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from super_selfish.cli import main
from super_selfish.datasets.survey import survey
from super_selfish.errors import DataError


def picture(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Smooth blobs of colour."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(12):
        picture(number).save(root / f"{number:02}.jpg", quality=92)
    return root


def names(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(Path(a).name, Path(b).name) for a, b in pairs]


def test_a_good_data_set(folder: Path, capsys: Any) -> None:
    found = survey(folder)
    assert (found.images, found.sizes, found.channels) == (12, {(72, 96): 12}, {3: 12})
    assert (found.depths, found.orientations) == ({"uint8": 12}, {1: 12})
    assert found.unreadable == found.tiny == found.constant == found.duplicates == found.turned_twice == []
    assert main(["check", str(folder)]) == 0
    assert "sizes: 96×72 (12)" in capsys.readouterr().out


def test_mean_and_std_are_those_of_all_pixels(folder: Path) -> None:
    pixels = np.concatenate([np.asarray(Image.open(path)).reshape(-1, 3) for path in folder.iterdir()]) / 255.0
    found = survey(folder)
    assert found.mean == pytest.approx(pixels.mean(0), abs=0.01)
    assert found.std == pytest.approx(pixels.std(0), abs=0.01)


def test_near_duplicates_are_found_and_different_images_are_not(folder: Path) -> None:
    picture(3).save(folder / "again.jpg", quality=40)
    picture(3).resize((120, 90)).save(folder / "larger.png")
    Image.fromarray(np.clip(np.asarray(picture(5), np.int16) + 3, 0, 255).astype(np.uint8)).save(
        folder / "brighter.png"
    )
    assert sorted(names(survey(folder).duplicates)) == [
        ("03.jpg", "again.jpg"),
        ("03.jpg", "larger.png"),
        ("05.jpg", "brighter.png"),
    ]


def test_what_teaches_nothing_is_told(folder: Path) -> None:
    Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "flat.png")
    picture(50, (20, 90)).save(folder / "narrow.png")
    found = survey(folder)
    assert [Path(name).name for name in found.constant] == ["flat.png"]
    assert [Path(name).name for name in found.tiny] == ["narrow.png"]
    assert "Constant and tiny images teach nothing" in str(found)


def test_unreadable_files_are_named_and_the_exit_status_says_so(folder: Path, capsys: Any) -> None:
    whole = (folder / "01.jpg").read_bytes()
    (folder / "01.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "02.jpg").write_text("<html>not found</html>")
    assert main(["check", str(folder)]) == 1
    told = capsys.readouterr().out
    assert "2 unreadable:" in told
    assert "01.jpg" in told
    assert "a web page" in told
    assert 'on_error="skip"' in told


def test_files_that_were_turned_already(folder: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    picture(70, (96, 72)).save(folder / "lying.jpg", exif=tags)
    picture(71, (72, 96)).save(folder / "upright.jpg", exif=tags)
    picture(72, (96, 72)).save(folder / "lying.png", exif=tags)
    found = survey(folder)
    assert found.orientations == {1: 12, 6: 3}
    assert [Path(name).name for name in found.turned_twice] == ["upright.jpg"]
    assert "exiftool" in str(found)


def test_mixed_channels_have_no_common_mean(folder: Path) -> None:
    picture(80).convert("L").save(folder / "grey.png")
    found = survey(folder)
    assert (found.channels, found.mean) == ({3: 12, 1: 1}, ())
    assert "channels=1" in str(found)


def test_arrays_of_any_kind() -> None:
    generator = np.random.default_rng(0)
    found = survey(generator.random((5, 40, 40, 13), np.float32))
    assert (found.channels, found.depths, len(found.mean)) == ({13: 5}, {"float32": 5}, 13)
    assert survey(generator.integers(0, 65536, (5, 40, 40), np.uint16)).mean[0] == pytest.approx(0.5, abs=0.05)


def test_dark_images_are_to_be_normalised() -> None:
    dark = np.random.default_rng(0).integers(0, 20, (4, 40, 40, 3), np.uint8)
    assert 'normalize="dataset"' in str(survey(dark))


def test_nothing_is_a_mistake(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(DataError):
        survey(tmp_path)
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_bomb_is_unreadable(folder: Path) -> None:
    stream = io.BytesIO()
    Image.new("L", (3000, 3000)).save(stream, "PNG")
    (folder / "bomb.png").write_bytes(stream.getvalue())
    found = survey(folder, max_pixels=1_000_000)
    assert [Path(name).name for name, _ in found.unreadable] == ["bomb.png"]
