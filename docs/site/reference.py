"""The reference, made when the site is built: pages of docstrings from the sources, and the help of every command."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import xpjax

DOORS = (
    *("xp", "synthetic", "wiggles", "stellar", "survey", "survey.exposures", "survey.reading", "survey.joint"),
    *("survey.scr", "survey.report", "catalogue", "plot", "extinction", "compat.gaiaxpy"),
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages of the reference take their places in the navigation."""
    config.nav += [
        {"Reference": [{"xpjax": "api/index.md"}, *({name: path} for name, path, _ in _rooms())]},
        {"survey.toml": "survey-toml.md"},
        {"Commands": "commands.md"},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages that no file holds."""
    pages = {"api/index.md": _top(), "commands.md": _commands(), "survey-toml.md": _survey_toml()}
    pages |= {path: text for _, path, text in _rooms()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def _top() -> str:
    """The names at the top with the first lines of their docstrings, linked to the rooms where they live."""
    rows = [f"| {_link(name)} | {_first_line(name)} |" for name in xpjax.__all__ if not name.startswith("_")]
    head = ["# xpjax", "", "The names at the top.", "", "| name | what it is |", "|---|---|"]
    own = [_entry(f"xpjax.{name}") for name in xpjax.__all__ if _room(name) is None and not name.startswith("_")]
    return "\n".join([*head, *rows, "", *own])


def _room(name: str) -> str | None:
    """The room whose door has a name of the top too; None for names of the ground."""
    return next((room for room in DOORS if name in importlib.import_module(f"xpjax.{room}").__all__), None)


def _link(name: str) -> str:
    room = _room(name)
    return f"[`{name}`](#xpjax.{name})" if room is None else f"[`{name}`]({room}.md#xpjax.{room}.{name})"


def _first_line(name: str) -> str:
    return (getattr(xpjax, name).__doc__ or "").partition("\n")[0].replace("|", "\\|")


def _rooms() -> Iterator[tuple[str, str, str]]:
    """Name, page and text of every room: what its door says, and each public name."""
    for room in DOORS:
        door = importlib.import_module(f"xpjax.{room}")
        said = (door.__doc__ or "").partition("\n\n`__all__`")[0]
        shown = [name for name in door.__all__ if name in vars(door) and not name.startswith("_")]
        entries = "\n".join(_entry(f"xpjax.{room}.{name}") for name in shown)
        yield f"xpjax.{room}", f"api/{room}.md", f"# xpjax.{room}\n\n{said}\n\n{entries}"


def _entry(name: str) -> str:
    return f"::: {name}\n    options:\n      show_root_full_path: true\n"


def _commands() -> str:
    from xpjax.cli import main

    return "# Commands\n\nThe help of every command, as `--help` prints it.\n\n" + "\n".join(_help(main, "xpjax", None))


def _help(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=name.split()[-1], parent=parent, max_content_width=100)
    indented = "\n".join(f"    {line}" for line in command.get_help(context).splitlines())
    yield f"## {name}\n\n{indented}\n"
    for child, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _help(inner, f"{name} {child}", context)


def _survey_toml() -> str:
    """Every section and key of survey.toml, from the typed models that check it."""
    from xpjax.io.config import reference
    from xpjax.survey.report import survey_sections

    return "# survey.toml\n\n" + reference(survey_sections())
