"""Tests of faults; ``test_16_...`` is one of promise 16 of docs/reliability.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them, and say which promise each is of."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")
            if found := re.match(r"test_(\d+)_", item.name):
                item.add_marker(pytest.mark.promise(int(found[1])))
