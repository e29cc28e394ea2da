"""`cache=` of every constructor: it affects the reading time only."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import nn

import super_selfish
from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import RotateNetSupervisor, all_supervisors

QUIET: dict[str, Any] = {"lr": 1e-2, "batch_size": 4, "verbose": False}


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for place in range(8):
        image = np.random.default_rng(place).integers(0, 256, (50 + place, 70, 3), np.uint8)
        Pillow.fromarray(image).save(tmp_path / "photos" / f"{place}.jpg")
    return tmp_path / "photos"


def make(photos: Path, **options: Any) -> RotateNetSupervisor:
    torch.manual_seed(0)
    return RotateNetSupervisor(photos, backbone=Tiny(), resolution=32, **options)


def test_every_constructor_takes_it_and_shows_it() -> None:
    for cls in all_supervisors().values():
        assert inspect.signature(cls).parameters["cache"].default is None
    with pytest.raises(ConfigurationError, match="`cache` is unknown"):
        RotateNetSupervisor(cache="resize")


def test_weights_are_the_same_with_and_without(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPER_SELFISH_CACHE", str(tmp_path / "mine"))
    plain = make(photos).supervise(epochs=2, name="a", **QUIET).state_dict()
    for workers in (0, 2, 0):
        kept = make(photos, cache="resized").supervise(epochs=2, name="b", num_workers=workers, **QUIET).state_dict()
        assert all(torch.equal(plain[key], kept[key]) for key in plain)
    assert len(list((tmp_path / "mine" / "resized").iterdir())) == 1


def test_it_is_no_part_of_what_is_stored(photos: Path, tmp_path: Path) -> None:
    first = make(photos, cache=tmp_path / "kept").supervise(epochs=1, name="a", **QUIET)
    assert "cache" not in first.hyperparameters()
    assert "cache" not in repr(first)
    assert "kept" not in json.dumps(json.loads(Path("a.json").read_text()))
    straight = make(photos).supervise(epochs=2, name="b", checkpoint_every=1, **QUIET)
    make(photos, cache=tmp_path / "kept").supervise(epochs=1, name="c", checkpoint_every=1, **QUIET)
    resumed = make(photos).supervise(epochs=2, name="c", resume=True, checkpoint_every=1, **QUIET)
    assert all(torch.equal(one, other) for one, other in zip(straight.parameters(), resumed.parameters(), strict=True))
    make(photos, cache=tmp_path / "other").load("a")
    loaded = super_selfish.load("a", backbone=Tiny(), dataset=photos, cache=tmp_path / "third")
    loaded.supervise(epochs=1, name="d", **QUIET)
    assert len(list((tmp_path / "third").iterdir())) == 1
