"""What others ship: one version, the same requirements everywhere, hints of extras, files that an sdist needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import xpjax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = {"astropy": "astropy-base", "matplotlib": "matplotlib-base", "isal": "python-isal"}
"""Packages that conda-forge names otherwise, or has without graphical parts."""


def test_the_version_is_in_one_place() -> None:
    """The files that others read say the version of xpjax/core/version.py."""
    assert "version" in PROJECT["dynamic"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == xpjax.__version__
    assert yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())["context"]["version"] == xpjax.__version__
    assert re.search(rf"^## \[?{re.escape(xpjax.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_conda_asks_for_what_pip_asks_for() -> None:
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    wanted = {}
    for line in PROJECT["dependencies"]:
        name, bound = re.fullmatch(r"([\w-]+)(.*)", line).groups()
        wanted[CONDA.get(name, name)] = bound
    found = dict(line.split(" ", 1) for line in recipe["requirements"]["run"])
    assert found.pop("python") == PROJECT["requires-python"]
    assert found == wanted


def test_hints_name_extras_that_exist() -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "xpjax").rglob("*.py")))
    named = re.findall(r"install\([\"'](\w+)[\"']\)", text) + re.findall(r"xpjax\[(\w+)\]", text)
    assert {"archive", "dask", "dust"} <= set(named) <= {*PROJECT["optional-dependencies"]}


def test_an_sdist_has_all_that_tests_read() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text().splitlines()
    grafted = {line.split()[1] for line in manifest if line.startswith("graft ")}
    assert {"tests", "notebooks", "docs", "filters", "benchmarks", "tools", "conda"} <= grafted
    included = {name for line in manifest if line.startswith("include ") for name in line.split()[1:]}
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "NOTICE"} <= included
