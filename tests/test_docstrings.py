"""Docstrings of public names: numpydoc form with parameters, results and examples, and the examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpydoc.validate import validate as check

import xpjax
from tests.test_house import ROOMS

NEEDED = {
    "GL03": "double blank lines",
    "GL08": "no docstring",
    "SS02": "the summary begins with a capital letter",
    "SS03": "the summary ends with a period",
    "SS05": "the summary is an imperative: Return, not Returns",
    "SS06": "the summary is one line",
    "PR01": "a parameter is not described",
    "PR02": "a parameter is described that there is none of",
    "PR03": "parameters in another order",
    "PR07": "a parameter without description",
    "RT01": "no section Returns",
    "RT03": "a result without description",
    "EX01": "no section Examples",
}
FROZEN = ("compat.gaiaxpy", "cli")
"""Rooms whose docstrings are another interface's, or are the help of commands."""


def public() -> Iterator[tuple[str, Any]]:
    """Names at the top and at every door, each once, with what they are."""
    seen = set()
    for door in ("", *(room for room in ROOMS if room not in FROZEN)):
        module = importlib.import_module(f"xpjax.{door}".rstrip("."))
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing) and id(thing) not in seen:
                seen.add(id(thing))
                yield f"{door}.{name}".lstrip("."), thing


PUBLIC = dict(public())


def problems(thing: Any) -> list[str]:
    """What of NEEDED is not met; fields of a dataclass are parameters that need no section Attributes."""
    found = check(f"{thing.__module__}.{thing.__qualname__}")["errors"]
    ignored = set()
    if inspect.isclass(thing) and issubclass(thing, int | BaseException):
        ignored |= {"PR01", "PR02", "PR03"}
    return [f"{code} {said}" for code, said in found if code in NEEDED and code not in ignored]


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_are_numpydoc(name: str) -> None:
    found = problems(PUBLIC[name])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of a public name and of its methods; `xp.parquet` in the folder has 50 mock sources."""
    thing = PUBLIC[name]
    examples = doctest.DocTestFinder(exclude_empty=True).find(
        thing, name, module=importlib.import_module(thing.__module__), globs={"xpjax": xpjax, "np": np}
    )
    monkeypatch.chdir(tmp_path)
    if any("xp.parquet" in example.docstring for example in examples if example.docstring):
        xpjax.write("xp.parquet", xpjax.simulate_sources(50, seed=0))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    with np.printoptions(legacy=False):  # whatever other tests or packages set
        for example in examples:
            runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


def wrong(x: int) -> int:
    """Returns nothing"""
    return x


def test_the_check_finds_what_is_wrong() -> None:
    found = {problem.split()[0] for problem in problems(wrong)}
    assert {"SS03", "PR01", "RT01", "EX01"} <= found, found


def test_units_and_shapes_are_named() -> None:
    """Arrays have shapes and physical numbers units: most public functions say both."""
    functions = {n: t for n, t in PUBLIC.items() if inspect.isfunction(t)}
    shaped = [n for n, t in functions.items() if re.search(r"\(n|shape|\[(mag|nm|deg|W)", t.__doc__ or "")]
    assert len(shaped) > 0.5 * len(functions)
