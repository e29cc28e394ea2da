"""What an algorithm says of a healthy training, so that diagnostics can tell when one is not."""

from __future__ import annotations

from dataclasses import dataclass

_HOT = 2.0  # a temperature above which the best and the worst similarity differ by less than one nat


@dataclass(frozen=True)
class Expectation:
    """How the loss of an algorithm behaves in a healthy training.

    Attributes:
        falls: Whether it falls as features get better; otherwise it says nothing of them.
        chance: The loss of a guess, where one is fixed.
        stuck: Why a loss may stay there, and what to do.
        warm: Epochs in which it may rise.
    """

    falls: bool = True
    chance: float | None = None
    stuck: str = (
        "Lower or raise `lr` by a factor of three; look at preview() whether the exercise can be solved at all."
    )
    warm: int = 1


@dataclass(frozen=True)
class Signs:
    """How the embeddings of an algorithm become alike.

    Attributes:
        likely: What usually leads to that, and the remedy.
        cause: A setting of this run that leads to it, and the remedy; None if there is none.
        chance: The loss where images are not told apart; None where the loss does not show it.
    """

    likely: str
    cause: str | None = None
    chance: float | None = None


def of_temperature(t: float, usual: float, chance: float) -> Signs:
    """The signs of an algorithm that finds embeddings among others by their similarity over a temperature."""
    cause = None
    if t > _HOT:
        cause = (
            f"t={t:g}: similarities of at most 1, divided by it, are hardly different, so that the loss says little. "
            f"The paper uses t={usual}."
        )
    likely = (
        "a learning rate that is too high, or views that show too little of an image. Lower `lr`; look at preview()."
    )
    return Signs(likely, cause, chance)
