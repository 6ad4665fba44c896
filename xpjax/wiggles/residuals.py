"""What networks are trained on: residuals of stars with their features, and the files that hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record, Rows
from xpjax.core.units import nanometers
from xpjax.io.hdf5 import write_model
from xpjax.io.results import TableResult
from xpjax.io.tables import open_table
from xpjax.wiggles.feature_files import features_of
from xpjax.wiggles.features import Features
from xpjax.wiggles.meaning import Meaning
from xpjax.xp import NONE, the_same, wavelength_axis


@dataclasses.dataclass(frozen=True, repr=False)
class Residuals(Rows, TableResult, Record):
    """Hold what a network is trained on: features of stars, and residuals of their spectra.

    Parameters
    ----------
    source_id : (n,) array of int
        Identifiers of the stars.
    names : tuple of str
        Names of the features.
    features : (n, n_feature) array [mag]
        Features of the stars.
    wavelength : (m,) array [nm]
        Ascending wavelengths of the residuals.
    residual : (n, m) array
        True minus observed flux over its mean (or true over observed, minus one), NaN where missing.
    weight : (n, m) or (n, 1) array, optional
        Weights of the samples.
    ebv : (n,) array, optional [mag]
        E(B-V).
    base : str
        Name of the linear correction of the spectra and the features.
    meaning : Meaning
        How the residuals were made: kind, space, law, r_v, per_ebv, truncate, gaia and release.
    origin : str
        Name of the residuals in messages.

    Raises
    ------
    XpjaxError
        For shapes that do not fit, negative weights and wavelengths that do not ascend.

    Examples
    --------
    >>> data = xpjax.wiggles.Residuals(
    ...     np.arange(1, 4), ("BP-RP",), np.ones((3, 1)), np.array([400.0, 500.0]), np.zeros((3, 2))
    ... )
    >>> len(data), data.to_table().colnames
    (3, ['source_id', 'BP-RP', 'residual'])
    """

    source_id: np.ndarray
    names: tuple[str, ...]
    features: np.ndarray
    wavelength: np.ndarray
    residual: np.ndarray
    weight: np.ndarray | None = None
    ebv: np.ndarray | None = None
    base: str = NONE
    meaning: Meaning = dataclasses.field(default_factory=Meaning)
    origin: str = "residuals"
    row_fields: ClassVar[tuple[str, ...]] = ("source_id", "features", "residual", "weight", "ebv")

    def __post_init__(self) -> None:
        object.__setattr__(self, "wavelength", np.asarray(nanometers(self.wavelength), float))
        n, m = len(self.source_id), len(self.wavelength)
        if np.shape(self.residual) != (n, m):
            raise XpjaxError(
                f"residual has shape {np.shape(self.residual)}, expected {(n, m)}: {n} stars at {m} wavelengths"
            )
        if np.shape(self.features) != (n, len(self.names)):
            raise XpjaxError(f"features have shape {np.shape(self.features)}, expected {(n, len(self.names))}")
        if self.weight is not None and np.shape(self.weight) not in ((n, m), (n, 1)):
            raise XpjaxError(f"weight has shape {np.shape(self.weight)}, expected {(n, m)}")
        if self.weight is not None and not np.all(np.nan_to_num(self.weight) >= 0):
            raise XpjaxError("weight has negative values")
        if m < 2 or np.any(np.diff(self.wavelength) <= 0):
            raise XpjaxError("the wavelengths of residuals must be two or more and ascend")

    @property
    def stars(self) -> Features:
        """The features as a record of their own."""
        m = self.meaning
        told = (self.base, m.truncate, m.gaia, m.release)
        return Features(self.source_id, self.names, self.features, self.ebv, None, *told)

    def catalogue(self) -> Catalogue:
        """A column for each feature, and residual, weight and ebv; `read_residuals` reads such a table."""
        table = self.stars.catalogue()
        more = {name: value for name in ("residual", "weight") if (value := getattr(self, name)) is not None}
        told = {"residual": "Residual of mean-normalized flux", "weight": "Weight of each sample"}
        return dataclasses.replace(
            table,
            columns={**table.columns, **more},
            units={**table.units, "wavelength": "nm"},
            descriptions={**table.descriptions, **{name: told[name] for name in more}},
            shared={"wavelength": self.wavelength},
            meta={**table.meta, **self.meaning.attributes()},
        )


def repeated(source_id: np.ndarray) -> np.ndarray:
    """Which rows (n,) are of a source that came before."""
    again = np.ones(len(source_id), bool)
    again[np.unique(source_id, return_index=True)[1]] = False
    return again


def write_residuals(path: str | Path, table: Residuals, *, overwrite: bool = False) -> None:
    """Write residuals to an HDF5 file: source_id, features (attribute names), wavelength, residual, weight and ebv.

    Parameters
    ----------
    path : str or Path
        File to write.
    table : Residuals
        The residuals.
    overwrite : bool
        Replace a file that exists.

    Raises
    ------
    FileExistsError
        Where the file exists and is not to be overwritten.

    Notes
    -----
    Attributes of the file say what the residuals mean: base, kind, space, law, r_v, per_ebv, truncate and gaia.

    Examples
    --------
    >>> data = xpjax.wiggles.Residuals(
    ...     np.arange(1, 4), ("BP-RP",), np.ones((3, 1)), np.array([400.0, 500.0]), np.zeros((3, 2))
    ... )
    >>> xpjax.wiggles.write_residuals("residuals.h5", data)
    >>> len(xpjax.wiggles.read_residuals("residuals.h5"))
    3
    """
    arrays = {
        name: getattr(table, name) for name in ("source_id", "features", "wavelength", "residual", "weight", "ebv")
    }
    notes = {"wavelength": {"unit": "nm"}, "features": {"names": list(table.names)}}
    attributes = {"base": table.base, **table.meaning.attributes()}
    write_model(path, "xpjax residuals", 1, arrays, attributes, notes=notes, overwrite=overwrite)


def read_residuals(path: str | Path, names: Sequence[str] = ()) -> Residuals:
    """Read residuals from a file of `write_residuals`, or from a table of others.

    Parameters
    ----------
    path : str or Path
        A table with features as `read_features` reads them; with residual, an array (m,) in each row; wavelength [nm]
        or in the unit stated, once (an HDF5 dataset) or the same in each row; and perhaps weight, an array (m,) or a
        number in each row, and ebv.
    names : sequence of str
        Features that a table has beside the known ones.

    Returns
    -------
    Residuals
        The residuals. Attributes base, kind, space, law, r_v, per_ebv, truncate and gaia of an HDF5 file, or of the
        metadata of xpjax's own files, say what they mean.

    Raises
    ------
    XpjaxError
        For what is missing.

    Examples
    --------
    >>> data = xpjax.wiggles.Residuals(
    ...     np.arange(1, 4), ("BP-RP",), np.ones((3, 1)), np.array([400.0, 500.0]), np.zeros((3, 2))
    ... )
    >>> xpjax.write("residuals.parquet", data)
    >>> xpjax.wiggles.read_residuals("residuals.parquet").residual.shape
    (3, 2)
    """
    path = Path(path)
    try:
        table = open_table(path)
        for name in ("source_id", "residual"):
            table.check(name)
        stars = features_of(table, path, names)
        axis = wavelength_axis(table, path)
        if axis is None:
            raise XpjaxError("there is no wavelength")
        weight = table.column("weight").array() if "weight" in table else None
        meaning = Meaning.of(table.meta, str(path))
        residual = table.column("residual").array()
    except XpjaxError as error:
        raise XpjaxError(
            f"{path} is no file of residuals ({error}): it needs source_id (n), features (n, k) with attribute names "
            "or columns named as features, wavelength (m) [nm] and residual (n, m)"
        ) from error
    return Residuals(
        stars.source_id, stars.names, stars.value, the_same(axis, str(path)), residual, weight, stars.ebv, stars.base,
        meaning, str(path),
    )  # fmt: skip
