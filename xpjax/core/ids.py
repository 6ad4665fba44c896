"""Rows of one table found in another, by their identifiers."""

from __future__ import annotations

import numpy as np


def places_of(ids: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """For each id (n,) the first row of the reference (m,) that has it, -1 for none. 0 is an id like others."""
    unique, first = np.unique(reference, return_index=True)
    if not len(unique):
        return np.full(len(ids), -1)
    place = np.clip(np.searchsorted(unique, ids), 0, len(unique) - 1)
    return np.where(unique[place] == ids, first[place], -1)
