"""Fitted labels as tables: rows of them, other packages' tables, written and read back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.stellar.helpers import NAMES
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, concatenate_records
from xpjax.core.status import FitStatus
from xpjax.io.catalogue import write
from xpjax.stellar.results import LabelFits, StellarFit, read_labels


def made_fit(n: int = 6, seed: int = 0) -> StellarFit:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, 3, 3)).astype(np.float32)
    status = np.array([0, 1, 4, 0, 8, 0][:n], np.uint32)
    labels = rng.normal(size=(n, 3)).astype(np.float32) + np.float32([5000, 4, 0])
    one = rng.uniform(1, 9, n).astype(np.float32)
    covariance, dof = root @ root.swapaxes(1, 2), np.arange(n, dtype=np.int32)
    return StellarFit(NAMES, labels, covariance, one, dof, 2 * one, status, error_formal=0.1 * labels)


def made_fits(before: bool) -> LabelFits:
    columns = {"ra": np.linspace(0, 300, 6), "name": np.array([f"star {k}" for k in range(6)])}
    return LabelFits(
        np.arange(6) << 50,
        made_fit(),
        made_fit(seed=1) if before else None,
        np.arange(6).astype(np.uint32),
        {"grid": "g.h5", "truncate": True},
        columns,
    )


def test_rows_are_picked_and_joined() -> None:
    fits = made_fits(True)
    some = fits[fits.fit.status == FitStatus.OK]
    assert len(some) == len(some.fit) == 3
    assert some.before is not None
    np.testing.assert_array_equal(some.before.labels, made_fit(seed=1).labels[[0, 3, 5]])
    np.testing.assert_array_equal(some.columns["ra"], fits.columns["ra"][[0, 3, 5]])
    joined = concatenate_records([fits[:2], fits[2:]])
    np.testing.assert_array_equal(joined.fit.covariance, fits.fit.covariance)
    assert joined.meta == fits.meta
    assert len(fits[-1]) == 1


def test_other_packages_tables_have_units_and_flags() -> None:
    fits = made_fits(True)
    table = fits.to_table()
    assert str(table["teff_before"].unit) == "K"
    assert table["teff_error"].description == "Standard error of teff; NaN where teff is held at the edge of the grid"
    assert "before the correction" in table["dflux_per_before"].description
    assert table.meta["grid"] == "g.h5"
    assert all(column.description for name, column in table.columns.items() if name not in ("source_id", "ra", "name"))
    page = fits._repr_html_()
    assert "xp_status" in page
    assert "NO_CONVERGENCE (1)" in page
    assert "BP_MISSING (3)" in page
    assert len(fits.to_pandas()) == 6
    assert "float32[6, 3]" in repr(fits.fit)
    plain = made_fit().to_table()
    assert plain.colnames[:4] == ["teff", "logg", "mh", "teff_error"]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".h5", ".ecsv", ".csv", ".vot"])
def test_files_are_read_back(suffix: str, before: bool, tmp_path: Path) -> None:
    fits = made_fits(before)
    xpjax.write(tmp_path / f"l{suffix}", fits)
    found = read_labels(tmp_path / f"l{suffix}")
    assert isinstance(found, LabelFits)
    for field in dataclasses.fields(StellarFit)[1:]:
        if getattr(fits.fit, field.name) is None:
            continue
        np.testing.assert_allclose(
            getattr(found.fit, field.name), getattr(fits.fit, field.name), rtol=1e-6, err_msg=field.name
        )
    np.testing.assert_array_equal(found.source_id, fits.source_id)
    np.testing.assert_array_equal(found.status, fits.status)
    np.testing.assert_array_equal(found.columns["name"], fits.columns["name"])
    assert list(found.columns) == ["ra", "name"]
    assert (found.before is None) is not before
    if found.before is not None:
        assert fits.before is not None
        np.testing.assert_allclose(found.before.labels, fits.before.labels, rtol=1e-6)
        np.testing.assert_array_equal(found.before.status, fits.before.status)
        assert np.isnan(found.before.covariance).all(), "what a file does not have is not guessed"
    if suffix != ".csv":
        assert (found.meta["grid"], found.meta["truncate"]) == ("g.h5", True)


def test_other_tables_are_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "m.csv", Catalogue({"source_id": np.arange(3), "g": np.ones(3)}))
    with pytest.raises(XpjaxError, match=r"m\.csv is no table of fitted labels: it has no g_error"):
        read_labels(tmp_path / "m.csv")
