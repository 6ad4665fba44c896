"""A Gaia DR4 for tests: DR3's models and sources less the last four BP bases, 51 + 55.

DR3's sources whose last four BP coefficients are zero have the same spectra.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from xpjax.core.paths import DATA
from xpjax.core.release import DR4
from xpjax.xp.sources import SourceTable, XPCoefficients

KEEP = np.r_[0:51, 55:110]
KEEP_PAIRS = np.r_[0:1275, 1485:2970]


def make_models(folder: Path) -> None:
    """`instrument_dr4.h5` and `systems_dr4.h5` of DR3's arrays."""
    for name in ("instrument", "systems"):
        with h5py.File(DATA / f"{name}_dr3.h5") as old, h5py.File(folder / f"{name}_dr4.h5", "w") as new:
            for key in old:
                old.copy(key, new)
            new.attrs.update(old.attrs)
            new.attrs.update(release_name=DR4.name, release_n_basis=list(DR4.n_basis))
            if name == "systems":
                keys = [(f"{label}/projection", KEEP) for label in new]
            else:
                keys = [("internal/hermite/bp/transformation", slice(51))]
                keys += [(f"absolute/bp/{model}/transformation", slice(51)) for model in new["absolute/bp"]]
                keys += [(f"model/{model}/bp_design", slice(51)) for model in new["model"]]
            for key, kept in keys:
                value = new[key][()][kept]
                del new[key]
                new[key] = value


def cut(table: SourceTable) -> SourceTable:
    """Sources of DR3 as DR4 would have them, of the same spectra where the last four BP coefficients are zero."""
    c = table.coefficients
    value, error, correlation = c.value[:, KEEP], c.error[:, KEEP], c.correlation[:, KEEP_PAIRS]
    relevant = np.minimum(c.n_relevant, DR4.n_basis)
    coefficients = XPCoefficients(value, error, correlation, relevant, DR4)
    return SourceTable(table.source_id, coefficients, table.status, table.columns)


def without_last(table: SourceTable) -> SourceTable:
    """The sources with zeros for the last four BP coefficients."""
    for array in (table.coefficients.value, table.coefficients.error):
        array[:, 51:55] = 0
    return table
