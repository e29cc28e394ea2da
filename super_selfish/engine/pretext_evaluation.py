"""Evaluation of the pretext task on held-out images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.loading import resolve_collate_fn
from super_selfish.errors import DataError, UnreadableImage, check_argument, check_choice, is_count
from super_selfish.evaluation.pretext import PretextScore
from super_selfish.loading.collate import Collator
from super_selfish.loading.keyed import ImageRequest, KeyedDataset
from super_selfish.models.combined import in_eval_mode
from super_selfish.pretext.base import PretextDataset
from super_selfish.seeding import keyed_randomness, make_key


def evaluate(supervisor: SupervisorBase, images: object, seed: int, count: int, on_error: str) -> PretextScore:
    """Return the mean score over chunks of images; see :meth:`Supervisor.evaluate_pretext`."""
    check_argument(is_count(seed, 0), "seed", seed, "an integer of at least 0")
    check_argument(is_count(count, 2), "count", count, "an integer of at least 2")
    check_choice("on_error", on_error, ("raise", "skip"))
    with keyed_randomness(seed, supervisor.device), in_eval_mode(supervisor), torch.no_grad():
        dataset = supervisor._pretext_dataset(images)
        chosen = readable(supervisor, dataset, seed, count, on_error)
        chunks = np.array_split(chosen, -(-len(chosen) // supervisor.pretext_chunk))
        return mean_score([chunk_score(supervisor, dataset, chunk.tolist(), seed) for chunk in chunks])


def chunk_score(supervisor: SupervisorBase, dataset: Any, indices: list[int], seed: int) -> PretextScore:
    """Return the score of a chunk of images."""

    def draw(key: str) -> Any:
        return batch(supervisor, dataset, indices, make_key(seed, key))

    score = supervisor._score_pretext(draw("first"), lambda: draw("again"))
    return dataclasses.replace(score, images=len(indices))


def readable(supervisor: SupervisorBase, dataset: Any, seed: int, count: int, on_error: str) -> list[int]:
    """Return indices of at most ``count`` images in random order; ``on_error="skip"`` leaves out unreadable ones.

    Raises:
        DataError: If fewer than two images remain.
    """
    order: list[int] = (
        np.random.default_rng(make_key(seed, "evaluated images")).permutation(len(dataset))[:count].tolist()
    )
    if on_error == "skip":
        items = keyed(supervisor, dataset, make_key(seed, "first"))
        order = [index for index in order if items[ImageRequest(0, index)].sample is not None]
    if len(order) < 2:
        raise DataError("There are too few images to evaluate.", expected="at least 2", received=str(len(order)))
    return order


def keyed(supervisor: SupervisorBase, dataset: Any, key: int) -> KeyedDataset:
    """Wrap a data set so that its randomness depends only on the key and the index."""
    return KeyedDataset(dataset, key, resolve_collate_fn(dataset, supervisor.collate_fn), "raise")


def batch(supervisor: SupervisorBase, dataset: Any, indices: Sequence[int], key: int) -> Any:
    """Return a batch in the form that ``_forward`` receives.

    Raises:
        UnreadableImage: If an image cannot be read.
    """
    samples = keyed(supervisor, dataset, key)
    items = [samples[ImageRequest(0, int(index))] for index in indices]
    failures = [reason for item in items for _, reason in item.failures]
    if failures:
        raise UnreadableImage(f"An image cannot be evaluated: {failures[0]}", fix='Remove it, or pass on_error="skip".')
    batched = isinstance(dataset, PretextDataset) and dataset.batched
    collate = Collator(batched, resolve_collate_fn(dataset, supervisor.collate_fn))
    return supervisor.preparer()(collate(items))


def mean_score(scores: Sequence[PretextScore]) -> PretextScore:
    """Return the mean score, weighted by the number of images per chunk."""
    images = [score.images for score in scores]
    baselines = [score.trivial for score in scores if score.trivial is not None]
    return dataclasses.replace(
        scores[0],
        value=float(np.average([score.value for score in scores], weights=images)),
        trivial=float(np.average(baselines, weights=images)) if len(baselines) == len(scores) else None,
        images=sum(images),
    )
