"""Near duplicates among aligned images of low contrast and among photographs, and what ``check`` does about them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from super_selfish.cli import main
from super_selfish.datasets.preprocessing import fit_preprocessing
from super_selfish.datasets.sources import open_source
from super_selfish.datasets.survey import survey

Pixels = np.ndarray[Any, np.dtype[Any]]
SIDE = 96


def xray(seed: int, noise: float = 25.0) -> Pixels:
    """Body with two lungs, a spine and a lesion: all images are aligned, and differ in size, lesion and noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    size = 1 + 0.06 * generator.standard_normal()
    body = 1 / (1 + np.exp(12 * ((x / (0.75 * size)) ** 2 + (y / (0.9 * size)) ** 2 - 1)))
    image = 1600 + 700 * body + 200 * np.exp(-((x / 0.07) ** 2)) * body
    for side in (-0.33, 0.33):
        image -= 350 * np.exp(-((((x - side * size) / 0.2) ** 2 + ((y + 0.1) / 0.4) ** 2) ** 2)) * body
    across, down = generator.uniform(-0.45, 0.45), generator.uniform(-0.5, 0.4)
    image += 300 * np.exp(-((x - across) ** 2 + (y - down) ** 2) / 0.006)
    return np.asarray(image + noise * generator.standard_normal(image.shape))


def resized(image: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))


def as_file(image: Pixels) -> Pixels:
    return np.clip(np.rint(image), 0, 65535).astype(np.uint16)[:, :, None]


def photographs() -> list[Pixels]:
    """Parts of photographs, 128×128 px."""
    parts = []
    for photo in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), data.retina()):
        for top in range(0, photo.shape[0] - 127, 128):
            for left in range(0, photo.shape[1] - 127, 128):
                part = photo[top : top + 128, left : left + 128]
                if part.std((0, 1)).min() > 20:
                    parts.append(np.ascontiguousarray(part))
    return parts[:120]


def jpeg(image: Pixels, quality: int) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def pairs(images: list[Pixels]) -> set[tuple[int, int]]:
    return {(int(first), int(second)) for first, second in survey(images).duplicates}


def test_distinct_aligned_images_of_low_contrast_are_no_near_duplicates() -> None:
    found = survey([as_file(xray(seed)) for seed in range(200)])
    assert found.duplicates == found.copies == []
    assert "near duplicates" not in str(found)


def test_near_duplicates_among_aligned_images_of_low_contrast_are_found() -> None:
    images = [xray(seed) for seed in range(200)]
    changed = [resized(images[3], 72), resized(images[50], 160), images[80] * 1.01 + 15, np.rint(images[7] / 16) * 16]
    expected = {(3, 200), (50, 201), (80, 202), (7, 203)}
    assert pairs([as_file(image) for image in images + changed]) == expected


def test_near_duplicates_among_photographs_are_found_and_others_are_not() -> None:
    images = photographs()
    count = len(images)
    assert count > 40
    assert pairs(images) == set()
    smaller = np.asarray(Image.fromarray(images[11]).resize((80, 80), Image.Resampling.LANCZOS))
    larger = np.asarray(Image.fromarray(images[20]).resize((200, 200), Image.Resampling.BICUBIC))
    brighter = np.clip(images[30].astype(int) + 4, 0, 255).astype(np.uint8)
    changed = [jpeg(images[5], 40), smaller, larger, brighter]
    assert pairs(images + changed) == {(5, count), (11, count + 1), (20, count + 2), (30, count + 3)}


def test_a_set_of_which_each_image_is_there_twice_has_all_near_duplicates() -> None:
    images = photographs()
    count = len(images)
    assert len(pairs(images + [jpeg(image, 70) for image in images])) >= 0.95 * count


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two classes of 20 photographs each, and near duplicates of ten of them."""
    images = photographs()[:40]
    for number, image in enumerate(images):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02}.png")
        if number < 10:
            Image.fromarray(image).save(folder / f"{number:02}-again.jpg", quality=70)
    return tmp_path / "photos"


@pytest.mark.parametrize(("choice", "kept"), [("auto", 50), ("keep", 50), ("drop", 40)])
def test_many_near_duplicates_are_kept_unless_told_otherwise(many: Path, choice: str, kept: int, capsys: Any) -> None:
    target = many.parent / "keep.csv"
    assert main(["check", str(many), "--write", str(target), "--near-duplicates", choice]) == 0
    printed = capsys.readouterr().out
    assert "10 of 50 images are near duplicates, which is more than 10%" in printed
    assert "--near-duplicates drop" in printed
    assert f"{kept} of 50 images" in printed
    assert len(open_source(target)) == kept


def test_exact_copies_with_other_labels_are_reported(many: Path) -> None:
    (many / "b" / "copy.png").write_bytes((many / "a" / "20.png").read_bytes())
    (many / "a" / "same.png").write_bytes((many / "a" / "22.png").read_bytes())
    found = survey(many)
    assert len(found.copies) == 2
    ((first, second),) = found.conflicts
    assert (Path(first).name, Path(second).name) == ("20.png", "copy.png")
    assert "1 exact copies have labels that conflict" in str(found)


def test_exact_copies_without_labels_do_not_conflict() -> None:
    images = photographs()[:4]
    found = survey([*images, images[0]])
    assert len(found.copies) == 1
    assert found.conflicts == []


def test_parts_of_the_summary_count_each_image_once(many: Path, capsys: Any) -> None:
    Image.new("RGB", (20, 20), (9, 9, 9)).save(many / "a" / "tiny-and-constant.png")
    target = many.parent / "keep.csv"
    assert main(["check", str(many), "--write", str(target)]) == 0
    assert "50 of 51 images; left out: 1 tiny." in capsys.readouterr().out


def test_few_images_are_those_of_the_list(capsys: Any, tmp_path: Path) -> None:
    for number in range(205):
        noise = np.random.default_rng(number % 190).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number:03}.png")
    assert main(["check", str(tmp_path)]) == 0
    assert "very few" not in capsys.readouterr().out
    assert main(["check", str(tmp_path), "--write", str(tmp_path / "keep.csv")]) == 0
    assert "190 of 205 images are kept. 190 images are very few" in capsys.readouterr().out


def test_the_range_of_all_values_is_from_minimum_to_maximum() -> None:
    images = np.random.default_rng(0).integers(1460, 2950, (6, 40, 40)).astype(np.uint16)
    images[2, 0, 0], images[5, 3, 3] = 1460, 2949
    assert fit_preprocessing(open_source(images)).value_range == (0, 4095)
    assert fit_preprocessing(open_source(images), value_range="all").value_range == (1460, 2949)
    small = (images / 4095).astype(np.float32)
    assert fit_preprocessing(open_source(small)).value_range is None
    fitted = fit_preprocessing(open_source(small), value_range="all")
    assert fitted.value_range == pytest.approx((1460 / 4095, 2949 / 4095))


def test_values_in_a_small_part_of_the_range_are_reported(tmp_path: Path, capsys: Any) -> None:
    values = np.random.default_rng(0).integers(1460, 2950, (8, 40, 40)).astype(np.uint16)
    for number, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    assert main(["check", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "36% of the range 0 to 4095" in printed
    assert "--value-range all" in printed
    assert "full contrast" not in str(survey(np.random.default_rng(0).integers(0, 4000, (8, 40, 40)).astype(np.uint16)))
