"""The verdict of a comparison in sentences."""

from __future__ import annotations

from super_selfish.comparison import decisions, sufficiency
from super_selfish.comparison.budget import Algorithms
from super_selfish.comparison.result import Comparison

NOT_SHOWN = "Training is not shown to help on these images"


def verdict(found: Comparison, algorithms: Algorithms) -> list[str]:
    """Sentences: the recommendation and its reason, what is not known, and what to do next."""
    if found.recommended is None:
        lines = sufficiency.no_recommendation(
            found.rows, algorithms, found.candidates, is_labelled=bool(found.labelled)
        )
        if found.standings and found.versus_reference is not None:
            lines.insert(1, f"No algorithm is better than the untrained network. {compared(found)}")
        return lines
    if not found.standings:
        return without_labels(found, algorithms)
    return with_labels(found, algorithms)


def headline(found: Comparison) -> str:
    """The first words of the verdict, as the title of the figure.

    Examples:
        >>> from types import SimpleNamespace
        >>> headline(SimpleNamespace(verdict=["No recommendation: the budget is too small to judge byol (2 updates)."]))
        'No recommendation: the budget is too small'
        >>> headline(SimpleNamespace(verdict=["Recommended: byol. It is better than all other finalists."]))
        'Recommended: byol'
    """
    first = found.verdict[0] if found.verdict else "Comparison of algorithms"
    known = (sufficiency.TOO_SMALL, sufficiency.ALL_EXCLUDED, sufficiency.AT_CHANCE)
    return next((each for each in known if first.startswith(each)), first.partition(". ")[0])


def compared(found: Comparison) -> str:
    """The recommended algorithm, or the best one if none is recommended, against the best reference."""
    if found.versus_reference is None:
        return ""
    reference, gap = found.versus_reference
    name = found.recommended or found.standings[0].name
    return f"{name} is {gap.verdict} the best reference, {reference} ({gap})."


def with_labels(found: Comparison, algorithms: Algorithms) -> list[str]:
    """The verdict from scores."""
    best, name = found.standings[0], str(found.recommended)
    others = [each for each in found.ties if each != name]
    if others:
        why = (
            f"It is not shown to differ from {', '.join(others)}, and is the cheapest at most 2 points behind the best."
        )
    elif len(found.standings) > 1:
        why = "It is better than all other finalists."
    else:
        why = "No other algorithm was left to compare with."
    own = next(each for each in found.standings if each.name == name)
    last = [row for row in found.rows if row.stage == max(row.stage for row in found.rows)]
    if all(sufficiency.is_judged(row) for row in last if row.name == name):
        why += f" Its probability of being within 2 points of the best finalist is {100 * own.within:.0f} %."
    if found.is_shown_to_help or found.versus_reference is None:
        lines = [f"Recommended: {name}. {why}", *([compared(found)] if found.versus_reference else [])]
    else:
        lines = [
            f"{NOT_SHOWN}. {compared(found)} So {found.versus_reference[0]} may do as well.",
            f"The algorithm to choose among those that were compared is {name}. {why}",
        ]
    if name != best.name:
        lines.append(f"The best score is that of {best.name}; {name} differs by {own.behind}.")
    if others:
        pair = [
            next(row.correct for row in last if row.name == each and row.correct is not None)
            for each in [name, others[0]]
        ]
        needed = decisions.images_to_decide(pair[0], pair[1])
        more = f"about {needed:,} labelled images would decide a difference of 2 points; {found.labelled:,} were used"
        lines.append(f"To separate {name} from {others[0]}, {more}.")
    lines += sufficiency.short_runs(found.rows, algorithms, [each.name for each in found.standings], is_labelled=True)
    if len({row.seed for row in found.rows if row.stage == 2}) < 2:
        lines.append("One seed per finalist: the intervals do not cover the randomness of trainings.")
    lines.append(
        "Scores are of frozen features after short trainings; longer ones, or fine-tuning, may rank differently."
    )
    return lines


def without_labels(found: Comparison, algorithms: Algorithms) -> list[str]:
    """The verdict from applicability alone."""
    name = str(found.recommended)
    own = next(row for row in found.rows if row.stage == 1 and row.name == name)
    why = "its features did not collapse" if own.at_chance is None else "its pretext task was learned"
    reason = "a good first choice on other images" if algorithms[name].first_choice else "the cheapest such candidate"
    needs = ", ".join(
        f"±{1.96 * error:.1f} points with {images:,}" for images, error in decisions.label_needs().items()
    )
    return [
        f"First choice without labels: {name}. Without labels, no number shows which algorithm is best. Candidates: "
        f"{', '.join(found.candidates)}.",
        f"Start with {name}: {why} in {own.updates:,} updates ({own.pretext}), and it is {reason}.",
        *sufficiency.short_runs(found.rows, algorithms, found.candidates, is_labelled=False),
        "Effective rank and pretext scores are an indication only: they do not compare different algorithms.",
        f"Labelled images would decide. A difference of two that disagree on 15 % of images is known to {needs}.",
        "Pass them as `labelled`: a folder with one subfolder per class.",
    ]
