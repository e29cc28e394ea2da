"""Published weights by name: those of torchvision, timm and efficientnet-pytorch.

Files are searched in, and downloaded to, the cache folder of ``torch.hub``. Nothing is downloaded unless weights are
requested by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import url_map
from torch import Tensor
from torchvision import models

from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.models.named import timm_models, torchvision_models
from super_selfish.models.named.timm_models import TIMM
from super_selfish.models.named.trunks import resized_positions
from super_selfish.storage.downloads import (
    HUGGING_FACE,
    cached,
    check_reachable,
    hub_folder,
    is_in_hub_cache,
    not_fetched,
)
from super_selfish.storage.weights_file import read_saved
from super_selfish.suggestions import did_you_mean

IMAGENET, PRETRAINED = "imagenet", "pretrained"
DEFAULT_BACKBONE = "efficientnet-b0"
_TORCHVISION_NAME = re.compile(r"DEFAULT|IMAGENET1K_\w+")
_EFFICIENTNET = "efficientnet-"
_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Names in the files of DenseNet, with a dot that torchvision removes."""
_POSITIONS = "encoder.pos_embedding"
_TIMM_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OUR_NAMES = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_blocks": "blocks", "_conv_head": "head.0", "_bn1": "head.1"}
"""Modules of :class:`~super_selfish.models.EfficientFeatures` by their names in efficientnet-pytorch."""


