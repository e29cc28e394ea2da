"""The verdict of a study in sentences."""

from __future__ import annotations

import math

from super_selfish.studies.cohort import ALL
from super_selfish.studies.plan import LEAST_UPDATES, plural, shown_count, shown_counts
from super_selfish.studies.records import PUBLISHED, SHOWN, TUNED, UNTRAINED
from super_selfish.studies.result import Study, equivalence
from super_selfish.studies.statistics import Estimate


def verdict(found: Study) -> list[str]:
    """Sentences: the outcome first, then label equivalence, fine-tuning, cost, and what is not known."""
    if found.trained is None or found.gain is None:
        return ["No pretraining was completed, so there is no verdict. Pass a larger budget, or another algorithm."]
    sentences = [headline(found), *tuning_sentences(found), cost_sentence(found)]
    if found.gain_is_shown and found.outcome in ("helped", "harmed"):
        sentences.insert(1, labels_sentence(found))
    if found.plan.seeds < 2:
        sentences.append("One pretraining seed: the intervals do not cover the randomness of pretraining.")
    if found.plan.draws < 2:
        sentences.append("One draw of the labels: the intervals do not cover their choice.")
    return sentences


def headline(found: Study) -> str:
    """The outcome in one sentence."""
    gain, versus = found.gain, found.versus_published
    if found.trained is None or gain is None:
        return ""
    name, over = SHOWN[found.trained], shown_counts(found.curves.counts)
    mean = f"mean of linear probes over {over} labels per class"
    if found.outcome == "published weights suffice" and versus is not None:
        return (
            f"Published weights suffice: pretraining ({name}) is {versus.difference.verdict} the published weights as "
            f"they are ({versus.difference}; {mean})."
        )
    compared = f"{name} is {gain.difference.verdict} the untrained network ({gain.difference}; {mean})"
    if found.outcome == "helped":
        is_best = versus is not None and versus.difference.low > 0
        more = f", and than the published weights as they are ({versus.difference})" if versus and is_best else ""
        return f"Pretraining helped: {compared}{more}."
    if found.outcome == "harmed":
        return f"Pretraining harmed: {compared}."
    if found.outcome == "too short to judge":
        return f"Pretraining was too short to judge: it made {shown_updates(found)}, fewer than {LEAST_UPDATES}. " + (
            f"So far, {compared}. Pass a larger `budget`."
        )
    return f"No difference shown: {compared}. {needed(found, gain)}"


def shown_updates(found: Study) -> str:
    """The numbers of updates that were made, as text."""
    low, high = found.updates
    return plural(high, "update") if low == high else f"{low:,} to {high:,} updates"


def needed(found: Study, gain: Estimate) -> str:
    """How many test images would show the difference that was seen."""
    images = gain.images_needed(found.test)
    if abs(gain.difference.value) < 0.0005:
        return "The difference seen is 0.0 points, which no number of test images would show."
    if images is None:
        return (
            "More test images alone would not show a difference of this size, as label draws and seeds differ more "
            "than that: pass a larger budget, for more of them."
        )
    rounded = int(float(f"{images:.2g}"))
    return f"About {rounded:,} test images would show a difference of this size; {found.test:,} were used."


def labels_sentence(found: Study) -> str:
    """Label equivalence at the middle number of labels."""
    counts = found.curves.counts
    count = counts[(len(counts) - 1) // 2]
    number = found.equivalent[count]
    own = f"all ({found.labels[ALL]:.0f})" if count == ALL else shown_count(count)
    need = f"about {equivalence(number)}"
    if math.isinf(number):
        need = f"more than all {found.labels[ALL]:.0f}"
    elif not number:
        need = f"fewer than {shown_count(counts[0])}"
    labels = "label" if own == "1" else "labels"
    return (
        f"With {own} {labels} per class, the pretrained network is as accurate as the untrained network with {need} "
        "labels per class (linear probe)."
    )


def tuning_sentences(found: Study) -> list[str]:
    """Pretraining followed by fine-tuning, against training from scratch."""
    arms = found.curves.arms(TUNED)
    if found.trained not in arms or found.trained is None or UNTRAINED not in arms:
        return []
    gain = found.curves.difference(found.trained, UNTRAINED, method=TUNED).difference
    over = shown_counts(found.curves.tuned)
    out = [f"Fine-tuned with {over} labels per class, it is {gain.verdict} training from scratch ({gain})."]
    if PUBLISHED in arms:
        versus = found.curves.difference(found.trained, PUBLISHED, method=TUNED).difference
        out.append(f"Against published weights, fine-tuned: {versus.verdict} these ({versus}).")
    return out


def cost_sentence(found: Study) -> str:
    """The cost beside the gain."""
    if found.trained is None or found.gain is None:
        return ""
    runs = sum(row.arm == found.trained for row in found.rows)
    each = found.hours[found.trained] / runs
    value = 100 * found.gain.difference.value
    gain = f"{value:+.1f} percentage points over the untrained network"
    return f"Cost: {each:.3f} hours of pretraining per seed ({found.device}) for {gain}."
