"""A folder of photographs as a user has it, and a process that did no training."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from super_selfish.supervisors import all_supervisors

LOAD = """
import json, sys
import numpy as np, torch
import super_selfish
torch.set_num_threads(1)
for line in sys.stdin:
    name, images, output = json.loads(line)
    try:
        np.save(output, super_selfish.load(name).extract(images)[0])
        answer = "done"
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(params=sorted(all_supervisors()))
def algorithm(request: pytest.FixtureRequest) -> str:
    return request.param


def photographs_to(folder: Path, count: int, least: int, most: int) -> Path:
    """Write crops of photographs that ship with dependencies, in two classes, as JPEG and PNG files of unequal size."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    classes = {
        "inside": [data.astronaut(), data.chelsea(), data.coffee(), data.stereo_motorcycle()[0]],
        "outside": [china, flower, data.rocket(), data.hubble_deep_field()],
    }
    generator = np.random.default_rng(0)
    for number in range(count):
        name = list(classes)[number % 2]
        photograph = classes[name][number // 2 % 4]
        side = int(0.6 * min(photograph.shape[:2]))
        top, left = (int(generator.integers(0, length - side)) for length in photograph.shape[:2])
        size = tuple(int(length) for length in generator.integers(least, most, 2))
        crop = Image.fromarray(photograph[top : top + side, left : left + side]).resize(size)
        (folder / name).mkdir(parents=True, exist_ok=True)
        crop.save(folder / name / f"{number}.{'jpg' if number % 4 < 2 else 'png'}")
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photographs with sides from 200 to 400 px."""
    return photographs_to(tmp_path_factory.mktemp("photographs"), 8, 200, 400)


@pytest.fixture(scope="session")
def small_photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photographs with sides from 64 to 96 px."""
    return photographs_to(tmp_path_factory.mktemp("small_photographs"), 8, 64, 96)


@pytest.fixture(scope="session")
def features_in_new_process() -> Iterator[Callable[[Path, Path], Any]]:
    """Features of images by the weights of a name, from ``super_selfish.load`` in a process that did no training."""
    spec = importlib.util.find_spec("super_selfish")
    assert spec is not None
    assert spec.origin is not None
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD],
        env=os.environ | {"PYTHONPATH": str(Path(spec.origin).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def features(name: Path, images: Path) -> Any:
        output = name.with_suffix(".features.npy").absolute()
        process.stdin.write(json.dumps([str(name.absolute()), str(images), str(output)]) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert answer == "done", answer
        return np.load(output)

    yield features
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()
