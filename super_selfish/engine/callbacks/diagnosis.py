"""What the course of a training says, in words: whether it works, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from super_selfish.engine.core.expectations import Expectation

History = Sequence[Mapping[str, Any]]

_FEWEST = 3  # epochs that say something
_RECENT = 0.2  # share of the epochs that tells whether it still goes on
_PERCENT = 0.01
_SPREAD = 0.05  # of embeddings that are different again
_WAITING = 0.3
_WORSE = 1.1


def advice(history: History, expected: Expectation | None = None) -> list[str]:
    """What to think of a training, the most urgent first; a healthy one gets a line too.

    Args:
        history: An entry an epoch, as in ``supervisor.history``: loss, data_wait and, where measured, consistency,
            spread and collapsed.
        expected: How the loss behaves; None: it falls.

    Examples:
        >>> losses = [1.39, 1.2, 1.0, 0.9, 0.8, 0.75, 0.7]
        >>> advice([{"epoch": n + 1, "loss": loss, "data_wait": 0.0} for n, loss in enumerate(losses)])
        ['Still improving: the loss fell by 12.5 % over the last 2 epochs. Train longer.']
    """
    expected = Expectation() if expected is None else expected
    if not history:
        return ["No epoch has come to its end: there is nothing to judge."]
    found: list[str] = []
    rules: list[Callable[[History, Expectation], str | None]] = [collapsed, at_chance, too_fast]
    urgent = next((said for rule in rules if (said := rule(history, expected))), None)
    found.append(progress(history, expected) if urgent is None else urgent)
    return found + [said for said in (data_bound(history),) if said]


def collapsed(history: History, _: Expectation) -> str | None:
    """Whether embeddings became alike, as :class:`~super_selfish.engine.callbacks.collapse.CollapseWatch` found."""
    since = next((entry["epoch"] for entry in history if entry.get("collapsed")), None)
    if since is None or history[-1].get("spread", 0.0) >= _SPREAD:
        return None
    return (
        f"Collapsed since epoch {since}: all images get nearly the same embedding. These weights are worth little. The "
        "warning in the log names the cause; in most cases a lower `lr` helps."
    )


def at_chance(history: History, expected: Expectation) -> str | None:
    """Whether the exercise is not learned at all."""
    last = history[-1]["loss"]
    if expected.chance is None or len(history) < _FEWEST or last < 0.98 * expected.chance:
        return None
    return (
        f"No better than a guess after {len(history)} epochs: the loss is {last:.3f}, and guessing costs "
        f"{expected.chance:.3f}. {expected.stuck}"
    )


def too_fast(history: History, expected: Expectation) -> str | None:
    """Whether the loss rises where it should fall."""
    losses = [entry["loss"] for entry in history[expected.warm :]]
    if not expected.falls or len(losses) < _FEWEST or losses[-1] < _WORSE * min(losses) or losses[-1] <= losses[0]:
        return None
    return (
        f"The learning rate is probably too high: the loss is {losses[-1]:.3f}, and was {min(losses):.3f} in epoch "
        f"{history[expected.warm + losses.index(min(losses))]['epoch']}. Divide `lr` by three, or set clip_grad=1.0."
    )


def progress(history: History, expected: Expectation) -> str:
    """Whether it goes on, by the measure that tells: the loss, or whether images are found again by their features."""
    name, values, epochs = measured(history, expected)
    if len(values) < _FEWEST:
        so_far = f"{len(history)} {'epoch' if len(history) == 1 else 'epochs'}"
        return f"Too early to tell after {so_far}: {_FEWEST + expected.warm - 1} say something."
    best = [max(values[: index + 1]) for index in range(len(values))]
    recent = max(2, round(_RECENT * len(values)))
    before, now = best[max(0, len(best) - 1 - recent)], best[-1]
    gain = (now - before) / max(abs(before), 1e-9)
    sign = "fell" if name == "loss" else "rose"
    if gain > _PERCENT:
        return f"Still improving: the {name} {sign} by {gain:.1%} over the last {recent} epochs. Train longer.".replace(
            "%", " %"
        )
    scale = max(abs(now), 1e-9)
    since = epochs[next(index for index, value in enumerate(best) if (now - value) / scale <= _PERCENT)]
    return (
        f"Plateau since epoch {since}: the {name} has changed by less than one percent. More epochs at this rate bring "
        'little; lower `lr` at the end (recipe="auto" does), or stop here and look at scores.'
    )


def measured(history: History, expected: Expectation) -> tuple[str, list[float], list[int]]:
    """What tells of progress, as values that grow: its name, the values and their epochs."""
    rows = list(history[expected.warm - 1 :])
    if not expected.falls:
        rows = [entry for entry in history if "consistency" in entry]
        return "consistency", [entry["consistency"] for entry in rows], [entry["epoch"] for entry in rows]
    return "loss", [-entry["loss"] for entry in rows], [entry["epoch"] for entry in rows]


def data_bound(history: History) -> str | None:
    """Whether the network waits for images."""
    recent = [entry["data_wait"] for entry in history[-_FEWEST:] if entry.get("data_wait") is not None]
    share = sum(recent) / max(1, len(recent))
    if share < _WAITING:
        return None
    return (
        f"Data-bound: {share:.0%} of the time is spent waiting for images. Raise `num_workers`, or pass "
        'cache="resized" for files.'
    ).replace("%", " %")
