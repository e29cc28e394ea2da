"""The test split and what stays out of pretraining."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from super_selfish.comparison.images import Images, fingerprint
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.studies.cohort import ALL, Cohort, make_cohort

COUNT = 120


def photos(count: int = COUNT) -> np.ndarray:
    """Images of low frequencies, so that a slight change makes a near duplicate."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)


def cohort(
    train: np.ndarray | None = None,
    groups: Any = None,
    image_groups: Any = None,
    labelled: np.ndarray | None = None,
    pretrain_on_test: bool = False,
) -> Cohort:
    pixels = photos() if labelled is None else labelled
    own = pixels.copy() if train is None else train
    images = Images(own, own[:0], pixels, np.arange(len(pixels)) % 4, groups, places=list(range(len(own))))
    return make_cohort(images, image_groups, pretrain_on_test=pretrain_on_test)


def test_split_is_stratified_and_fixed() -> None:
    found = cohort()
    assert np.bincount(found.images.labels[found.test]).tolist() == [9, 9, 9, 9]
    assert not set(found.test) & set(found.train)
    assert np.array_equal(found.test, cohort().test)


def test_groups_and_duplicates_stay_on_one_side() -> None:
    labelled = photos()
    labelled[60:90] = labelled[:30]  # duplicates, of other groups
    found = cohort(groups=[f"patient {index // 5}" for index in range(COUNT)], labelled=labelled)
    sides = [{(index // 5) for index in side} for side in (found.train, found.test)]
    assert not sides[0] & sides[1]
    prints = [{fingerprint(labelled[index]) for index in side} for side in (found.train, found.test)]
    assert not prints[0] & prints[1]
    assert len(found.test)


def test_test_images_stay_out_of_pretraining() -> None:
    found = cohort()
    assert found.left_out["test images or exact copies"] == len(found.test) == 36
    assert len(found.images.train) == COUNT - 36
    tested = {fingerprint(found.images.labelled[index]) for index in found.test}
    assert not tested & {fingerprint(image) for image in found.images.train}
    assert [fingerprint(photos()[place]) for place in found.images.places] == [
        fingerprint(image) for image in found.images.train
    ]


def test_near_duplicates_of_test_images_stay_out_of_pretraining() -> None:
    noise = np.random.default_rng(1).integers(0, 4, (COUNT, 32, 32, 3))
    found = cohort(train=np.clip(photos().astype(int) + noise, 0, 255).astype(np.uint8))
    assert found.left_out["test images or exact copies"] == 0
    assert found.left_out["near duplicates of test images"] == 36
    assert not set(found.images.places) & set(found.test.tolist())


def test_float_images_have_the_same_near_duplicates() -> None:
    pixels = (photos() / 255).astype(np.float32)
    assert cohort(train=pixels + np.float32(0.004), labelled=pixels).left_out["near duplicates of test images"] == 36


def test_groups_of_test_images_stay_out_of_pretraining() -> None:
    other = np.random.default_rng(2).integers(0, 256, (COUNT, 32, 32, 3)).astype(np.uint8)
    groups = [index // 5 for index in range(COUNT)]
    image_groups = [None if index < 20 else group for index, group in enumerate(groups)]
    found = cohort(train=other, groups=groups, image_groups=image_groups)
    tested = {groups[index] for index in found.test}
    assert found.left_out["in a group of test images"] > 0
    assert not tested & {image_groups[place] for place in found.images.places}
    assert set(range(20)) <= set(found.images.places)  # images without a group stay


def test_test_images_may_be_allowed() -> None:
    found = cohort(pretrain_on_test=True)
    assert found.left_out == {}
    assert len(found.images.train) == COUNT


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="pretrain_on_test"):
        cohort(train=photos()[cohort().test])
    with pytest.raises(ConfigurationError, match="test images"):
        cohort(labelled=photos(24))


def test_draws_have_so_many_labels_of_each_class_and_are_nested() -> None:
    found = cohort()
    assert found.counts((1, 5, 20, 100)) == [1, 5, 20, ALL]
    for draw in range(3):
        few, more = found.drawn(1, draw), found.drawn(5, draw)
        assert np.bincount(found.labels[more]).tolist() == [5, 5, 5, 5]
        assert set(few) <= set(more) <= set(found.train)
    assert set(found.drawn(5, 0)) != set(found.drawn(5, 1))
    assert np.array_equal(found.drawn(ALL, 3), found.train)
    assert found.labels_a_class(ALL) == 21
