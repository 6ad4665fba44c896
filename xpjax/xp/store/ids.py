"""Source ids that a user names: numbers, or text files of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.streams import text_of
from xpjax.io.words import is_missing, whole_number


def as_ids(source_ids: Any) -> np.ndarray:
    """Ids (m,), each once, of integers, of a text file, or of a list of both. Raises XpjaxError for rounded numbers."""
    if isinstance(source_ids, str | os.PathLike):
        return np.unique(np.array(_read_ids(Path(source_ids)), np.int64))
    if isinstance(source_ids, list | tuple) and any(isinstance(one, str | os.PathLike) for one in source_ids):
        parts = [as_ids(one if isinstance(one, str | os.PathLike) else [one]) for one in source_ids]
        return np.unique(np.concatenate(parts))
    ids = np.asarray(source_ids)
    if ids.size and ids.dtype.kind not in "iu":
        raise XpjaxError(f"source ids are integers of 64 bits, not {ids.dtype}: read them as integers or text")
    return np.unique(ids.astype(np.int64))


def _read_ids(path: Path) -> list[int]:
    """Ids of a text file: its column source_id where the first line names columns, else the first of each line."""
    text = text_of(path)
    if "\0" in text:
        raise XpjaxError(f"{path}: no text; expected source ids, one a line, or csv with a column source_id")
    lines = [(number, line.split(",")) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(n, cells) for n, cells in lines if (cells[0].strip() or len(cells) > 1) and cells[0][:1] != "#"]
    column = 0
    if lines and not lines[0][1][0].strip('" ').isdecimal():
        names = [name.strip().strip('"').lower() for name in lines.pop(0)[1]]
        if "source_id" not in names:
            raise XpjaxError(f"{path}: no column source_id, and no number in the first line")
        column = names.index("source_id")
    cells = [(number, cells[column].strip('" ') if len(cells) > column else "") for number, cells in lines]
    return [whole_number(cell, f"{path}: line {number}") for number, cell in cells if not is_missing(cell)]
