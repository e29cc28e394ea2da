"""Text and JSON values as the types that annotations name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from super_selfish.cli.values import choices, from_stored, is_closed, is_expressible, parse, to_text

SIZE = int | tuple[int, int] | None
NORMALIZE = Literal["dataset"] | tuple[Sequence[float], Sequence[float]] | None


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (bool, "false", False),
        (int, "-3", -3),
        (float, "1e-3", 1e-3),
        (float, "2", 2.0),
        (str, "32", "32"),
        (str | os.PathLike[str] | None, "2024", "2024"),
        (str | None, "1e3", "1e3"),
        (str | None, "True", "True"),
        (str | None, "a,b", "a,b"),
        (str | None, "none", None),
        (str, "None", "None"),
        (Literal["32", "16"], "16", "16"),
        (Literal["auto"] | bool, "auto", "auto"),
        (Literal["auto"] | bool, "True", True),
        (Literal["auto", False, True], "false", False),
        (int | Literal["auto"], "8", 8),
        (int | str | None, "500", 500),
        (int | str | None, "10min", "10min"),
        (SIZE, "96", 96),
        (SIZE, "96x128", (96, 128)),
        (SIZE, "[96, 128]", (96, 128)),
        (tuple[int, int, int] | None, "3x64x64", (3, 64, 64)),
        (Sequence[float], "90", (90.0,)),
        (Sequence[float], "(0, 90,)", (0.0, 90.0)),
        (Sequence[str], "top,left", ("top", "left")),
        (float | Sequence[float] | None, "0.5", 0.5),
        (float | Sequence[float] | None, "0.5,1", (0.5, 1.0)),
        (NORMALIZE, "dataset", "dataset"),
        (NORMALIZE, "(0.5,0.4),(0.2,0.1)", ((0.5, 0.4), (0.2, 0.1))),
        (nn.Module | str | None, "resnet18", "resnet18"),
    ],
)
def test_text_is_parsed_by_annotation(annotation: Any, text: str, value: Any) -> None:
    found = parse(annotation, text)
    assert found == value
    assert type(found) is type(value)
    assert from_stored(annotation, json.loads(json.dumps(found))) == found


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "1.5"),
        (int, "none"),
        (float, "many"),
        (bool, "1.0"),
        (Literal["32", "16"], "64"),
        (SIZE, "96x128x3"),
        (SIZE, "wide"),
        (tuple[float, float], "0.5"),
        (Sequence[float], "0,left"),
    ],
)
def test_other_text_is_refused(annotation: Any, text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse(annotation, text)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, True),
        (int, 1.5),
        (bool, 1),
        (str, None),
        (Literal["32"], 32),
        (SIZE, [1, 2, 3]),
        (Sequence[int], [1, "a"]),
    ],
)
def test_stored_values_of_other_types_are_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        from_stored(annotation, value)


def test_objects_have_no_text() -> None:
    for annotation in (nn.Module, Callable[..., Any] | None, Mapping[str, int], Sequence[nn.Module], Any):
        assert not is_expressible(annotation)


def test_choices_are_listed() -> None:
    assert choices(Literal["auto"] | bool | None) == ["auto", "true", "false", "none"]
    assert is_closed(Literal["auto"] | bool | None)
    assert not is_closed(Literal["auto"] | int)


NUMBERS = st.floats(allow_nan=False)
WORDS = st.text(min_size=1).filter(lambda text: text not in ("none", "None"))


@given(
    st.one_of(
        st.tuples(st.just(int | None), st.none() | st.integers()),
        st.tuples(st.just(float), NUMBERS),
        st.tuples(st.just(str | None), st.none() | WORDS),
        st.tuples(st.just(SIZE), st.none() | st.integers() | st.tuples(st.integers(), st.integers())),
        st.tuples(st.just(Sequence[float]), st.lists(NUMBERS, min_size=1).map(tuple)),
        st.tuples(st.just(NORMALIZE), st.tuples(*2 * [st.lists(NUMBERS, min_size=1, max_size=4).map(tuple)])),
    )
)
def test_values_survive_text_and_json(pair: tuple[Any, Any]) -> None:
    annotation, value = pair
    assert parse(annotation, to_text(value)) == value
    assert from_stored(annotation, json.loads(json.dumps(value))) == value
