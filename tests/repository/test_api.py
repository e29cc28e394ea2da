"""Names, parameters and defaults that scripts of users rely on, as data."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from super_selfish.models import CombinedNet
from super_selfish.supervisors import Supervisor, all_supervisors

NONE = ("backbone", "predictor", "loss")
NETWORKS = dict.fromkeys(NONE)
TWO_PLAYERS = dict.fromkeys(("backbone", "predictor", "discriminator", "loss", "fake_loss"))
SUPERVISORS: dict[str, dict[str, Any]] = {
    "RotateNetSupervisor": {"rotations": (0.0, 90.0, 180.0, -90.0), **NETWORKS},
    "ExemplarNetSupervisor": {"n_classes": 8000, "n_trans": 100, "max_elms": 10, "p": 0.5, **NETWORKS},
    "JigsawNetSupervisor": {
        "jigsaw_path": None,
        "n_perms_per_image": 24,
        "total_perms": 24,
        "crops": 2,
        "crop_size": None,
        **NETWORKS,
    },
    "DenoiseNetSupervisor": {"p": 0.7, **NETWORKS},
    "SplitBrainNetSupervisor": {
        "l_step": 2,
        "l_offset": 0,
        "ab_step": 26,
        "a_offset": 128,
        "b_offset": 128,
        **NETWORKS,
    },
    "ContextNetSupervisor": {"p": 0.3, "n_blocks": 10, "scale_range": (0.05, 0.1), **TWO_PLAYERS},
    "BiGanSupervisor": {"shape": None, "rand_gen": None, **TWO_PLAYERS},
    "ContrastivePredictiveCodingSupervisor": {
        "embedding_size": 128,
        "half_crop_size": None,
        "sides": ("top", "bottom", "left", "right"),
        "bottleneck_resolution": None,
        **NETWORKS,
    },
    "MomentumContrastSupervisor": {
        "data_augmentation": None,
        "embedding_size": 128,
        "K": 8,
        "m": 0.999,
        "t": 0.2,
        **NETWORKS,
    },
    "BYOLSupervisor": {"data_augmentation": None, "embedding_size": 128, "m": 0.996, **NETWORKS},
    "InstanceDiscriminationSupervisor": {
        "data_augmentation": None,
        "embedding_size": 128,
        "n": 500,
        "t": 0.07,
        **NETWORKS,
    },
    "ContrastiveMultiviewCodingSupervisor": {
        "data_augmentation": None,
        "embedding_size": 128,
        "n": 3136,
        "t": 0.07,
        "memory_m": 0.5,
        **NETWORKS,
    },
    "PIRLSupervisor": {
        "data_augmentation": None,
        "embedding_size": 128,
        "n": 3136,
        "t": 0.07,
        "memory_m": 0.5,
        **NETWORKS,
    },
}
REQUIRED = inspect.Parameter.empty
BASES: dict[str, dict[str, Any]] = {
    "Supervisor": {"model": REQUIRED, "dataset": None, "loss": None, "collate_fn": None},
    "LabelSupervisor": {"model": REQUIRED, "dataset": ..., "loss": None},
    "GanSupervisor": {
        "model": REQUIRED,
        "discriminator": REQUIRED,
        "dataset": None,
        "loss": None,
        "fake_loss": None,
    },
}
STAGES = {
    "_load_pretrained": ["name", "pretrained"],
    "_init_data_optimizer": ["optimizer", "batch_size", "shuffle", "num_workers", "collate_fn", "lr", "lr_scheduler"],
    "_epochs": ["epochs", "train_loader", "optimizer", "lr_scheduler"],
    "_forward": ["data"],
    "_update": ["loss", "optimizer", "lr_scheduler"],
}
SUPERVISE = {
    "lr": None,  # 1e-3 for networks with batch norm
    "optimizer": torch.optim.Adam,
    "epochs": 10,
    "batch_size": 32,
    "shuffle": True,
    "num_workers": 0,
    "name": "store/base",
    "pretrained": False,
    "lr_scheduler": ...,
}
MODELS: dict[str, dict[str, Any]] = {
    "Classification": {"layers": (3136, 1024, 256, 4), "activation": nn.PReLU, "batchnorm": True},
    "ChannelwiseFC": {"layers": (49, 49, 49, 49), "activation": nn.PReLU, "batchnorm": True},
    "Upsampling": {
        "layers": (1280, 512, 256, 128, 3),
        "kernel_size": 4,
        "stride": 2,
        "padding": 1,
        "activation": nn.PReLU,
        "batchnorm": True,
        "input_resolution": None,
        "out_resolution": (225, 225),
    },
    "GroupedUpsampling": {
        "layers": ...,
        "groups": (50, 100),
        "kernel_size": 4,
        "stride": 2,
        "padding": 1,
        "activation": nn.ReLU,
        "batchnorm": True,
        "out_resolution": (225, 225),
    },
    "ReshapeChannels": {
        "backbone": None,
        "in_channels": 1280,
        "out_channels": 64,
        "kernel_size": 3,
        "stride": 1,
        "padding": 1,
        "activation": nn.PReLU,
        "groups": 1,
        "flat": True,
    },
    "EfficientFeatures": {"name": "efficientnet-b0", "pretrained": False, "norm_type": "batch"},
    "GroupedEfficientFeatures": {
        "name": "efficientnet-b0",
        "pretrained": False,
        "groups": (1, 2),
        "norm_type": "batch",
        "channels_per_group": 32,
    },
    "CombinedNet": {"backbone": None, "predictor": None, "distributed": False},
    "MaskedCNN": {
        "layers": ...,
        "mask": ...,
        "stride": 1,
        "padding": 1,
        "activation": nn.PReLU,
        "batchnorm": ...,  # true layer norm, or none: batch norm would leak across patches
        "side": ...,
    },
    "CPCLoss": {"target_shaper": ..., "k": 3, "ignore": 1, "N": ..., "reduction": "mean"},
    "GroupedLoss": {"loss": ..., "groups": (50, 100), "reduction": "mean"},
    "Batch2Image": {"new_shape": (7, 7)},
    "View": {"shape": REQUIRED},
}
DATA: dict[str, dict[str, Any]] = {
    **{
        name: {
            "dataset": REQUIRED,
            "transformations": ...,
            "transformations2": None,
            "clean1": False,
            "clean2": False,
        }
        for name in ("AugmentationDataset", "AugmentationIndexedDataset", "AugmentationLabIndexedDataset")
    },
    "LDataset": {"dataset": REQUIRED},
    "ContrastivePreditiveCodingDataset": {"dataset": REQUIRED, "half_crop_size": ...},
    "SplitBrainDataset": {
        "dataset": REQUIRED,
        "l_step": 2,
        "l_offset": 0,
        "ab_step": 26,
        "a_offset": 128,
        "b_offset": 128,
    },
    "DenoiseDataset": {"dataset": REQUIRED, "p": 0.7},
    "ContextDataset": {"dataset": REQUIRED, "p": 0.3, "n_blocks": 10, "scale_range": (0.05, 0.1)},
    "BiDataset": {"dataset": REQUIRED, "shape": (32, 7, 7), "rand_gen": None},
    "RotateDataset": {"dataset": REQUIRED, "rotations": (0.0, 90.0, 180.0, -90.0), "r_all": True},
    "ExemplarDataset": {
        "dataset": REQUIRED,
        "transformations": None,
        "n_classes": 8000,
        "n_trans": 100,
        "max_elms": 10,
        "p": 0.5,
    },
    "JigsawDataset": {
        "dataset": REQUIRED,
        "transformations": None,
        "jigsaw_path": None,
        "n_perms_per_image": 24,
        "total_perms": 24,
        "crops": 2,
        "crop_size": None,
    },
    "batched_collate": {"items": REQUIRED},
    "jigsaw": {
        "img": REQUIRED,
        "perm": REQUIRED,
        "s": REQUIRED,
        "trans": REQUIRED,
        "normed": True,
        "crops": 3,
    },
    "elastic_transform": {"img": REQUIRED, "sigma": REQUIRED},
    "visualize": {"dataset": REQUIRED, "idx": 0, "folder_path": "", "batched": False},
}
MEMORY: dict[str, dict[str, Any]] = {
    "BatchedQueue": {"K": 8, "batch_size": 128, "embedding_size": 64, "init_tensor": None},
    "BatchedMemory": {"size": 128, "embedding_size": 64, "init_tensor": None, "momentum": 1.0},
}
UTILS: dict[str, dict[str, Any]] = {
    "classification_loss": {"outputs": REQUIRED, "labels": REQUIRED},
    "test": {
        "model": REQUIRED,
        "test_dataset": REQUIRED,
        "loss_f": ...,
        "batch_size": 48,
        "shuffle": False,
        "num_workers": 0,
        "collate_fn": None,
    },
}
METHODS = {
    "BatchedQueue": ["reset_pointer", "increment", "init_w_loader_and_model", "enqueue", "data"],
    "BatchedMemory": ["update", "data", "save", "load", "__getitem__"],
}
CALLABLES = [
    "MomentumContrastAugmentations",
    "BYOLAugmentations",
    "ContrastivePredictiveCodingAugmentations",
    "PIRLAugmentations",
    "JigsawAugmentations",
]


def by_position(thing: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Parameters that may be given without their name, in order, with their defaults."""
    parameters = inspect.signature(thing).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    return {one.name: one.default for one in parameters if one.kind in kinds and one.name not in leave_out}


