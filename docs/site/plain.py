"""Docstrings are plain text: what looks like a Markdown reference in them, `a[i][k]`, is none."""

from __future__ import annotations

import re
from typing import Any

import griffe


class PlainText(griffe.Extension):
    """Escapes the second bracket of `][` outside indented blocks, which Markdown leaves alone."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with everything that is documented."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^(?! {4}).*\]\[.*$", _escaped, obj.docstring.value)


def _escaped(line: re.Match[str]) -> str:
    return line.group().replace("][", "]\\[")
