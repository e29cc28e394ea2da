"""Every flag of ``train``, from the parser itself: its value reaches the training, which shows its effect."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from super_selfish.cli import algorithms, main
from super_selfish.cli.algorithms import constructor_flags, training_flags
from super_selfish.cli.flags import value_type
from super_selfish.cli.values import choices, is_closed, to_text
from super_selfish.engine import trainer as trainer_module
from super_selfish.engine.callbacks.monitors import FeatureMonitor
from super_selfish.engine.trainer import Trainer
from super_selfish.loading import loader as loader_module
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback

FLAGS = {flag.name: flag for flag in [*training_flags(), *constructor_flags(RotateNetSupervisor)]}


class Run:
    """One call of ``train`` and all that it left.

    Attributes:
        words: Values of the flags that were passed, by name.
        trainer: The trainer; None if the command stopped before it.
        reading: Arguments of the data loader.
        norms: Largest norms that gradients were clipped to.
        called: Names of functions that are replaced because they need hardware, minutes or another machine.
        error: Standard error of the command.
        stored: Values in NAME.config.json, by name.
        shown: Observed effect of each flag that was passed.
    """

    def __init__(self, name: str, **words: Any) -> None:
        self.words = {"name": f"store/{name}", **words}
        self.trainer: Any = None
        self.reading: dict[str, Any] = {}
        self.norms: list[float] = []
        self.called: list[str] = []
        self.error = ""
        self.status = -1
        self.stored: dict[str, Any] = {}
        self.shown: dict[str, Any] = {}

    @property
    def base(self) -> Path:
        return Path(self.words["name"])

    @property
    def config(self) -> dict[str, Any]:
        path = self.base.with_name(self.base.name + ".config.json")
        return json.loads(path.read_text()) if path.is_file() else {"effective": {}, "training": {}, "arguments": {}}

    @property
    def supervisor(self) -> Any:
        return self.trainer.supervisor

    @property
    def group(self) -> dict[str, Any]:
        return self.trainer.optimizer.param_groups[0]

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.supervisor.history

    def checkpoints(self) -> list[int]:
        folder = self.base.with_name(self.base.name + ".ckpt")
        return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))

    def argv(self) -> list[str]:
        text = []
        for name, value in self.words.items():
            if name != "data":
                word = name.replace("_", "-")
                is_switch = value_type(FLAGS[name]) is bool
                text.append(f"--{'' if value else 'no-'}{word}" if is_switch else f"--{word}={to_text(value)}")
        return ["train", "rotate_net", str(self.words.get("data", "photos")), *text]


def sides(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


EFFECTS: dict[str, Callable[[Run], Any]] = {
    "lr": lambda run: run.group["initial_lr"],
    "epochs": lambda run: len(
        [entry for entry in run.history if entry["epoch"] > run.trainer.checkpointer.start_epoch]
    ),
    "batch_size": lambda run: run.trainer.run.loader.batch_size,
    "shuffle": lambda run: sorted(run.trainer.run.loader.last_indices) != [*run.trainer.run.loader.last_indices],
    "num_workers": lambda run: run.reading["num_workers"],
    "name": lambda run: str(run.base) if run.base.with_suffix(".safetensors").is_file() else None,
    "pretrained": lambda run: run.supervisor.train_state.epoch > run.words["epochs"],
    "seed": lambda run: run.trainer.run.loader.seed,
    "precision": lambda run: {None: "32", torch.bfloat16: "bf16", torch.float16: "16"}[run.trainer.run.precision.dtype],
    "accumulate": lambda run: run.trainer.run.loader.micro_batches,
    "clip_grad": lambda run: run.norms[0] if run.norms else None,
    "recipe": lambda run: (
        None
        if len(run.trainer.optimizer.param_groups) == 1
        else "adapt"
        if any(group.get("frozen") for group in run.trainer.optimizer.param_groups)
        else run.config["effective"]["recipe"]
    ),
    "polyak": lambda run: (
        run.config["effective"]["polyak"]
        if any(key.startswith("average.") for key in load_file(run.base.with_suffix(".safetensors")))
        else None
    ),
    "scheduler_interval": lambda run: {len(run.history): "epoch", run.supervisor.train_state.step: "step"}[
        run.trainer.scheduler.last_epoch
    ],
    "watch": lambda run: (
        next((each.count for each in run.trainer.run.callbacks if isinstance(each, FeatureMonitor)), None)
        if "std" in run.history[-1]
        else 0
    ),
    "on_error": lambda run: "skip" if run.supervisor.skipped else "raise",
    "on_nonfinite": lambda run: run.trainer.run.guard.policy,
    "nonfinite_limit": lambda run: run.trainer.run.guard.limit,
    "worker_timeout": lambda run: run.reading["timeout"],
    "checkpoint_every": lambda run: run.checkpoints()[-1] - run.checkpoints()[-2],
    "keep": lambda run: len(run.checkpoints()),
    "allow_dataset_change": lambda run: len(run.supervisor.dataset) == 15 and run.supervisor.train_state.epoch == 3,
    "requeue": lambda run: "slurm_job" in run.called,
    "compile": lambda run: "compiled" in run.called,
    "sync_bn": lambda run: "global_norms" in run.called,
    "optimizer": lambda run: type(run.trainer.optimizer).__name__.lower(),
    "schedule": lambda run: "cosine" if run.group["lr"] < 0.01 * run.group["initial_lr"] else "constant",
    "resume": lambda run: run.trainer.checkpointer.start_epoch == 0 and not run.trainer.checkpointer.fresh,
    "evaluate": lambda run: "photos" if "knn" in run.history[-1] else None,
    "wandb": lambda run: next((call.split()[1] for call in run.called if call.startswith("WandbCallback ")), None),
    "backbone_from": lambda run: "networks:small" if type(run.supervisor.model.backbone).__name__ == "Small" else None,
    "tensorboard": lambda run: next(
        (call.split()[1] for call in run.called if call.startswith("TensorBoardCallback ")), None
    ),
    "processes": lambda run: next((int(call[6:]) for call in run.called if call.startswith("launch")), 1),
    "device": lambda run: str(run.supervisor.device),
    "config": lambda run: "store/many.config.json" if run.group["initial_lr"] == 0.02 else None,
    "quiet": lambda run: not run.error,
    "rotations": lambda run: tuple(run.supervisor.rotations),
    "backbone": lambda run: {"SmallResNet": "small_resnet", "Trunk": "resnet18"}[
        type(run.supervisor.get_backbone()).__name__
    ],
    "crop": lambda run: run.supervisor.crop,
    "flip": lambda run: run.supervisor.flip,
    "resolution": lambda run: sides(run.supervisor.dataset.images.read(1).shape[:2]),
    "channels": lambda run: run.supervisor.dataset.images.read(1).shape[2],
    "value_range": lambda run: tuple(run.supervisor.preprocessing.value_range),
    "normalize": lambda run: (run.supervisor.preprocessing.mean, run.supervisor.preprocessing.std),
    "max_pixels": lambda run: run.supervisor.preprocessing.max_pixels,
    "fill": lambda run: run.supervisor.preprocessing.fill,
    "background": lambda run: run.supervisor.preprocessing.background,
    "cache": lambda run: "./cached" if any(Path("cached").rglob("*")) else None,
    "weights": lambda run: "store/many" if run.supervisor.has_starting_weights else None,
    "image_key": lambda run: run.words["image_key"] if "--image-key photo" in run.error else None,
}
"""What a training shows of each flag, as the value that was passed."""

NETWORKS = """
from super_selfish.models import SmallResNet