def check(found: dict[str, Any], promised: dict[str, Any]) -> None:
    assert list(found) == list(promised)
    for name, value in promised.items():
        assert value is ... or found[name] == value or found[name] is value, f"{name}={found[name]!r}"


def test_all_thirteen_are_there() -> None:
    assert {cls.__name__ for cls in all_supervisors().values()} >= set(SUPERVISORS)


@pytest.mark.parametrize("name", SUPERVISORS)
def test_constructors_of_algorithms(name: str) -> None:
    cls = getattr(importlib.import_module("super_selfish.supervisors"), name)
    check(by_position(cls), {"dataset": None, **SUPERVISORS[name]})
    instance = cls()
    for attribute in ("model", "dataset", "loss", "collate_fn"):
        assert hasattr(instance, attribute)
    assert hasattr(instance, "memory") == (name in BANKS)


BANKS = ("InstanceDiscriminationSupervisor", "ContrastiveMultiviewCodingSupervisor", "PIRLSupervisor")


@pytest.mark.parametrize("name", BASES)
def test_constructors_of_bases(name: str) -> None:
    found = by_position(getattr(importlib.import_module("super_selfish.supervisors"), name))
    promised = BASES[name]
    check({key: found[key] for key in list(found)[: len(promised)]}, promised)


@pytest.mark.parametrize("name", ["Supervisor", "LabelSupervisor", "GanSupervisor", *SUPERVISORS])
def test_stages_have_the_same_signature_everywhere(name: str) -> None:
    cls = getattr(importlib.import_module("super_selfish.supervisors"), name)
    for stage, parameters in STAGES.items():
        assert list(by_position(getattr(cls, stage), ("self",))) == parameters
    check(by_position(cls.supervise, ("self",)), SUPERVISE)
    for method in ("save", "load"):
        check(by_position(getattr(cls, method), ("self",)), {"name": "store/base"})
    assert all(callable(getattr(cls, method)) for method in ("to", "get_backbone", "get_predictor"))


