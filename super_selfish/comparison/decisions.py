"""Decisions of a comparison: what is dropped, the finalists, the bootstrap, ties and the recommendation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from super_selfish.comparison.budget import FINALISTS, Algorithms, cost
from super_selfish.comparison.records import COLLAPSE, Row
from super_selfish.comparison.sufficiency import is_judged
from super_selfish.evaluation.intervals import Difference
from super_selfish.evaluation.score import Integers
from super_selfish.seeding import make_key

CLOSE = 0.02
"""Difference of accuracies that is regarded as unimportant."""

_DRAWS = 2000
_BLOCK = 100  # draws in memory at once

Numbers = npt.NDArray[np.float64]


def bootstrap(correct: Sequence[Numbers], groups: Integers, draws: int = _DRAWS) -> Numbers:
    """Accuracies of several features on resampled groups of images, the same for all features, and resampled seeds.

    Args:
        correct: For each of the features, how often each image was classified correctly (seeds, images), in [0, 1].
        groups: Group of each image (images,), numbered from 0; groups are resampled as a whole.
        draws: Number of bootstrap samples.

    Returns:
        Accuracies (draws, features).

    References:
        Efron and Tibshirani, "An introduction to the bootstrap", 1993.
    """
    generator = np.random.default_rng(make_key(0, "bootstrap"))
    sizes = np.bincount(groups).astype(float)
    sums = [np.stack([np.bincount(groups, each, len(sizes)) for each in np.atleast_2d(rows)]) for rows in correct]
    found = np.empty((draws, len(correct)))
    for start in range(0, draws, _BLOCK):
        count = min(_BLOCK, draws - start)
        drawn = generator.integers(len(sizes), size=(count, len(sizes)))
        weights = np.stack([np.bincount(each, minlength=len(sizes)) for each in drawn]).astype(float)
        images = weights @ sizes
        for place, rows in enumerate(sums):
            accuracies = weights @ rows.T / images[:, None]  # (draws, seeds)
            seeds = generator.integers(len(rows), size=accuracies.shape)
            found[start : start + count, place] = np.take_along_axis(accuracies, seeds, axis=1).mean(1)
    return found


def difference(samples: Numbers, first: int, second: int, value: float) -> Difference:
    """Difference of two features from bootstrap samples (draws, features), with its 95 % interval."""
    low, high = np.quantile(samples[:, first] - samples[:, second], [0.025, 0.975])
    return Difference(value, float(low), float(high))


def dropped(rows: Sequence[Row], untrained: Row | None, groups: Integers, algorithms: Algorithms) -> dict[str, str]:
    """Algorithms of stage 1 that are dropped, with the reason.

    Dropped are trainings that failed, and those that made enough updates to be judged and whose features collapsed, or
    that stayed at chance. With labels, these stay if their features are better than those of the untrained network. If
    nothing else is left, none at chance is dropped, except those that need a canonical orientation.
    """
    found = unusable(rows, untrained, groups)
    usable = [row for row in rows if row.name not in found]
    judged = [row for row in usable if row.at_chance and is_judged(row)]
    chance = [row for row in judged if not is_better(row, untrained, groups)]
    if len(chance) == len(usable):
        oriented = [row for row in chance if algorithms[row.name].needs.canonical_orientation]
        chance = oriented if len(oriented) < len(chance) else []
    return found | {row.name: f"at chance level after {row.updates:,} updates: {row.pretext}" for row in chance}


def unusable(rows: Sequence[Row], untrained: Row | None, groups: Integers) -> dict[str, str]:
    """Algorithms whose training failed or whose features collapsed, with the reason.

    A collapse counts if there were enough updates to judge it, and if the features are not better than those of the
    untrained network.
    """
    found = {row.name: row.problem for row in rows if row.problem not in (None, COLLAPSE)}
    for row in rows:
        if row.problem == COLLAPSE and is_judged(row) and not is_better(row, untrained, groups):
            found.setdefault(row.name, f"{COLLAPSE} after {row.updates:,} updates")
    return {name: str(reason) for name, reason in found.items()}


def suitable(rows: Sequence[Row], candidates: Sequence[str]) -> list[str]:
    """Candidates whose runs made enough updates, and neither collapsed nor stayed at chance level."""
    good = [row for row in rows if is_judged(row) and row.problem is None and not row.at_chance]
    return [row.name for row in good if row.name in candidates]


def is_better(row: Row, other: Row | None, groups: Integers) -> bool:
    """Whether features are better than others by the 95 % interval of the difference; False without labels."""
    if other is None or row.correct is None or other.correct is None:
        return False
    samples = bootstrap([row.correct, other.correct], groups, 500)
    value = float(row.correct.mean() - other.correct.mean())
    return difference(samples, 0, 1, value).low > 0


def is_shown(rows: Sequence[Row], name: str, untrained: Row | None, groups: Integers) -> bool:
    """Whether runs with labels suffice to recommend an algorithm.

    They do if it made enough updates to be judged, or if any of the algorithms is better than the untrained network.

    Args:
        rows: Rows of the last stage.
        name: The algorithm.
        untrained: The row of the untrained network.
        groups: Group of each labelled image (images,).
    """
    if all(is_judged(row) for row in rows if row.name == name):
        return True
    seeds: dict[str, list[Numbers]] = {}
    for row in rows:
        if row.correct is not None:
            seeds.setdefault(row.name, []).append(row.correct)
    if untrained is None or untrained.correct is None:
        return False
    samples = bootstrap([*map(np.stack, seeds.values()), untrained.correct], groups, 500)
    return any(difference(samples, place, -1, 0.0).low > 0 for place in range(len(seeds)))


def finalists(rows: Sequence[Row], algorithms: Algorithms, count: int = FINALISTS) -> list[str]:
    """The algorithms with the best scores of stage 1, of at least two families, and one of the first choices.

    Args:
        rows: Rows of stage 1 with a score that were not dropped.
        algorithms: Algorithms by name.
        count: Number of finalists.
    """
    ranked = [row.name for row in sorted(rows, key=lambda row: -(row.score or 0.0))]
    chosen = ranked[:count]
    first = [name for name in ranked if algorithms[name].first_choice]
    if first and len(chosen) > 1 and not any(name in chosen for name in first):
        chosen[-1] = first[0]
    if len(chosen) > 1 and len({algorithms[name].family for name in chosen}) == 1:
        others = [name for name in ranked if algorithms[name].family != algorithms[chosen[0]].family]
        kept = [name for name in chosen if algorithms[name].first_choice][:1]
        if others:
            last = next(name for name in reversed(chosen) if name not in kept)
            chosen[chosen.index(last)] = others[0]
    return sorted(chosen, key=ranked.index)


def rule(candidates: Sequence[str], algorithms: Algorithms) -> str | None:
    """The candidate to begin with when scores do not decide.

    The first choice that needs a canonical orientation, if it is a candidate; otherwise another first choice; otherwise
    the cheapest candidate.
    """

    def order(name: str) -> tuple[bool, bool, float, str]:
        facts = algorithms[name]
        return not facts.first_choice, not facts.needs.canonical_orientation, cost(facts), name

    return min(candidates, key=order, default=None)


class Standing(NamedTuple):
    """The result of one algorithm of the last stage.

    Attributes:
        name: Name of the algorithm.
        score: Mean accuracy of kNN and ridge regression over the seeds, in [0, 1].
        low: Lower end of the 95 % interval of the score.
        high: Upper end.
        behind: Score minus that of the best algorithm, at most 0.
        is_tied: Whether the difference to the best may be 0 by its 95 % interval.
        within: Probability of being within two points of the best of all.
    """

    name: str
    score: float
    low: float
    high: float
    behind: Difference
    is_tied: bool
    within: float


def standings(rows: Sequence[Row], groups: Integers) -> list[Standing]:
    """Results of the algorithms of one stage, best first.

    Args:
        rows: Rows with a score, one per algorithm and seed.
        groups: Group of each labelled image (images,).
    """
    by_name: dict[str, list[Numbers]] = {}
    for row in rows:
        if row.correct is not None:
            by_name.setdefault(row.name, []).append(row.correct)
    correct = {name: np.stack(each) for name, each in by_name.items()}
    names = sorted(correct, key=lambda name: -correct[name].mean())
    if not names:
        return []
    samples = bootstrap([correct[name] for name in names], groups)
    best = samples.max(1)
    found = []
    for place, name in enumerate(names):
        score = float(correct[name].mean())
        low, high = np.quantile(samples[:, place], [0.025, 0.975])
        behind = difference(samples, place, 0, score - float(correct[names[0]].mean()))
        within = float(np.mean(samples[:, place] >= best - CLOSE))
        found.append(Standing(name, score, float(low), float(high), behind, behind.high >= 0, within))
    return found


def recommended(found: Sequence[Standing], algorithms: Algorithms) -> str | None:
    """The cheapest algorithm of those that are tied with the best and at most two points behind it."""
    ties = [each.name for each in found if each.is_tied and each.behind.value >= -CLOSE]
    return min(ties, key=lambda name: cost(algorithms[name]), default=None)


def images_to_decide(first: Numbers, second: Numbers, gap: float = CLOSE) -> int:
    """Number of labelled images that show a difference of ``gap`` between two features, from their disagreement.

    Examples:
        >>> images_to_decide(np.array([1.0, 0, 1, 1]), np.array([0.0, 0, 1, 1]), gap=0.5)
        4
    """
    variance = float(np.mean(np.square(first - second))) - float(np.mean(first - second)) ** 2
    return int(np.ceil((1.959964 / gap) ** 2 * max(variance, 1.0 / len(first))))


def label_needs(disagreement: float = 0.15) -> dict[int, float]:
    """Standard error of a difference of accuracies by the number of labelled images, in percentage points.

    Args:
        disagreement: Fraction of images on which one of two features is right and the other is wrong.

    Examples:
        >>> {images: round(error, 1) for images, error in label_needs().items()}
        {200: 2.7, 400: 1.9, 1500: 1.0}
    """
    return {images: 100 * (disagreement / images) ** 0.5 for images in (200, 400, 1500)}
