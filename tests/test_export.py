"""Export of backbones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from super_selfish.errors import CheckpointError, ConfigurationError
from super_selfish.export import export
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
