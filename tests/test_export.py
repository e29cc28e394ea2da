"""Export of backbones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from super_selfish.cli import main
from super_selfish.datasets.preprocessing import Preprocessing, fit_preprocessing
from super_selfish.errors import CheckpointError, ConfigurationError
from super_selfish.export import Plain, compare, export, write_onnx
from super_selfish.supervisors import RotateNetSupervisor

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


def trained(backbone: str, **more: object) -> RotateNetSupervisor:
    supervisor = RotateNetSupervisor(IMAGES, backbone=backbone, **more)
    return supervisor.supervise(epochs=1, batch_size=4, verbose=False, checkpoint_every=0)


def test_export_loads_into_torchvision() -> None:
    from torchvision.models import mobilenet_v3_small

    supervisor = trained("mobilenet_v3_small")
    path = export("store/base")
    assert path == Path("store/base_backbone.safetensors")
    other = mobilenet_v3_small()
    missing, unexpected = other.load_state_dict(load_file(path), strict=False)
    assert unexpected == []
    assert {key.split(".")[0] for key in missing} == {"classifier"}
    batch = torch.rand(2, 3, 48, 40)
    with torch.no_grad():
        expected = other.eval().features(batch).mean((2, 3))
        assert torch.allclose(expected, supervisor.get_backbone(output="pooled")(batch), atol=1e-5)
    assert set(torch.load(export("store/base", "torch"), weights_only=True)) == set(load_file(path))


DEEP = np.random.default_rng(1).integers(0, 4096, (8, 32, 32, 1), np.uint16)


def features_by_metadata(run: Callable[[np.ndarray], np.ndarray], metadata: dict[str, str]) -> np.ndarray:
    """Features of the 16-bit images, by nothing but what the metadata of a file say."""
    low, high = json.loads(metadata["value_range"])
    images = np.clip((DEEP.astype(np.float32) - low) / (high - low), 0, 1).transpose(0, 3, 1, 2)
    assert json.loads(metadata["resolution"]) == list(images.shape[2:])
    assert json.loads(metadata["channels"]) == 1
    if metadata["normalization"] != "included":
        mean, std = (np.array(json.loads(metadata[part]), np.float32).reshape(1, -1, 1, 1) for part in ("mean", "std"))
        images = (images - mean) / std
    return run(images)


def test_safetensors_metadata_reproduce_extract() -> None:
    supervisor = RotateNetSupervisor(DEEP, backbone="small_resnet", normalize="dataset")
    supervisor.supervise(epochs=1, batch_size=4, verbose=False, checkpoint_every=0)
    path = export("store/base")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert "values divided by 4095 " in metadata["input"]
    assert "bilinear" in metadata["resize"]
    backbone = supervisor.get_backbone(output="pooled")
    backbone.load_state_dict(load_file(path), strict=False)
    with torch.no_grad():
        found = features_by_metadata(lambda images: backbone(torch.from_numpy(images)).numpy(), metadata)
    assert np.allclose(found, supervisor.extract(DEEP)[0], atol=1e-4)


@pytest.mark.slow
def test_onnx_metadata_reproduce_extract(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    supervisor = RotateNetSupervisor(DEEP, backbone="small_resnet", normalize="dataset")
    supervisor.supervise(epochs=1, batch_size=4, verbose=False, checkpoint_every=0)
    assert main(["export", "store/base", "--format", "onnx"]) == 0
    assert "images of 32 px, values divided by 4095 " in capsys.readouterr().out
    session = runtime.InferenceSession("store/base_backbone.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    found = features_by_metadata(lambda images: session.run(None, {"images": images})[0], metadata)
    assert np.allclose(found, supervisor.extract(DEEP)[0], atol=1e-4)


def test_export_prints_the_scaling_of_the_images(capsys: pytest.CaptureFixture[str]) -> None:
    trained("small_resnet")
    assert main(["export", "store/base", "--format", "torch"]) == 0
    assert "images of 32 px, 8-bit values divided by 255" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value_range", "expected"),
    [
        (None, "16-bit values by 65535"),
        ((0.0, 4095.0), "divided by 4095"),
        ((-1000.0, 500.0), "(value - -1000) / 1500"),
    ],
)
def test_scaling_names_the_value_range(value_range: tuple[float, float] | None, expected: str) -> None:
    assert expected in Preprocessing((32, 32), 1, value_range, None, None).scaling()


def test_unknown_format_or_name_raises() -> None:
    with pytest.raises(ConfigurationError, match="'onnx'"):
        export("store/base", "jpeg")
    with pytest.raises(CheckpointError, match="store/none"):
        export("store/none")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "small_resnet", "efficientnet-b0"])
def test_onnx_model_matches_torch(backbone: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    supervisor = trained(backbone, normalize="dataset")
    session = runtime.InferenceSession(str(export("store/base", "onnx", path="own.onnx")))
    images = torch.rand(3, 3, 64, 80)
    features = session.run(None, {"images": images.numpy()})[0]
    preprocessing = supervisor.preprocessing
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (preprocessing.mean, preprocessing.std))
    with torch.no_grad():
        expected = supervisor.get_backbone(output="pooled")((images - mean) / std).numpy()
    assert np.abs(features - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.slow
def test_export_loads_into_timm() -> None:
    timm = pytest.importorskip("timm")
    supervisor = trained("timm:resnet18")
    other = timm.create_model("resnet18", num_classes=0)
    other.load_state_dict(load_file(export("store/base")))
    batch = torch.rand(2, 3, 48, 40)
    with torch.no_grad():
        assert torch.allclose(other.eval()(batch), supervisor.get_backbone(output="pooled")(batch), atol=1e-4)


class Interpolating(nn.Module):
    """Upsamples a map to the size of another, as feature pyramids do."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.fine(x)
        return fine + nn.functional.interpolate(self.coarse(fine), size=fine.shape[-2:], mode="bilinear")


