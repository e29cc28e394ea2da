"""Export of the backbone for use without this library."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
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
from super_selfish.models.backbones import BackboneOutput
from super_selfish.models.combined import in_eval_mode
from super_selfish.models.named import Trunk, VisionModel
from super_selfish.saved import CONSTRUCTOR_ARGUMENTS, load

logger = logging.getLogger("super_selfish")

FORMATS = {"safetensors": ".safetensors", "torch": ".pth", "onnx": ".onnx"}
TOLERANCE = 1e-4
_OPSET = 18
_TRACED = 96
BATCHES = (1, 2, 5)
"""Batch sizes that ONNX models are verified with."""


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
            size are dynamic, the normalisation is included, and the output is verified against torch by onnxruntime at
            the batch sizes 1, 2 and 5 and five image sizes. A backbone that takes images of one size, such as a ViT, or
            whose ONNX model is wrong at other sizes gives a model for this size, and a warning is logged.
        path: Output file; None: ``<name>_backbone`` with the suffix of the format.
        resolution: Side in px of the images that the ONNX model is verified with; None: that of the training.
        **given: User-supplied networks, as for :func:`super_selfish.load`.

    The metadata of a safetensors or ONNX file has the preprocessing of the training: ``value_range``, ``resolution``,
    ``channels``, ``mean`` and ``std`` as JSON, ``resize`` and a summary, ``input``.

    Returns:
        Path of the file.

    Raises:
        ConfigurationError: If the format is unknown, a package is not installed, or the network cannot be exported.
        CheckpointError: If there is no training with this name, or the file cannot be written.

    References:
        ONNX operator set 18.
    """
    return export_and_describe(name, format, path=path, resolution=resolution, **given)[0]


def export_and_describe(
    name: str | os.PathLike[str], format: str, *, path: Any, resolution: int | None, **given: Any
) -> tuple[Path, str]:
    """Like :func:`export`; return the path, and what images the exported network takes."""
    check_choice("format", format, FORMATS)
    check_argument(resolution is None or is_count(resolution, 1), "resolution", resolution, "a side in px, at least 1")
    supervisor = load(name, **given)
    base = base_path(name)
    target = Path(path) if path is not None else with_suffix(base, f"_backbone{FORMATS[format]}")
    backbone = supervisor.get_backbone().cpu()
    preprocessing, is_onnx = supervisor.preprocessing, format == "onnx"
    description = preprocessing.input_description(normalised=is_onnx)
    if is_onnx:
        write_onnx(Plain(backbone, preprocessing).eval(), target, preprocessing, resolution)
        return target, description
    tensors, metadata = plain_names(backbone), preprocessing.metadata(normalised=False)
    writers = {
        "safetensors": lambda file: save_file(tensors, file, metadata),
        "torch": lambda file: torch.save(tensors, file),
    }
    write_with(target, writers[format])
    return target, description


def plain_names(backbone: nn.Module) -> dict[str, Tensor]:
    """The state dict of a backbone, with the parameter names of the library that it comes from."""
    inner = backbone.net if isinstance(backbone, VisionModel) else backbone
    state = inner.plain_names() if isinstance(inner, Trunk) else inner.state_dict()
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    return {key: value.detach().contiguous().clone() for key, value in tensors.items()}


