"""Promise 31: the images are other ones than those that the checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toys import At, contents, run, toy

from super_selfish.errors import DatasetChanged
from super_selfish.training import Callback


def picture(name: str, seed: int) -> None:
    Path("photos").mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(Path("photos", name))


def photos(*numbers: int) -> None:
    for number in numbers:
        picture(f"{number:02}.png", number)


def supervisor(algorithm: str = "instance_discrimination") -> Any:
    options = {"n": 4} if algorithm == "instance_discrimination" else {}
    return toy(algorithm, "photos", resolution=32, **options)


class AtBegin(Callback):
    """Does something before the first batch."""

    def __init__(self, do: Callable[[Any], object]) -> None:
        self.do = do

    def on_train_begin(self, run: Any) -> None:
        self.do(run)


def interrupted(algorithm: str = "instance_discrimination", step: int = 3) -> Any:
    """A training of twelve images in batches of four that ends behind a step."""
    photos(*range(12))
    trained = supervisor(algorithm)

    def stop() -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(trained, batch_size=4, checkpoint_every=1, callbacks=[At(step, stop)])
    return trained


@pytest.mark.parametrize("algorithm", ["instance_discrimination", "rotate_net"])
def test_31_they_are_refused_with_the_difference(algorithm: str) -> None:
    interrupted(algorithm)
    before = contents()
    Path("photos/03.png").unlink()
    Path("photos/05.png").unlink()
    photos(20, 21, 22)
    with pytest.raises(DatasetChanged, match=r"3 are new \(.*20\.png.*, 2 are gone.*allow_dataset_change=True"):
        run(supervisor(algorithm), batch_size=4, checkpoint_every=1, resume=True)
    assert contents() == before


def test_31_the_same_names_with_other_contents_are_told(caplog: Any) -> None:
    interrupted()
    noise = np.random.default_rng(9).integers(0, 256, (50, 50, 3), np.uint8)
    Image.fromarray(noise).save("photos/03.png")
    with pytest.raises(DatasetChanged, match="the same names, with other contents"):
        run(supervisor(), batch_size=4, checkpoint_every=1, resume=True)
    run(supervisor(), batch_size=4, checkpoint_every=1, resume=True, allow_dataset_change=True)
    assert "with other images" in caplog.text


@pytest.mark.parametrize("step", [2, 4])
def test_31_followed_the_bank_keeps_the_rows_of_files_that_are_still_there(step: int, caplog: Any) -> None:
    old = interrupted(step=step).memory.memory.clone()
    Path("photos/00.png").unlink()
    photos(20, 21)
    seen: list[tuple[torch.Tensor, int, int]] = []

    def look(started: Any) -> None:
        train_state = started.train_state
        seen.append((started.supervisor.memory.memory.clone(), train_state.epoch, train_state.batch))

    resumed = supervisor()
    follow = {"resume": True, "allow_dataset_change": True, "epochs": 3, "callbacks": [AtBegin(look)]}
    run(resumed, batch_size=4, checkpoint_every=1, **follow)
    rows, epoch, batch = seen[0]
    assert len(rows) == 13
    assert torch.equal(rows[:11], old[1:])
    assert torch.allclose(rows.norm(dim=1), torch.ones(13), atol=1e-5)
    assert (epoch, batch) == (-(-step // 3), 0)  # what was left of an epoch is left out
    assert "11 images; 2" in caplog.text
    assert resumed.train_state.epoch == 3


def test_31_arrays_have_no_names_and_the_bank_begins_anew(caplog: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)

    def stop() -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(toy("instance_discrimination", images, n=4), batch_size=4, checkpoint_every=1, callbacks=[At(3, stop)])
    other = toy("instance_discrimination", images[:8], n=4)
    with pytest.raises(DatasetChanged):
        run(other, batch_size=4, checkpoint_every=1, resume=True)
    run(other, batch_size=4, checkpoint_every=1, resume=True, allow_dataset_change=True)
    assert "reinitialised" in caplog.text
    assert len(other.memory) == 8
