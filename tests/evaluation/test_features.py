"""Feature extraction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from super_selfish.data import Preprocessing
from super_selfish.errors import DataError
from super_selfish.evaluation import extract_features
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor


def pictures(count: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_every_kind_of_data_gives_the_same_features() -> None:
    images, labels = pictures(), np.arange(7) % 3
    for index, image in enumerate(images):
        path = Path(f"photos/{'abc'[labels[index]]}/{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)

    class Pairs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 7

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(images[index]), int(labels[index])

    backbone = nn.Flatten()
    expected = np.moveaxis(images, -1, 1).reshape(7, -1).astype(np.float32) / 255
    size = Preprocessing((32, 32), 3, None, None, None)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    for data in ((images, labels), (tensor, torch.tensor(labels)), Pairs(), (list(images), labels.tolist())):
        x, y = extract_features(backbone, data, batch_size=3)
        assert x.dtype == np.float32
        assert np.array_equal(x, expected)
        assert np.array_equal(y, labels)
    x, y = extract_features(backbone, "photos", preprocessing=size)
    order = np.argsort(labels, kind="stable")
    assert np.array_equal(x, expected[order])
    assert np.array_equal(y, labels[order])
    assert extract_features(backbone, images)[1] is None
    for workers in (0, 2):
        assert np.array_equal(extract_features(backbone, images, batch_size=2, num_workers=workers)[0], expected)


def test_maps_are_averaged_and_modes_restored() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)).train()
    backbone[0].eval()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    x, _ = extract_features(backbone, pictures())
    assert x.shape == (7, 5)
    assert backbone.training
    assert not backbone[0].training
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in before.items())


def test_a_backbone_brings_its_preprocessing() -> None:
    supervisor = RotateNetSupervisor(pictures(), backbone=SmallResNet(width=4), normalize="dataset", resolution=48)
    ours, names = supervisor.extract(pictures())
    theirs, _ = extract_features(supervisor.get_backbone(), pictures())
    assert np.array_equal(ours, theirs)
    assert names == [str(index) for index in range(7)]
    with torch.no_grad():
        by_hand = supervisor.get_backbone()(supervisor.preprocess(pictures()))
    assert np.allclose(ours, by_hand.numpy(), atol=1e-6)


def test_preprocess_takes_one_image_or_many() -> None:
    supervisor = RotateNetSupervisor(pictures(), backbone=SmallResNet(width=4))
    image = pictures()[0]
    Image.fromarray(image).save("one.png")
    expected = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    for one in (image, torch.from_numpy(image).permute(2, 0, 1), Image.fromarray(image), "one.png", Path("one.png")):
        assert torch.equal(supervisor.preprocess(one), expected)
        assert torch.equal(supervisor.preprocess([one, one]), expected.repeat(2, 1, 1, 1))
    assert torch.equal(supervisor.preprocess(expected), expected)
    assert supervisor.preprocess(pictures()).shape == (7, 3, 32, 32)


def test_an_unreadable_file_is_named() -> None:
    Path("photos").mkdir()
    Image.fromarray(pictures()[0]).save("photos/good.png")
    Path("photos/bad.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        extract_features(nn.Flatten(), "photos")
    size = Preprocessing((32, 32), 3, None, None, None)
    x, _ = extract_features(nn.Flatten(), "photos", preprocessing=size, on_error="skip", batch_size=1)
    assert x.shape == (1, 3072)


def test_images_in_memory_equal_their_files() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save("one.png", exif=exif)
    supervisor = RotateNetSupervisor(pictures(), backbone=SmallResNet(width=4))
    assert torch.equal(supervisor.preprocess("one.png"), supervisor.preprocess(Image.open("one.png")))


def test_images_without_a_label_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(4):
        Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    rows = ["path,label", "0.png,cat", "1.png,", "2.png,dog", "3.png,cat"]
    (tmp_path / "some.csv").write_text("\n".join(rows))
    (tmp_path / "none.csv").write_text("\n".join(row.partition(",")[0] for row in rows))
    assert extract_features(nn.Flatten(), tmp_path / "none.csv")[1] is None
    assert caplog.text == ""
    assert extract_features(nn.Flatten(), tmp_path / "some.csv")[1] is None
    assert "1 of 4 images have no label, such as 1.png" in caplog.text
