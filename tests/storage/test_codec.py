"""Round trips of state through JSON and safetensors."""

from __future__ import annotations

import copy
import json
import math
import random
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import lr_scheduler

from super_selfish.errors import CheckpointCorrupt
from super_selfish.storage.codec import MAX_DEPTH, decode, encode


def through_files(tree: Any) -> Any:
    skeleton, tensors = encode(tree)
    return decode(json.loads(json.dumps(skeleton, allow_nan=False)), load(save(tensors)))


def same(first: Any, second: Any) -> bool:
    """Recursive equality of values, types and order of keys; NaN equals NaN."""
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and first.shape == second.shape and torch.equal(first, second)
    if isinstance(first, (np.ndarray, np.generic)):
        return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
    if isinstance(first, dict):
        return same(list(first.items()), list(second.items()))
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, float):
        return first.hex() == second.hex()
    return bool(first == second)


PLAIN = [
    *[None, True, False, 0, 1, -1, 2**63, -(2**64), 3**20000, -(3**20000), 0.0, -0.0, 1.0, 0.1, 5e-324, 1e308],
    *[math.nan, math.inf, -math.inf, "", "ü\0\n", "\ud800", "$t", [], [1, 1.0, True], (), (1, (2,)), {}],
    *[{"a": 1}, {"$t": "a"}, {"$f": {"$f": 1}}, {1: 2, "1": 3, None: 4, (1, "x"): 5, 0.5: 6}, {True: 1, 2: 3}],
    *[Counter({3: 1, 7: 2}), Counter(), OrderedDict(b=1, a=2), OrderedDict(), torch.Size([2, 3])],
    {np.int64(3): [np.float32(0.1)]},
]
TENSORS = [
    *[torch.arange(6.0).reshape(2, 3), torch.tensor(3), torch.zeros(0, 4), torch.tensor([True, False])],
    *[torch.arange(6).reshape(2, 3).T, torch.ones(1).expand(3), torch.tensor([0.1, -0.0]).bfloat16()],
    *[torch.arange(3).to(dtype) for dtype in (torch.uint8, torch.int16, torch.float16, torch.float64)],
    {"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}, "__metadata__": torch.ones(2), "\ud800": torch.ones(3)},
]
ARRAYS = [
    *[np.arange(6, dtype=kind).reshape(2, 3) for kind in ("u2", "u4", "u8", "i1", "f2", "f4", "f8", "c8", "c16")],
    *[np.array([True, False]), np.array(2.5), np.zeros((0, 3)), np.arange(6).reshape(2, 3).T, np.arange(9)[::-2]],
    *[np.float64(0.1), np.float32(math.nan), np.int64(-3), np.uint64(2**64 - 1), np.bool_(True), np.complex64(1j)],
]


@pytest.mark.parametrize("tree", [*PLAIN, *TENSORS, *ARRAYS], ids=lambda tree: type(tree).__name__)
def test_round_trip(tree: Any) -> None:
    assert same(through_files(tree), tree)
    assert same(through_files([{"x": (tree,)}]), [{"x": (tree,)}])


def test_encode_copies_tensors_and_arrays() -> None:
    weights, numbers = nn.Parameter(torch.ones(2)), np.ones(2)
    skeleton, tensors = encode([weights, numbers])
    with torch.no_grad():
        weights.zero_()
    numbers[:] = 0
    first, second = decode(skeleton, tensors)
    assert torch.equal(first, torch.ones(2))
    assert not first.requires_grad
    assert second.tolist() == [1, 1]


def test_shared_memory_is_stored_once() -> None:
    tied = torch.ones(4)
    skeleton, tensors = encode({"a": tied, "b": [tied.view(4)], "part": tied[:2], "other": torch.ones(4)})
    assert list(tensors) == ["a", "part", "other"]
    tree = decode(skeleton, tensors)
    assert tree["a"] is tree["b"][0]
    square = torch.arange(4).reshape(2, 2)
    views = [square, square.T, square.view(torch.float64), square[0], square[1], torch.zeros(0), torch.zeros(0, 1)]
    assert same(through_files(views), views)


def test_tensors_keep_the_names_of_the_state_dict() -> None:
    assert list(encode(nn.Linear(2, 2).state_dict())[1]) == ["weight", "bias"]


def test_big_endian_arrays_keep_their_values() -> None:
    decoded = through_files(np.arange(3, dtype=">i4"))
    assert decoded.tolist() == [0, 1, 2]
    assert decoded.dtype == np.dtype("i4")


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda: 0, "function"),
        (Path("x"), "PosixPath|WindowsPath"),
        ({1}, "set"),
        (b"x", "bytes"),
        (1j, "complex"),
        (Text("x"), "Text"),
        (namedtuple("Pair", "a b")(1, 2), "Pair"),
        (defaultdict(list), "defaultdict"),
        (torch.float32, "torch.dtype"),
        (torch.device("cpu"), "torch.device"),
        (torch.Generator(), "Generator"),
        (torch.ones(2, dtype=torch.complex64), "complex64"),
        (torch.ones(2, device="meta"), "on meta"),
        (torch.eye(2).to_sparse(), "sparse_coo"),
        (np.array([object()]), "ndarray of object"),
        (np.array(["x"]), "ndarray of <U1"),
        (np.ma.masked_array([1], [True]), "MaskedArray"),
        (np.datetime64("2020-01-01"), "datetime64"),
        (nn.Linear(1, 1), "Linear"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.promise(34)
def test_unsupported_type_raises_with_its_path(value: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"`memory\.rows\.0` .*({kind})"):
        encode({"rows": [value]}, "memory")


def test_unsupported_keys_raise() -> None:
    for key in (torch.ones(1), frozenset({1}), (1, frozenset()), lambda: 0):
        with pytest.raises(TypeError, match="key"):
            encode({key: 1})


def nested(depth: int, leaf: Any = 0) -> Any:
    for level in range(depth):
        leaf = ([leaf], (leaf,), {"a": leaf}, {1: leaf})[level % 4]
    return leaf


@pytest.mark.promise(32)
def test_depth_limit() -> None:
    assert same(through_files(nested(MAX_DEPTH)), nested(MAX_DEPTH))
    with pytest.raises(TypeError, match="nested"):
        encode(nested(MAX_DEPTH + 1))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TypeError, match="nested"):
        encode(loop)
    skeleton: Any = 0
    for _ in range(MAX_DEPTH + 1):
        skeleton = {"$tuple": [skeleton]}
    with pytest.raises(CheckpointCorrupt, match="nested"):
        decode(skeleton, {})


