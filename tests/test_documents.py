"""What documentation and README name is there: imports through doors, public names, commands and their options."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

import xpjax
from xpjax.cli import main

ROOT = Path(xpjax.__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if page.name != "architecture.md"]
"""The page on architecture names modules, for those who change them."""


def resolved(dotted: str) -> bool:
    """Whether a dotted name that begins with xpjax is a door, a public name, or an attribute of one."""
    thing, parts = xpjax, dotted.split(".")[1:]
    for k, part in enumerate(parts):
        door = getattr(thing, "__all__", None)
        inside = ".".join(["xpjax", *parts[: k + 1]])
        try:
            is_room = hasattr(importlib.import_module(inside), "__all__")
        except ImportError:
            is_room = False
        if door is not None and part not in door and not is_room:
            return False
        if not hasattr(thing, part) and not is_room:
            return False
        thing = importlib.import_module(inside) if is_room else getattr(thing, part)
    return True


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "notebooks").glob("*.py"))], ids=lambda page: page.name)
def test_names_are_public(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"\bxpjax(?:\.[A-Za-z_]\w*)+", text)) - {"xpjax.readthedocs", "xpjax.toml"}
    for module, names in re.findall(r"^\s*from (xpjax[\w.]*) import ([\w, ]+)", text, re.MULTILINE):
        named |= {f"{module}.{name.split()[0]}" for name in names.split(",") if name.split()}
    wrong = sorted(name for name in named if not resolved(name))
    assert not wrong, wrong


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words name, and what follows."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^    (?:pip install .*&& )?(xpjax .*)$", text, re.MULTILINE)
    lines += re.findall(r"`(xpjax [a-z][^`]*)`", re.sub(r"\s*\n\s*", " ", text))
    for line in lines:
        words = shlex.split(line.partition("  #")[0].replace("'", ""))[1:]
        command, rest = command_of([word for word in words if word != "|"])
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        if isinstance(command, click.Group):
            assert not rest or rest[0].startswith(("-", "...", "|")), f"no command: {line}"
        said = [word.partition("=")[0].rstrip(",") for word in rest if re.match(r"--?[a-z]", word)]
        unknown = [word for word in said if word not in {*options, "--help", "-h", "--version"}]
        assert not unknown, f"{line}: no option {unknown}"


def test_the_architecture_names_modules_that_exist() -> None:
    """Of the paragraphs on rooms and walks; `say` is a function."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    part = text[text.index("## Rooms") : text.index("## Records")]
    package = ROOT / "xpjax"
    known = {path.stem for path in package.rglob("*.py")} | {path.name for path in package.rglob("*") if path.is_dir()}
    named = {word for words in re.findall(r"`([a-z_/]+)`", part) for word in words.split("/")} - {"say"}
    assert len(named) > 60
    assert not named - known, named - known


def test_wrong_names_are_found() -> None:
    assert resolved("xpjax.photometry")
    assert resolved("xpjax.synthetic.Photometry.catalogue")
    assert not resolved("xpjax.synthetic.magnitude")
    assert not resolved("xpjax.nothing")
