"""Pairs of XP and reference spectra from files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import ndtr

from tests.marks import slow_after
from tests.wiggles.linear.helpers import GRID, N
from xpjax.wiggles.linear.pairs import Pairs, on_grid, read_pairs


def table(pairs: Pairs, samples: bool, **changed: list[object]) -> pa.Table:
    n = len(pairs)
    half = pairs.instrument.release.n_basis[0]
    columns: dict[str, object] = {"name": list(pairs.name), "type": list(pairs.kind)}
    if samples:
        columns["wavelength"] = [GRID] * n
        columns["flux"] = list(pairs.coefficients @ pairs.instrument.default_design)
    else:
        columns["source_id"] = np.arange(1, n + 1)
        columns["bp_coefficients"] = list(pairs.coefficients[:, :half])
        columns["rp_coefficients"] = list(pairs.coefficients[:, half:])
    columns |= {"reference_wavelength": [GRID] * n, "reference_flux": list(pairs.reference), **changed}
    return pa.table({key: pa.array(value) for key, value in columns.items()})


@pytest.mark.parametrize("samples", slow_after(1, [False, True]))
def test_pairs_from_coefficients_and_from_samples(pairs: Pairs, samples: bool, tmp_path: Path) -> None:
    pq.write_table(table(pairs, samples), tmp_path / "pairs.parquet")
    found = read_pairs(tmp_path / "pairs.parquet")
    model = pairs.instrument
    flux = pairs.coefficients @ model.default_design
    np.testing.assert_allclose(found.coefficients @ model.default_design, flux, rtol=1e-6, atol=1e-6 * flux.mean())
    np.testing.assert_allclose(found.reference, pairs.reference)
    assert list(found.name[:2]) == ["mock 0", "mock 1"]
    assert found.kind[1] == "G2V"


def test_pairs_that_do_not_fit_are_named(pairs: Pairs, tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(table(pairs, True).drop_columns(["reference_flux"]), path)
    with pytest.raises(ValueError, match="reference_flux or calspec_spectrum"):
        read_pairs(path)
    short = [GRID[:5]] + [GRID] * (N - 1)
    pq.write_table(table(pairs, True, reference_wavelength=short), path)
    with pytest.raises(ValueError, match="mock 0: wavelengths must ascend"):
        read_pairs(path)


def test_pairs_in_other_units_and_of_corrected_spectra(pairs: Pairs, tmp_path: Path) -> None:
    plain = table(pairs, False)
    pq.write_table(plain, tmp_path / "nm.parquet")
    other = table(pairs, False, reference_wavelength=[10 * GRID] * N)
    units = {"reference_wavelength": {"unit": "Angstrom"}, "reference_flux": {"unit": "erg / (s cm2 Angstrom)"}}
    fields = [f.with_metadata(units.get(f.name, {})) for f in other.schema]
    pq.write_table(other.cast(pa.schema(fields)), tmp_path / "cgs.parquet")
    a, b = (read_pairs(tmp_path / name) for name in ("nm.parquet", "cgs.parquet"))
    np.testing.assert_allclose(b.reference, 0.01 * a.reference)
    for key, value in (("correction", "standard"), ("corrected", True)):
        notes = {b"xpjax": json.dumps({"meta": {key: value}}).encode()}
        pq.write_table(plain.replace_schema_metadata(notes), tmp_path / "twice.parquet")
        with pytest.raises(ValueError, match="the XP spectra are corrected"):
            read_pairs(tmp_path / "twice.parquet")


def test_fine_references_are_averaged_and_coarse_ones_interpolated() -> None:
    fine = np.arange(335.0, 1021.5, 0.1)
    line = 1 - 0.8 * np.exp(-0.5 * ((fine - 500.6) / 0.4) ** 2)
    found = on_grid(fine, line, GRID)
    at = int(np.flatnonzero(GRID == 500)[0])
    inside = ndtr((501 - 500.6) / 0.4) - ndtr((499 - 500.6) / 0.4)
    assert found[at] == pytest.approx(1 - 0.8 * 0.4 * np.sqrt(2 * np.pi) * inside / 2, rel=1e-3)
    # A sample at the point itself would miss most of the line.
    assert abs(np.interp(500.0, fine, line) - found[at]) > 0.05
    coarse = np.arange(400.0, 900.1, 10.0)
    found = on_grid(coarse, 2 * coarse, GRID)
    assert np.isnan(found[GRID < 400]).all()
    np.testing.assert_allclose(found[(GRID >= 400) & (GRID <= 900)], 2 * GRID[(GRID >= 400) & (GRID <= 900)])
