"""Expected behaviour of the loss of an algorithm, for diagnostics."""

from __future__ import annotations

from dataclasses import dataclass

_HIGH_TEMPERATURE = 2.0  # above it, logits differ by less than one nat


@dataclass(frozen=True)
class ExpectedLoss:
    """Expected behaviour of the loss when training works.

    Attributes:
        falls: Whether the loss decreases as features improve. If not, it does not measure their quality.
        chance: Loss at chance level; None if that is not constant.
        stuck: Why the loss may stay at chance level, and how to fix it.
        warm: Number of initial epochs in which the loss may increase.
        equal: Loss if all similarities are equal, for algorithms whose loss may rise towards it while features improve,
            because negatives become harder; None: it is the loss at chance level.
    """

    falls: bool = True
    chance: float | None = None
    stuck: str = (
        "Lower or raise `lr` by a factor of three; check with preview() whether the pretext task can be solved at all."
    )
    warm: int = 1
    equal: float | None = None


@dataclass(frozen=True)
class CollapseRisk:
    """How the embeddings of an algorithm can collapse.

    Attributes:
        likely: The usual cause and its remedy.
        cause: A setting of this run that causes a collapse, and its remedy; None: no such setting.
        chance: Loss of collapsed embeddings; None if the loss does not reveal a collapse.
    """

    likely: str
    cause: str | None = None
    chance: float | None = None


def temperature_risk(t: float, usual: float, chance: float) -> CollapseRisk:
    """Collapse risk of a contrastive algorithm.

    Args:
        t: Temperature, by which similarities are divided.
        usual: Temperature in the paper.
        chance: Loss of collapsed embeddings.
    """
    cause = None
    if t > _HIGH_TEMPERATURE:
        cause = (
            f"t={t:g} is too high: the scaled cosine similarities hardly differ, so the gradients are small. "
            f"The paper uses t={usual}."
        )
    likely = (
        "a learning rate that is too high, or crops that are too small. Lower `lr`, and check the views with preview()."
    )
    return CollapseRisk(likely, cause, chance)
