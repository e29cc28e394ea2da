"""Every algorithm can be looked at, before and after training, on its own images or others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from super_selfish.training import Callback

QUIET = {"verbose": False, "name": "store/test", "checkpoint_every": 0}


def captions(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_picture_before_and_after_training(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(8))
    before = supervisor.preview(count=3)
    assert captions(before) == captions(supervisor.preview(count=3)), "the same each time"
    assert captions(before)[0].endswith("?")
    supervisor.supervise(epochs=1, batch_size=4, **QUIET)
    state, mode = torch.get_rng_state(), supervisor.training
    weights = {key: value.clone() for key, value in supervisor.state_dict().items()}
    after = supervisor.preview(images(6, seed=3), count=3, path="pictures/after.png")
    assert Path("pictures/after.png").read_bytes().startswith(b"\x89PNG")
    assert captions(after) != captions(before), "answers are told"
    assert torch.equal(state, torch.get_rng_state())
    assert supervisor.training == mode
    assert all(torch.equal(value, supervisor.state_dict()[key]) for key, value in weights.items())
    assert len(after.axes[0].images) >= 3


def test_the_score_does_not_depend_on_the_images_that_are_drawn(
    make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    supervisor = make(images(8))
    notes = [captions(supervisor.preview(count=count))[1] for count in (2, 3)]
    assert all("not trained yet" in note for note in notes)
    assert not any("%" in text for text in captions(supervisor.preview(count=2))[1:])
    supervisor.train_state.step = 1
    scores = [captions(supervisor.preview(count=count))[1].splitlines()[-2:] for count in (2, 3)]
    assert scores[0] == scores[1]
    score = supervisor.evaluate_pretext()
    assert scores[0] == [
        f"{score.name[0].upper()}{score.name[1:]}: {score.format(score.value)} on 8 images.",
        f"{score.context}.",
    ]
    assert (score.interval is None) == ("95 % interval" not in scores[0][1])


def test_no_images(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="no images"):
        make().preview()
    with pytest.raises(ValueError, match="`count`"):
        make(images(4)).preview(count=0)


def test_a_preview_does_not_move_the_training(
    make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    class Look(Callback):
        def on_epoch_end(self, run: Any) -> None:
            run.supervisor.preview(count=2)

    ends = [
        weights(make(images(8)).supervise(epochs=2, batch_size=4, callbacks=callbacks, **QUIET))
        for callbacks in ([], [Look()])
    ]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
