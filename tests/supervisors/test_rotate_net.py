"""RotateNet."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import super_selfish
from super_selfish.data import RotateDataset, batched_collate
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.evaluation import test as measure
from super_selfish.models import Classification, CombinedNet, SmallResNet
from super_selfish.supervisors import RotateNetSupervisor, Supervisor

QUIET = {"verbose": False}


def pictures(count: int = 8, side: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> RotateNetSupervisor:
    arguments.setdefault("backbone", SmallResNet((arguments.get("channels") or 3), width=4))
    return RotateNetSupervisor(dataset, **arguments)


def test_initial_loss_is_at_chance_level() -> None:
    for rotations in ((0, 90, 180, -90), (0, 180), (0, 120, 240)):
        supervisor = make(pictures(), rotations=rotations)
        nn.init.zeros_(supervisor.model.predictor.layers[-1].weight)
        nn.init.zeros_(supervisor.model.predictor.layers[-1].bias)
        data = batched_collate([supervisor.dataset[index] for index in range(4)])
        assert supervisor._forward(data).item() == pytest.approx(math.log(len(rotations)), abs=1e-5)


def test_the_loss_and_its_gradient_equal_a_naive_loop() -> None:
    supervisor = make(
        pictures(), crop=None, flip=0
    ).eval()  # batch statistics would tie the samples of a batch together
    supervisor._forward(batched_collate([supervisor.dataset[index] for index in range(3)])).backward()
    gradients = [parameter.grad.clone() for parameter in supervisor.model.parameters()]
    supervisor.model.zero_grad()
    total = torch.zeros(())
    for index in range(3):
        image = torch.from_numpy(pictures()[index]).permute(2, 0, 1) / 255
        for label, quarters in enumerate((0, 1, 2, 3)):
            logits = supervisor.model(torch.rot90(image, quarters, (1, 2))[None])[0]
            total = total - (logits[label] - logits.exp().sum().log()) / 12
    total.backward()
    for expected, parameter in zip(gradients, supervisor.model.parameters(), strict=True):
        assert torch.allclose(expected, parameter.grad, atol=1e-5)


def test_it_learns_which_side_is_up() -> None:
    generator = np.random.default_rng(0)
    slope = np.linspace(220, 30, 32)[:, None, None] * np.ones((1, 32, 3))
    noisy = np.clip(slope + generator.normal(0, 40, (72, 32, 32, 3)), 0, 255).astype(np.uint8)
    supervisor = make(noisy[:64], backbone=SmallResNet(width=8))
    supervisor.supervise(lr=3e-3, epochs=6, batch_size=8, **QUIET)
    score = measure(supervisor.model, RotateDataset(noisy[64:]), collate_fn=batched_collate)
    assert score > 0.9


def test_the_default_networks() -> None:
    supervisor = RotateNetSupervisor()
    assert supervisor.feature_dim == 3136
    sizes = [layer.out_features for layer in supervisor.model.predictor.layers if isinstance(layer, nn.Linear)]
    assert sizes == [1024, 256, 4]
    assert supervisor.get_backbone(output="pooled")(torch.rand(1, 3, 64, 64)).shape == (1, 64)
    assert CombinedNet(supervisor.get_backbone(), nn.Linear(3136, 10))(torch.rand(2, 3, 225, 225)).shape == (2, 10)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (13, 16), (3, 40)])
def test_any_channels_and_small_images(channels: int, side: int) -> None:
    supervisor = RotateNetSupervisor(pictures(4, side, channels))
    supervisor.supervise(epochs=1, batch_size=2, **QUIET)
    assert supervisor.preprocessing.channels == channels
    assert supervisor.preprocessing.resolution == (max(32, side),) * 2
    assert supervisor.extract(pictures(2, side, channels))[0].shape == (2, supervisor.feature_dim)
    assert supervisor.preprocess(pictures(1, side, channels)[0]).shape == (
        1,
        channels,
        *supervisor.preprocessing.resolution,
    )


def test_heads_behind_non_square_images_fit() -> None:
    supervisor = make(np.zeros((4, 40, 64, 3), np.uint8), backbone=nn.Conv2d(3, 2, 8, stride=8))
    assert supervisor.feature_shape == (2, 5, 8)
    supervisor.supervise(epochs=1, batch_size=2, **QUIET)
    images = supervisor.preprocess(np.zeros((2, 40, 64, 3), np.uint8))
    assert CombinedNet(supervisor.get_backbone(), nn.Linear(supervisor.feature_dim, 3))(images).shape == (2, 3)


def test_custom_loss() -> None:
    calls = []

    def smooth(logits: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        calls.append((logits.shape, rotation.tolist()))
        return F.cross_entropy(logits, rotation, label_smoothing=0.1)

    make(pictures(4), loss=smooth).supervise(epochs=1, batch_size=2, **QUIET)
    assert calls == [((8, 4), [0, 1, 2, 3] * 2)] * 2


def test_custom_predictor() -> None:
    supervisor = make(pictures(4), predictor=nn.Linear(32, 4)).supervise(epochs=1, batch_size=2, **QUIET)
    assert isinstance(supervisor.get_predictor(), nn.Linear)
    with pytest.raises(ConfigurationError, match=r"Expected: outputs of shape \(batch, 4\)"):
        make(pictures(4), predictor=Classification([32, 5]))
    with pytest.raises(ConfigurationError, match=r"features of shape \(batch, 32\).*feature_dim"):
        make(pictures(4), predictor=nn.Linear(31, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": -1}, "`epochs` is out of range. Expected: an integer of at least 0. Received: epochs=-1"),
        ({"epochs": 1.5}, "`epochs` is out of range"),
        ({"lr": 0}, "`lr` is out of range"),
        ({"lr": float("nan")}, "`lr` is out of range"),
        ({"batch_size": 0}, "`batch_size` is out of range"),
        ({"num_workers": -1}, "`num_workers` is out of range"),
        ({"optimizer": "adamm"}, "Did you mean 'adam'?"),
        ({"lr_scheduler": 3}, "`lr_scheduler` must be a name or a factory. Expected: 'constant', 'cosine', or"),
        ({"name": ""}, "`name` is not the name of a file"),
        ({"name": "taken/base"}, "`name` cannot be written"),
        ({"on_error": "ignore"}, "`on_error` is unknown"),
        ({"clip_grad": 0.0}, "`clip_grad` is out of range"),
        ({"accumulate": 0}, "`accumulate` is out of range"),
        ({"scheduler_interval": "batch"}, "`scheduler_interval` is unknown"),
        ({"callbacks": [print]}, "`callbacks` must be"),
    ],
)
def test_invalid_settings_raise_before_training(arguments: dict[str, Any], message: str, tmp_path: Any) -> None:
    (tmp_path / "taken").write_text("a file")
    supervisor = make(pictures(4))
    with pytest.raises(ConfigurationError) as caught:
        supervisor.supervise(**(QUIET | arguments))
    assert message in str(caught.value)
    assert supervisor.train_state.step == 0
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").iterdir())


@pytest.mark.parametrize(
    "arguments",
    [{"crop": (0, 1)}, {"crop": (0.5, 0.2)}, {"crop": 0.5}, {"crop": (0.5, 2)}, {"flip": 2}, {"flip": "yes"}],
)
def test_crop_and_flip_are_checked(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"`(crop|flip)` is not .*Expected.*Received: (crop|flip)="):
        make(pictures(4), **arguments)


def test_missing_images_raise() -> None:
    with pytest.raises(ConfigurationError, match=r"There are no images to train on.*Received: dataset=None"):
        make().supervise(**QUIET)
    with pytest.raises(DataError, match="at least 2"):
        make(pictures(1))
    with pytest.raises(ConfigurationError, match="first convolution takes 1 channels"):
        RotateNetSupervisor(pictures(4), backbone=SmallResNet(channels=1))
    with pytest.raises(ConfigurationError, match="`backbone` is no network"):
        RotateNetSupervisor(pictures(4), backbone=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="resolutoin"):
        make(pictures(4), resolutoin=64)
    with pytest.raises(ConfigurationError, match="model=CombinedNet"):
        Supervisor(nn.Linear(2, 2))  # type: ignore[arg-type]


def test_epochs_zero_trains_and_stores_nothing(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        make(pictures(4)).supervise(epochs=0, **QUIET)
    assert "no training steps" in caplog.text
    assert list((tmp_path / "store").iterdir()) == []


def test_a_batch_that_does_not_fit_is_drawn_in_parts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from super_selfish.engine import loading
    from super_selfish.engine.loop.memory import SHARE, TRANSIENT, activation_bytes

    sizes = []

    class Noted(RotateNetSupervisor):
        decomposable = True  # the loss is that of RotateNet

        def _forward(self, data: Any) -> torch.Tensor:
            sizes.append(len(data[0]))
            return super()._forward(data)

    supervisor = Noted(pictures(16), backbone=SmallResNet(width=4))
    each = 4 * activation_bytes(supervisor.model.backbone, 3, (32, 32))
    assert each > 4 * 32 * 32 * 4 * 4  # at least the stem's map of each of the four images
    monkeypatch.setattr(loading, "available_bytes", lambda _device: int(each * TRANSIENT / SHARE * 3.5))
    with caplog.at_level(logging.WARNING):
        supervisor.supervise(epochs=1, batch_size=8, **QUIET)
    assert "3 micro-batches" in caplog.text
    assert sizes == [12, 12, 8] * 2
    assert supervisor.train_state.step == 2


def test_images_that_are_not_finite_can_be_skipped() -> None:
    images = np.random.default_rng(0).random((12, 32, 32, 3), np.float32)
    images[3, 5, 5] = np.nan
    with pytest.raises(DataError, match=r"not finite.*on_error"):
        make(images).supervise(epochs=1, batch_size=4, **QUIET)
    supervisor = make(images).supervise(epochs=2, batch_size=4, on_error="skip", **QUIET)
    assert list(supervisor.skipped) == [3]


def test_schedulers_that_need_an_argument_raise_before_training() -> None:
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    for arguments in ({"lr_scheduler": plateau}, {"optimizer": lambda p, lr: torch.optim.LBFGS(list(p), lr=lr)}):
        supervisor = make(pictures(4))
        with pytest.raises(ConfigurationError, match=r"whose step\(\) needs an argument"):
            supervisor.supervise(**(QUIET | arguments))
        assert supervisor.train_state.step == 0


def test_custom_subclass_is_not_dropped_silently(caplog: pytest.LogCaptureFixture) -> None:
    class Mine(RotateNetSupervisor):
        pass

    Mine(pictures(4), backbone="small_resnet").save("store/mine")
    with caplog.at_level(logging.WARNING):
        super_selfish.load("store/mine")
    assert "custom class" in caplog.text


def test_unreadable_files(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    from PIL import Image

    for number in range(12):
        Image.fromarray(pictures(12)[number]).save(tmp_path / f"{number:02}.png")
    (tmp_path / "05.png").write_bytes((tmp_path / "05.png").read_bytes()[:900])
    (tmp_path / "07.png").write_bytes(b"<html>not found</html>")
    supervisor = make(str(tmp_path), resolution=32)
    with pytest.raises(DataError, match=r"07\.png.*web page"):
        supervisor.supervise(batch_size=4, epochs=1, **QUIET)
    assert supervisor.train_state.step == 0
    ends = []
    for workers in (0, 2):
        torch.manual_seed(0)
        supervisor = make(str(tmp_path), resolution=32)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            supervisor.supervise(batch_size=4, epochs=2, on_error="skip", num_workers=workers, **QUIET)
        assert supervisor.train_state.step == 6
        assert caplog.text.count("is skipped, another takes its place") == 2
        ends.append(torch.cat([parameter.detach().flatten() for parameter in supervisor.parameters()]))
    assert torch.equal(*ends)
    (tmp_path / "07.png").unlink()
    supervisor = make(str(tmp_path), resolution=32)
    with pytest.raises(DataError, match=r"^`.*05\.png` cannot be read"):  # also from a worker, without its traceback
        supervisor.supervise(batch_size=4, epochs=1, num_workers=2, **QUIET)


def test_progress_is_plain_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    make(pictures(8)).supervise(epochs=2, batch_size=4)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert "images/s" in said[1]
    assert "waiting for data" in said[1]
    assert said[-2:] == ["Stored in store/base.safetensors.", "At least 3 epochs are needed for a verdict; 2 were run."]
    make(pictures(8)).supervise(epochs=1, batch_size=4, verbose=False)
    assert capsys.readouterr() == ("", "")


def test_own_data_sets_with_their_own_randomness() -> None:
    """A user's data set that draws from global generators gives the same training for any number of workers."""

    class Noisy(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.rand(3, 32, 32) * float(np.random.rand()), 0

    ends = []
    for workers in (0, 2):
        torch.manual_seed(0)
        supervisor = make(Noisy()).supervise(epochs=2, batch_size=4, num_workers=workers, **QUIET)
        ends.append(torch.cat([parameter.detach().flatten() for parameter in supervisor.parameters()]))
    assert torch.equal(*ends)


def test_a_tiny_network_that_crashes_on_channels_last_images_is_trained() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 1, stride=2), nn.AdaptiveAvgPool2d(1))
    make(pictures(24), backbone=backbone).supervise(epochs=3, batch_size=12, **QUIET)


def test_another_criterion_is_another_training() -> None:
    make(pictures(), loss=nn.CrossEntropyLoss()).supervise(epochs=1, batch_size=4, **QUIET)
    with pytest.raises(OSError, match=r"loss is .*label_smoothing=0.1.* here and .*label_smoothing=0.0"):
        make(pictures(), loss=nn.CrossEntropyLoss(label_smoothing=0.1)).supervise(
            epochs=2, batch_size=4, resume=True, **QUIET
        )
