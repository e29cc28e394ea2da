"""Previews of the pretext task on a few images."""

from __future__ import annotations

from typing import Any

import torch

from super_selfish.datasets.memory_sources import evenly_spaced
from super_selfish.engine import pretext_evaluation
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.stages import Stages
from super_selfish.engine.loading import resolve_collate_fn
from super_selfish.errors import ConfigurationError, DataError, check_argument, is_count
from super_selfish.loading.collate import Collator
from super_selfish.loading.keyed import ImageRequest, KeyedDataset
from super_selfish.models.combined import in_eval_mode
from super_selfish.pretext.base import PretextDataset
from super_selfish.pretext.preview import Preview
from super_selfish.seeding import keyed_randomness

SCORED = 256
"""Number of images that the score in a preview is measured on, if there are so many."""

UNTRAINED = "The network is not trained yet: predictions and their accuracy follow after training."


def preview_batch(supervisor: SupervisorBase, images: object, count: int, seed: int = 0) -> Any:
    """Return a reproducible batch of the pretext task in the form that ``_forward`` receives.

    Args:
        supervisor: The supervisor.
        images: Other images, or None for those of the supervisor.
        count: Number of images, evenly spaced over the data set.
        seed: Random seed.
    """
    check_argument(is_count(count, 1), "count", count, "an integer of at least 1")
    return batch_of(supervisor, supervisor.pretext_dataset(images), count, seed)


def batch_of(supervisor: SupervisorBase, dataset: Any, count: int, seed: int = 0) -> Any:
    """Return such a batch of a data set."""
    own = resolve_collate_fn(dataset, supervisor.collate_fn)
    keyed = KeyedDataset(dataset, seed, own, "raise")
    tried = [keyed[ImageRequest(0, index)] for index in evenly_spaced(len(dataset), min(count, len(dataset)))]
    items = [item for item in tried if item.sample is not None]
    lost = [item.failures[-1][1] for item in tried if item.sample is None]
    if lost and (not items or not supervisor._skipped):
        raise ConfigurationError(f"An image cannot be read: {lost[0]}")
    batched = isinstance(dataset, PretextDataset) and dataset.batched
    return supervisor.preparer()(Collator(batched, own)(items))


def preview(supervisor: SupervisorBase, images: object, count: int) -> Preview:
    """Return the preview of a few images, with predictions and the score of the network if it was trained."""
    check_argument(is_count(count, 1), "count", count, "an integer of at least 1")
    with keyed_randomness(0, supervisor.device), in_eval_mode(supervisor), torch.no_grad():
        dataset = supervisor.pretext_dataset(images)
        with supervisor.showing(dataset):
            shown = supervisor._preview(batch_of(supervisor, dataset, count))
    line = score_note(supervisor, images) if supervisor._train_state.step else UNTRAINED
    return shown._replace(note="\n".join(part for part in (shown.note, line) if part))


def score_note(supervisor: SupervisorBase, images: object) -> str:
    """Return two lines with the score on :data:`SCORED` images, or the reason why there is no score.

    The images are chosen independently of those that are drawn. The note is empty if the algorithm defines no metric.
    """
    if type(supervisor)._score_pretext is Stages._score_pretext:
        return ""
    try:
        score = pretext_evaluation.evaluate(supervisor, images, 0, SCORED, "skip")
    except (ConfigurationError, DataError) as error:
        return f"Not scored: {str(error).partition('. ')[0].rstrip('.')}."
    name = score.name[0].upper() + score.name[1:]
    return f"{name}: {score.format(score.value)} on {score.images:,} images.\n{score.context}."
