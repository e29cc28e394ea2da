"""Every algorithm trains: all of its parameters, at any size, whoever reads the images."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.data import CPCTransform, MoCoTransform
from super_selfish.loading.keyed import KeyedDataset
from super_selfish.losses import CPCLoss
from super_selfish.models import CombinedNet
from super_selfish.supervisors import all_supervisors
from super_selfish.training import Callback

QUIET = {"verbose": False, "name": "store/test"}


def test_constructs_without_images(algorithm: str) -> None:
    supervisor = all_supervisors()[algorithm]()
    assert supervisor.dataset is None
    assert supervisor.feature_dim == {"bi_gan": 1568}.get(algorithm, 3136)
    assert supervisor.algorithm() == algorithm
    assert algorithm.split("_")[0] in repr(supervisor).lower()


@pytest.mark.parametrize("backbone", ["small_resnet", None])
def test_feature_dim_is_the_number_of_columns_and_the_size_of_a_head(
    make: Callable[..., Any], images: Callable[..., Any], backbone: str | None
) -> None:
    """``None``: a network that returns feature maps."""
    supervisor = make(images(2), **({} if backbone is None else {"backbone": backbone})).eval()
    features, _ = supervisor.extract(images(2))
    assert features.shape == (2, supervisor.feature_dim)
    head = torch.nn.Linear(supervisor.feature_dim, 3)
    net = CombinedNet(supervisor.get_backbone(), head).eval()
    expected = head(torch.from_numpy(features))
    torch.testing.assert_close(net(supervisor.preprocess(images(2))), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (97, 130), pytest.param((225, 225), marks=pytest.mark.slow)])
def test_trains_at_any_size(make: Callable[..., Any], images: Callable[..., Any], size: tuple[int, int]) -> None:
    supervisor = make(images(8, *size))
    assert supervisor.supervise(epochs=1, batch_size=4, **QUIET) is supervisor
    assert supervisor.train_state.step == 2
    assert np.isfinite(supervisor.history[-1]["loss"])
    features, names = supervisor.extract(images(3, *size))
    assert features.shape[0] == len(names) == 3
    assert not supervisor.training


def test_every_trainable_parameter_moves_and_no_other_gets_a_gradient(
    make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    supervisor = make(images(8))
    before = {name: value.detach().clone() for name, value in supervisor.named_parameters()}
    trainable = {id(parameter) for parameter in supervisor.trainable_parameters()}
    supervisor.supervise(lr=0.01, optimizer=torch.optim.SGD, epochs=1, batch_size=8, **QUIET)
    for name, value in supervisor.named_parameters():
        if id(value) in trainable:
            assert not torch.equal(before[name], value), name
        else:  # averages move without a gradient
            assert not value.requires_grad, name
            assert value.grad is None, name


TINTED = MoCoTransform(jitter_p=0.0, grey=0.0)
EASY = {
    "exemplar_net": {"max_elms": 1},  # five changes of colour leave little of a tint
    "jigsaw_net": {"total_perms": 4, "normed": False, "grey": 0.0},  # normalised tiles of a slope are all alike
    # a queue, random at first, would lift the loss; batch norm in groups of four takes the tint away
    "momentum_contrast": {"queue_size": 0, "m": 0.9, "views": TINTED, "bn_splits": 1},
    # rows that begin at random are noise for an epoch; of so few images all others are negatives
    "instance_discrimination": {"bank_init": "forward", "views": TINTED, "t": 0.1},
    "pirl": {"centred": False},  # the statistics of eight embeddings are noise
    "contrastive_predictive_coding": {  # one step, told by brightness and tint
        "views": CPCTransform(0, elastic=0.0, gamma=0.0, jitter_p=0.0, grey=0.0),
        "loss": CPCLoss(k=1, ignore=0, scale=1.0),
    },
    "bi_gan": {"rec_weight": 100.0},  # what two players cost each other does not fall
}


def test_loss_falls_on_a_few_images(algorithm: str, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(16), **EASY.get(algorithm, {}))
    supervisor.supervise(lr=3e-3, epochs=15, batch_size=8, **QUIET)
    losses = [entry["loss"] for entry in supervisor.history]
    assert len(losses) == 15
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    assert [entry["epoch"] for entry in supervisor.history] == list(range(1, 16))


@pytest.mark.promise(11)
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")  # more than this machine's cores
@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_workers_do_not_matter(
    make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any], workers: int
) -> None:
    ends = []
    for count in (0, workers):
        supervisor = make(images(20)).supervise(epochs=2, batch_size=6, num_workers=count, **QUIET)
        ends.append(weights(supervisor))
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_the_seed_rules_everything_after_the_constructor(
    make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    ends = []
    for seed in (1, 1, 2):
        supervisor = make(images(20))
        torch.rand(seed)  # what others draw in between is of no influence
        state = torch.get_rng_state()
        ends.append(weights(supervisor.supervise(epochs=1, batch_size=6, seed=seed, **QUIET)))
        assert torch.equal(state, torch.get_rng_state()), "training disturbed the user's generator"
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert any(not torch.equal(ends[0][key], ends[2][key]) for key in ends[0])


class Indices(Callback):
    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def on_step_end(self, run: Any) -> None:
        self.batches.append(list(run.loader.last_indices))


def test_only_full_batches_each_image_at_most_once(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    seen = Indices()
    make(images(11)).supervise(epochs=2, batch_size=4, callbacks=[seen], **QUIET)
    assert [len(batch) for batch in seen.batches] == [4] * 4
    for epoch in (seen.batches[:2], seen.batches[2:]):
        assert len({index for batch in epoch for index in batch}) == 8
    assert seen.batches[:2] != seen.batches[2:]


def test_epochs_count_over_life(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    together, apart = Indices(), Indices()
    make(images(8)).supervise(epochs=4, batch_size=4, callbacks=[together], **QUIET)
    supervisor = make(images(8))
    for _ in range(4):
        supervisor.supervise(epochs=1, batch_size=4, callbacks=[apart], **QUIET)
    assert together.batches == apart.batches
    assert len({tuple(batch) for batch in apart.batches}) > 4
    assert supervisor.train_state.epoch == 4


def test_a_small_data_set_shrinks_the_batch(
    make: Callable[..., Any], images: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        supervisor = make(images(5)).supervise(epochs=1, batch_size=64, **QUIET)
    assert supervisor.train_state.step == 1
    assert supervisor.train_state.samples == 5
    assert "batch_size=64 is reduced to 5" in caplog.text


def test_batch_of_two(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    assert make(images(4)).supervise(epochs=1, batch_size=2, **QUIET).train_state.step == 2


def test_can_be_sent_to_spawned_workers(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(4))
    keyed = pickle.loads(pickle.dumps(KeyedDataset(supervisor.dataset, 0, None, "raise")))
    assert len(keyed) == 4


def test_two_instances_share_nothing(algorithm: str) -> None:
    first, second = all_supervisors()[algorithm](), all_supervisors()[algorithm]()
    own = {tensor.data_ptr() for tensor in first.state_dict().values() if tensor.numel()}
    assert not own & {tensor.data_ptr() for tensor in second.state_dict().values() if tensor.numel()}


def test_micro_batches_add_up(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    """Without batch statistics, a batch in uneven parts gives the gradient of the whole, or is refused."""
    if not make(images(8)).decomposable:
        with pytest.raises(ValueError, match="`accumulate` would change the loss"):
            make(images(8)).supervise(epochs=1, batch_size=8, accumulate=3, **QUIET)
        return
    ends = []
    for accumulate in (1, 3):
        supervisor = make(images(8), predictor=None)
        for module in supervisor.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
                module.train = lambda _mode=True, frozen=module: frozen  # type: ignore[method-assign, misc]
        supervisor.supervise(lr=0.1, optimizer=torch.optim.SGD, epochs=1, batch_size=8, accumulate=accumulate, **QUIET)
        assert supervisor.train_state.step == 1
        ends.append(torch.cat([parameter.detach().flatten() for parameter in supervisor.parameters()]))
    assert torch.allclose(ends[0], ends[1], atol=1e-6)


def test_default_arguments_are_not_warned_about(
    make: Callable[..., Any], images: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Which arguments to pass is no news to somebody who passed none."""
    with caplog.at_level(logging.WARNING):
        make(images(160)).supervise(epochs=1, batch_size=16, name="store/test", verbose=False, watch=0)
    written = [record.getMessage() for record in caplog.records]
    assert [text for text in written if re.search(r"\b[a-z_]+=\d", text)] == []
