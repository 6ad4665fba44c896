"""Measurements that come twice, to the last digit: files copied under another name, tables joined to themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from xpjax.survey import Observations, RowFlag


def first_alike(columns: Iterable[np.ndarray], n: int) -> np.ndarray:
    """The first row (n,) that is as each row in all columns (n,); itself where none is before it."""
    rows, group = np.arange(n), np.zeros(n, int)
    for column in columns:
        values, code = np.unique(column[rows], return_inverse=True)
        _, group, count = np.unique(group * len(values) + code.ravel(), return_inverse=True, return_counts=True)
        several = count[group] > 1  # few are left after the first columns
        rows, group = rows[several], group[several]
        if not len(rows):
            break
    out = np.arange(n)
    if len(rows):
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        out[rows] = rows[first][inverse]
    return out


def once_per_frame(o: Observations) -> Observations:
    """The observations, where a measurement that a frame has several times counts once: others are DUPLICATE.

    The same are rows of one place, or of one star where no place is known, with the same magnitude and error.
    """
    none, extra = np.full(len(o), np.nan), o.origin.columns if o.origin is not None else {}
    place = [o.x, o.y, *(np.asarray(extra.get(name, none), float) for name in ("ra", "dec"))]
    placed = np.isfinite(place[0] + place[1]) | np.isfinite(place[2] + place[3])
    star = np.where(placed, 0, np.unique(o.star, return_inverse=True)[1].ravel() + 1)
    first = first_alike((*place, star, o.frame, o.magnitude, o.magnitude_error), len(o))
    again = (first < np.arange(len(o))) & np.isfinite(o.magnitude)
    if not again.any():
        return o
    return dataclasses.replace(o, excluded=o.excluded | np.uint32(RowFlag.DUPLICATE) * again)