@dataclass(frozen=True)
class PublishedWeights:
    """Weights of a named backbone.

    Attributes:
        name: Backbone and weights, such as ``"resnet18 IMAGENET1K_V1"``.
        source: URL.
        licence: Licence as stated by the library.
        mean: Mean per channel of the images that the network expects, on the scale [0, 1].
        std: Standard deviation per channel.
        resolution: Height and width in px that the network was trained for.
        tensors: Tensors by name.
    """

    name: str
    source: str
    licence: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resolution: tuple[int, int]
    tensors: Mapping[str, Tensor] = field(repr=False)

    def moments(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation for a number of channels; other than three: their averages, repeated."""
        if channels == len(self.mean):
            return self.mean, self.std
        mean, std = (sum(row) / len(row) for row in (self.mean, self.std))
        return (mean,) * channels, (std,) * channels

    def describe(self) -> str:
        """Name, source, licence and expected images, in one line."""
        height, width = self.resolution
        return (
            f"Published weights: {self.name}, from {self.source}. Licence: {self.licence}. "
            f"Made for {height}×{width} px, mean {_row(self.mean)}, standard deviation {_row(self.std)}."
        )

    def as_json(self) -> dict[str, Any]:
        """All fields except the tensors, as JSON types."""
        return {
            "name": self.name,
            "source": self.source,
            "licence": self.licence,
            "mean": list(self.mean),
            "std": list(self.std),
            "resolution": list(self.resolution),
        }


def is_published_name(weights: object) -> bool:
    """Whether ``weights`` are published weights by name, not a file or a training.

    Examples:
        >>> is_published_name("imagenet"), is_published_name("IMAGENET1K_V2"), is_published_name("timm:resnet18")
        (True, True, True)
        >>> is_published_name("store/base"), is_published_name("./imagenet")
        (False, False)
    """
    if not isinstance(weights, str):
        return False
    return weights in (IMAGENET, PRETRAINED) or weights.startswith(TIMM) or bool(_TORCHVISION_NAME.fullmatch(weights))


def has_published_weights(backbone: object) -> bool:
    """Whether there are published weights of a backbone; None is the default backbone.

    Examples:
        >>> has_published_weights("resnet18"), has_published_weights("small_resnet"), has_published_weights(None)
        (True, False, True)
    """
    name = DEFAULT_BACKBONE if backbone is None else backbone
    if not isinstance(name, str):
        return False
    if name.startswith(TIMM):
        architecture = name.removeprefix(TIMM).partition(".")[0]
        return bool(timm_models.timm_library(architecture).list_pretrained(f"{architecture}.*"))
    return name in url_map or name in torchvision_models.model_names()


def published_weights(
    backbone: object, weights: str, resolution: tuple[int, int] | None = None, *, fetch: bool = True
) -> PublishedWeights | None:
    """Read the published weights of a named backbone.

    Args:
        backbone: Name of the backbone; None: the default backbone, EfficientNet-B0.
        weights: ``"imagenet"``; ``"pretrained"``: the default weights of the library; for torchvision a name such as
            ``"IMAGENET1K_V2"``; for timm ``"timm:<name>.<tag>"``.
        resolution: Height and width of the images in px, for models of timm that work at one size only.
        fetch: Download weights that are not cached.

    Returns:
        The weights; None if they are not cached and ``fetch`` is False.

    Raises:
        ConfigurationError: If there are no such weights for this backbone.
        CheckpointError: If they cannot be downloaded; the message names the file to place.
        CheckpointCorrupt: If the cached file is damaged.
    """
    name = DEFAULT_BACKBONE if backbone is None else backbone
    if isinstance(name, str) and name.startswith(TIMM):
        return _of_timm(name.removeprefix(TIMM), weights, resolution, fetch)
    if isinstance(name, str) and not weights.startswith(TIMM):
        if name.startswith(_EFFICIENTNET):
            return _of_efficientnet(name, weights, fetch)
        if name in torchvision_models.model_names():
            return _of_torchvision(name, weights, fetch)
    received = repr(name) if isinstance(name, str) else type(name).__name__
    fix = f'Pass backbone="{weights.partition(".")[0]}".' if weights.startswith(TIMM) else None
    raise ConfigurationError(
        f"There are no published weights {weights!r} for this backbone.",
        expected="a backbone of torchvision or timm by name, or the default backbone",
        received=f"backbone={received}",
        fix=fix
        or f'Pass backbone="resnet18", which has such weights. If {weights!r} is a training or a file, write '
        f"./{weights}.",
    )


def _of_torchvision(name: str, weights: str, fetch: bool) -> PublishedWeights | None:
    members = models.get_model_weights(name)
    known = [member.name for member in members]
    chosen = "DEFAULT" if weights in (IMAGENET, PRETRAINED) else weights
    if chosen not in (*known, "DEFAULT"):
        raise _no_such_weights(name, weights, known)
    found = members[chosen]
    path = cached(found.url, fetch)
    if path is None:
        return None
    transforms: Any = found.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if name in ("inception_v3", "googlenet"):  # torchvision converts ImageNet's moments to these within the network
        mean = std = (0.5, 0.5, 0.5)
    terms = "BSD 3-Clause (torchvision); trained on ImageNet, whose images are for non-commercial research"
    side = transforms.crop_size[0]
    tensors = torchvision_tensors(name, read_saved(path))
    found_name = f"{name} {found.name}"
    return PublishedWeights(found_name, found.url, found.meta.get("license", terms), mean, std, (side, side), tensors)


def torchvision_tensors(name: str, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file of torchvision by their present names, with the positions of the default image size.

    Examples:
        >>> import torch
        >>> list(torchvision_tensors("densenet121", {"features.denselayer1.norm.1.weight": torch.zeros(1)}))
        ['features.denselayer1.norm1.weight']
    """
    tensors = {_DENSENET_NAME.sub(r"\1\2", key): value for key, value in stored.items()}
    if (side := torchvision_models.default_side(name)) is not None and _POSITIONS in tensors:
        rows = side // int(name.rpartition("_")[2])
        tensors[_POSITIONS] = resized_positions(tensors[_POSITIONS], (rows, rows), prefix=1)
    return tensors


def _of_efficientnet(name: str, weights: str, fetch: bool) -> PublishedWeights | None:
    if weights not in (IMAGENET, PRETRAINED) or name not in url_map:
        raise _no_such_weights(name, weights, [IMAGENET] if name in url_map else [])
    path = cached(url_map[name], fetch)
    if path is None:
        return None
    tensors = {}
    for key, value in read_saved(path).items():
        module, _, rest = key.partition(".")
        if module in _OUR_NAMES:
            tensors[f"{_OUR_NAMES[module]}.{rest}"] = value
    side = int(EfficientNet.get_image_size(name))
    terms = "Apache 2.0 (efficientnet-pytorch); trained on ImageNet, whose images are for non-commercial research"
    return PublishedWeights(
        f"{name} {IMAGENET}", url_map[name], terms, _IMAGENET_MEAN, _IMAGENET_STD, (side, side), tensors
    )


def _of_timm(name: str, weights: str, resolution: tuple[int, int] | None, fetch: bool) -> PublishedWeights | None:
    timm = timm_models.timm_library(name)
    architecture = name.partition(".")[0]
    tags = list(timm.list_pretrained(f"{architecture}.*"))
    wanted = name if weights in (IMAGENET, PRETRAINED) else weights.removeprefix(TIMM)
    found = timm.models.get_pretrained_cfg(architecture) if wanted == architecture else None
    tagged = f"{architecture}.{found.tag}" if found is not None and found.tag else wanted
    if weights == IMAGENET and "in1k" not in tagged:
        tagged = next((tag for tag in tags if "in1k" in tag), "")
    if tagged not in tags:
        raise _no_such_weights(f"{TIMM}{architecture}", weights, [f"{TIMM}{tag}" for tag in tags])
    settings = timm.models.get_pretrained_cfg(tagged)
    file = next((path for end in _TIMM_SUFFIXES if (path := hub_folder() / f"{tagged}{end}").is_file()), None)
    if file is None and not fetch:
        return None
    source = f"{HUGGING_FACE}/{settings.hf_hub_id}" if settings.hf_hub_id else settings.url
    target = hub_folder() / f"{tagged}.safetensors"
    file_url = f"{source}/resolve/main/model.safetensors" if settings.hf_hub_id else settings.url
    if file is None and not is_in_hub_cache(settings.hf_hub_id):
        check_reachable(file_url, target)
    options: dict[str, Any] = {} if file is None else {"pretrained_cfg_overlay": {"file": str(file)}}
    try:
        trunk = timm_models.timm_backbone(tagged, resolution=resolution, pretrained=True, **options)
    except ConfigurationError:
        raise
    except Exception as error:  # timm and huggingface_hub raise errors of many types, also without network access
        if file is not None:
            raise CheckpointMismatch(f"`{file}` does not hold the weights {tagged!r} of timm: {error}.") from error
        raise not_fetched(file_url, target, error) from error
    return PublishedWeights(
        f"{TIMM}{tagged}",
        source,
        settings.license or "not stated by timm",
        tuple(settings.mean),
        tuple(settings.std),
        tuple(settings.input_size[-2:]),
        trunk.plain_names(),
    )


def _no_such_weights(name: str, weights: str, known: list[str]) -> ConfigurationError:
    return ConfigurationError(
        f"There are no published weights {weights!r} for the backbone {name!r}.",
        expected=", ".join(known) or "no weights: none are published for this backbone",
        received=f"weights={weights!r}",
        fix=did_you_mean(weights, known),
    )


def _row(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
