"""``weights=``: a backbone that starts from weights that were trained elsewhere."""

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
    """Tensors by name, and the preprocessing that they were trained with if it is known.

    Args:
        given: A network, its ``state_dict()``, a file (.safetensors, .pt, .pth, .ckpt), or the ``name`` of a training.

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
                "`weights` is not understood.",
                expected="the name of a training, a file of weights, a state_dict(), or a network",
                received=repr(given)[:80],
            )

    def _read(self, path: Path) -> dict[str, Tensor]:
        if path.suffix not in _FILES or not path.is_file():
            artefact = read_newest(path)
            if artefact.manifest:
                self.preprocessing = Preprocessing.from_json(artefact.manifest.get("preprocessing"))
            return dict(artefact.tensors)
        return tensors_of(read_saved(path))

    def scaled(self, preprocessing: Preprocessing) -> Preprocessing:
        """A preprocessing with the mean and standard deviation that the weights were trained with."""
        stored = self.preprocessing
        if stored is None or stored.channels != preprocessing.channels:
            return preprocessing
        return dataclasses.replace(preprocessing, mean=stored.mean, std=stored.std)

    def into(self, network: nn.Module, part: str = "") -> nn.Module:
        """Copy the weights into a network, all of its own or none; names may have prefixes on either side.

        The first convolution may have another number of channels in the file: the mean of these is taken then.

        Args:
            network: To copy into.
            part: Where several networks of the file fit equally well, that whose prefix holds these names, such as
                ``"branches.1"``, and then the outermost.

        Raises:
            CheckpointMismatch: With what is missing or of another shape.
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
                fix="Pass as `backbone` the network that the weights are of.",
            )
        network.load_state_dict(own | found)
        return network

    def covers(self, network: nn.Module, part: str = "") -> bool:
        """Whether all tensors of a network are there, in its shapes."""
        own = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
        found = self._matched(own, part)
        return all(key in found and found[key].shape == value.shape for key, value in own.items())

    def into_parts(self, network: nn.Module, parts: Mapping[str, nn.Module], part: str = "") -> None:
        """Copy the weights into a whole network if they are of such a one, else into each of its parts.

        Args:
            network: The whole.
            parts: Its inner networks, by what :meth:`into` takes as ``part``.
            part: The same for the whole.

        Raises:
            CheckpointMismatch: If they fit neither the whole nor the parts.
        """
        if self.covers(network, part):
            self.into(network, part)
        else:
            for name, inner in parts.items():
                self.into(inner, name)

    def _matched(self, own: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
        """The file's tensors by the network's names, under those prefixes that explain most of them."""
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
    """The tensors of a ``state_dict()``, or of a checkpoint that holds one.

    Raises:
        ConfigurationError: If there are none.
    """
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)} if content else {}
    if not isinstance(content, Mapping) or not tensors:
        raise ConfigurationError(
            "`weights` holds no tensors.",
            expected="names and tensors, as state_dict() gives",
            received=repr(content)[:80],
        )
    return tensors


def common_prefixes(names: list[str]) -> list[str]:
    """What all names begin with, up to a dot: nothing, ``"net."``, ``"net.body."`` and so on."""
    first, last = (name.split(".") for name in (min(names), max(names)))
    shared = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return ["", *(".".join(part for part, _ in shared[:count]) + "." for count in range(1, len(shared) + 1))]


def adapted(weight: Tensor, channels: int) -> Tensor:
    """A first convolution (out, in, h, w) for another number of channels: their mean, as loud as all of them were.

    Examples:
        >>> import torch
        >>> adapted(torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1), 1).item()
        9.0
    """
    there = weight.shape[1]
    if there == channels:
        return weight
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1) * (there / channels)
