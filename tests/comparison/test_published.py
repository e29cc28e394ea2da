"""Published weights among the references. Files lie in the cache of torch.hub; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import models

import super_selfish
from super_selfish.cli import main
from super_selfish.comparison.images import Images
from super_selfish.comparison.published import as_published, published_references
from super_selfish.errors import CheckpointError, ConfigurationError
from super_selfish.evaluation import extract_features
from super_selfish.storage.downloads import hub_folder
from super_selfish.storage.published import published_weights

RESNET18 = "resnet18-f37072fd.pth"
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)
NAME = "resnet18 IMAGENET1K_V1, as is"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with weights of one network, and no network access."""
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))

    def offline(*_: object, **__: object) -> None:
        raise URLError("Network is unreachable")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    hub_folder().mkdir(parents=True)
    torch.save(models.resnet18().state_dict(), hub_folder() / RESNET18)
    return hub_folder()


@pytest.mark.usefixtures("hub")
def test_weights_are_named_by_backbone_or_by_their_own_name() -> None:
    assert set(published_references(["resnet18"], "small_resnet")) == {NAME}
    assert set(published_references("imagenet", "resnet18")) == {NAME}
    assert set(published_references(["IMAGENET1K_V1", "resnet18"], "resnet18")) == {NAME}
    with pytest.raises(ConfigurationError, match="small_resnet"):
        published_references(["imagenet"], "small_resnet")
    with pytest.raises(CheckpointError, match="resnet34"):
        published_references(["resnet34"], "small_resnet")
    with pytest.raises(ConfigurationError, match="references"):
        published_references([torch.nn.Identity()], "small_resnet")  # type: ignore[list-item]


@pytest.mark.usefixtures("hub")
def test_features_are_those_of_the_published_network() -> None:
    weights = published_weights("resnet18", "imagenet")
    assert weights is not None
    settled = Images(IMAGES, IMAGES[:0], IMAGES[:0], np.zeros(0, np.int64)).preprocessing
    x, _ = extract_features(as_published(weights, "resnet18", settled), IMAGES)
    net = models.resnet18()
    net.load_state_dict(torch.load(hub_folder() / RESNET18, weights_only=True))
    net.fc = torch.nn.Identity()
    mean, std = (torch.tensor(row).view(3, 1, 1) for row in (weights.mean, weights.std))
    with torch.no_grad():
        expected = net.eval()((torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255 - mean) / std)
    assert np.allclose(x, expected.numpy(), atol=1e-4)


@pytest.mark.usefixtures("hub")
def test_published_weights_are_a_reference_of_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = (IMAGES, np.arange(40) % 2)
    found = super_selfish.compare(IMAGES, labelled, 12, algorithms=["moco", "byol"], weights=["resnet18"], device="cpu")
    row = next(row for row in found.rows if row.name == NAME)
    assert (row.stage, row.problem) == (0, None)
    assert row.score is not None
    assert f"reference: {NAME}" in str(found)


@pytest.mark.usefixtures("hub")
def test_bad_weights_are_refused_before_anything_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for index, image in enumerate(IMAGES):
        Path("photos", str(index % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(Path("photos", str(index % 2), f"{index}.png"))
    assert main(["compare", "photos", "--weights", "resnet18"]) == 2
    assert "--labelled" in capsys.readouterr().err
    assert main(["compare", "photos", "--labelled", "photos", "--weights", "resnet18,resnet19"]) == 2
    assert "resnet19" in capsys.readouterr().err
    assert not list(Path().glob("store/*.jsonl"))
