"""Initial weights of a backbone (``weights=``)."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.models.backbones import first_convolution
from super_selfish.storage.weights_file import read_newest, read_saved

Weights = Mapping[str, Tensor] | nn.Module | str | os.PathLike[str]

_NESTED = ("state_dict", "model", "model_state_dict")
_FILES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
_SHOWN = 4


class StartingWeights:
    """Initial weights by name, and the preprocessing of their training if it is known.

    Args:
        given: A network, a ``state_dict()``, a file (.safetensors, .pt, .pth, .ckpt), or the ``name`` of a training.

    Raises:
        ConfigurationError: If it is none of these.
        CheckpointError: If a file cannot be read.
    """

    def __init__(self, given: Any) -> None:
        self.origin = str(given) if isinstance(given, str | os.PathLike) else type(given).__name__
        self.preprocessing: Preprocessing | None = None
        if isinstance(given, nn.Module):
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
                expected="the name of a training, a weights file, a state_dict(), or a network",
                received=repr(given)[:80],
            )

    def _read(self, path: Path) -> dict[str, Tensor]:
        if path.suffix not in _FILES or not path.is_file():
            weights_file = read_newest(path)
            if weights_file.manifest:
                self.preprocessing = Preprocessing.from_json(weights_file.manifest.get("preprocessing"))
            return dict(weights_file.tensors)
        return tensors_of(read_saved(path))

    def scaled(self, preprocessing: Preprocessing) -> Preprocessing:
        """Return a preprocessing with the mean and standard deviation of the training of the weights."""
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
