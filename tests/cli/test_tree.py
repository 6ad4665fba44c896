"""The tree of commands: summaries that are not cut, and the same option for the same thing everywhere."""

from collections.abc import Iterator

import click
import pytest

from xpjax.cli import main


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {word}".strip())


TREE = dict(commands(main, ""))
SAME = {
    "truncate": ("--truncate", "--no-truncate"),
    "output": ("--output", "-o"),
    "overwrite": ("--overwrite",),
    "devices": ("--device",),
    "correction": ("--correction",),
    "errors": ("--errors", "--no-errors"),
    "keep": ("--keep",),
    "config": ("--config",),
}


@pytest.mark.parametrize("name", [name for name in TREE if name])
def test_summaries_are_one_line(name: str) -> None:
    command = TREE[name]
    summary = command.get_short_help_str(200)
    assert summary
    assert len(summary) <= 68, summary
    assert command.get_short_help_str(68) == summary, "the list of commands would cut it"


@pytest.mark.parametrize("name", TREE)
def test_the_same_option_for_the_same_thing(name: str) -> None:
    for parameter in TREE[name].params:
        forms = (*parameter.opts, *parameter.secondary_opts)
        known = SAME.get(str(parameter.name))
        if isinstance(parameter, click.Option) and known:
            assert set(forms) == set(known), f"{name}: {forms}"


def test_groups_go_by_subject() -> None:
    groups = {name for name, command in TREE.items() if isinstance(command, click.Group)}
    assert groups == {"", "catalogue", "labels", "labels grid", "passband", "store", "survey", "wiggles"}
