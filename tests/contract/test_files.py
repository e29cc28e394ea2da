"""What is stored is whole, complete and never replaced by something worse."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import super_selfish
from super_selfish.engine.persistence import Persistence
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.supervisors import all_supervisors
from super_selfish.training import Callback

QUIET = {"verbose": False, "name": "store/test", "batch_size": 4}
FEW = ("rotate_net", "bi_gan", "momentum_contrast")
FILES = ("store/test.safetensors", "store/test.json")


def contents() -> list[bytes]:
    return [Path(file).read_bytes() for file in FILES]


class Stop(Callback):
    """Raise in the middle of a run."""

    def __init__(self, error: BaseException, step: int = 1) -> None:
        self.error = error
        self.step = step

    def on_step_end(self, run: Any) -> None:
        if run.steps == self.step:
            raise self.error


ANSWERS = """
import hashlib, sys
import numpy, torch
import super_selfish
torch.set_num_threads(1)
pictures = numpy.load("pictures.npy")
for name in sys.argv[1:]:
    supervisor = super_selfish.load(f"store/{name}")
    total = hashlib.sha256(supervisor.extract(pictures)[0].tobytes())
    for key, value in sorted(supervisor.state_dict().items()):
        total.update(key.encode() + value.contiguous().numpy().tobytes())
    print(name, total.hexdigest(), supervisor.train_state.step, len(supervisor.history), supervisor.feature_dim)
