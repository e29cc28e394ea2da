"""DICOM files: rescaled, inverted where large is dark, told apart by their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from super_selfish.errors import DataError
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
