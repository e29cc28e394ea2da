"""CPC: predictions, networks and invalid arguments."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import super_selfish
from super_selfish.data import CPCTransform
from super_selfish.engine.previews import preview, preview_batch
from super_selfish.errors import ConfigurationError
from super_selfish.losses import CPCLoss
from super_selfish.models import LayerNorm2d, MaskedCNN, default_backbone
from super_selfish.models.predictive import SIDES, to_frame
from super_selfish.supervisors import ContrastivePredictiveCodingSupervisor

QUIET = {"verbose": False, "name": "store/test", "checkpoint_every": 0}
PLAIN = CPCTransform(0, elastic=0.0, gamma=0.0, jitter_p=0.0, grey=0.0)


class PatchNet(nn.Module):
    """A map of 12 channels, normalised by layers."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, 12, 3, 2, 1), LayerNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def photos(count: int = 4, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> ContrastivePredictiveCodingSupervisor:
    torch.manual_seed(0)
    channels = dataset.shape[-1] if isinstance(dataset, np.ndarray) else 3
    defaults = {"backbone": PatchNet(channels), "embedding_size": 8, "patch_size": 8}
    return ContrastivePredictiveCodingSupervisor(dataset, **(defaults | arguments))


@pytest.mark.parametrize("side", SIDES)
def test_context_networks_that_see_their_targets_raise(side: str) -> None:
    normed = nn.Sequential(MaskedCNN([12, 5], side=side), nn.BatchNorm2d(5))
    other = MaskedCNN([12, 5], side=SIDES[(SIDES.index(side) + 1) % 4])
    for cheat in (nn.Conv2d(12, 5, 3, padding=1), normed, other):
        with pytest.raises(ConfigurationError, match=f"side '{side}' sees what it has to predict"):
            make(photos(), sides=(side,), predictor=nn.ModuleDict({side: cheat}))
    make(photos(), sides=(side,), predictor=nn.ModuleDict({side: MaskedCNN([12, 6, 5], side=side)}))


def batch(supervisor: Any, count: int = 4) -> Tensor:
    return preview_batch(supervisor, None, count)[0]


def test_initial_loss_is_at_chance_level_and_equals_its_closed_form() -> None:
    supervisor = make(photos())
    patches = batch(supervisor)
    assert supervisor._forward((patches,)).item() == pytest.approx(2 * math.log(4 * 49), abs=0.1)
    for head in supervisor.model.predictor.heads.values():
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    assert supervisor._forward((patches,)).item() == pytest.approx(2 * math.log(4 * 49), rel=1e-6)


def test_default_networks_start_with_products_of_a_scale_that_a_softmax_sees() -> None:
    supervisor = ContrastivePredictiveCodingSupervisor(photos(2, 64, 64))
    with torch.no_grad():
        targets, predictions = supervisor.model(batch(supervisor, 2).flatten(0, -4))
    assert 0.3 < targets.square().mean().sqrt().item() < 3
    for predicted in predictions.values():
        assert 0.3 < predicted.square().mean().sqrt().item() < 3
        products = torch.einsum("bsdrc,nd->bsrcn", predicted, targets.movedim(1, -1).flatten(0, 2))
        assert 0.03 < (supervisor.loss.scale * products).std().item() < 3


def test_weights_of_a_backbone_are_kept_as_loaded() -> None:
    weights = default_backbone(norm_type="layer").state_dict()
    supervisor = ContrastivePredictiveCodingSupervisor(weights=weights)
    loaded = supervisor.model.backbone.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in weights.items())


