"""Coefficients of sources, and sources as read.

Records that kernels see are `equinox.Module` pytrees for one source; a batch is a leading axis on every array.
Whatever is not computed with (`source_id`, input columns) lives in the host-only `SourceTable`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from xpjax.core.errors import XpjaxError
from xpjax.core.records import AnyArray, Catalogue, Record
from xpjax.core.release import DR3, Release


class XPCoefficients(eqx.Module):
    """Coefficients of one source, or of many on a leading axis; NumPy on the host, JAX in kernels.

    An XP that is missing has NaN coefficients. `correlation` holds, for each XP in turn, the strict lower triangle
    row by row, as the archive does. `error` and `correlation` are None where the input has none: errors are then
    absent, never guessed. `error` already holds the standard deviation of the fit (De Angeli et al. 2023).
    """

    value: Float[AnyArray, "*batch n_basis_total"]
    error: Float[AnyArray, "*batch n_basis_total"] | None = None
    correlation: Float[AnyArray, "*batch n_pair_total"] | None = None
    n_relevant: Int[AnyArray, "*batch n_xp"] | None = None
    release: Release = eqx.field(static=True, default=DR3)

    def __check_init__(self) -> None:
        expected = {
            "value": self.release.n_basis_total,
            "error": self.release.n_basis_total,
            "correlation": self.release.n_pair_total,
            "n_relevant": len(self.release.xp),
        }
        batch = np.shape(self.value)[:-1]
        for name, size in expected.items():
            array = getattr(self, name)
            if isinstance(array, list | tuple):
                raise XpjaxError(f"{name} must be an array (n, {size}), not a {type(array).__name__}: numpy.asarray it")
            if not hasattr(array, "shape"):
                continue
            if array.shape != (*batch, size):
                raise XpjaxError(
                    f"{name} has shape {array.shape}, expected {(*batch, size)}: {self.release.name} has "
                    f"{self.release.n_basis} basis functions for {self.release.xp}; pass release= for another one"
                )


@dataclasses.dataclass(frozen=True, repr=False)
class SourceTable(Record):
    """Sources on the host, as read: ids, coefficients, status bits and every other column of the input.

    source_id (n,) int64, 0 where missing; coefficients with a leading axis n (NumPy); status (n,) uint32;
    columns name -> (n, ...) array; origin names the input in messages.
    """

    source_id: np.ndarray
    coefficients: XPCoefficients
    status: np.ndarray
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    origin: str = "memory"

    def __len__(self) -> int:
        return len(self.source_id)

    @property
    def release(self) -> Release:
        """The data release that the sizes of the coefficients come from."""
        return self.coefficients.release

    def __getitem__(self, rows: int | slice | np.ndarray) -> SourceTable:
        """Some of the sources; one where rows is a number."""
        if isinstance(rows, int | np.integer):
            rows = np.array([rows])

        def pick(array: Any) -> Any:
            return None if array is None else array[rows]

        c = self.coefficients
        return SourceTable(
            self.source_id[rows],
            XPCoefficients(pick(c.value), pick(c.error), pick(c.correlation), pick(c.n_relevant), c.release),
            self.status[rows],
            {name: column[rows] for name, column in self.columns.items()},
            self.origin,
        )

    def catalogue(self) -> Catalogue:
        """XP coefficients as the archive's columns (`bp_coefficients`, ...), then the table's other columns."""
        c, release = self.coefficients, self.release
        columns: dict[str, Any] = {"source_id": self.source_id}
        for i, xp in enumerate(release.xp):
            columns[f"{xp}_n_parameters"] = np.full(len(self), release.n_basis[i], np.int16)
            if c.n_relevant is not None:
                columns[f"{xp}_n_relevant_bases"] = np.asarray(c.n_relevant)[:, i]
            columns[f"{xp}_coefficients"] = c.value[:, release.slices[i]]
            if c.error is not None:
                columns[f"{xp}_coefficient_errors"] = c.error[:, release.slices[i]]
            if c.correlation is not None:
                columns[f"{xp}_coefficient_correlations"] = c.correlation[:, release.pair_slices[i]]
        return Catalogue({**columns, **self.columns}, meta={"release": release.name})
