"""Whether the runs of a comparison made enough updates to judge algorithms, and the budget that would be enough."""

from __future__ import annotations

from collections.abc import Sequence

from super_selfish.comparison.budget import LEAST_UPDATES, TIMED_STEPS, Algorithms, kept, run_seconds, sufficient_budget
from super_selfish.comparison.records import TOO_SLOW, Row
from super_selfish.engine.callbacks.progress import duration

TOO_SMALL = "No recommendation: the budget is too small"
ALL_EXCLUDED = "No recommendation: all algorithms were excluded"
AT_CHANCE = "No recommendation: no pretext task was learned"
"""Beginnings of a verdict without a recommendation."""


def is_judged(row: Row) -> bool:
    """Whether a run made enough updates for a collapse, or a pretext task at chance level, to count."""
    return row.updates >= LEAST_UPDATES


def updates_of(rows: Sequence[Row]) -> str:
    """The range of the numbers of updates of some runs.

    Examples:
        >>> updates_of([Row("byol", 1, updates=20), Row("pirl", 1, updates=60)])
        '20 to 60 updates'
    """
    low, high = min(row.updates for row in rows), max(row.updates for row in rows)
    if low != high:
        return f"{low:,} to {high:,} updates"
    return f"{low:,} update{'' if low == 1 else 's'}"


def enough_for(rows: Sequence[Row], algorithms: Algorithms, *, is_labelled: bool) -> float | None:
    """Budget in seconds in which every training of stage 1 would make enough updates, from the measured speed.

    Args:
        rows: All runs.
        algorithms: Applicable algorithms by name.
        is_labelled: Whether there is a stage 2.

    Returns:
        The budget; None if no run made an update.
    """
    first = [row for row in rows if row.stage == 1]
    timed = [row for row in first if row.step_seconds is not None]
    if not timed:
        return None
    run = max(run_seconds(row.step_seconds or 0.0, evaluation_of(row)) for row in timed)
    before = first[0].used - first[0].seconds
    count = kept(algorithms, {row.name for row in first})
    return sufficient_budget(run, count, max(0.0, before), is_labelled=is_labelled)


def evaluation_of(row: Row) -> float:
    """Seconds of a run that were neither updates nor the measurement of their speed."""
    return max(0.0, row.seconds - (row.updates + TIMED_STEPS) * (row.step_seconds or 0.0))


def advice(rows: Sequence[Row], algorithms: Algorithms, *, is_labelled: bool) -> str:
    """What budget to pass, if the runs were too short."""
    seconds = enough_for(rows, algorithms, is_labelled=is_labelled)
    if seconds is None:
        return "Pass a much larger `budget`, or smaller images (`resolution`)."
    return f"By the measured speed, a `budget` of about {duration(seconds)} would be enough for these algorithms."


def short_runs(rows: Sequence[Row], algorithms: Algorithms, names: Sequence[str], *, is_labelled: bool) -> list[str]:
    """A sentence on the algorithms whose runs of the last stage were too short to judge them; empty if none was.

    Args:
        rows: All runs.
        algorithms: Applicable algorithms by name.
        names: Names of the algorithms in the result.
        is_labelled: Whether there is a stage 2.
    """
    last = max(row.stage for row in rows)
    short = [row for row in rows if row.stage == last and row.name in names and not is_judged(row)]
    if not short:
        return []
    made = ", ".join(f"{row.name} ({row.updates:,})" for row in short)
    so = "so their order is uncertain" if is_labelled else "so they are not judged"
    few = f"Fewer than {LEAST_UPDATES} updates in stage {last}, {so}: {made}."
    return [f"{few} {advice(rows, algorithms, is_labelled=is_labelled)}"]


def no_recommendation(
    rows: Sequence[Row], algorithms: Algorithms, candidates: Sequence[str], *, is_labelled: bool
) -> list[str]:
    """The verdict if no algorithm is recommended: the budget is too small, or what the runs showed.

    Args:
        rows: All runs.
        algorithms: Applicable algorithms by name.
        candidates: Names of the algorithms that were not excluded.
        is_labelled: Whether there is a stage 2.
    """
    last = max((row.stage for row in rows), default=0)
    runs = [row for row in rows if row.stage == last and row.stage]
    short = [row for row in runs if not is_judged(row) and (row.name in candidates or row.problem == TOO_SLOW)]
    if short:
        which = "any algorithm" if len(short) == len(runs) else ", ".join(dict.fromkeys(row.name for row in short))
        made = f"{updates_of(short)} within {duration(max(row.seconds for row in short))} each"
        return [
            f"{TOO_SMALL} to judge {which} on this machine ({made}; fewer than {LEAST_UPDATES} are too few).",
            advice(rows, algorithms, is_labelled=is_labelled),
        ]
    if not candidates:
        rest = " The rest of the budget was not used, as none was left for stage 2." if is_labelled else ""
        return [f"{ALL_EXCLUDED}, for the reasons above.{rest} Pass more images, or other algorithms."]
    return [
        f"{AT_CHANCE}: none of {', '.join(candidates)} was better than chance level on its pretext task.",
        "Pass labelled images as `labelled` to score the features, a larger `budget`, or more images.",
    ]
