"""Shared part of all constructors: open the images, determine their format, and build matching networks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, cast

import torch
from torch import Tensor, nn

from super_selfish.datasets.file_sources import report_left_out
from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing, fit_preprocessing
from super_selfish.datasets.resized_cache import chosen_folder
from super_selfish.datasets.sources import open_source
from super_selfish.engine.core.starting_weights import StartingWeights, Weights, expected_side, sides
from super_selfish.errors import ConfigurationError, UnreadableImage
from super_selfish.images.image_files import MAX_PIXELS
from super_selfish.models.backbones import BackboneOutput, default_backbone
from super_selfish.models.combined import CombinedNet
from super_selfish.models.decoders import Upsampling, decoder_layers
from super_selfish.models.efficient import NormType
from super_selfish.models.heads import Classification
from super_selfish.models.initialization import fresh_copy
from super_selfish.models.named.names import named_backbone
from super_selfish.models.named.transformers_models import VisionModel, is_vision_model
from super_selfish.models.shapes import check_decoded, check_outputs, expected_channels, feature_shape


class ImageOptions(TypedDict, total=False):
    """How images are read; keyword arguments of every constructor.

    Attributes:
        resolution: Side in px, or (height, width). Images are resized to cover it and center-cropped. None: the size
            of arrays and data sets of one size, but at least 32; else 225, or that of ``weights`` or a transformer.
        channels: Number of channels; None: that of the images if it is the same for all, else 3. Grey is repeated in
            all channels, colours are averaged. Alpha, or a fourth band, is dropped unless this number includes it.
        value_range: (low, high), mapped to 0 and 1 in images that are not uint8; ``"auto"``: estimated from a sample;
            ``"all"``: minimum and maximum of all images.
        normalize: None, ``"dataset"``, ``"imagenet"`` or (mean, standard deviation) per channel on the scale [0, 1].
        max_pixels: Maximum number of pixels of an image; larger ones are refused before decoding.
        fill: Value that replaces NaN and pixels that the file declares as nodata, on the scale of the files. None: the
            lower end of the value range for nodata; NaN is an error.
        background: Colour that transparent images are blended with: one number, or red, green and blue, in [0, 1].
        cache: ``"resized"``: slow-to-decode files are decoded once and cached, resized, in the user's cache folder; or
            the path of another folder. Not saved; does not affect results.
        weights: Initial weights of the backbone: name of a training, weights file, ``state_dict()``, network; or
            published ones, downloaded if they are not cached: ``"imagenet"``, ``"pretrained"``, a name of torchvision
            such as ``"IMAGENET1K_V2"``, or ``"timm:<name>.<tag>"``. Not saved.
        image_key: Key or index of the image in items that hold several. Not saved.
    """

    resolution: int | tuple[int, int] | None
    channels: int | None
    value_range: Literal["auto", "all"] | tuple[float, float]
    normalize: Literal["dataset", "imagenet"] | tuple[Sequence[float], Sequence[float]] | None
    max_pixels: int
    fill: float | None
    background: float | tuple[float, float, float] | None
    cache: str | os.PathLike[str] | None
    weights: Weights | None
    image_key: str | int | None


IMAGE_DEFAULTS = (None, None, "auto", None, MAX_PIXELS, None, None, None, None, None)
"""Default values, in the order of :class:`ImageOptions`."""

Shape = tuple[int, int, int]
"""(channels, height, width)."""


@dataclass
class Setup:
    """The images and arguments of a constructor.

    Attributes:
        images: The opened images, or None without a data set.
        preprocessing: The preprocessing of every image.
        options: The passed image options, except ``cache``, ``weights`` and ``image_key``, which are not stored.
        given: Networks, criteria and callables that were passed, by parameter name.
        deferred_error: Error for an unreadable file; raised by ``supervise`` unless it skips such files.
        fingerprint: Fingerprint of the images; None until it is computed.
        make: Creates the pretext data set from images.
        made: The data set that ``make`` created.
        weights: Initial weights of backbones.
    """

    images: ImageDataset | None
    preprocessing: Preprocessing
    options: ImageOptions
    given: dict[str, Any] = field(default_factory=dict)
    deferred_error: UnreadableImage | None = None
    fingerprint: dict[str, int | str] | None = None
    make: Callable[[ImageDataset], Any] | None = None
    made: Any = None
    weights: StartingWeights | None = None

    @classmethod
    def of(cls, dataset: object, options: ImageOptions, **given: Any) -> Setup:
        """Open a data set and determine resolution, channels and value range.

        Args:
            dataset: Anything that :func:`super_selfish.data.open_source` accepts, or None.
            options: The image options that were passed.
            **given: Networks, criteria and callables that were passed.

        Raises:
            DataError: If the images cannot be used.
            ConfigurationError: If an option is unknown or out of range.
        """
        kept = {"normalize"}  # None, if it is passed, replaces the normalisation of `weights`
        options = cast(ImageOptions, {key: each for key, each in options.items() if each is not None or key in kept})
        folder = chosen_folder(options.pop("cache", None))
        backbone = given.get("backbone")
        initial = options.pop("weights", None)
        weights = None if initial is None else StartingWeights(initial, backbone, sides(options.get("resolution")))
        image_key = options.pop("image_key", None)
        settled: dict[str, Any] = {**options, "default_side": expected_side(backbone, weights)}
        if dataset is None and settled.get("channels") is None and isinstance(backbone, nn.Module):
            settled["channels"] = expected_channels(backbone)
        source = None
        if dataset is not None:
            most = settled.get("max_pixels", MAX_PIXELS)
            source = open_source(dataset, max_pixels=most, minimum=2, image_key=image_key)
            report_left_out(source)
        deferred_error = None
        try:
            preprocessing = fit_preprocessing(source, **settled)
        except UnreadableImage as error:  # supervise(on_error="skip") may still train on the others
            deferred_error = error
            preprocessing = fit_preprocessing(source, on_error="skip", **settled)
        if weights is not None and "normalize" not in options:
            preprocessing = weights.scaled(preprocessing)
        sampled = settled.get("value_range", "auto") == "auto"
        images = None if source is None else ImageDataset(source, preprocessing, folder, sampled)
        return cls(images, preprocessing, options, given, deferred_error, weights=weights)

    @classmethod
    def bare(cls) -> Setup:
        """The setup without images and arguments: RGB at 225 px."""
        return cls(None, fit_preprocessing(None), {})

    def use(self, preprocessing: Preprocessing) -> None:
        """Replace the preprocessing by that of a trained backbone."""
        self.preprocessing = preprocessing
        if self.images is not None:
            self.images.preprocessing = preprocessing

    def dataset(self, make: Callable[[ImageDataset], Any]) -> Any:
        """Create the pretext data set; None without images."""
        self.make = make
        self.made = None if self.images is None else make(self.images)
        return self.made

    def backbone(self, norm_type: NormType = "batch", flat: bool = True) -> nn.Module:
        """Return the passed backbone (a module or a name), or the default one.

        Raises:
            ConfigurationError: If the argument is neither a module nor a name.
        """
        given = self.given.get("backbone")
        channels = self.preprocessing.channels
        if given is None:
            found: nn.Module = default_backbone(channels, self.norm_of(norm_type), flat)
        elif isinstance(given, str):
            found = named_backbone(given, channels, self.preprocessing.resolution)
        elif isinstance(given, nn.Module):
            found = VisionModel(given) if is_vision_model(given) else given
        else:
            raise ConfigurationError(
                "`backbone` is no network.", expected="an nn.Module or a name", received=repr(given)
            )
        return found if self.weights is None else self.weights.into(found)

    def norm_of(self, norm_type: NormType) -> NormType:
        """The norm of the default backbone: ``norm_type``, unless published weights need batch norm."""
        return norm_type if self.weights is None or self.weights.published is None else "batch"

    def head(
        self,
        hidden: Sequence[int],
        outputs: int,
        *,
        norm_type: NormType = "batch",
        size: int | tuple[int, int] | None = None,
        of_map: bool = False,
        resizable: bool = False,
        last_bias: bool = True,
        centred: bool = False,
    ) -> CombinedNet:
        """Return the backbone followed by an MLP, sized by the output of the backbone.

        Args:
            hidden: Hidden layer sizes of the default head.
            outputs: Number of logits, or length of the embedding.
            norm_type: Normalisation of the default networks; ``"layer"`` if outputs may not depend on other images.
            size: Side length of the network inputs in px, or (height, width); None: that of the images.
            of_map: Pass the spatial feature map to the head, even if the backbone pools it.
            resizable: Whether the number of outputs depends on the images. If so, the default head is resized to match
                a loaded file; without images, a passed predictor may have any number of outputs.
            last_bias: Add a bias to the last layer of the default head.
            centred: Standardise each output of the default head over the batch.

        Raises:
            ConfigurationError: If the networks do not match the images or each other.
        """
        backbone = self.backbone(norm_type)
        seen = self.preprocessing.resolution if size is None else (size, size) if isinstance(size, int) else size
        source = BackboneOutput(backbone, "map") if of_map else backbone
        shape = feature_shape(source, self.preprocessing.channels, seen)
        predictor = self.given.get("predictor")
        if predictor is None:
            sizes = [int(torch.Size(shape).numel()), *hidden, outputs]
            options: dict[str, Any] = {"resizable": resizable, "last_bias": last_bias, "centred": centred}
            return CombinedNet(backbone, Classification(sizes, norm_type=norm_type, **options), of_map=of_map)
        net = CombinedNet(backbone, predictor, of_map=of_map)
        check_outputs(net.predictor, shape, None if resizable and self.images is None else outputs)
        return net

    def check_lab(self, why: str) -> None:
        """Check that the images can be converted to Lab: they must be RGB and not normalised.

        Args:
            why: First sentence of the error: why the algorithm needs RGB.

        Raises:
            ConfigurationError: If they are not.
        """
        channels = self.preprocessing.channels
        if channels != 3:
            raise ConfigurationError(
                why,
                expected="RGB images",
                received=f"{channels} channel{'s' if channels > 1 else ''}",
                fix="If only some images are greyscale, pass channels=3. Other images need another algorithm.",
            )
        if self.weights is not None and "normalize" not in self.options:  # Lab has its own scaling
            self.use(dataclasses.replace(self.preprocessing, mean=None, std=None))
        if self.preprocessing.mean is not None:
            raise ConfigurationError(
                "`normalize` has no place here: the network input is Lab, which has its own scaling.",
                expected="normalize=None",
                received=f"normalize={self.options.get('normalize')!r}",
            )

    def map_shape(self, backbone: nn.Module) -> Shape:
        """Return the shape of the backbone's feature map; a vector counts as a 1×1 map."""
        channels, height, width = feature_shape(
            BackboneOutput(backbone, "map"), self.preprocessing.channels, self.preprocessing.resolution
        )
        return channels, height, width

    def another_backbone(self, norm_type: NormType = "batch") -> nn.Module:
        """Return a second backbone of the same architecture with separate weights."""
        given = self.given.get("backbone")
        if not isinstance(given, nn.Module):
            return self.backbone(norm_type)
        twin = fresh_copy(VisionModel(given) if is_vision_model(given) else given)
        return twin if self.weights is None else self.weights.into(twin)

    def autoencoder(
        self,
        outputs: int,
        bottleneck: Callable[[Shape], tuple[nn.Module, Shape]] | None = None,
        output_activation: nn.Module | None = None,
    ) -> CombinedNet:
        """Return the backbone followed by a decoder, whose output has about the size of the images.

        Args:
            outputs: Number of output channels of the decoder.
            bottleneck: From the shape of the feature map to the module before the decoder, and its output shape.
            output_activation: Last module of the decoder. None: no activation.

        Raises:
            ConfigurationError: If the networks do not match the images or each other.
        """
        backbone = self.backbone()
        shape = self.map_shape(backbone)
        predictor = self.given.get("predictor")
        if predictor is None:
            between, shape = (None, shape) if bottleneck is None else bottleneck(shape)
            layers = decoder_layers(shape[1:], self.preprocessing.resolution, shape[0], outputs)
            decoder: nn.Module = Upsampling(layers, out_resolution=None, output_activation=output_activation)
            return CombinedNet(backbone, decoder if between is None else nn.Sequential(between, decoder), of_map=True)
        net = CombinedNet(backbone, predictor, of_map=True)
        check_decoded(net.predictor, shape, outputs)
        return net

    def criterion(self, default: Callable[[], nn.Module]) -> Callable[..., Tensor]:
        """Return the passed loss, or a new default."""
        return default() if (given := self.given.get("loss")) is None else given


def with_passed_options(stored: Preprocessing, setup: Setup) -> Preprocessing:
    """Return the preprocessing of a trained backbone, with the passed options replacing its values."""
    fields = {"normalize": ("mean", "std")}
    given = [name for option in setup.options for name in fields.get(option, (option,))]
    return dataclasses.replace(stored, **{name: getattr(setup.preprocessing, name) for name in given})