@pytest.mark.parametrize(
    ("module", "name", "promised"),
    [
        (module, name, promised)
        for module, table in (("models", MODELS), ("data", DATA), ("memory", MEMORY), ("utils", UTILS))
        for name, promised in table.items()
    ],
)
def test_networks_data_sets_and_functions(module: str, name: str, promised: dict[str, Any]) -> None:
    check(by_position(getattr(importlib.import_module(f"super_selfish.{module}"), name)), promised)


def test_modules_without_a_fixed_number_of_parts() -> None:
    models = importlib.import_module("super_selfish.models")
    parts = inspect.signature(models.SequentialUpTo).parameters
    assert [(one.kind.name, one.name) for one in parts.values()] == [
        ("VAR_POSITIONAL", "modules"),
        ("KEYWORD_ONLY", "up_to"),
    ]
    assert parts["up_to"].default == -1
    assert next(iter(inspect.signature(models.ConvMasked2d).parameters)) == "mask"


@pytest.mark.parametrize(("name", "methods"), METHODS.items())
def test_methods_of_memories(name: str, methods: list[str]) -> None:
    cls = getattr(importlib.import_module("super_selfish.memory"), name)
    assert all(callable(getattr(cls, method)) for method in methods)
    assert issubclass(cls, nn.Module)


def test_the_bank_draws_by_the_old_parameters() -> None:
    bank = importlib.import_module("super_selfish.memory").BatchedMemory(9, 4)
    assert list(by_position(bank.data)) == ["m", "batch_size", "but_idx"]
    assert bank.data(3, 2).shape == (2, 3, 4)
    assert bank.memory.shape == (9, 4)
    assert list(by_position(bank.update)) == ["k", "idx"]


@pytest.mark.parametrize("name", CALLABLES)
def test_augmentations_take_and_give_pictures(name: str) -> None:
    augment = getattr(importlib.import_module("super_selfish.data"), name)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    assert isinstance(augment(picture), Image.Image)


def test_colours_by_their_old_name() -> None:
    colours = importlib.import_module("super_selfish.utils").bcolors
    assert all(isinstance(getattr(colours, name), str) for name in ("OKBLUE", "OKGREEN", "WARNING", "FAIL", "ENDC"))


def test_moving_a_supervisor_returns_it() -> None:
    supervisor = Supervisor(CombinedNet(nn.Flatten(), nn.Linear(2, 2)))
    assert supervisor.to("cpu") is supervisor.cpu() is supervisor.to(torch.float64) is supervisor
    assert supervisor.device == torch.device("cpu")


def test_efficient_net_by_its_old_path() -> None:
    package = importlib.import_module("super_selfish.efficientnet_pytorch")
    module = importlib.import_module("super_selfish.efficientnet_pytorch.model")
    dependency = importlib.import_module("efficientnet_pytorch")
    assert package.EfficientNet is module.EfficientNet is dependency.EfficientNet