@pytest.mark.parametrize(
    "skeleton",
    [
        *[{"$x": 1}, {"$import": "os.system"}, {"$f": 1.0}, {"$f": "1e5"}, {"$f": ["nan"]}, {"$f": "nan", "a": 1}],
        *[{"$i": 3}, {"$i": "0x"}, {"$i": "__import__"}, {"$i": "1" * 9999}, {"$tuple": {}}, {"$tuple": "ab"}],
        *[{"$size": [1.5]}, {"$size": [-1]}, {"$size": [2**63]}, {"$size": "a"}, {"$dict": {}}, {"$dict": [[1]]}],
        *[{"$dict": ["ab"]}, {"$dict": [[[1], 2]]}, {"$dict": [[1, 2], [1, 3]]}, {"$dict": [[{"$t": "t"}, 1]]}],
        *[{"$counter": 3}, {"$ordered": [1]}, {"$t": "absent"}, {"$t": ["t"]}, {"$t": 1}, {"$np": "f"}, {"$np": []}],
        *[{"$np": ["object", "00"]}, {"$np": [["f"], "00"]}, {"$np": ["float32", "00"]}, {"$np": ["int8", "zz"]}],
        *[{"$np": ["int8", 5]}, {"$np": ["int8", [4], "absent"]}, {"$np": ["int8", [5], "t"]}],
        *[{"$np": ["int8", [-1, -4], "t"]}, {"$np": ["int8", 4, "t"]}, {"$np": ["int8", [4], "float"]}],
        *[{"$np": ["int8", [0, 2**61, 2**61], "empty"]}, {"$np": ["int8", [1] * 80 + [4], "t"]}, b"x", {1: 2}],
    ],
    ids=lambda skeleton: repr(skeleton)[:40],
)
@pytest.mark.promise(32)
def test_damaged_skeleton_raises(skeleton: Any) -> None:
    tensors = {"t": torch.zeros(4, dtype=torch.uint8), "float": torch.ones(4), "empty": torch.zeros(0).byte()}
    for tree in (skeleton, [skeleton], {"a": {"$tuple": [skeleton]}}):
        with pytest.raises(CheckpointCorrupt, match="damaged"):
            decode(tree, tensors)


