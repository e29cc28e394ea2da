"""Every algorithm scores its pretext task on held-out images, beside a trivial baseline, and changes nothing by it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from super_selfish.errors import ConfigurationError, DataError
from super_selfish.training import Callback

QUIET = {"verbose": False, "name": "store/test", "checkpoint_every": 0}


def test_score_of_fewer_images_than_a_chunk(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(24))
    score = supervisor.evaluate_pretext(images(24, seed=1))
    assert math.isfinite(score.value)
    assert math.isfinite(score.trivial)
    assert score.images == 24
    assert score.better_than_trivial in (True, False)
    assert str(score).startswith(score.name)
    assert score == supervisor.evaluate_pretext(images(24, seed=1)), "the seed determines the score"


def test_evaluation_has_no_side_effects(
    make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    supervisor = make(images(8)).supervise(epochs=1, batch_size=4, **QUIET)
    supervisor.train()
    supervisor.model.backbone.eval()
    modes = {name: module.training for name, module in supervisor.named_modules()}
    before, state, position = weights(supervisor), torch.get_rng_state(), np.random.get_state()[1].copy()
    history, step = list(supervisor.history), supervisor.train_state.step
    supervisor.evaluate_pretext(images(6, seed=3), count=5)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(position, np.random.get_state()[1])
    assert modes == {name: module.training for name, module in supervisor.named_modules()}
    after = weights(supervisor)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert (supervisor.history, supervisor.train_state.step) == (history, step)


def test_evaluation_during_training_does_not_change_the_training(
    make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    class Evaluate(Callback):
        def on_step_end(self, run: Any) -> None:
            run.supervisor.evaluate_pretext(images(4, seed=1))

    ends = [
        weights(make(images(8)).supervise(epochs=2, batch_size=4, callbacks=callbacks, **QUIET))
        for callbacks in ([], [Evaluate()])
    ]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_folders_lists_and_arrays_give_the_same_score(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    held_out = images(6, seed=1)
    Path("held_out").mkdir()
    for number, image in enumerate(held_out):
        Image.fromarray(image).save(f"held_out/{number}.png")
    supervisor = make(images(6), resolution=32)
    values = [supervisor.evaluate_pretext(data).value for data in (held_out, list(held_out), "held_out")]
    assert values == pytest.approx([values[0]] * 3, abs=1e-5)


def test_a_loaded_supervisor_has_the_same_score(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(8)).supervise(epochs=1, batch_size=4, **QUIET)
    loaded = make(channels=3, resolution=32).load("store/test")
    assert loaded.dataset is None
    expected, score = supervisor.evaluate_pretext(), loaded.evaluate_pretext(images(8))
    assert score.value == pytest.approx(expected.value, abs=1e-5)
    with pytest.raises(ConfigurationError):
        loaded.evaluate_pretext()


def test_the_score_is_a_mean_over_chunks(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(9))
    supervisor.pretext_chunk = 4
    seen = []
    scored = supervisor._score_pretext

    def record(data: Any, draw_again: Any) -> Any:
        seen.append(scored(data, draw_again))
        return seen[-1]

    supervisor._score_pretext = record
    score = supervisor.evaluate_pretext()
    assert len(seen) == 3
    assert score.images == 9
    assert score.value == pytest.approx(np.mean([part.value for part in seen]))


def test_wrong_arguments(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(8))
    for arguments in ({"count": 1}, {"seed": -1}, {"on_error": "hide"}):
        with pytest.raises(ConfigurationError):
            supervisor.evaluate_pretext(**arguments)


def test_unreadable_images(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    Path("photos").mkdir()
    for number, image in enumerate(images(6)):
        Image.fromarray(image).save(f"photos/{number}.png")
    supervisor = make("photos", resolution=32)
    Path("photos/2.png").write_bytes(b"damaged")
    with pytest.raises(DataError):
        supervisor.evaluate_pretext()
    assert supervisor.evaluate_pretext(on_error="skip").images == 5


def test_a_network_of_nan_is_not_better(make: Callable[..., Any], images: Callable[..., Any]) -> None:

    supervisor = make(images(8))
    with torch.no_grad():
        for parameter in supervisor.parameters():
            parameter.fill_(torch.nan)
    assert supervisor.evaluate_pretext(images(8, seed=1)).better_than_trivial is False


def test_terms_that_a_subclass_adds_are_not_part_of_the_score(
    make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    supervisor = make(images(8))

    class Own(type(supervisor)):  # type: ignore[misc]
        def _forward(self, data: Any) -> Any:
            loss = super()._forward(data)
            return (loss[0] + 100, *loss[1:]) if isinstance(loss, tuple) else loss + 100

    own = make(images(8), cls=Own)
    own.load_state_dict(supervisor.state_dict())
    score, plain = (each.evaluate_pretext(images(8, seed=1)) for each in (own, supervisor))
    assert (score.value, score.trivial) == pytest.approx((plain.value, plain.trivial))
