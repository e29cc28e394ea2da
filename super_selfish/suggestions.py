"""Suggestions of words and arguments."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

SYNONYMS = (
    ("data", "dataset", "images", "folder"),
    ("lr", "learning_rate"),
    ("epochs", "n_epochs", "max_epochs"),
    ("num_workers", "workers", "n_jobs"),
    ("resolution", "image_size", "img_size"),
    ("backbone", "model", "encoder", "arch"),
    ("lr_scheduler", "scheduler", "schedule"),
    ("seed", "random_state", "random_seed"),
    ("polyak", "ema", "ema_decay"),
    ("accumulate", "accumulation_steps", "gradient_accumulation_steps"),
    ("clip_grad", "gradient_clip", "max_grad_norm"),
    ("t", "temperature", "tau"),
    ("m", "momentum"),
    ("32", "fp32", "float32"),
    ("16", "fp16", "float16", "half"),
    ("bf16", "bfloat16"),
    ("cuda", "gpu"),
)
"""Synonyms of arguments and values: the known word of a group is suggested for the others."""

ADVICE = {"advice": True}
"""Marks log messages that suggest other arguments of a training, as ``extra``; comparisons and studies, which choose
the arguments, do not show them."""


def did_you_mean(word: object, known: Iterable[object] | Mapping[str, str]) -> str | None:
    """A suggestion for a word that is unknown; None if no known one is similar.

    Args:
        word: The value that was passed; a string or an integer, else nothing is suggested.
        known: The allowed values, or a mapping from words to suggestions.

    Examples:
        >>> did_you_mean("atuo", ("auto", "paper")), did_you_mean("xyz", ("auto", "paper"))
        ("Did you mean 'auto'?", None)
    """
    texts = dict(known) if isinstance(known, Mapping) else {str(value): repr(value) for value in known}
    for group in SYNONYMS:
        meant = next((texts[synonym] for synonym in group if synonym in texts), None)
        texts |= {synonym: meant for synonym in group if meant is not None and synonym not in texts}
    spellings = {_spelling(key): text for key, text in texts.items()}
    similar = difflib.get_close_matches(_spelling(word), spellings, n=1) if isinstance(word, str | int) else []
    return f"Did you mean {spellings[similar[0]]}?" if similar else None


def _spelling(word: object) -> str:
    return str(word).lower().replace("-", "_")