def test_states_of_random_generators() -> None:
    numpy_random = np.random.default_rng(3)
    numpy_random.random(5)
    states = (random.getstate(), np.random.get_state(legacy=False), numpy_random.bit_generator.state)
    assert same(through_files(states), states)
    assert same(through_files(torch.get_rng_state()), torch.get_rng_state())
    python, old, new = through_files(states)
    drawn = [random.random(), np.random.rand(), numpy_random.random()]
    random.setstate(python)
    np.random.set_state(old)
    numpy_random.bit_generator.state = new
    assert [random.random(), np.random.rand(), numpy_random.random()] == drawn


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}
OPTIMIZERS["SGD with momentum"] = partial(torch.optim.SGD, momentum=0.9, nesterov=True)
OPTIMIZERS["AMSGrad"] = partial(torch.optim.AdamW, amsgrad=True)
OPTIMIZERS["centered RMSprop"] = partial(torch.optim.RMSprop, centered=True, momentum=0.5)
OPTIMIZERS["lr as a tensor"] = lambda parameters, lr: torch.optim.Adam(parameters, lr=torch.tensor(lr))


def train(table: nn.Embedding, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):

        def loss(step: int = step) -> Tensor:
            optimizer.zero_grad()
            value = (table(torch.tensor([step % 3, 3])) ** 2 + table(torch.tensor([step % 4, 1])).sin()).sum()
            value.backward()
            return value

        optimizer.step(loss)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_resumes_exactly(name: str) -> None:
    tables = [nn.Embedding(4, 5, sparse=name == "SparseAdam") for _ in range(2)]
    first, second = (OPTIMIZERS[name](table.parameters(), lr=0.05) for table in tables)
    train(tables[0], first, 3)
    state = first.state_dict()
    assert same(through_files(state), state)
    second.load_state_dict(through_files(state))
    tables[1].load_state_dict(through_files(tables[0].state_dict()))
    assert torch.equal(tables[0].weight, tables[1].weight)
    for table, optimizer in zip(tables, (first, second), strict=True):
        train(table, optimizer, 4, start=3)
    assert torch.equal(tables[0].weight, tables[1].weight)
    assert same(first.state_dict(), second.state_dict())


class Decay:
    """A custom schedule with state."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, epoch: int) -> float:
        return self.rate**epoch


S = lr_scheduler
SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "StepLR": lambda o: S.StepLR(o, 2),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [2, 4, 4]),
    "ConstantLR": lambda o: S.ConstantLR(o, total_iters=4),
    "LinearLR": lambda o: S.LinearLR(o, total_iters=6),
    "ExponentialLR": lambda o: S.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: S.CosineAnnealingLR(o, 5),
    "PolynomialLR": lambda o: S.PolynomialLR(o, 6, power=2.0),
    "CyclicLR": lambda o: S.CyclicLR(o, 0.01, 0.1, step_size_up=2),
    "CyclicLR exp": lambda o: S.CyclicLR(o, 0.01, 0.1, step_size_up=2, mode="exp_range", gamma=0.9),
    "CyclicLR custom": lambda o: S.CyclicLR(o, 0.01, 0.1, step_size_up=2, scale_fn=Decay(0.5), scale_mode="iterations"),
    "OneCycleLR": lambda o: S.OneCycleLR(o, 0.1, total_steps=20),
    "CosineAnnealingWarmRestarts": lambda o: S.CosineAnnealingWarmRestarts(o, 3),
    "SequentialLR": lambda o: S.SequentialLR(o, [S.ConstantLR(o), S.MultiStepLR(o, [2, 5])], [4]),
    "ChainedScheduler": lambda o: S.ChainedScheduler([S.ConstantLR(o), S.ExponentialLR(o, 0.9)], o),
    "LambdaLR": lambda o: S.LambdaLR(o, lambda epoch: 0.9**epoch),
    "LambdaLR custom": lambda o: S.LambdaLR(o, Decay(0.8)),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda _epoch: 0.9),
    "ReduceLROnPlateau": lambda o: S.ReduceLROnPlateau(o, patience=1),
}


def test_all_schedulers_of_torch_are_tested() -> None:
    known = {name for name, kind in vars(S).items() if isinstance(kind, type) and issubclass(kind, S.LRScheduler)}
    assert known - {"LRScheduler", "_LRScheduler"} == {name.split(" ")[0] for name in SCHEDULERS}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_resumes_exactly(name: str) -> None:
    def build() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
        return optimizer, SCHEDULERS[name](optimizer)

    def run(optimizer: torch.optim.Optimizer, scheduler: Any, steps: range) -> list[tuple[float, float]]:
        rates = []
        for step in steps:
            optimizer.step()
            scheduler.step(*([1.0 + step // 4] if name == "ReduceLROnPlateau" else []))
            rates.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        return rates

    first = build()
    run(*first, range(3))
    states = copy.deepcopy([part.state_dict() for part in first])
    assert same(through_files(states), states)
    second = build()
    for part, state in zip(second, through_files(states), strict=True):
        part.load_state_dict(state)
    assert run(*first, range(3, 12)) == run(*second, range(3, 12))
    assert same(first[1].state_dict(), second[1].state_dict())
