"""Export of the backbone for use without this library."""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.errors import (
    ConfigurationError,
    SuperSelfishError,
    check_argument,
    check_choice,
    is_count,
    validate_keywords,
)
from super_selfish.files import base_path, with_suffix, write_with
from super_selfish.models.backbones import BackboneOutput, Trunk
from super_selfish.models.combined import in_eval_mode
from super_selfish.saved import CONSTRUCTOR_ARGUMENTS, load

logger = logging.getLogger("super_selfish")

FORMATS = {"safetensors": ".safetensors", "torch": ".pth", "onnx": ".onnx"}
TOLERANCE = 1e-4
_OPSET = 18
_TRACED = 96


class Plain(nn.Module):
    """A backbone with built-in normalisation, which maps images in [0, 1] to pooled features.

    Args:
        backbone: Network from normalised images to features.
        preprocessing: Preprocessing of the training, whose mean and standard deviation are used.
    """

    def __init__(self, backbone: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone = BackboneOutput(backbone, "pooled")
        mean, std = preprocessing.mean, preprocessing.std
        self.mean: Tensor | None
        self.std: Tensor | None
        self.register_buffer("mean", None if mean is None else torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", None if std is None else torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, dim) of images (batch, C, height, width) in [0, 1]."""
        if self.mean is not None and self.std is not None:
            images = (images - self.mean) / self.std
        features: Tensor = self.backbone(images)
        return features


@validate_keywords(["name", "format", "path", "resolution", *sorted(CONSTRUCTOR_ARGUMENTS)])
def export(
    name: str | os.PathLike[str],
    format: str = "safetensors",
    *,
    path: str | os.PathLike[str] | None = None,
    resolution: int | None = None,
    **given: Any,
) -> Path:
    """Export the backbone of a training.

    Args:
        name: Name of the training, as passed to ``supervise``.
        format: ``"safetensors"`` or ``"torch"``: a ``state_dict()``. For backbones of torchvision and timm, it has
            their parameter names and can be loaded by ``resnet18().load_state_dict(..., strict=False)``. ``"onnx"``: an
            ONNX model from images (batch, C, height, width) in [0, 1] to features (batch, dim). Batch size and image
            size are dynamic, the normalisation is included, and the output is verified against torch by onnxruntime.
        path: Output file; None: ``<name>_backbone`` with the suffix of the format.
        resolution: Side in px of the images that the ONNX model is verified with; None: that of the training.
        **given: User-supplied networks, as for :func:`super_selfish.load`.

    Returns:
        Path of the file.

    Raises:
        ConfigurationError: If the format is unknown, a package is not installed, or the network cannot be exported.
        CheckpointError: If there is no training with this name, or the file cannot be written.

    References:
        ONNX operator set 18.
    """
    check_choice("format", format, FORMATS)
    check_argument(resolution is None or is_count(resolution, 1), "resolution", resolution, "a side in px, at least 1")
    supervisor = load(name, **given)
    base = base_path(name)
    target = Path(path) if path is not None else with_suffix(base, f"_backbone{FORMATS[format]}")
    backbone = supervisor.get_backbone().cpu()
    if format == "onnx":
        write_onnx(Plain(backbone, supervisor.preprocessing).eval(), target, supervisor.preprocessing, resolution)
        return target
    tensors = plain_names(backbone)
    writers = {"safetensors": lambda file: save_file(tensors, file), "torch": lambda file: torch.save(tensors, file)}
    write_with(target, writers[format])
    return target


def plain_names(backbone: nn.Module) -> dict[str, Tensor]:
    """The state dict of a backbone, with the parameter names of the library that it comes from."""
    inner = backbone.net if isinstance(backbone, Trunk) else backbone
    state = {key: value for key, value in inner.state_dict().items() if isinstance(value, Tensor)}
    prefix = backbone.prefix if isinstance(backbone, Trunk) else ""
    return {prefix + key: value.detach().contiguous().clone() for key, value in state.items()}


def write_onnx(network: Plain, target: Path, preprocessing: Preprocessing, resolution: int | None) -> None:
    """Write an ONNX model after verifying with onnxruntime, at two image sizes, that it computes the same features.

    Args:
        network: The network to export.
        target: Output file.
        preprocessing: Preprocessing of the training.
        resolution: Side in px of the images; None: that of the preprocessing.

    Raises:
        ConfigurationError: If the network cannot be exported, or the features differ.
    """
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(needed)
        except ImportError as error:
            raise ConfigurationError(
                f"Export to ONNX needs {needed}.", fix='Install it: pip install "super-selfish[onnx]".'
            ) from error
    sides = preprocessing.resolution if resolution is None else (resolution, resolution)
    images = torch.rand(2, preprocessing.channels, *sides, generator=torch.Generator().manual_seed(0))
    larger = tuple(side + 32 for side in sides)
    others = torch.rand(3, preprocessing.channels, *larger, generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder, in_eval_mode(network), torch.no_grad():
        model_path = Path(folder, "backbone.onnx")
        try:
            traced = [max(side, _TRACED) for side in sides]  # feature maps with a side of 1 would be traced as constant
            convert(network, torch.rand(2, preprocessing.channels, *traced), model_path)
            for batch in (images, others):
                compare(model_path, network, batch)
        except SuperSelfishError:
            raise
        except Exception as error:  # custom layers can cause errors of any type
            reason = " ".join(str(error).split())[:300]
            raise ConfigurationError(
                f"The backbone cannot be written as ONNX: {type(error).__name__}: {reason}.",
                fix='Use format="safetensors", which supports all networks.',
            ) from error
        content = model_path.read_bytes()
    write_with(target, lambda file: file.write_bytes(content))


def convert(network: Plain, images: Tensor, path: Path) -> None:
    """Export a network to ONNX with dynamic batch size and image size."""
    shapes = ({0: "batch", 2: "height", 3: "width"},)
    sizes = tuple(dict.fromkeys(shape, torch.export.Dim.DYNAMIC) for shape in shapes)
    onnx_logger = logging.getLogger("torch.onnx")
    level, onnx_logger.level = onnx_logger.level, logging.ERROR
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (images,),
                str(path),
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes=sizes,
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        onnx_logger.level = level


def compare(path: Path, network: Plain, images: Tensor) -> None:
    """Verify that onnxruntime and torch compute the same features.

    Raises:
        ConfigurationError: If they differ by more than 1e-4 of the largest feature.
    """
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    features = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    expected = network(images).numpy()
    difference = float(np.abs(features - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if difference > TOLERANCE:
        raise ConfigurationError(
            f"Features of onnxruntime and torch differ by {difference:.2g} of the largest feature.",
            expected=f"at most {TOLERANCE:g}",
            received=f"images of {images.shape[2]}×{images.shape[3]} px",
        )
