"""GaiaXPy's interface on sources of Gaia DR4, which GaiaXPy itself refuses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import xpjax
from tests import oracles
from tests.dr4 import cut, make_models, without_last
from xpjax.compat import gaiaxpy
from xpjax.core.release import DR4
from xpjax.xp.sources import SourceTable


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SourceTable, SourceTable]]:
    """The same sources in DR3 and DR4, one of them without BP."""
    home = tmp_path_factory.mktemp("dr4")
    make_models(home)
    table = without_last(xpjax.simulate_sources(6, seed=5, dtype=np.float64))
    for array in (table.coefficients.value, table.coefficients.error):
        array[2, :55] = np.nan
    table.coefficients.correlation[2, :1485] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XPJAX_DATA", str(home))
        yield table, cut(table)


@pytest.mark.slow
def test_functions_on_dr4(both: tuple[SourceTable, SourceTable]) -> None:
    a, b = (oracles.gaiaxpy_frame(table) for table in both)
    system = gaiaxpy.PhotometricSystem.SDSS
    frames = [gaiaxpy.generate(one, system, save_file=False, error_correction=True) for one in (a, b)]
    assert [*frames[0]] == [*frames[1]]
    for name in frames[0]:
        np.testing.assert_allclose(np.asarray(frames[1][name], float), np.asarray(frames[0][name], float), rtol=1e-9)
    expected = xpjax.photometry(both[1], "SDSS", float64=True)
    np.testing.assert_array_equal(frames[1]["Sdss_mag_g"], expected["g"])
    for function in (gaiaxpy.calibrate, gaiaxpy.convert):
        (one, grid), (other, same) = (function(frame, save_file=False) for frame in (a, b))
        np.testing.assert_array_equal(grid, same)
        for x, y in zip(one["flux"], other["flux"], strict=True):
            if x is None:
                assert y is None
            else:
                np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-9 * np.nanmax(np.abs(x), initial=0.0))
    matrix = gaiaxpy.get_inverse_square_root_covariance_matrix(b.iloc[:1], "bp")
    assert matrix.shape == (51, 51)
    assert gaiaxpy.get_chi2(matrix, np.ones(51)) == pytest.approx(float(np.sum(matrix.sum(axis=1) ** 2)))


def test_gaiaxpy_refuses_what_is_done_here(both: tuple[SourceTable, SourceTable]) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  # NumPy's, of a product of matrices
        oracles.generate(both[1][:2], ["SDSS"])


def test_without_models_it_is_refused(both: tuple[SourceTable, SourceTable], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPJAX_DATA", "/nowhere")
    frame = oracles.gaiaxpy_frame(both[1])
    for call in (lambda: gaiaxpy.generate(frame, gaiaxpy.PhotometricSystem.SDSS, save_file=False),
                 lambda: gaiaxpy.calibrate(frame, save_file=False)):  # fmt: skip
        with pytest.raises(ValueError, match=rf"the data are of {DR4.name} \(51, 55\), but xpjax has .* of DR3 only"):
            call()


def test_a_frame_without_bp_does_not_tell(both: tuple[SourceTable, SourceTable]) -> None:
    from xpjax.compat.gaiaxpy.reading import read_input

    frame = oracles.gaiaxpy_frame(both[0][[2]])
    with pytest.warns(UserWarning, match="taken as Gaia DR3"):
        assert read_input(frame).sources.release.n_basis == (55, 55)
