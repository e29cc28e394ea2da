"""Backbones by name, and networks of other libraries without their classifiers."""

from __future__ import annotations

import copy
import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from super_selfish.errors import ConfigurationError
from super_selfish.models import BackboneOutput, VisionModel, feature_shape, named_backbone
from super_selfish.models.named import Trunk, default_side
from super_selfish.models.named.torchvision_models import model_names, without_classifier
from super_selfish.models.named.transformers_models import is_vision_model

NO_AUXILIARY = {"aux_logits": False, "init_weights": False}
SMALLEST: dict[type[nn.Module], tuple[str, int]] = {
    models.AlexNet: ("alexnet", 128),
    models.ConvNeXt: ("convnext_tiny", 64),
    models.DenseNet: ("densenet121", 64),
    models.EfficientNet: ("efficientnet_b0", 64),
    models.GoogLeNet: ("googlenet", 64),
    models.Inception3: ("inception_v3", 107),
    models.MNASNet: ("mnasnet0_5", 40),
    models.MaxVit: ("maxvit_t", 224),
    models.MobileNetV2: ("mobilenet_v2", 64),
    models.MobileNetV3: ("mobilenet_v3_small", 40),
    models.RegNet: ("regnet_y_400mf", 64),
    models.ResNet: ("resnet18", 40),
    models.ShuffleNetV2: ("shufflenet_v2_x0_5", 64),
    models.SqueezeNet: ("squeezenet1_1", 64),
    models.SwinTransformer: ("swin_t", 40),
    models.VGG: ("vgg11", 64),
    models.VisionTransformer: ("vit_b_32", 224),
}
"""The smallest model of each architecture of torchvision, and a side in px of images for it."""

CHEAP = (models.ResNet, models.ConvNeXt, models.SwinTransformer, models.DenseNet, models.MNASNet, models.MobileNetV3)


def built(name: str) -> nn.Module:
    return models.get_model(name, weights=None, **(NO_AUXILIARY if name in ("googlenet", "inception_v3") else {}))


def input_of_classifier(net: nn.Module, images: Tensor) -> Tensor:
    """What a model of torchvision computes before its classifier: input of the first layer after pooling and norm."""
    seen: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    if isinstance(net, models.AlexNet | models.VGG | models.SqueezeNet):  # no pooled features: the map before them
        net.features.register_forward_hook(lambda module, inputs, output: seen.append(output.mean((2, 3))))
    elif isinstance(net, models.MaxVit):
        net.classifier[3].register_forward_pre_hook(record)
    else:
        classifier = getattr(net, "fc", None) or getattr(net, "classifier", None) or getattr(net, "heads", None)
        classifier = net.head if classifier is None else classifier
        linear = next(part for part in classifier.modules() if isinstance(part, nn.Linear))
        linear.register_forward_pre_hook(record)
    net(images)
    return seen[0].flatten(1)


@pytest.mark.parametrize(
    "architecture",
    [part if part in CHEAP else pytest.param(part, marks=pytest.mark.slow) for part in SMALLEST],
    ids=lambda part: part.__name__,
)
@torch.no_grad()
def test_features_equal_those_of_torchvision(architecture: type[nn.Module]) -> None:
    name, side = SMALLEST[architecture]
    net = built(name).eval()
    images = torch.rand(2, 3, side, side)
    expected = input_of_classifier(copy.deepcopy(net), images)
    trunk = without_classifier(copy.deepcopy(net)).eval()
    scale = expected.std()  # an untrained network in eval mode may have outputs near zero
    assert scale > 0
    assert torch.allclose(trunk(images) / scale, expected / scale, atol=1e-5)
    assert torch.equal(BackboneOutput(trunk, "pooled")(images), trunk(images))
    feature_map = trunk.map(images)
    assert feature_map.ndim == 4
    assert feature_map.shape[1] == expected.shape[1]
    assert feature_map.shape[2] > 1
    plain = net.state_dict()
    assert all(torch.equal(value, plain[key]) for key, value in trunk.plain_names().items())


def test_every_name_is_of_a_compared_architecture() -> None:
    builders = [models.get_model_builder(name) for name in model_names()]
    assert {inspect.signature(builder).return_annotation for builder in builders} == set(SMALLEST)


