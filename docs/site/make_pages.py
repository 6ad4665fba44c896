"""Pages that code writes, before Sphinx reads any: reference by task, commands, survey.toml, tutorials, gallery."""

from __future__ import annotations

import base64
import inspect
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import reference
from sphinx.application import Sphinx

import notebooks

ROOT = Path(__file__).parents[2]


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages as soon as the configuration is read."""
    app.connect("config-inited", lambda app, _: write(Path(app.srcdir)))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(docs: Path) -> None:
    """Write docs/reference and docs/tutorials; a page that says the same as before keeps its time."""
    pages = reference.pages() | dict(commands()) | {"reference/survey-toml.md": survey_toml()}
    pages |= {"reference/results.md": results()}
    executed = notebooks.executed(ROOT / "notebooks", ROOT / "build" / "notebooks")
    pages |= {f"tutorials/{path.name}": path.read_text() for path in executed}
    pages |= {"tutorials/index.md": tutorials(executed)}
    pages |= {"tutorials/gallery.md": gallery(executed, docs / "tutorials" / "figures")}
    for name, text in pages.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    shown = " ".join(pages.values()).split()
    for path in [*(docs / "reference").glob("*.md"), *(docs / "tutorials").glob("*.*")]:
        if f"{path.parent.name}/{path.name}" not in pages:
            path.unlink()
    for path in (docs / "reference" / "api").glob("*.rst"):
        if path.stem not in shown:
            path.unlink()


# --- the command line -------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, str]]:
    """A page for each group of commands, and one that lists them all."""
    from xpjax.cli import main

    rows, pages = [], []
    for name, command in sorted(main.commands.items()):
        said = command.get_short_help_str(100)
        rows.append(f"| [`xpjax {name}`](command-{name}.md) | {said} |")
        inner = sorted(getattr(command, "commands", {}).items())
        rows += [f"| `xpjax {name} {sub}` | {one.get_short_help_str(100)} |" for sub, one in inner]
        pages.append(f"command-{name}")
        yield f"reference/command-{name}.md", _command(name, command)
    yield (
        "reference/commands.md",
        "# The command line\n\nAfter this page you know which command does what; `--help` of each says the same.\n\n"
        "| command | what it does |\n|---|---|\n" + "\n".join(rows) + f"\n\n{toctree(pages, hidden=True)}",
    )


def _command(name: str, command: click.Command) -> str:
    start = f"# xpjax {name}\n\nAfter this page you can give `xpjax {name}` every option that it takes.\n\n"
    inner = sorted(getattr(command, "commands", {}).items())
    return start + _help(command, f"xpjax {name}") + "".join(_nested(one, f"xpjax {name} {sub}") for sub, one in inner)


def _nested(command: click.Command, name: str) -> str:
    inner = sorted(getattr(command, "commands", {}).items())
    return f"## {name}\n\n" + _help(command, name) + "".join(_nested(one, f"{name} {sub}") for sub, one in inner)


def _help(command: click.Command, name: str) -> str:
    """What `--help` says, with the options as a table."""
    context = click.Context(command, info_name=name)
    parts = [f"    {' '.join([name, *command.collect_usage_pieces(context)])}"]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            first, *lines = paragraph.removeprefix("\b\n").splitlines()
            parts += [first, "\n".join(f"    {line[2:]}" for line in lines)]
        else:
            parts.append(_plain(paragraph))
    rows = [parameter.get_help_record(context) for parameter in command.params]
    cells = [[_plain(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows if row and row[1]]
    if cells:
        table = [f"| `{option}` | {said} |" for option, said in cells]
        parts.append("\n".join(["| option | meaning |", "|---|---|", *table]))
    return "\n\n".join(parts) + "\n\n"


def _plain(text: str) -> str:
    """Text in which nothing but code is markup."""
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"([*$<])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)


def survey_toml() -> str:
    """Every section and entry of survey.toml, from the typed models that check it."""
    from xpjax.io.config import reference as tables
    from xpjax.survey.report import survey_sections

    return (
        "# survey.toml\n\nAfter this page you can write every section of `survey.toml`, the configuration of the "
        "commands `xpjax survey`. `xpjax survey init` writes a first one ([how](../guide/starting.md)); what the terms "
        "of a joint solution do is on the page of [surveys](../guide/surveys.md).\n\n" + tables(survey_sections())
    )


def results() -> str:
    """What was promised beside what stored runs of the benchmarks found, with links from where the page lies."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.page import page

    return page()


# --- notebooks --------------------------------------------------------------------------------------------------------


def title_of(notebook: Path) -> str:
    """The first heading."""
    cells = json.loads(notebook.read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return next(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))


def question_of(notebook: Path) -> str:
    """The question that a notebook asks, in bold beneath its title."""
    cells = json.loads(notebook.read_text())["cells"]
    text = "".join(next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"))
    asked = re.search(r"\*\*(.+?)\*\*", text, re.DOTALL)
    return " ".join(asked[1].split()) if asked else ""


def tutorials(executed: list[Path]) -> str:
    """The page that shows the tutorials: their questions, each with its first figure."""
    cards = [_card(title_of(path), path.stem, f"figures/{path.stem}-1.png", question_of(path)) for path in executed]
    return (
        "# Tutorials\n\nAfter these pages you have seen whole analyses, with their figures and numbers. Each is a "
        "notebook of the folder `notebooks/`, run from top to bottom on simulated stars when this site was built, so "
        "that nothing has to be downloaded; [this page](../guide/notebooks.md) says how to run them yourself.\n\n"
        + _grid(cards, "1 1 2 2")
        + toctree([*(path.stem for path in executed), "../guide/notebooks"], True)
    )


def _card(title: str, page: str, picture: str, text: str = "") -> str:
    return (
        f":::{{grid-item-card}} {title}\n:link: {page}\n:link-type: doc\n:img-top: {picture}\n"
        f":img-alt: {title}\n\n{text}\n:::\n"
    )


def _grid(cards: list[str], columns: str) -> str:
    return f"::::{{grid}} {columns}\n:gutter: 3\n\n" + "\n".join(cards) + "\n::::\n\n"


def gallery(executed: list[Path], folder: Path) -> str:
    """All figures of the tutorials, each a link to where it is made."""
    cards = []
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in executed:
        number = 0
        for cell in json.loads(path.read_text())["cells"]:
            for output in cell.get("outputs", []):
                picture = output.get("data", {}).get("image/png")
                if picture:
                    number += 1
                    name = f"{path.stem}-{number}.png"
                    (folder / name).write_bytes(base64.b64decode("".join(picture)))
                    cards.append(_card(title_of(path), path.stem, f"figures/{name}"))
    return (
        "# Gallery\n\nAfter this page you know what xpjax draws, and where the code of each figure is: a click leads "
        "to the tutorial that makes it.\n\n" + _grid(cards, "1 2 2 3")
    )


def toctree(pages: list[str], hidden: bool = False) -> str:
    """A table of contents in MyST."""
    return "```{toctree}\n" + (":hidden:\n" if hidden else "") + ":maxdepth: 1\n\n" + "\n".join(pages) + "\n```\n"
