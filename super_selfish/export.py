"""The backbone alone, for programs that do not know this library."""

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
    """A backbone that takes RGB in [0, 1] and gives a vector, with the mean and standard deviation inside.

    Args:
        backbone: Images to features.
        preprocessing: Whose normalisation it was trained with.
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
    """Write the backbone of a training for other programs.

    Args:
        name: As given to ``supervise``.
        format: ``"safetensors"`` or ``"torch"``: a ``state_dict()``, under the names of torchvision or timm if the
            backbone is one of theirs, so that ``resnet18().load_state_dict(..., strict=False)`` takes it. ``"onnx"``: a
            program from images (batch, C, height, width) in [0, 1], of any size and number, to features (batch, dim),
            with the normalisation inside, compared with torch in onnxruntime.
        path: The file; None: ``<name>_backbone`` with the suffix of the format.
        resolution: Side in px that an ONNX file is tried with; None: that of the training.
        **given: Networks of your own, as for :func:`super_selfish.load`.

    Returns:
        The file.

    Raises:
        ConfigurationError: If the format is unknown, something is not installed, or the network cannot be exported.
        CheckpointError: If there is no such training, or the file cannot be written.

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
    """A backbone's tensors under the names of the library that it comes from."""
    inner = backbone.net if isinstance(backbone, Trunk) else backbone
    state: dict[str, Tensor] = inner.state_dict()
    prefix = backbone.prefix if isinstance(backbone, Trunk) else ""
    return {prefix + key: value.detach().contiguous().clone() for key, value in state.items()}


def write_onnx(network: Plain, target: Path, preprocessing: Preprocessing, resolution: int | None) -> None:
    """Write an ONNX file, and keep it only if onnxruntime computes the same features, at two sizes.

    Raises:
        ConfigurationError: If it cannot be made, or computes something else.
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
        made = Path(folder, "backbone.onnx")
        try:
            traced = [max(side, _TRACED) for side in sides]  # sides of 1 in a map would stay 1 for ever
            convert(network, torch.rand(2, preprocessing.channels, *traced), made)
            for batch in (images, others):
                compare(made, network, batch)
        except SuperSelfishError:
            raise
        except Exception as error:  # the exporter raises whatever a stranger's layer leads to
            reason = " ".join(str(error).split())[:300]
            raise ConfigurationError(
                f"The backbone cannot be written as ONNX: {type(error).__name__}: {reason}.",
                fix='format="safetensors" always can.',
            ) from error
        content = made.read_bytes()
    write_with(target, lambda file: file.write_bytes(content))


def convert(network: Plain, images: Tensor, path: Path) -> None:
    """Trace a network for any number of images of any size."""
    shapes = ({0: "batch", 2: "height", 3: "width"},)
    sizes = tuple(dict.fromkeys(shape, torch.export.Dim.DYNAMIC) for shape in shapes)
    quiet = logging.getLogger("torch.onnx")
    level, quiet.level = quiet.level, logging.ERROR
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
        quiet.level = level


def compare(path: Path, network: Plain, images: Tensor) -> None:
    """Make sure that onnxruntime computes what torch does.

    Raises:
        ConfigurationError: If it does not, to 1e-4 of the largest feature.
    """
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    told = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    expected = network(images).numpy()
    difference = float(np.abs(told - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if difference > TOLERANCE:
        raise ConfigurationError(
            f"onnxruntime computes other features than torch: they differ by {difference:.2g} of the largest.",
            expected=f"at most {TOLERANCE:g}",
            received=f"images of {images.shape[2]}×{images.shape[3]} px",
        )
