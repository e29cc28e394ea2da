"""DICOM files: rescaled, inverted where large is dark, told apart by their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from super_selfish.errors import DataError
from super_selfish.images import image_files
from super_selfish.images.image_files import read_header, read_image
from super_selfish.supervisors import DenoiseNetSupervisor

pydicom = pytest.importorskip("pydicom")


def write(path: Path, values: np.ndarray, **tags: Any) -> Path:
    """A file of one image."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.Rows, file.Columns = values.shape[:2]
    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8 * values.dtype.itemsize
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    for key, value in tags.items():
        setattr(file, key, value)
    file.PixelData = values.tobytes()
    file.save_as(path, enforce_file_format=True)
    return path


RAMP = np.arange(48, dtype=np.uint16).reshape(6, 8) * 80


def test_numbers_are_rescaled(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.dcm", RAMP.astype(np.int16), RescaleSlope="2", RescaleIntercept="-1024")
    assert read_header(path) == (6, 8, 1, "float32")
    assert np.array_equal(read_image(path)[..., 0], RAMP * 2.0 - 1024)


def test_deep_grey_stays_deep(tmp_path: Path) -> None:
    path = write(tmp_path / "xray", RAMP)
    assert np.array_equal(read_image(path)[..., 0], RAMP)
    assert read_image(path).dtype == np.uint16


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    path = write(tmp_path / "inverted.dcm", RAMP, **tags)
    assert np.array_equal(read_image(path)[..., 0], 4095 - RAMP)
    small = write(tmp_path / "small.dcm", RAMP.astype(np.uint8), PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_image(small)[..., 0], 255 - RAMP.astype(np.uint8))


def test_several_frames_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "film.dcm", RAMP, NumberOfFrames=3)
    with pytest.raises(DataError, match="3 frames"):
        read_image(path)


def test_a_folder_of_them_trains(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        write(tmp_path / f"{number}.dcm", rng.integers(0, 4096, (40, 40)).astype(np.uint16))
    supervisor = DenoiseNetSupervisor(tmp_path, resolution=32, backbone="small_resnet")
    assert supervisor.preprocessing.channels == 1
    supervisor.supervise(epochs=1, batch_size=2, verbose=False)


def test_palettes_become_eight_bit_rgb(tmp_path: Path) -> None:
    tables: dict[str, Any] = {}
    for name, shift in (("Red", 0), ("Green", 85), ("Blue", 170)):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = (
            np.roll(np.arange(256), shift).astype(np.uint16) * 257
        ).tobytes()
    values = np.tile(np.arange(256, dtype=np.uint8), (40, 1))
    path = write(tmp_path / "x.dcm", values, PhotometricInterpretation="PALETTE COLOR", **tables)
    assert read_header(path) == (40, 256, 3, "uint8")
    assert read_image(path)[0, 100].tolist() == [100, 15, 186]


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
def test_32_bits_do_not_wrap(tmp_path: Path, dtype: Any) -> None:
    path = write(tmp_path / "x.dcm", (RAMP.astype(np.int64) * 100).astype(dtype))
    assert read_image(path).max() == RAMP.max() * 100.0
    assert read_header(path).dtype == read_image(path).dtype.name


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floats(tmp_path: Path, name: str) -> None:
    from pydicom.dataset import Dataset

    def as_floats(file: Dataset, values: np.ndarray) -> None:
        for tag in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            del file[tag]
        setattr(file, name, values.tobytes())

    values = (RAMP / 7).astype(np.float32 if name[0] == "F" else np.float64)
    file = pydicom.dcmread(write(tmp_path / "x.dcm", values, RescaleSlope="2", RescaleIntercept="1"))
    as_floats(file, values)
    file.save_as(tmp_path / "x.dcm")
    assert np.allclose(read_image(tmp_path / "x.dcm")[..., 0], values * 2 + 1)
    assert read_header(tmp_path / "x.dcm").dtype == "float32"


def test_ybr_becomes_rgb(tmp_path: Path) -> None:
    values = np.full((40, 40, 3), (84, 114, 211), np.uint8)
    colours = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "YBR_FULL"}
    image = read_image(write(tmp_path / "x.dcm", values, **colours))
    assert np.abs(image[0, 0].astype(int) - (200, 30, 59)).max() < 3


def test_modality_tables_are_applied(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [48, 0, 16], "US"
    table["LUTData"] = pydicom.DataElement(0x00283006, "OW", (np.arange(48, dtype=np.uint16) * 1000).tobytes())
    values = np.arange(48, dtype=np.uint8).reshape(6, 8)
    path = write(tmp_path / "x.dcm", values, ModalityLUTSequence=Sequence([table]))
    assert np.array_equal(read_image(path)[..., 0], values.astype(int) * 1000)


def test_bits_above_those_stored_are_no_part_of_a_number(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", RAMP | 0xF000, BitsStored=12, HighBit=11)
    assert np.array_equal(read_image(path)[..., 0], RAMP)


@pytest.mark.parametrize(
    "tags",
    [
        {"PhotometricInterpretation": "HSV"},
        {"PhotometricInterpretation": ""},
        {"PresentationLUTShape": "INVERSE"},
        {"PixelPresentation": "COLOR"},
        {"RescaleSlope": "0", "RescaleIntercept": "0"},
        {"BitsStored": 12, "HighBit": 15},
    ],
)
def test_unknown_meanings_are_an_error(tmp_path: Path, tags: dict[str, Any]) -> None:
    path = write(tmp_path / "x.dcm", RAMP, **tags)
    for read in (read_header, read_image):
        with pytest.raises(DataError, match=r"x\.dcm"):
            read(path)


@pytest.mark.parametrize(("tags", "count"), [({}, 1), ({"PixelPaddingRangeLimit": -1600}, 6)])
def test_padding_is_missing(tmp_path: Path, tags: dict[str, Any], count: int) -> None:
    path = write(tmp_path / "x.dcm", RAMP.astype(np.int16) - 2000, PixelPaddingValue=-2000, **tags)
    missing = image_files.load(path).missing
    assert missing is not None
    assert missing.sum() == count
    assert missing[0, 0, 0]


@pytest.mark.parametrize("place", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_enhanced_files_of_one_frame_are_rescaled(tmp_path: Path, place: str) -> None:
    group, transformation = pydicom.Dataset(), pydicom.Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = 2, -7
    group.PixelValueTransformationSequence = [transformation]
    path = write(tmp_path / "enhanced.dcm", RAMP, NumberOfFrames=1, **{place: [group]})
    assert read_header(path) == (6, 8, 1, "float32")
    assert np.array_equal(read_image(path)[..., 0], RAMP * 2.0 - 7)


@pytest.mark.filterwarnings("ignore")
def test_frames_that_are_not_declared_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "two.dcm", np.concatenate([RAMP, RAMP]), Rows=6)
    with pytest.raises(DataError, match="2 frames, but declares one"):
        read_image(path)


def test_dark_images_of_a_deep_palette_stay_dark(tmp_path: Path) -> None:
    table = (np.arange(256) * 10).astype(np.uint16)
    palette = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    data = {f"{name}PaletteColorLookupTableData": table.tobytes() for name in ("Red", "Green", "Blue")}
    places = np.arange(20, dtype=np.uint8).reshape(4, 5)
    path = write(tmp_path / "dark.dcm", places, PhotometricInterpretation="PALETTE COLOR", **palette, **data)
    assert np.array_equal(read_image(path), np.repeat((table[places] >> 8)[..., None], 3, axis=2))
