"""Tables of detections before anybody said what they hold: common columns, units, headers, and a sample of values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Rows
from xpjax.io.tables import Table, open_tables, split_part
from xpjax.survey.reading.standards import Standards

SURE = ("guess", "likely", "certain")
"""How sure a guess is: by values or a common word; with a doubt left by name or unit; nothing else is as likely."""
MOST, SAMPLE, ROWS = 400, 8, 50_000
"""Sources whose names and headers are looked at, tables whose values are, and rows of each."""


@dataclasses.dataclass(frozen=True)
class Guess:
    """What an entry of a configuration is taken to be, how sure that is and why, and what else it might be."""

    entry: str
    value: Any
    sure: str
    why: str
    others: tuple[str, ...] = ()

    def said(self) -> str:
        """How sure, why, and what else, as a comment."""
        return f"{self.sure}: {self.why}" + (f"; also there: {few(self.others)}" if self.others else "")


def few(names: Sequence[Any], most: int = 4) -> str:
    """The first few of several names."""
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def spread(things: Sequence[Any], most: int) -> list[Any]:
    """At most so many of a sequence, from its first to its last."""
    if len(things) <= most:
        return list(things)
    return [things[k] for k in np.unique(np.linspace(0, len(things) - 1, most).astype(int))]


def is_column(value: Any) -> bool:
    """Whether this is a column, so that a mapping with it is one table."""
    if isinstance(value, Rows) or hasattr(value, "colnames"):  # a table, which NumPy would take for a sequence
        return False
    return np.ndim(value) == 1 and not getattr(getattr(value, "dtype", None), "names", None)


def _some_rows(n: int) -> Any:
    """At most ROWS of n rows, the same for each column; at random, as what tables hold may come in turn."""
    return slice(None) if n <= ROWS else np.sort(np.random.default_rng(0).choice(n, ROWS, replace=False))


def _forget(table: Table) -> None:
    """Give back the memory of a large table."""
    if len(table) > ROWS:
        table.drop()


class Look:
    """Tables of a survey before anybody said what their columns mean.

    named: whether the caller names the exposures; n_source: sources in all; sources: those that are looked at; tables,
    files: their tables, and the name of the file of each; parts: most tables of a file; names: columns of all tables;
    partial: those of some. notes: what is seen and not taken.
    """

    def __init__(self, sources: Any) -> None:
        self.named = isinstance(sources, Mapping) and not any(map(is_column, sources.values()))
        listed = list(sources.values()) if self.named else sources if isinstance(sources, list | tuple) else [sources]
        if not listed:
            raise XpjaxError("there are no tables: give the files of detections")
        self.n_source, self.sources = len(listed), spread(listed, MOST)
        self.notes: list[str] = []
        opened = [open_tables(one) for one in self.sources]
        names = [split_part(one)[0].name if isinstance(one, str | Path) else "" for one in self.sources]
        self.parts = max(map(len, opened))
        self.tables: list[Table] = [table for found in opened for table in found]
        self.files = [name for name, found in zip(names, opened, strict=True) for _ in found]
        first = self.tables[0]
        everywhere = set.intersection(*({*table.fields} - table.repeated for table in self.tables))
        self.names = [name for name in first.names if name in everywhere]
        self.partial = sorted({name for table in self.tables for name in table.fields} - everywhere)
        if not self.names:
            raise XpjaxError(
                f"{first.origin} and {self.tables[-1].origin} have no column in common: give tables of one kind"
            )
        if not sum(map(len, self.tables)):
            raise XpjaxError(f"{first.origin} has no rows" + ", nor have the others" * (len(self.tables) > 1))
        self._known: dict[tuple[str, str], np.ndarray | None] = {}

    @property
    def seen(self) -> str:
        """What was looked at, in words."""
        tables = f"{len(self.tables):,} tables" if len(self.tables) > 1 else "a table"
        some = f" of {self.n_source:,} files" if self.n_source > len(self.sources) else ""
        such = "such as " if len(self.tables) > 1 or some else ""
        first = f", {such}{self.files[0]}," if self.files[0] else ""
        return f"{tables}{some}{first} with {sum(map(len, self.tables)):,} rows and {len(self.names)} columns"

    def unit(self, name: str) -> str:
        """The unit of a column, in lower case; empty where it states none."""
        return (self.tables[0].fields[name].unit or "").strip().lower()

    # Values

    def is_vector(self, name: str) -> bool:
        """Whether the cells of a column are arrays."""
        try:
            values = self.tables[0].column(name).values
        except (XpjaxError, OSError):
            return False
        finally:
            _forget(self.tables[0])
        return getattr(values, "ndim", 1) > 1

    def numbers(self, name: str, kind: str | None = None) -> np.ndarray | None:
        """A sample of a column as numbers, NaN where missing; None where it holds none. kind: of its unit."""
        return self._values(name, f"numbers {kind}", lambda table: table.column(name).numbers(kind))

    def times(self, name: str) -> np.ndarray | None:
        """A sample of a column as times [d]."""
        return self._values(name, "times", lambda table: table.column(name).times())

    def texts(self, name: str) -> np.ndarray | None:
        """A sample of a column as text, empty where missing."""
        return self._values(name, "texts", lambda table: table.column(name).texts())

    def flags(self, name: str) -> np.ndarray | None:
        """A sample of a column as bits."""
        return self._values(name, "flags", lambda table: table.column(name).flags())

    def ids(self, name: str) -> np.ndarray | None:
        """A sample of a column as identifiers."""
        return self._values(name, "ids", lambda table: table.column(name).ids().value)

    def repeats(self, name: str) -> bool:
        """Whether identifiers come more than once in the first table."""
        ids = self.tables[0].column(name).ids().value[_some_rows(len(self.tables[0]))]
        _forget(self.tables[0])
        return len(np.unique(ids)) < len(ids)

    def positions(self, ra: str, dec: str) -> tuple[np.ndarray, np.ndarray] | None:
        """A sample of positions [deg]; None where there are none."""
        both = [self._values(ra, f"angles {dec} {k}", lambda table, k=k: Standards.positions(table, ra, dec)[k])  # type: ignore[misc]
                for k in (0, 1)]  # fmt: skip
        if both[0] is None or both[1] is None or not np.isfinite(both[0] + both[1]).any():
            return None
        return both[0], both[1]

    def _values(self, name: str, how: str, read: Callable[[Table], np.ndarray]) -> np.ndarray | None:
        if (name, how) not in self._known:
            parts = []
            try:
                for table in spread(self.tables, SAMPLE):
                    parts.append(read(table)[_some_rows(len(table))])
                    _forget(table)
                self._known[name, how] = np.concatenate(parts)
            except (XpjaxError, OSError, ValueError):
                self._known[name, how] = None
        return self._known[name, how]

    # Headers and names of files

    def keyword(self, keyword: str) -> list[Any] | None:
        """The values of a header keyword in each table; None where one has none."""
        values = [table.header.get(keyword) for table in self.tables]
        values = [value.strip() if isinstance(value, str) else value for value in values]
        return None if any(value is None or value == "" or isinstance(value, bool) for value in values) else values

    def labels(self, entry: Any) -> list[str]:
        """What an entry such as { header = "FILTER" } is in each table; a column differs from row to row: nothing."""
        if isinstance(entry, Mapping) and "header" in entry:
            return [*map(str, self.keyword(entry["header"]) or [""] * len(self.tables))]
        if isinstance(entry, Mapping) and "file" in entry:
            found = [re.search(entry["file"], name) for name in self.files]
            return [one[1] if one else "" for one in found]
        return [""] * len(self.tables)
