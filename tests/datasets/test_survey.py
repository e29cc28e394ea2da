"""What is in a data set, told before it is trained on."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from super_selfish.cli import main
from super_selfish.datasets.preprocessing import fit_preprocessing
from super_selfish.datasets.sources import open_source
from super_selfish.datasets.survey import survey
from super_selfish.errors import DataError
from super_selfish.supervisors import RotateNetSupervisor


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
    assert "height×width in px: 72×96 (12)" in (printed := capsys.readouterr().out)
    assert "--resolution 72 is sufficient" in printed


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
    assert "tiny images" in str(found)


def test_unreadable_files_are_named_and_the_exit_status_says_so(folder: Path, capsys: Any) -> None:
    whole = (folder / "01.jpg").read_bytes()
    (folder / "01.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "02.jpg").write_text("<html>not found</html>")
    assert main(["check", str(folder)]) == 1
    told = capsys.readouterr().out
    assert "2 unreadable:" in told
    assert "01.jpg" in told
    assert "a web page" in told
    assert "--on-error skip" in told


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


def test_exact_copies_are_no_near_duplicates(folder: Path) -> None:
    (folder / "copy.jpg").write_bytes((folder / "03.jpg").read_bytes())
    picture(3).save(folder / "similar.jpg", quality=40)
    picture(5).save(folder / "one.png")
    picture(5).save(folder / "two.bmp")
    found = survey(folder)
    assert names(found.copies) == [("03.jpg", "copy.jpg"), ("one.png", "two.bmp")]
    assert sorted(names(found.duplicates)) == [("03.jpg", "similar.jpg"), ("05.jpg", "one.png")]
    assert "2 exact copies" in str(found)
    assert "2 near duplicates" in str(found)


def test_the_list_of_images_that_should_stay(folder: Path, tmp_path: Path, capsys: Any) -> None:
    (folder / "copy.jpg").write_bytes((folder / "03.jpg").read_bytes())
    picture(5).save(folder / "similar.jpg", quality=40)
    picture(2, (24, 18)).save(folder / "00-thumbnail.jpg", quality=95)  # the first of its group by name, and tiny
    Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "flat.png")
    (folder / "07.jpg").write_text("<html>not found</html>")
    written = tmp_path / "lists" / "keep.csv"
    assert main(["check", str(folder), "--write", str(written)]) == 1, "one file is unreadable"
    told = capsys.readouterr().out
    assert "11 of 16 images; left out: 1 unreadable, 1 exact copies, 2 near duplicates, 1 constant." in told
    source = open_source(written)
    assert [Path(source.path(index)).name for index in range(len(source))] == [
        f"{number:02}.jpg" for number in range(12) if number != 7
    ]
    found = survey(written)
    assert not found.unreadable
    assert not found.copies
    assert not found.duplicates
    assert main(["check", str(written)]) == 0


def test_a_list_keeps_classes_and_moves_with_its_images(folder: Path, tmp_path: Path) -> None:
    for number in range(12):
        (folder / "ab"[number % 2]).mkdir(exist_ok=True)
        (folder / f"{number:02}.jpg").rename(folder / "ab"[number % 2] / f"{number:02}.jpg")
    assert main(["check", str(folder), "--write", str(folder / "keep.csv")]) == 0
    moved = folder.rename(tmp_path / "moved")
    source = open_source(moved / "keep.csv")
    assert source.class_names == ("a", "b")
    assert [source.label(index) for index in range(12)] == [0] * 6 + [1] * 6
    assert source.read(0).shape == (72, 96, 3)


@pytest.mark.parametrize(("target", "said"), [("keep.txt", ".csv"), ("photos/00.jpg/keep.csv", "--write cannot")])
def test_lists_that_cannot_be_written(folder: Path, target: str, said: str, capsys: Any) -> None:
    before = sorted(folder.rglob("*"))
    assert main(["check", str(folder), "--write", str(folder.parent / target)]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == "", "before the images are read"
    assert sorted(folder.rglob("*")) == before


def test_fewer_than_two_images_are_no_list(tmp_path: Path, capsys: Any) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(0).save(tmp_path / name)
    assert main(["check", str(tmp_path), "--write", str(tmp_path / "keep.csv")]) == 2
    assert "Fewer than two" in capsys.readouterr().err
    assert not (tmp_path / "keep.csv").exists()


def test_few_images_are_reported(folder: Path) -> None:
    assert "12 images are very few" in str(survey(folder))
    assert "very few" not in str(survey(np.zeros((200, 32, 32, 3), np.uint8)))


def test_files_that_are_left_out_are_reported(folder: Path, capsys: Any, caplog: Any) -> None:
    for name in ("a.npy", "b.NPY", "c.svg", "notes.txt"):
        (folder / name).write_text("x")
    (folder / "@eaDir").mkdir()
    assert main(["check", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("12 images\n")
    for text in ("4 files", "2 × .npy", "1 × .svg", "1 × .txt", "@eaDir"):
        assert text in printed
    RotateNetSupervisor(folder, backbone="small_resnet", resolution=32)
    RotateNetSupervisor(folder, backbone="small_resnet", resolution=32)
    assert caplog.text.count("2 × .npy") == 1
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_files_beside_images_that_are_never_images_give_no_warning(folder: Path, caplog: Any) -> None:
    (folder / "labels.csv").write_text("x")
    RotateNetSupervisor(folder, backbone="small_resnet", resolution=32)
    assert not caplog.records
    assert survey(folder).left_out == {".csv": 1}


def write_tiff(path: Path, *shape: int, dtype: type = np.float32, top: float = 1.0, bad: float | None = None) -> None:
    values = np.random.default_rng(len(path.name) + int(path.stem)).random(shape) * top
    if shape[2:] == (1,):
        values = values[:, :, 0]
    if bad is not None:
        values[:9, :9] = bad
    layout: dict[str, Any] = {} if shape[2:] in ((), (1,)) else {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path, values.astype(dtype), metadata=None, **layout)


def nan_in_some(root: Path) -> None:
    for number in range(20):
        write_tiff(root / f"{number}.tif", 48, 48, bad=np.nan if number % 4 == 0 else None)


def infinity(root: Path) -> None:
    for number in range(8):
        write_tiff(root / f"{number}.tif", 48, 48, 4, bad=np.inf if number == 7 else None)


def mixed_channels(*kinds: int) -> Callable[[Path], None]:
    def fill(root: Path) -> None:
        for number in range(12):
            write_tiff(root / f"{number}.tif", 48, 48, kinds[number % len(kinds)], dtype=np.uint16, top=60000)

    return fill


def small(side: int) -> Callable[[Path], None]:
    def fill(root: Path) -> None:
        for number in range(8):
            picture(number, (side, side)).save(root / f"{number}.png")

    return fill


def dim(root: Path) -> None:
    for number in range(8):
        write_tiff(root / f"{number}.tif", 48, 48, dtype=np.uint16, top=65535 if number == 0 else 300)


def constant(root: Path) -> None:
    for number in range(8):
        Image.new("RGB", (40, 40), (number, 9, 99)).save(root / f"{number}.png")


def damaged(root: Path) -> None:
    small(40)(root)
    (root / "9.png").write_bytes(b"nothing")


def all_damaged(root: Path) -> None:
    for number in range(14):
        (root / f"{number}.png").write_bytes(b"nothing")


KINDS = {
    "nan": nan_in_some,
    "infinity": infinity,
    "grey and colour": mixed_channels(1, 3),
    "grey and 4 bands": mixed_channels(1, 4),
    "colour and 4 bands": mixed_channels(3, 4),
    "5 bands": mixed_channels(5),
    "MNIST": small(28),
    "icons": small(8),
    "large": small(300),
    "dim": dim,
    "constant": constant,
    "damaged": damaged,
    "all damaged": all_damaged,
}


def trained_on(root: Path, **options: Any) -> list[str]:
    """What training stops at: an error of its beginning, or each image that it cannot use."""
    try:
        supervisor = RotateNetSupervisor(root, backbone="small_resnet", **options)
    except DataError as error:
        return [str(error)]
    images, stopped = supervisor.image_dataset, []
    for index in range(len(images)):
        try:
            images.read(index)
        except DataError as error:
            stopped.append(str(error))
    return stopped


@pytest.mark.parametrize("kind", KINDS)
def test_what_check_accepts_is_trained_on(kind: str, tmp_path: Path, capsys: Any) -> None:
    KINDS[kind](tmp_path)
    stopped = trained_on(tmp_path, resolution=32)
    assert main(["check", str(tmp_path)]) == (1 if stopped else 0)
    named = capsys.readouterr().out
    for reason in stopped:
        assert kind == "all damaged" or reason.split("`")[1].removeprefix(f"{tmp_path}/") in named


@pytest.mark.parametrize("kind", KINDS)
def test_what_check_advises_is_accepted(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path)
    text = str(survey(tmp_path))
    for side in re.findall(r"resolution=(\d+)", text):
        fit_preprocessing(open_source(tmp_path), resolution=int(side), on_error="skip")
    for channels in re.findall(r"channels=(\d+)", text):
        assert trained_on(tmp_path, resolution=32, channels=int(channels)) == []
    if 'on_error="skip"' in text:
        supervisor = RotateNetSupervisor(tmp_path, backbone="small_resnet", resolution=32)
        supervisor.supervise(epochs=1, batch_size=4, on_error="skip", verbose=False, watch=0, checkpoint_every=0)
    if kind in ("MNIST", "icons", "constant"):
        assert "remove them" not in text
    if kind in ("grey and 4 bands", "colour and 4 bands", "all damaged"):
        assert 'on_error="skip"' not in text
    if kind == "grey and 4 bands":
        assert "channels=4" in text


def test_dim_images_of_16_bits_are_not_constant(tmp_path: Path) -> None:
    dim(tmp_path)
    write_tiff(tmp_path / "8.tif", 48, 48, dtype=np.uint16, top=0)
    found = survey(tmp_path)
    assert [Path(name).name for name in found.constant] == ["8.tif"]
    assert len(found.dim) == 7
    assert "value_range" in str(found)


def test_a_tiny_image_of_one_colour_is_tiny(folder: Path) -> None:
    Image.new("RGB", (3, 3), (9, 9, 9)).save(folder / "dot.png")
    found = survey(folder)
    assert ([Path(name).name for name in found.tiny], found.constant) == (["dot.png"], [])


def test_a_coloured_image_without_content_is_constant(folder: Path) -> None:
    Image.new("RGB", (64, 64), (200, 9, 90)).save(folder / "flat.png")
    assert [Path(name).name for name in survey(folder).constant] == ["flat.png"]


def test_one_image_is_too_few_for_check_as_for_training(tmp_path: Path, capsys: Any) -> None:
    picture(0).save(tmp_path / "0.png")
    assert main(["check", str(tmp_path)]) == 2


def test_all_unreadable_files_are_listed(tmp_path: Path, capsys: Any) -> None:
    all_damaged(tmp_path)
    assert main(["check", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert all(f"{number}.png" in printed for number in range(14))


def test_warnings_of_check_name_flags_of_training(folder: Path, capsys: Any, caplog: Any) -> None:
    Image.new("RGBA", (60, 60), (9, 99, 9, 99)).save(folder / "alpha.png")
    main(["check", str(folder)])
    assert "--background" in caplog.text
    assert "--recipe adapt" in capsys.readouterr().out