"""


@pytest.mark.parametrize("names", [FEW, pytest.param(tuple(all_supervisors()), marks=pytest.mark.slow)], ids=len)
def test_load_in_a_new_process_gives_the_same_features_and_state(
    names: tuple[str, ...], images: Callable[..., Any], run_python: Callable[..., Any]
) -> None:
    """Several algorithms in one process, which has no images to train on."""
    pictures, expected = images(6, 40, 48), []
    np.save("pictures.npy", pictures)
    for name in names:
        torch.manual_seed(0)
        supervisor = all_supervisors()[name](images(8, 40, 48), backbone="small_resnet")
        supervisor.supervise(epochs=2, **{**QUIET, "name": f"store/{name}"})
        total = hashlib.sha256(supervisor.extract(pictures)[0].tobytes())
        for key, value in sorted(supervisor.state_dict().items()):
            total.update(key.encode() + value.contiguous().numpy().tobytes())
        expected.append(f"{name} {total.hexdigest()} 4 2 {supervisor.feature_dim}")
    done = run_python("-c", ANSWERS, *names)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected


def test_a_loaded_supervisor_has_the_same_next_loss(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    losses = []
    trained = make(images(8, 40, 48)).supervise(epochs=1, **QUIET)
    loaded = make(images(8, 40, 48)).load("store/test")
    for supervisor in (trained, loaded):
        supervisor.supervise(epochs=1, **{**QUIET, "name": "store/other"})
        losses.append(supervisor.history[-1]["loss"])
    assert len(loaded.history) == 2
    assert losses[0] == losses[1]


def test_load_rebuilds_what_depends_on_the_images(
    make: Callable[..., Any], images: Callable[..., Any], colour_only: bool
) -> None:
    if colour_only:
        with pytest.raises(ConfigurationError, match=r"Expected: RGB images. Received: 1 channel\."):
            make(images(8, channels=1), backbone="small_resnet")
    trained = make(images(8, 64, 64, channels=3 if colour_only else 1), backbone="small_resnet").supervise(
        epochs=1, **QUIET
    )
    loaded = make(backbone="small_resnet")
    assert loaded.preprocessing.channels == 3
    assert loaded.load("store/test") is loaded
    assert loaded.preprocessing == trained.preprocessing
    assert loaded.train_state == trained.train_state
    assert loaded.history == trained.history
    here, there = trained.state_dict(), loaded.state_dict()
    assert here.keys() == there.keys()
    assert all(torch.equal(here[key], there[key]) for key in here)


def test_normalisation_is_stored(make: Callable[..., Any], images: Callable[..., Any], colour_only: bool) -> None:
    if colour_only:
        with pytest.raises(ConfigurationError, match=r"Expected: normalize=None\. Received: normalize='dataset'"):
            make(images(8), normalize="dataset")
        return
    trained = make(images(8), normalize="dataset").supervise(epochs=1, **QUIET)
    loaded = make().load("store/test")
    assert loaded.preprocessing.mean == trained.preprocessing.mean
    assert np.array_equal(loaded.extract(images(4))[0], trained.extract(images(4))[0])


def test_the_manifest_tells_what_it_is(algorithm: str, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    make(images(8)).supervise(epochs=1, **QUIET)
    manifest = json.loads(Path("store/test.json").read_text())
    assert manifest["supervisor"] == algorithm
    assert manifest["training"]["steps"] == 2
    assert manifest["training"]["settings"]["optimizer"] == "Adam"
    assert manifest["networks"]["backbone"] == {"own": "TinyBackbone"}
    assert manifest["dataset"]["length"] == 8
    assert sorted(path.name for path in Path("store").iterdir()) == [
        "test.ckpt",
        "test.history.csv",
        "test.json",
        "test.safetensors",
    ]


def test_own_networks_are_asked_for(
    make: Callable[..., Any], images: Callable[..., Any], tiny_backbone: Callable[[], Any]
) -> None:
    trained = make(images(8)).supervise(epochs=1, **QUIET)
    with pytest.raises(OSError, match="custom backbone") as caught:
        super_selfish.load("store/test")
    assert "backbone=..." in str(caught.value)
    loaded = super_selfish.load("store/test", backbone=tiny_backbone())
    assert np.array_equal(loaded.extract(images(4))[0], trained.extract(images(4))[0])


@pytest.mark.promise(17)
def test_ctrl_c_stores_says_so_and_is_raised_again(
    make: Callable[..., Any], images: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = make(images(16))
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        supervisor.supervise(epochs=5, callbacks=[Stop(KeyboardInterrupt(), 3)], **QUIET)
    assert "Interrupted after step 3: weights stored in" in caplog.text
    loaded = make().load("store/test")
    assert loaded.train_state.step == 3
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in supervisor.state_dict().items())
    assert not supervisor.training
    supervisor.supervise(epochs=1, **QUIET)  # an interrupted supervisor trains on
    assert supervisor.train_state.epoch == 2


def test_ctrl_c_keeps_the_previous_training(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    make(images(16)).supervise(epochs=2, **QUIET)
    good = contents()
    with pytest.raises(KeyboardInterrupt):
        make(images(16)).supervise(epochs=5, callbacks=[Stop(KeyboardInterrupt())], **QUIET)
    assert contents() == good, "a longer training is not replaced by an interrupted one"
    assert make().load("store/test.interrupted").train_state.step == 1
    with pytest.raises(KeyboardInterrupt):
        make(images(16)).supervise(epochs=9, callbacks=[Stop(KeyboardInterrupt(), 12)], **QUIET)
    assert make().load("store/test").train_state.step == 12
    assert [Path(file + ".prev").read_bytes() for file in FILES] == good
    make(images(16)).supervise(epochs=1, **QUIET)
    make(images(16)).supervise(epochs=1, **QUIET)
    assert make().load("store/test").train_state.step == 4
    assert make().load("store/test.prev").train_state.step == 12, "the longest training is kept"


def test_settings_that_numpy_made_are_stored(
    make: Callable[..., Any], images: Callable[..., Any], colour_only: bool
) -> None:
    own = {} if colour_only else {"normalize": (np.full(3, 0.4), np.full(3, 0.2, np.float32))}
    make(images(8), resolution=np.int64(40), **own).supervise(epochs=1, **QUIET)
    loaded = make().load("store/test")
    assert loaded.preprocessing.resolution == (40, 40)
    assert loaded.preprocessing.mean == (None if colour_only else (0.4, 0.4, 0.4))


def test_what_cannot_be_stored_is_told_before_training(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(8))
    supervisor.history.append({"loss": object()})
    with pytest.raises(ValueError, match="settings cannot be stored"):
        supervisor.supervise(epochs=1, **QUIET)
    assert supervisor.train_state.step == 0


def test_a_callback_that_fails_at_the_end_leaves_a_supervisor_that_works(
    make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    class Broken(Callback):
        def on_train_end(self, run: Any) -> None:
            raise RuntimeError("at the end")

    supervisor = make(images(8))
    with pytest.raises(RuntimeError, match="at the end"):
        supervisor.supervise(epochs=1, callbacks=[Broken()], **QUIET)
    assert "_forward" not in vars(supervisor)
    assert supervisor.run is None
    assert not supervisor.training
    assert supervisor.supervise(epochs=1, **QUIET).train_state.step == 4


def test_another_normalisation_is_a_mismatch(
    make: Callable[..., Any], images: Callable[..., Any], colour_only: bool
) -> None:
    make(images(8)).supervise(epochs=1, **QUIET)
    if colour_only:
        with pytest.raises(OSError, match=r"resolution is \[40, 40\] here and \[32, 32\] in the file"):
            make(images(8), resolution=40).load("store/test")
        return
    with pytest.raises(OSError, match=r"mean is \[0.5, 0.5, 0.5\] here and None in the file"):
        make(images(8), normalize=([0.5] * 3, [0.2] * 3)).load("store/test")


@pytest.mark.promise(26)
def test_ctrl_c_before_the_first_step_stores_nothing(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    class Early(Callback):
        def on_train_begin(self, run: Any) -> None:
            raise KeyboardInterrupt

    make(images(8)).supervise(epochs=1, **QUIET)
    good = contents()
    with pytest.raises(KeyboardInterrupt):
        make(images(8)).supervise(epochs=5, callbacks=[Early()], **QUIET)
    assert contents() == good


@pytest.mark.promise(26)
def test_a_failure_stores_nothing(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    make(images(16)).supervise(epochs=1, **QUIET)
    good = contents()
    with pytest.raises(RuntimeError, match="the user's own"):
        make(images(16)).supervise(epochs=5, callbacks=[Stop(RuntimeError("the user's own"), 2)], **QUIET)
    assert contents() == good
    assert {path.name.removeprefix("test") for path in Path("store").iterdir()} == {
        *(
            ".json",
            ".safetensors",
            ".history.csv",
            ".ckpt",
            ".ckpt.prev",
        ),  # two trainings began here, and each left a checkpoint
    }


@pytest.mark.promise(24)
def test_numbers_gone_wrong_stop_before_the_update(
    algorithm: str, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    make(images(16)).supervise(epochs=1, **QUIET)
    good = contents()

    class Broken(all_supervisors()[algorithm]):  # type: ignore[misc]
        def _forward(self, data: Any) -> torch.Tensor:
            return super()._forward(data) * float("nan")

    supervisor = make(images(16), cls=Broken)
    before = [parameter.detach().clone() for parameter in supervisor.parameters()]
    with pytest.raises(ArithmeticError, match="epoch 1, batch 1, step 1"):
        supervisor.supervise(epochs=1, **QUIET)
    assert all(torch.equal(old, new) for old, new in zip(before, supervisor.parameters(), strict=True))
    assert contents() == good


def test_pretrained_starts_from_the_stored_weights(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    first = make(images(8)).supervise(epochs=2, **QUIET)
    second = make(images(8), cls=None)
    for parameter in second.parameters():
        parameter.data.zero_()
    second.supervise(epochs=1, pretrained=True, lr=1e-12, **QUIET)
    assert second.train_state.epoch == 3
    assert len(second.history) == 3
    for key, value in first.named_parameters():
        if value.requires_grad:  # averages go on moving
            assert torch.allclose(value, dict(second.named_parameters())[key], atol=1e-6), key
    with pytest.raises(OSError, match=r"There is no `store/absent.safetensors`"):
        make(images(8)).supervise(epochs=1, pretrained=True, verbose=False, name="store/absent")


@pytest.mark.promise(37)
def test_a_wrong_file_changes_nothing(algorithm: str, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    make(images(8)).supervise(epochs=1, **QUIET)
    other = make(images(8), backbone="small_resnet")
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(OSError, match="does not fit these networks: missing"):
        other.load("store/test")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in before.items())
    assert other.train_state.step == 0


def test_damage_is_noticed(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    make(images(8)).supervise(epochs=1, **QUIET)
    path = Path("store/test.safetensors")
    good = path.read_bytes()
    for damaged in (good[:-1], good[: len(good) // 2], b"", good[:-100] + bytes([good[-100] ^ 4]) + good[-99:]):
        path.write_bytes(damaged)
        with pytest.raises(OSError, match="is damaged"):
            make().load("store/test")


def test_files_older_than_an_argument(
    algorithm: str, make: Callable[..., Any], images: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    former = dict(all_supervisors()[algorithm].former_defaults)
    make = functools.partial(make, backbone="small_resnet")
    written = make(images(4), **former)
    manifest = Persistence(written).manifest()
    manifest["arguments"] = {key: value for key, value in manifest["arguments"].items() if key not in former}
    with monkeypatch.context() as patched:
        patched.setattr(Persistence, "manifest", lambda _: manifest)
        written.save("store/old")
    loaded = super_selfish.load("store/old")
    assert {key: loaded.hyperparameters()[key] for key in former} == former
    assert all(map(torch.equal, loaded.state_dict().values(), written.state_dict().values()))
    make(images(4), **former).load("store/old")
    if former:
        with pytest.raises(CheckpointMismatch):
            make(images(4)).load("store/old")