class Embedded(nn.Module):
    """Takes images of one size, as its position embedding has one."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.position = nn.Parameter(torch.randn(1, 8, 12, 12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.patches(x) + self.position


class Windowed(nn.Module):
    """Attention within windows of 4×4, which are padded at the borders and shifted by half a window, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mixed = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x)
        height, width = x.shape[-2:]
        x = nn.functional.pad(x, (0, (4 - width % 4) % 4, 0, (4 - height % 4) % 4)).roll((-2, -2), (2, 3))
        batch, channels, rows, columns = x.shape
        windows = x.view(batch, channels, rows // 4, 4, columns // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 8)
        query, key, value = self.mixed(windows).chunk(3, -1)
        windows = (query @ key.transpose(1, 2)).softmax(-1) @ value
        x = windows.view(batch, rows // 4, columns // 4, 4, 4, channels).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(batch, channels, rows, columns).roll((2, 2), (2, 3))[:, :, :height, :width]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "any_size"), [(Interpolating, True), (Embedded, False), (Windowed, None)], ids=["map", "ViT", "windows"]
)
def test_onnx_model_is_right_at_the_sizes_that_it_takes(
    build: Callable[[], nn.Module], any_size: bool | None, caplog: pytest.LogCaptureFixture
) -> None:
    """At every size and batch size, the model gives what torch gives, or refuses; a model of one size is logged."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    preprocessing = fit_preprocessing(None, resolution=96)
    network = Plain(build(), preprocessing).eval()
    write_onnx(network, Path("model.onnx"), preprocessing, None)
    session = runtime.InferenceSession("model.onnx")
    one_size = [text for text in caplog.messages if "takes images of 96×96 px only" in text]
    assert any_size is None or bool(one_size) is not any_size
    sizes = [(batch, 96, 96) for batch in (1, 2, 3, 8)]
    if not one_size:
        sizes += [(1, 64, 64), (3, 33, 47), (2, 128, 96), (2, 101, 225)]
    for size in sizes:
        images = torch.rand(size[0], 3, *size[1:])
        with torch.no_grad():
            expected = network(images).numpy()
        features = session.run(None, {"images": images.numpy()})[0]
        assert np.abs(features - expected).max() <= 1e-4 * max(1, np.abs(expected).max()), size


def test_other_features_are_refused() -> None:
    class Session:
        def get_inputs(self) -> list[object]:
            return [SimpleNamespace(name="images")]

        def run(self, _: object, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.full((len(given["images"]), 4), np.nan if len(given["images"]) == 1 else 0.5)]

    for batch in (1, 2):
        with pytest.raises(ConfigurationError, match=f"{batch} images of 32×48 px"):
            compare(Session(), torch.rand(batch, 3, 32, 48), np.zeros((batch, 4)))
