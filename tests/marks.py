"""Marks for tests."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_after(n: int, cases: Iterable[Any]) -> list[Any]:
    """Cases of a parametrized test, all but the first n marked slow."""
    return [
        case if k < n else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for k, case in enumerate(cases)
    ]