@torch.no_grad()
def test_vision_transformer_takes_any_size() -> None:
    net = models.VisionTransformer(image_size=64, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
    nn.init.normal_(net.encoder.pos_embedding)
    plain = copy.deepcopy(net).eval()
    plain.heads = nn.Identity()
    trunk = without_classifier(net).eval()
    images = torch.rand(2, 3, 64, 64)
    assert torch.allclose(trunk(images), plain(images), atol=1e-6)
    for size, grid in (((64, 64), (4, 4)), ((65, 48), (5, 3)), ((32, 96), (2, 6)), ((225, 225), (15, 15))):
        assert trunk(torch.rand(1, 3, *size)).shape == (1, 8)
        assert trunk.map(torch.rand(1, 3, *size)).shape == (1, 8, *grid)


@torch.no_grad()
def test_token_map_keeps_the_places_of_patches() -> None:
    net = models.VisionTransformer(image_size=64, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
    net.encoder.layers = nn.Identity()  # without attention, a token depends on its patch alone
    nn.init.zeros_(net.encoder.pos_embedding)
    trunk = without_classifier(net).eval()
    images = torch.zeros(1, 3, 64, 96)
    before = trunk.map(images)
    images[:, :, 16:32, 80:96] = 1.0
    changed = (trunk.map(images) != before).any(1)[0]
    assert changed.nonzero().tolist() == [[1, 5]]


def test_default_sides() -> None:
    assert default_side("vit_b_16") == 224
    assert default_side("swin_t") == 224
    assert default_side("resnet18") is None
    assert default_side(nn.Linear(1, 1)) is None


def test_sizes_that_do_not_work_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)maxvit_t.*resolution=224, or a multiple"):
        named_backbone("maxvit_t", resolution=(64, 64))
    inception = without_classifier(built("inception_v3"))
    with pytest.raises(ConfigurationError, match=r"(?s)Expected: a network for images of this size.*set `resolution=`"):
        feature_shape(inception, 3, (32, 32))


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"])
@torch.no_grad()
def test_transformers_of_timm_take_any_size(name: str) -> None:
    timm = pytest.importorskip("timm")
    backbone = named_backbone(name).eval()
    plain = timm.create_model(name.removeprefix("timm:"), num_classes=0).eval()
    assert set(backbone.plain_names()) == set(plain.state_dict())
    plain.load_state_dict(backbone.plain_names())
    images = torch.rand(1, 3, 224, 224)
    assert torch.allclose(backbone(images), plain(images), atol=1e-5)
    for side in (64, 225):
        assert feature_shape(backbone, 3, (side, side)) == (backbone.net.num_features,)
        assert feature_shape(BackboneOutput(backbone, "map"), 3, (side, side))[0] == backbone.net.num_features
    assert default_side(name) == 224


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "regnety_002", "densenet121", "efficientnet_lite0"]
)
@torch.no_grad()
def test_features_equal_those_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    backbone = named_backbone(f"timm:{name}").eval()
    plain = timm.create_model(name, num_classes=0).eval()
    plain.load_state_dict(backbone.plain_names())
    images = torch.rand(1, 3, 64, 64)
    assert torch.allclose(backbone(images), plain(images), atol=1e-5)
    assert backbone.map(images).shape[2:] == (2, 2)
    assert default_side(f"timm:{name}") is None


class Embeddings(nn.Module):
    """Stands in for a model of transformers: an output object with tokens, positions of one size."""

    def __init__(self, prefix: int = 1, pooler: bool = False) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="vit", patch_size=16)
        self.projection = nn.Conv2d(3, 8, 16, 16)
        self.prefix, self.pooler = prefix, pooler

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Any:
        if pixel_values.shape[-1] != 224 and not interpolate_pos_encoding:
            raise ValueError("Input image size doesn't match model.")
        tokens = self.projection(pixel_values).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.new_full((len(tokens), self.prefix, 8), 7.0), tokens], dim=1)
        return SimpleNamespace(last_hidden_state=tokens, pooler_output=tokens.mean(1) if self.pooler else None)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_token_map_of_a_model_of_transformers(prefix: int) -> None:
    net = Embeddings(prefix)
    assert is_vision_model(net)
    backbone, images = VisionModel(net), torch.rand(2, 3, 48, 80)
    assert torch.equal(backbone.map(images), net.projection(images))
    expected = torch.full((2, 8), 7.0) if prefix else net.projection(images).mean((2, 3))
    assert torch.allclose(backbone(images), expected)


def test_pooled_output_of_a_model_of_transformers() -> None:
    net, images = Embeddings(pooler=True), torch.rand(2, 3, 32, 32)
    assert torch.equal(VisionModel(net)(images), net(images, True).pooler_output)


def test_models_of_transformers_with_a_task_head_are_rejected() -> None:
    class Classifier(Embeddings):
        def forward(self, pixel_values: Tensor) -> Any:
            return SimpleNamespace(logits=pixel_values.mean((2, 3)))

    with pytest.raises(ConfigurationError, match=r"last_hidden_state.*base_model"):
        feature_shape(VisionModel(Classifier()), 3, (32, 32))


def test_real_models_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    size: dict[str, Any] = {"image_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    vit = transformers.ViTModel(transformers.ViTConfig(patch_size=16, intermediate_size=8, **size))
    swin = transformers.SwinModel(transformers.SwinConfig(image_size=64, embed_dim=8, depths=[1, 1], num_heads=[1, 2]))
    convnext = transformers.ConvNextModel(transformers.ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4))
    grids = {vit: (6, 4), swin: (12, 8), convnext: (3, 2)}
    for net, grid in grids.items():
        backbone = VisionModel(net).eval()
        features = feature_shape(backbone, 3, (96, 64))
        assert feature_shape(BackboneOutput(backbone, "map"), 3, (96, 64)) == (*features, *grid)


@torch.no_grad()
def test_former_networks() -> None:
    former, present = (named_backbone(name).eval() for name in ("0.1:densenet121", "densenet121"))
    present.load_state_dict(former.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(present.map(images), former.map(images).relu())  # 0.1.0 left out the last activation
    assert torch.equal(former(images), former.map(images).mean((2, 3)))
    with pytest.raises(ConfigurationError, match=r"Leave out '0\.1:'"):
        named_backbone("0.1:resnet18")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels"), [("convnext_tiny", 768), ("swin_t", 768), ("googlenet", 1024)])
@torch.no_grad()
def test_former_networks_take_any_number_of_channels(name: str, channels: int) -> None:
    former = named_backbone(f"0.1:{name}", channels=2).eval()
    assert former(torch.rand(1, 2, 64, 64)).shape == (1, channels)
    assert former.map(torch.rand(1, 2, 64, 64)).shape[2:] == ((2, 2) if name == "convnext_tiny" else (1, 1))


def test_trunks_are_found_by_name() -> None:
    assert isinstance(named_backbone("mobilenet_v3_small"), Trunk)