def test_the_loss_is_that_of_a_loop_over_everything() -> None:
    supervisor = make(photos(2), half_crop_size=6, loss=CPCLoss(k=3, ignore=1, scale=1.0)).eval()
    patches = batch(supervisor, 2)
    latents = torch.zeros(2, 12, 4, 4)
    for number, patch in enumerate(patches):
        image, place = divmod(number, 16)
        smaller = torch.nn.functional.interpolate(patch[None], (8, 8), mode="bilinear", antialias=True)
        latents[image, :, place // 4, place % 4] = supervisor.model.backbone(smaller)[0].mean((1, 2))
    predictor, losses = supervisor.model.predictor, []
    targets = predictor.target(latents)
    move = {"top": (1, 0), "bottom": (-1, 0), "left": (0, 1), "right": (0, -1)}
    for side in SIDES:
        made = predictor.heads[side](predictor.contexts[side](latents)).reshape(2, 2, 64, 4, 4)
        for place, step in enumerate((2, 3)):
            each = []
            for b, r, c in np.ndindex(2, 4, 4):
                row, column = r + step * move[side][0], c + step * move[side][1]
                if 0 <= row < 4 and 0 <= column < 4:
                    products = torch.einsum("d,bdyx->byx", made[b, place, :, r, c], targets)
                    each.append(products.logsumexp((0, 1, 2)) - products[b, row, column])
            losses.append(torch.stack(each).mean())
    expected = torch.stack(losses).sum() / 4
    ours = supervisor._forward((patches,))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    parameters = supervisor.trainable_parameters()
    for one, other in zip(
        torch.autograd.grad(ours, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_predictions_depend_on_patches_of_their_own_side_only(side: str) -> None:
    """From pixels to predictions, for the whole network."""
    supervisor = make(photos(2), sides=(side,))
    patches = batch(supervisor, 2).requires_grad_()
    _, predictions = supervisor.model.predictor(supervisor.latents(patches))
    frame = to_frame(predictions[side], side)
    for row in (0, 3, 6):
        (gradient,) = torch.autograd.grad(frame[1, :, :, row, 3].square().sum(), patches, retain_graph=True)
        reached = to_frame(gradient.abs().amax((1, 2, 3)).view(2, 7, 7), side)
        assert not reached[0].any(), "of another image"
        assert not reached[1, row + 1 :].any(), "beyond the row of the prediction"
        assert (reached[1, max(0, row - 4) : row + 1, 3] > 0).all()


def test_every_network_is_the_supervisors_and_learns() -> None:
    supervisor = make(photos())
    supervisor._forward((batch(supervisor),)).backward()
    named = dict(supervisor.named_parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in named.values())
    assert {"model.predictor.target.weight", "model.predictor.heads.left.weight"} <= set(named)
    assert named["model.predictor.target.weight"].shape == (64, 12, 1, 1)
    assert named["model.predictor.heads.top.weight"].shape == (2 * 64, 8, 1, 1)


def test_an_images_latents_and_predictions_do_not_depend_on_others() -> None:
    supervisor = ContrastivePredictiveCodingSupervisor(photos(), embedding_size=8, half_crop_size=8, loss=CPCLoss(k=2))
    supervisor.train()
    patches = batch(supervisor, 2)
    ends = []
    for content in (patches[9:], patches[9:].flip(0) * 0.3 + 0.5):
        torch.manual_seed(0)  # of the drop connect
        latents = supervisor.latents(torch.cat([patches[:9], content]))
        targets, predictions = supervisor.model.predictor(latents)
        ends.append([latents[0], targets[0], *(made[0] for made in predictions.values())])
    for one, other in zip(*ends, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_nothing_in_the_default_networks_normalises_by_the_batch() -> None:
    supervisor = ContrastivePredictiveCodingSupervisor()
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in supervisor.modules())
    assert supervisor.grid == (7, 7)
    assert supervisor.input_size == (56, 56)
    assert supervisor.images_per_sample == 49
    assert not supervisor.decomposable
    first = supervisor.model.predictor.contexts["top"].layers
    sizes = [part.out_channels for part in first if isinstance(part, nn.Conv2d)]
    assert (first[0].in_channels, sizes) == (64, [256, 256, 128, 128])


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (97, 130), (225, 225), (40, 150)])
def test_any_size_trains(size: tuple[int, int]) -> None:
    supervisor = make(photos(2, *size), patch_size=None, views=PLAIN)
    supervisor.supervise(epochs=1, batch_size=2, **QUIET)
    assert supervisor.train_state.step == 1
    assert np.isfinite(supervisor.history[0]["loss"])
    assert supervisor.get_backbone()(torch.rand(1, 3, *size)).shape[:2] == (1, 12)
    assert supervisor.get_backbone(output="pooled")(torch.rand(2, 3, 50, 70)).shape == (2, 12)


@pytest.mark.parametrize("channels", [1, 13])
def test_any_channels(channels: int) -> None:
    supervisor = make(photos(2, channels=channels)).supervise(epochs=1, batch_size=2, **QUIET)
    assert np.isfinite(supervisor.history[0]["loss"])
    assert len(supervisor._preview((batch(supervisor, 2),)).rows) == 2


def test_one_image_is_a_batch() -> None:
    supervisor = make(photos())
    assert supervisor._forward((batch(supervisor, 1),)).item() == pytest.approx(2 * math.log(49), abs=0.1)


def test_batches_of_stacked_items() -> None:
    """As a custom loader returns them."""
    supervisor = make(photos())
    patches = batch(supervisor)
    stacked = patches.unflatten(0, (4, 49))
    assert torch.equal(supervisor._forward((stacked,)), supervisor._forward((patches,)))


@pytest.mark.parametrize(("given", "size"), [(8, (8, 8)), (None, (32, 32)), (6, (6, 6)), ((8, 12), (8, 12))])
def test_patches_come_to_the_network_in_their_size(given: Any, size: tuple[int, int]) -> None:
    supervisor, seen = make(photos(), patch_size=given), []
    supervisor.model.backbone.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
    supervisor._forward((batch(supervisor, 2),))
    assert seen == [(98, 3, *size)]


def test_backbones_that_return_vectors() -> None:
    backbone = nn.Sequential(PatchNet(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 20))
    supervisor = make(photos(), backbone=backbone).supervise(epochs=1, batch_size=4, **QUIET)
    assert supervisor.model.predictor.target.weight.shape == (64, 20, 1, 1)
    assert supervisor.get_backbone()(torch.rand(2, 3, 32, 32)).shape == (2, 20)


def test_custom_context_networks() -> None:
    networks = nn.ModuleDict({side: MaskedCNN([12, 6, 5], side=side) for side in ("left", "top")})
    supervisor = make(photos(), predictor=networks, sides=("top",)).supervise(epochs=1, batch_size=4, **QUIET)
    assert supervisor.model.predictor.contexts["top"] is networks["top"]
    assert set(supervisor.model.predictor.heads) == {"top"}
    assert supervisor.model.predictor.heads["top"].in_channels == 5


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        (nn.Linear(3, 3), "`predictor` is no choice"),
        (nn.ModuleDict({"top": MaskedCNN([12, 5])}), "a network for each of top, bottom"),
        (nn.ModuleDict({side: MaskedCNN([12, 5], stride=2) for side in SIDES}), "'top' does not keep the grid"),
        (nn.ModuleDict({side: nn.Flatten() for side in SIDES}), "'top' does not keep the grid"),
        (nn.ModuleDict({side: MaskedCNN([64, 5]) for side in SIDES}), "cannot take the backbone's features"),
    ],
)
def test_context_networks_that_do_not_fit(predictor: nn.Module, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(photos(), predictor=predictor)


def test_steps_are_those_of_the_loss() -> None:
    supervisor = make(photos(), loss=CPCLoss(k=5, ignore=0))
    assert supervisor.model.predictor.steps == 5
    assert supervisor._forward((batch(supervisor),)).item() == pytest.approx(5 * math.log(196), abs=0.2)
    with pytest.raises(ConfigurationError, match="too small to predict 7 steps"):
        make(photos(), loss=CPCLoss(k=7))
    own = make(photos(), loss=lambda predictions, targets: (predictions.mean(1) - targets).square().mean())
    assert own.model.predictor.steps == 2
    assert own._forward((batch(own),)).requires_grad


def test_a_target_head_of_the_loss() -> None:
    supervisor = make(photos(), loss=CPCLoss(nn.Conv2d(12, 24, 1)))
    before = copy.deepcopy(supervisor.state_dict())
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    assert isinstance(supervisor.model.predictor.target, nn.Identity)
    assert not torch.equal(before["loss.target_shaper.weight"], supervisor.loss.target_shaper.weight)
    again = make(loss=CPCLoss(nn.Conv2d(12, 24, 1)), resolution=32).load("store/test")
    assert torch.equal(again.loss.target_shaper.weight, supervisor.loss.target_shaper.weight)


def test_the_target_head_is_stored() -> None:
    supervisor = make(photos()).supervise(epochs=1, batch_size=4, **QUIET)
    again = super_selfish.load("store/test", backbone=PatchNet())
    assert isinstance(again, ContrastivePredictiveCodingSupervisor)
    assert torch.equal(again.model.predictor.target.weight, supervisor.model.predictor.target.weight)
    assert again.hyperparameters()["sides"] == SIDES


def test_fewer_negatives() -> None:
    supervisor = make(photos(), max_negatives=15)
    assert supervisor._forward((batch(supervisor),)).item() == pytest.approx(2 * math.log(16), abs=0.1)
    with pytest.raises(ConfigurationError, match="`max_negatives`"):
        make(photos(), max_negatives=15, loss=CPCLoss())


def test_two_instances_share_nothing() -> None:
    first, second = make(photos()), make(photos())
    own = {tensor.data_ptr() for tensor in [*first.parameters(), *first.buffers()]}
    assert not own & {tensor.data_ptr() for tensor in [*second.parameters(), *second.buffers()]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"embedding_size": 0},
        {"half_crop_size": -1},
        {"half_crop_size": 17},
        {"sides": ()},
        {"sides": ("top", "up")},
        {"bottleneck_resolution": (6, 6)},
        {"bottleneck_resolution": 7},
        {"views": 3},
        {"patch_size": 0},
        {"max_negatives": 0},
    ],
)
def test_arguments_out_of_range_raise(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(wrong))}`"):
        make(photos(), **wrong)
    assert make(photos(), bottleneck_resolution=[7, 7]).grid == (7, 7)


def test_gradient_accumulation_raises() -> None:
    with pytest.raises(ConfigurationError, match="each other's negatives"):
        make(photos()).supervise(epochs=1, batch_size=4, accumulate=2, **QUIET)


@pytest.mark.parametrize("arguments", [{}, {"normalize": "dataset"}])
def test_preview(arguments: dict[str, Any]) -> None:
    supervisor = make(photos(6), **arguments)
    before = supervisor._preview((batch(supervisor, 5),))
    assert [len(row) for row in before.rows] == [3] * 5
    assert before.title == "CPC: which patch comes 2 steps ahead?"
    assert [row[1].caption.split("\n")[0] for row in before.rows] == [f"seen: {side}" for side in (*SIDES, "top")]
    supervisor.supervise(epochs=1, batch_size=2, **QUIET)
    supervisor.preview(count=3, path="preview.png")
    assert Path("preview.png").is_file()
    with torch.no_grad():
        after = supervisor._preview((batch(supervisor, 5),))
    assert [len(row) for row in after.rows] == [5] * 5
    assert all(panel.right in (True, False) for panel in [row[3] for row in after.rows])
    assert "245 patches" in after.note


def test_which_steps_are_predicted_is_stored() -> None:
    trained = make(photos(), loss=CPCLoss(k=4, ignore=2, scale=1.0)).supervise(epochs=1, batch_size=4, **QUIET)
    assert (trained.k, trained.ignore) == (4, 2)
    loaded = super_selfish.load("store/test", backbone=PatchNet())
    assert (loaded.loss.k, loaded.loss.ignore) == (4, 2)
    with pytest.raises(OSError, match="k is 3 here and 4 in the file; ignore is 1 here and 2 in the file"):
        make(photos(), loss=CPCLoss(k=3, ignore=1)).load("store/test")
    assert make(photos(), k=4, ignore=2).load("store/test").loss.k == 4


def test_the_preview_compares_with_the_targets_of_the_loss() -> None:
    class Negative(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -x

    supervisor = make(photos(), loss=CPCLoss(nn.Identity())).supervise(epochs=1, batch_size=4, **QUIET)
    ranks = []
    for shaper in (nn.Identity(), Negative()):
        supervisor.loss.target_shaper = shaper
        captions = [row[-1].caption for row in preview(supervisor, None, 2).rows]
        ranks.append([int(caption.split("rank ")[1].split()[0]) for caption in captions])
    assert [one + other for one, other in zip(*ranks, strict=True)] == [2 * 49 + 1] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": CPCLoss(reduction="none")}, "reduction='none'"),
        ({"loss": CPCLoss(k=4), "k": 2}, "k=2"),
        ({"loss": CPCLoss}, "None, a criterion such as"),
        ({"loss": "ce"}, "None, a criterion such as"),
    ],
)
def test_invalid_losses_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(photos(), **arguments)


@pytest.mark.parametrize("views", [lambda patch: patch.resize((5, 5)), lambda _patch: None])
def test_invalid_views_raise_before_training(views: Any) -> None:
    with pytest.raises(ConfigurationError, match="`views` cannot be used"):
        make(photos(), views=views).supervise(epochs=1, batch_size=4, **QUIET)
