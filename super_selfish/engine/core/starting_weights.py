"""Initial weights of a backbone (``weights=``)."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from super_selfish.datasets.preprocessing import DEFAULT_SIDE, Preprocessing
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.models.backbones import first_convolution
from super_selfish.models.efficient import ReshapeChannels
from super_selfish.models.named.names import default_side
from super_selfish.storage.published import PublishedWeights, is_published_name, published_weights
from super_selfish.storage.weights_file import read_newest, read_saved

Weights = Mapping[str, Tensor] | nn.Module | str | os.PathLike[str]

_NESTED = ("state_dict", "model", "model_state_dict")
_FILES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
_SHOWN = 4

logger = logging.getLogger("super_selfish")


class StartingWeights:
    """Initial weights by name, and the preprocessing of their training if it is known.

    Args:
        given: A network, a ``state_dict()``, a file (.safetensors, .pt, .pth, .ckpt), the ``name`` of a training, or
            published weights, also by name, such as ``"imagenet"``.
        backbone: The backbone that they are for, as passed to the constructor of a supervisor.
        resolution: Height and width of the images in px, if it was passed.

    Attributes:
        published: Published weights; None if the weights are others.
        record: Name, source and licence of the published weights that these are or were trained from; None: unknown.

    Raises:
        ConfigurationError: If it is none of these.
        CheckpointError: If a file cannot be read, or published weights cannot be downloaded.
    """

    def __init__(self, given: Any, backbone: object = None, resolution: tuple[int, int] | None = None) -> None:
        self.origin = str(given) if isinstance(given, str | os.PathLike) else type(given).__name__
        self.preprocessing: Preprocessing | None = None
        self.published: PublishedWeights | None = None
        self.record: dict[str, Any] | None = None
        if isinstance(given, PublishedWeights):
            self.published = given
        elif is_published_name(given):
            self.published = published_weights(backbone, given, resolution)
        if self.published is not None:
            self.tensors, self.record = dict(self.published.tensors), self.published.as_json()
            logger.warning(self.published.describe())
        elif isinstance(given, nn.Module):
            self.tensors = dict(given.state_dict())
            stored = getattr(given, "preprocessing", None)
            self.preprocessing = stored if isinstance(stored, Preprocessing) else None
        elif isinstance(given, Mapping):
            self.tensors = tensors_of(given)
        elif isinstance(given, str | os.PathLike):
            self.tensors = self._read(Path(given))
        else:
            raise ConfigurationError(
                "`weights` has an unsupported type.",
                expected="the name of a training or of published weights, a weights file, a state_dict(), or a network",
                received=repr(given)[:80],
            )

    def _read(self, path: Path) -> dict[str, Tensor]:
        if path.suffix not in _FILES or not path.is_file():
            weights_file = read_newest(path)
            if weights_file.manifest:
                self.preprocessing = Preprocessing.from_json(weights_file.manifest.get("preprocessing"))
                self.record = weights_file.manifest.get("published_weights")
            return dict(weights_file.tensors)
        return tensors_of(read_saved(path))

    def scaled(self, preprocessing: Preprocessing) -> Preprocessing:
        """Return a preprocessing with the mean and standard deviation of the training of the weights."""
        if self.published is not None:
            mean, std = self.published.moments(preprocessing.channels)
            return dataclasses.replace(preprocessing, mean=mean, std=std)
        stored = self.preprocessing
        if stored is None or stored.channels != preprocessing.channels:
            return preprocessing
        return dataclasses.replace(preprocessing, mean=stored.mean, std=stored.std)

    def into(self, network: nn.Module, part: str = "") -> nn.Module:
        """Load the weights into a network, all or nothing. Prefixes of tensor names are matched automatically.

        If the first convolution has another number of input channels, its weights are averaged over channels.

        Args:
            network: The network.
            part: If several networks in the file match, prefer the one whose prefix contains these names, such as
                ``"branches.1"``, then the outermost.

        Raises:
            CheckpointMismatch: If tensors are missing or have other shapes; the message names them.
        """
        if self.published is not None and isinstance(network, ReshapeChannels):
            self.into(network.backbone)  # the bottleneck is not part of the published network
            return network
        own = network.state_dict()
        found = self._matched(own, part)
        stem = first_convolution(network)
        stem_key = f"{stem[0]}.weight".lstrip(".") if stem else None
        problems = []
        for key, value in own.items():
            if key not in found:
                problems += [] if key.endswith("num_batches_tracked") else [f"no {key} {tuple(value.shape)}"]
                continue
            if key == stem_key and found[key].ndim == 4:
                found[key] = adapted(found[key], value.shape[1])
            if found[key].shape != value.shape:
                problems.append(f"{key} has shape {tuple(found[key].shape)} there, {tuple(value.shape)} here")
        if problems:
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise CheckpointMismatch(
                f"`{self.origin}` does not fit the backbone: {'; '.join(problems[:_SHOWN])}{more}.",
                fix="Pass the network of these weights as `backbone`.",
            )
        network.load_state_dict(own | found)
        return network

    def covers(self, network: nn.Module, part: str = "") -> bool:
        """Whether the weights contain all tensors of a network, with the same shapes."""
        own = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
        found = self._matched(own, part)
        return all(key in found and found[key].shape == value.shape for key, value in own.items())

    def into_parts(self, network: nn.Module, parts: Mapping[str, nn.Module], part: str = "") -> None:
        """Load the weights into a network if they match it, else into each of its submodules.

        Args:
            network: The network.
            parts: Its submodules by the argument ``part`` of :meth:`into`.
            part: The argument ``part`` of :meth:`into` for the network itself.

        Raises:
            CheckpointMismatch: If they match neither the network nor the submodules.
        """
        if self.covers(network, part):
            self.into(network, part)
        else:
            for name, inner in parts.items():
                self.into(inner, name)

    def _matched(self, own: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
        """Return tensors by the names of the network, for the pair of prefixes with the most matches."""
        best, rank = dict[str, Tensor](), (0, False, 0)
        for inner in common_prefixes(list(own)):
            probe = next(key for key in own if not key.endswith("num_batches_tracked")).removeprefix(inner)
            ends = [key for key in self.tensors if key == probe or key.endswith("." + probe)]
            for outer in (key.removesuffix(probe) for key in ends):
                pairs = {key: outer + key.removeprefix(inner) for key in own}
                found = {key: self.tensors[there] for key, there in pairs.items() if there in self.tensors}
                found_rank = (len(found), f".{part}." in f".{outer}", -outer.count("."))
                if found_rank > rank:
                    best, rank = found, found_rank
        return best


def sides(resolution: Any) -> tuple[int, int] | None:
    """Height and width of the argument ``resolution``; None if it was not passed or is invalid."""
    pair = (resolution, resolution) if isinstance(resolution, int) else resolution
    return (pair[0], pair[1]) if isinstance(pair, tuple | list) and len(pair) == 2 else None


def expected_side(backbone: object, weights: StartingWeights | None) -> int:
    """Side in px of images without a common size: that of published weights or a transformer by name, else 225."""
    if weights is not None and weights.published is not None:
        return weights.published.resolution[0]
    return default_side(backbone) or DEFAULT_SIDE


def tensors_of(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a ``state_dict()``, or of a checkpoint that contains one.

    Raises:
        ConfigurationError: If there are no tensors.
    """
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)} if content else {}
    if not isinstance(content, Mapping) or not tensors:
        raise ConfigurationError(
            "`weights` holds no tensors.",
            expected="a dictionary of tensors by name, as state_dict() returns",
            received=repr(content)[:80],
        )
    return tensors


def common_prefixes(names: list[str]) -> list[str]:
    """Return the common prefixes of names that end in a dot: ``""``, ``"net."``, ``"net.body."`` and so on."""
    first, last = (name.split(".") for name in (min(names), max(names)))
    shared = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return ["", *(".".join(part for part, _ in shared[:count]) + "." for count in range(1, len(shared) + 1))]


def adapted(weight: Tensor, channels: int) -> Tensor:
    """Average a first convolution (out, in, h, w) for another number of channels, preserving the sum over them.

    Examples:
        >>> import torch
        >>> adapted(torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1), 1).item()
        9.0
    """
    there = weight.shape[1]
    if there == channels:
        return weight
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1) * (there / channels)


def published_record(weights: StartingWeights | None, stored: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return name, source and licence of the published weights that a training started from; None: there are none.

    Args:
        weights: Initial weights of the backbone.
        stored: Metadata of the weights file that was loaded.
    """
    record: dict[str, Any] | None = stored.get("published_weights")
    return record if weights is None or record is not None else weights.record