class Small(SmallResNet):
    pass

def small():
    return Small(width=4)
"""
NO_TRAINING = ("processes", "image_key")  # flags of runs that start other processes, or are refused for a folder

SMALL = {"resolution": 32, "backbone": "small_resnet", "batch_size": 8, "epochs": 2, "device": "cpu", "quiet": True}
RUNS = [
    Run("plain", **SMALL, watch=0, recipe=None),
    Run(
        "many",
        **SMALL | {"batch_size": 4, "resolution": (32, 40), "quiet": False, "data": "broken"},
        **{"lr": 0.02, "optimizer": "sgd", "schedule": "cosine", "shuffle": False, "num_workers": 1, "seed": 3},
        **{"precision": "bf16", "accumulate": 2, "clip_grad": 0.5, "polyak": 0.9, "watch": 8, "on_error": "skip"},
        **{"on_nonfinite": "skip", "nonfinite_limit": 7, "worker_timeout": 50.0, "checkpoint_every": 2, "keep": 3},
        **{"evaluate": "photos", "tensorboard": "events", "rotations": (0.0, 90.0), "crop": (0.5, 0.9), "flip": 0.25},
        **{"value_range": (0.0, 128.0), "normalize": ((0.5,), (0.25,)), "max_pixels": 5000, "channels": 1},
        **{"fill": 7.0, "background": 0.5, "cache": "./cached"},
    ),
    Run("epochs", **SMALL, optimizer="adamw", schedule="constant", scheduler_interval="epoch", on_nonfinite="ignore"),
    Run("lars", **SMALL, precision="16", optimizer="lars", recipe="paper", sync_bn=False, on_error="raise", keep=1),
    Run("auto", **SMALL, recipe="auto", precision="fp16", optimizer="adam", sync_bn=True, compile=True, requeue=True),
    Run("adapt", **SMALL | {"channels": 1, "resolution": (32, 40)}, recipe="adapt", weights="store/many"),
    Run("many", config="store/many.config.json", pretrained=True, epochs=2, data="broken", quiet=True),
    Run("plain", **SMALL | {"epochs": 3, "data": "fewer"}, resume=True, allow_dataset_change=True),
    Run(
        "own",
        **{key: SMALL[key] for key in SMALL if key != "backbone"},
        backbone_from="networks:small",
        wandb="photos",
        precision="fp32",
    ),
    Run("never", **SMALL, processes=2),
    Run("key", **SMALL, image_key="photo"),
]


def save(path: str, number: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(values).save(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Run]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("flags"))
        patch.setattr("super_selfish.distributed.placement.available_gpu", lambda: None)
        for number in range(16):
            save(f"photos/{'ab'[number % 2]}/{number}.png", number)
        shutil.copytree("photos", "fewer")
        Path("fewer/a/0.png").unlink()
        shutil.copytree("photos", "broken")
        Path("broken/a/0.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
        Path("networks.py").write_text(NETWORKS)
        yield [carry_out(run, patch) for run in RUNS]


def carry_out(run: Run, patch: pytest.MonkeyPatch) -> Run:
    """Call the command, and keep what it made."""

    def keep_trainer(self: Trainer, *arguments: Any) -> None:
        run.trainer = self
        original_init(self, *arguments)

    def keep_reading(*arguments: Any, **named: Any) -> Any:
        run.reading = named
        return original_open(*arguments, **named)

    def keep_norm(weights: Any, norm: float, **named: Any) -> Any:
        run.norms.append(norm)
        return original_clip(weights, norm, **named)

    def record(name: str) -> Callable[..., Any]:
        def call(*_: Any) -> Any:
            run.called.append(name)
            return contextlib.nullcontext()

        return call

    original_init, original_open, original_clip = Trainer.__init__, loader_module.open_loader, nn.utils.clip_grad_norm_
    with patch.context() as own, contextlib.redirect_stderr(io.StringIO()) as stream:
        own.setattr(Trainer, "__init__", keep_trainer)
        own.setattr(loader_module, "open_loader", keep_reading)
        own.setattr(nn.utils, "clip_grad_norm_", keep_norm)
        for tracker in ("WandbCallback", "TensorBoardCallback"):  # their packages are optional
            own.setattr(algorithms, tracker, lambda to, name=tracker: run.called.append(f"{name} {to}") or Callback())
        own.setattr(algorithms, "launch", lambda _, count: run.called.append(f"launch{count}") or 0)
        for name in ("compiled", "global_norms", "slurm_job"):
            own.setattr(trainer_module, name, record(name))
        run.status = main(run.argv())
        run.error = stream.getvalue()
    run.stored = run.config["training"] | run.config["arguments"] | run.config["effective"]
    shows = [name for name in run.words if name in EFFECTS and (run.trainer is not None or name in NO_TRAINING)]
    run.shown = {name: EFFECTS[name](run) for name in shows}
    return run


def expected(name: str, value: Any) -> Any:
    if name == "resolution":
        return sides(value)
    if name == "background":
        return (value,)
    if name == "sync_bn":
        return value is True or value == "auto"
    return value.removeprefix("fp") if name == "precision" else value


def table(runs: list[Run]) -> list[tuple[str, str, str, str]]:
    """Flag, passed value, value in NAME.config.json, and observed effect, once per flag and value."""
    rows = {}
    for run in runs:
        for name, effect in run.shown.items():
            rows.setdefault((name, to_text(run.words[name])), (repr(run.stored.get(name, "-")), repr(effect)))
    order = [*FLAGS]
    return [(*key, *rows[key]) for key in sorted(rows, key=lambda key: order.index(key[0]))]


def test_every_flag_has_an_effect_that_is_checked() -> None:
    assert set(FLAGS) == set(EFFECTS), "add what a training shows of the flag to EFFECTS, and pass it in RUNS"


def test_every_flag_and_every_choice_is_trained_with() -> None:
    passed = {name: [run.words[name] for run in RUNS if name in run.words] for name in FLAGS}
    for name, flag in FLAGS.items():
        if name in ("resume", "name", "config"):
            assert passed[name]
            continue
        assert any(value != flag.default for value in passed[name]), name
        annotation = value_type(flag)
        if is_closed(annotation) and annotation is not bool and name != "sync_bn":
            words = {to_text(value) for value in [*passed[name], flag.default]}
            assert set(choices(annotation)) <= words, name
    assert typing.get_args(value_type(FLAGS["optimizer"]))


def test_every_value_that_was_passed_shows_its_effect(runs: list[Run]) -> None:
    wrong = []
    for run in runs:
        if run.words["name"] in ("store/never", "store/key"):
            continue
        assert run.status == 0, (run.words["name"], run.error)
        wrong += [
            f"{run.words['name']}: {name}={run.words[name]!r} shows {effect!r}"
            for name, effect in run.shown.items()
            if effect != expected(name, run.words[name])
        ]
    assert wrong == []


def test_flags_that_start_nothing_here(runs: list[Run]) -> None:
    by_name = {run.words["name"]: run for run in runs}
    assert by_name["store/never"].called == ["launch2"], by_name["store/never"].error
    assert by_name["store/key"].status == 2
    assert by_name["store/key"].shown["image_key"] == "photo"  # refused: a folder has no such items