def write_onnx(network: Plain, target: Path, preprocessing: Preprocessing, resolution: int | None) -> None:
    """Write an ONNX model after verifying with onnxruntime that it computes the same features.

    It is verified for several batch sizes and image sizes. If it is wrong at some size that the network accepts, or the
    network accepts one size only, a model for this one size is written, and a warning is logged.

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
                f"Export to ONNX needs {needed}.",
                fix='Install it from the checkout: pip install "./super-selfish[onnx]".',
            ) from error
    sides = preprocessing.resolution if resolution is None else (resolution, resolution)
    channels = preprocessing.channels
    with tempfile.TemporaryDirectory() as folder, in_eval_mode(network), torch.no_grad():
        model_path = Path(folder, "backbone.onnx")
        try:
            traced = [max(side, _TRACED) for side in sides]  # feature maps with a side of 1 would be traced as constant
            convert(network, torch.rand(2, channels, *traced), model_path)
            if verify(model_path, network, channels, verified_sizes(sides)) == len(BATCHES):
                raise ConfigurationError("The backbone takes images of one size only.")
        except Exception as error:  # the exporter and custom layers can cause errors of any type
            reason = " ".join(str(error).split())[:300]
            write_for_one_size(network, model_path, channels, sides)
            logger.warning(
                "The ONNX model takes images of %d×%d px only, in batches of any size: with dynamic sizes, %s: %s",
                *sides,
                type(error).__name__,
                reason,
            )
            preprocessing = dataclasses.replace(preprocessing, resolution=sides)
        content = with_metadata(model_path, preprocessing.metadata(normalised=True))
    write_with(target, lambda file: file.write_bytes(content))


def with_metadata(path: Path, metadata: dict[str, str]) -> bytes:
    """Content of an ONNX file with metadata, which onnxruntime has as ``custom_metadata_map``."""
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString()
    return content


def write_for_one_size(network: Plain, path: Path, channels: int, sides: tuple[int, int]) -> None:
    """Write an ONNX model for images of one size, and verify it for several batch sizes.

    Raises:
        ConfigurationError: If the network cannot be exported, or the features differ.
    """
    try:
        convert(network, torch.rand(2, channels, *sides), path, resizable=False)
        verify(path, network, channels, [(batch, *sides) for batch in BATCHES])
    except SuperSelfishError:
        raise
    except Exception as error:  # custom layers can cause errors of any type
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(
            f"The backbone cannot be written as ONNX: {type(error).__name__}: {reason}.",
            fix='Use format="safetensors", which supports all networks.',
        ) from error


def verified_sizes(sides: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Return (batch, height, width) of the images that a model with dynamic sizes is verified with.

    Examples:
        >>> verified_sizes((96, 96))[:4]
        [(1, 96, 96), (2, 96, 96), (5, 96, 96), (3, 128, 128)]
    """
    height, width = sides
    others = [(3, height + 32, width + 32), (2, height, width + 16), (2, height + 7, width + 13)]
    return [*((batch, height, width) for batch in BATCHES), *others, (1, max(32, height // 2), max(32, width // 2))]


def convert(network: Plain, images: Tensor, path: Path, *, resizable: bool = True) -> None:
    """Export a network to ONNX with dynamic batch size and, if ``resizable``, image size."""
    dynamic = (0, 2, 3) if resizable else (0,)
    sizes = (dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC),)
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


def verify(path: Path, network: Plain, channels: int, sizes: Sequence[tuple[int, int, int]]) -> int:
    """Verify that onnxruntime and torch compute the same features; sizes that torch rejects are left out.

    Args:
        path: The ONNX model.
        network: The network.
        channels: Number of channels of the images.
        sizes: (batch, height, width) of random images; torch must accept the first.

    Returns:
        Number of sizes that torch accepts.

    Raises:
        ConfigurationError: If they differ by more than 1e-4 of the largest feature.
    """
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    accepted = 0
    for batch, height, width in sizes:
        images = torch.rand(batch, channels, height, width, generator=generator)
        try:
            expected = network(images).numpy()
        except Exception:  # custom layers can cause errors of any type
            if not accepted:
                raise
            continue
        compare(session, images, expected)
        accepted += 1
    return accepted


def compare(session: Any, images: Tensor, expected: npt.NDArray[Any]) -> None:
    """Verify that a session of onnxruntime computes the features of images that torch computes.

    Raises:
        ConfigurationError: If they differ by more than 1e-4 of the largest feature.
    """
    features = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    difference = float(np.abs(features - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if not difference <= TOLERANCE:
        raise ConfigurationError(
            f"Features of onnxruntime and torch differ by {difference:.2g} of the largest feature.",
            expected=f"at most {TOLERANCE:g}",
            received=f"{images.shape[0]} images of {images.shape[2]}×{images.shape[3]} px",
        )
