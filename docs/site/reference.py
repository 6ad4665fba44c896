"""The reference, made when the site is built: pages of docstrings from the sources, and the help of every command."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "xpjax"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages of the reference take their places in the navigation."""
    config.nav += [
        {"Reference": [{"xpjax": "api/index.md"}, *({name: path} for name, path, _ in _modules())]},
        {"Commands": "commands.md"},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages that no file holds."""
    pages = {"api/index.md": _top(), "commands.md": _commands()}
    pages |= {path: text for _, path, text in _modules()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def _top() -> str:
    """The public names with the first line of their docstrings, linked to the rooms where they live."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (home,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_HOME"
    ]
    rows = [
        f"| [`{name}`]({module.split('.')[1]}.md#{module}.{name}) | {_first_line(module, name)} |"
        for name, module in home.items()
    ]
    return "\n".join(["# xpjax", "", "The names at the top.", "", "| name | what it is |", "|---|---|", *rows])


def _first_line(module: str, name: str) -> str:
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
    (found,) = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name]
    return (ast.get_docstring(found) or "").partition("\n")[0].replace("|", "\\|")


def _modules() -> Iterator[tuple[str, str, str]]:
    """Name, page and text of every room, and of every module beside them; the command line has a page of its own."""
    for path in sorted(PACKAGE.iterdir()):
        if path.suffix == ".py" and not path.stem.startswith("_"):
            yield f"xpjax.{path.stem}", f"api/{path.stem}.md", f"# xpjax.{path.stem}\n\n{_entry(f'xpjax.{path.stem}')}"
        elif (path / "__init__.py").exists() and path.name != "cli":
            names = [f"xpjax.{path.name}.{p.stem}" for p in sorted(path.glob("*.py")) if not p.stem.startswith("_")]
            said = ast.get_docstring(ast.parse((path / "__init__.py").read_text())) or ""
            text = f"# xpjax.{path.name}\n\n{said}\n\n" + "\n".join(map(_entry, names))
            yield f"xpjax.{path.name}", f"api/{path.name}.md", text


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
