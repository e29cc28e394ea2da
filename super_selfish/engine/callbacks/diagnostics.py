"""Diagnostics: human-readable findings on the history of a training, and whether to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from super_selfish.datasets.image_source import FEW
from super_selfish.engine.core.expected_loss import CollapseRisk, ExpectedLoss
from super_selfish.errors import validate_keywords

History = Sequence[Mapping[str, Any]]

COLLAPSED_SPREAD = 0.01
"""Spread below which embeddings count as collapsed."""

_SUSPICIOUS_SPREAD = 0.2  # the same, if a setting is known to cause a collapse
_RECOVERED_SPREAD = 0.05
_COLLAPSE_STEPS = 50  # no verdict after fewer steps: embeddings of untrained networks have little spread
_COLLAPSE_EPOCHS = 5  # no verdict after fewer epochs, for algorithms whose bank is initialised randomly
_CONSECUTIVE = 3
_MIN_EPOCHS = 3
_RECENT = 0.2  # fraction of the epochs that count as recent
_MIN_GAIN = 0.01
_MUCH_WAITING = 0.3
_RISEN = 1.1
_SPREAD_OUT = 1.1
_ABOVE_EQUAL = 1.05  # random embeddings may have a slightly higher loss than equal similarities


class Diagnostic(NamedTuple):
    """A finding on the progress of a training.

    Attributes:
        text: Human-readable sentence.
        is_warning: Whether it reports a problem.
    """

    text: str
    is_warning: bool


@validate_keywords()
def diagnose(history: History, expected: ExpectedLoss | None = None, images: int | None = None) -> list[str]:
    """Diagnose a training. Returns sentences, the most urgent first, and one sentence if there is no problem.

    Args:
        history: One entry per epoch, as in ``supervisor.history``, with the keys loss, data_wait and, if measured,
            consistency, spread and collapsed.
        expected: Whether the loss of the algorithm decreases, and its value at chance level
            (:class:`~super_selfish.engine.core.expected_loss.ExpectedLoss`); None: it decreases, chance level unknown.
        images: Number of images per epoch. More epochs are not advised for fewer than 200. None or 0: unknown.

    Examples:
        >>> losses = [1.39, 1.2, 1.0, 0.9, 0.8, 0.75, 0.7]
        >>> diagnose([{"epoch": n + 1, "loss": loss, "data_wait": 0.0} for n, loss in enumerate(losses)])
        ['Still improving: the loss fell by 12.5 % over the last 2 epochs. Train longer.']
    """
    return [diagnostic.text for diagnostic in diagnostics(history, expected, images)]


def diagnostics(history: History, expected: ExpectedLoss | None = None, images: int | None = None) -> list[Diagnostic]:
    """As :func:`diagnose`, with the information whether each sentence is a warning."""
    expected = ExpectedLoss() if expected is None else expected
    if not history:
        return [Diagnostic("No epoch was completed, so there is no verdict.", False)]
    problems = (_collapsed(history), _at_chance(history, expected), _diverging(history, expected))
    urgent = next((text for text in problems if text), None)
    fine = _spreading(history, expected) or _progress(history, expected, images)
    found = [Diagnostic(fine, False) if urgent is None else Diagnostic(urgent, True)]
    waiting = _data_bound(history)
    return [*found, Diagnostic(waiting, True)] if waiting else found


def has_collapsed(risk: CollapseRisk, history: History, steps: int) -> bool:
    """Whether embeddings have collapsed.

    Args:
        risk: Collapse risk of the algorithm.
        history: One entry per epoch. Entries with ``spread``, measured on the last batch of the epoch, are used; the
            last entry must have one.
        steps: Number of steps so far.
    """
    rows = [(entry["spread"], entry["loss"]) for entry in history if "spread" in entry]
    spread, loss = rows[-1]
    if risk.chance is None:
        return bool(
            spread < (_SUSPICIOUS_SPREAD if risk.cause else COLLAPSED_SPREAD)
            and (steps >= _COLLAPSE_STEPS or risk.cause is not None)
        )
    if risk.cause:
        return bool(loss >= 0.95 * risk.chance)
    if len(rows) < _COLLAPSE_EPOCHS or steps < _COLLAPSE_STEPS:
        return False
    first, *_ = recent = rows[-_CONSECUTIVE:]
    stuck = all(row[0] < COLLAPSED_SPREAD and row[1] >= 0.99 * risk.chance for row in recent)
    return bool(stuck and spread <= first[0] and loss >= 0.99 * first[1])  # neither improves


def _collapsed(history: History) -> str | None:
    since = next((entry["epoch"] for entry in history if entry.get("collapsed")), None)
    if since is None or history[-1].get("spread", 0.0) >= _RECOVERED_SPREAD:
        return None
    return (
        f"Collapsed since epoch {since}: all images have nearly the same embedding, so these weights are of little "
        "use. The warning in the log names the likely cause. In most cases a lower `lr` helps."
    )


def _at_chance(history: History, expected: ExpectedLoss) -> str | None:
    loss = history[-1]["loss"]
    if expected.chance is None or len(history) < _MIN_EPOCHS or loss < 0.98 * expected.chance:
        return None
    return (
        f"At chance level after {len(history)} epochs: the loss is {loss:.3f}, the loss at chance level is "
        f"{expected.chance:.3f}. {expected.stuck}"
    )


def _diverging(history: History, expected: ExpectedLoss) -> str | None:
    lowest, last = _lowest_before_rise(history, expected), history[-1]
    if lowest is None or _spreading(history, expected) is not None:
        return None
    return (
        f"The learning rate is probably too high: the loss is {last['loss']:.3f}, up from {lowest['loss']:.3f} in "
        f"epoch {lowest['epoch']}. Divide `lr` by three, or set clip_grad=1.0."
    )


def _lowest_before_rise(history: History, expected: ExpectedLoss) -> Mapping[str, Any] | None:
    """The entry with the lowest loss if the loss has risen clearly since; None otherwise."""
    rows = history[expected.warm :]
    losses = [entry["loss"] for entry in rows]
    if not expected.falls or len(losses) < _MIN_EPOCHS or losses[-1] < _RISEN * min(losses) or losses[-1] <= losses[0]:
        return None
    return rows[losses.index(min(losses))]


def _spreading(history: History, expected: ExpectedLoss) -> str | None:
    """A loss that rises towards its value for equal similarities while the embeddings spread: no sign of divergence."""
    lowest, last = _lowest_before_rise(history, expected), history[-1]
    limit = expected.chance if expected.equal is None else expected.equal
    if lowest is None or limit is None or "spread" not in lowest or "spread" not in last:
        return None
    if last["loss"] > _ABOVE_EQUAL * limit or last["spread"] < _SPREAD_OUT * lowest["spread"]:
        return None
    return (
        f"No verdict from the loss: it rose from {lowest['loss']:.3f} in epoch {lowest['epoch']} to "
        f"{last['loss']:.3f}, towards its chance level of {limit:.3f}, while the spread of the embeddings rose from "
        f"{lowest['spread']:.2f} to {last['spread']:.2f}. So negatives became harder, which is no sign of a learning "
        "rate that is too high. Score the features: super-selfish evaluate."
    )


def _progress(history: History, expected: ExpectedLoss, images: int | None) -> str:
    """Whether training still improves: by the loss or, if the loss is not informative, by the consistency."""
    name, sign = ("loss", -1) if expected.falls else ("consistency", 1)
    rows = [entry for entry in (history[expected.warm - 1 :] if expected.falls else history) if name in entry]
    if len(rows) < _MIN_EPOCHS:
        least = _MIN_EPOCHS + expected.warm - 1
        if len(history) >= least and not expected.falls:
            return (
                "No verdict: the loss of this algorithm does not measure feature quality. Pass watch=64, for example."
            )
        were = "was" if len(history) == 1 else "were"
        return f"At least {least} epochs are needed for a verdict; {len(history)} {were} run."
    best = [max(sign * entry[name] for entry in rows[: end + 1]) for end in range(len(rows))]
    recent = max(2, round(_RECENT * len(rows)))
    before, now = best[max(0, len(best) - 1 - recent)], best[-1]
    gain = (now - before) / max(abs(before), 1e-9)
    if gain > _MIN_GAIN:
        changed = f"{'fell' if expected.falls else 'rose'} by {100 * gain:.1f} %"
        improving = f"Still improving: the {name} {changed} over the last {recent} epochs."
        return f"{improving} {_more_epochs(images)}"
    scale = max(abs(now), 1e-9)
    since = next(entry["epoch"] for entry, value in zip(rows, best, strict=True) if (now - value) / scale <= _MIN_GAIN)
    return (
        f"Plateau since epoch {since}: the {name} has changed by less than 1 %. More epochs at this learning rate "
        'bring little improvement. Decay `lr` (recipe="auto" does), or stop here and evaluate.'
    )


def _more_epochs(images: int | None) -> str:
    """Whether more epochs are advised while the loss improves: not on very few images, which are memorised."""
    if not images or images >= FEW:
        return "Train longer."
    return (
        f"With only {images} images per epoch, that need not mean better features: longer training memorises the "
        "images. Add images, and score the features on other images: super-selfish evaluate."
    )


def _data_bound(history: History) -> str | None:
    recent = [entry["data_wait"] for entry in history[-_MIN_EPOCHS:] if entry.get("data_wait") is not None]
    fraction = sum(recent) / max(1, len(recent))
    if fraction < _MUCH_WAITING:
        return None
    return (
        f"Data-bound: {100 * fraction:.0f} % of the time is spent waiting for images. Increase `num_workers`, or pass "
        'cache="resized" for image files.'
    )
