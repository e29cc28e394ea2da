"""What an algorithm expects of a healthy training, which diagnostics compare the history with."""

from __future__ import annotations

from dataclasses import dataclass

_HIGH_TEMPERATURE = 2.0  # above it, the largest and the smallest logit differ by less than one nat


@dataclass(frozen=True)
class ExpectedLoss:
    """How the loss of an algorithm behaves in a healthy training.

    Attributes:
        falls: Whether it falls as features improve; otherwise it is no measure of them.
        chance: The loss at chance level, where that is a constant.
        stuck: Why the loss may stay at chance level, and what to do.
        warm: Number of first epochs in which it may rise.
    """

    falls: bool = True
    chance: float | None = None
    stuck: str = (
        "Lower or raise `lr` by a factor of three; check with preview() whether the pretext task can be solved at all."
    )
    warm: int = 1


@dataclass(frozen=True)
class CollapseRisk:
    """How the embeddings of an algorithm can collapse.

    Attributes:
        likely: The usual cause, and the remedy.
        cause: A setting of this run that causes it, and the remedy; None if there is none.
        chance: The loss of collapsed embeddings; None where the loss does not show a collapse.
    """

    likely: str
    cause: str | None = None
    chance: float | None = None


def temperature_risk(t: float, usual: float, chance: float) -> CollapseRisk:
    """The risk of a contrastive algorithm.

    Args:
        t: Temperature that similarities are divided by.
        usual: Temperature of the paper.
        chance: The loss of collapsed embeddings.
    """
    cause = None
    if t > _HIGH_TEMPERATURE:
        cause = (
            f"t={t:g}: cosine similarities divided by it hardly differ, so that the loss has little gradient. "
            f"The paper uses t={usual}."
        )
    likely = "a learning rate that is too high, or views that show too little of an image. Lower `lr`; see preview()."
    return CollapseRisk(likely, cause, chance)
