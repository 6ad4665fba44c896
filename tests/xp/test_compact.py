"""Compact covariances: errors and correlations against full covariances in float64, and what they do not hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

import jax
import numpy as np
import pytest

import xpjax
from tests import oracles
from tests.marks import slow_after
from xpjax.core import engine
from xpjax.core.release import DR3, DR4, Release
from xpjax.core.status import Status
from xpjax.synthetic import as_system
from xpjax.xp import coefficients, compact
from xpjax.xp.compact import LEADING, Subspace, load_subspace
from xpjax.xp.sources import SourceTable, XPCoefficients, concatenate

REAL = (
    "xp/xp_bright_corr_20.parquet",
    "xp/formats/XP_CONTINUOUS_RAW.csv",
    "xp/formats/XP_CONTINUOUS_RAW_with_missing_BP.csv",
    "xp/formats/XP_CONTINUOUS_RAW_colour_eq_dr3int6.csv",
    "xp/formats/MeanSpectrumSolutionWithCov.avro",
)
"""Real sources whose correlations are known."""
MOST = (2e-4, 6e-4)
"""Relative errors of standard errors: of 99 %, and the worst."""


@cache
def simulated(n: int = 400) -> SourceTable:
    return xpjax.simulate_sources(n, seed=8)


def compacted(table: SourceTable) -> SourceTable:
    return dataclasses.replace(table, coefficients=table.coefficients.compact())


def leading(table: SourceTable) -> SourceTable:
    """With the leading block alone."""
    c = table.coefficients.compact()
    return dataclasses.replace(table, coefficients=c.among(c.covariance.subspace.leading))


@pytest.fixture(scope="module")
def real(request: pytest.FixtureRequest) -> SourceTable:
    """Real sources with correlations of both XP; skips without them."""
    shared: Callable[..., object] = request.getfixturevalue("shared_session")
    parts = [xpjax.read(shared(name), dtype=np.float64, keep=[], release="Gaia DR3") for name in REAL]
    table = concatenate(parts, "real sources")
    return table[np.isfinite(table.coefficients.correlation).all(axis=1)]


@pytest.fixture(scope="session")
def shared_session(shared: Callable[..., object]) -> Callable[..., object]:
    return shared


def vectors(what: str) -> np.ndarray:
    """Projections (n_basis_total, n) of all published bands, of samples, or of arbitrary passbands."""
    model = xpjax.load_instrument("v211w/v142r" if what == "other instrument" else None)
    if what == "bands":
        return np.asarray(as_system(list(xpjax.available_systems())).projection)
    if what == "corrected bands":
        return np.asarray(as_system(["JPLUS", "SDSS", "JPAS", "Gaia_2", "PanSTARRS1"], "standard").projection)
    if what in ("corrected samples", "any corrected"):
        model = model.corrected()
    fine = np.arange(330.0, 1050.01, 0.5)
    design = np.asarray(model.design(fine).value)
    if what in ("samples", "corrected samples", "other instrument"):
        return np.concatenate([design, model.design().value], axis=1)
    rng = np.random.default_rng(3)
    center, width = rng.uniform(340, 1040, 250), 10 ** rng.uniform(0.5, 2.2, 250)
    off = (fine[:, None] - center) / width
    return design @ np.concatenate([np.exp(-0.5 * off**2), (np.abs(off) < 1) * 1.0], axis=1)


def exact_errors(table: SourceTable, r: np.ndarray) -> np.ndarray:
    """Standard errors (n, n_xp, n_out) of c r by each XP, from e_i rho_ij e_j in float64."""
    c, out = table.coefficients, []
    for rows, pairs, n in zip(table.release.slices, table.release.pair_slices, table.release.n_basis, strict=True):
        matrix = np.zeros((len(table), n, n)) + np.eye(n)
        i, j = np.tril_indices(n, -1)
        matrix[:, i, j] = matrix[:, j, i] = np.asarray(c.correlation[:, pairs], float)
        error = np.asarray(c.error[:, rows], float)
        matrix *= error[:, :, None] * error[:, None, :]
        out.append(np.sqrt(np.einsum("ib,sij,jb->sb", r[rows], matrix, r[rows], optimize=True)))
    return np.stack(out, axis=1)


def compact_errors(table: SourceTable, r: np.ndarray, wrong: float = 1.0) -> np.ndarray:
    """The same from packed covariances; wrong: what the first direction of the axes that are used is multiplied by."""
    c, out = table.coefficients.covariance, []
    for k in range(len(DR3.xp)):
        query = [q.copy() for q in c.subspace.query]
        query[k][0] *= wrong
        weights = dataclasses.replace(c.subspace, query=tuple(query)).weights(r, k)
        variance = c.packed[k].astype(float) @ weights[0] * c.scale[:, k, None]
        if c.subspace.whole:
            variance += c.rest[k].astype(float) @ weights[1] * c.rest_scale[:, k, None]
        out.append(np.sqrt(variance))
    return np.stack(out, axis=1)


def worst(found: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Relative differences: of 99 %, and the largest, where an XP takes part."""
    seen = exact > 1e-6 * exact.max(axis=1, keepdims=True)
    off = np.abs(found[seen] / exact[seen] - 1)
    return float(np.quantile(off, 0.99)), float(off.max())


# --- the subspace -----------------------------------------------------------------------------------------------------


def test_subspace_is_whitened_by_the_mean_covariance() -> None:
    found = load_subspace(DR3)
    assert (found.whole, found.sizes) == (True, (55, 55))
    assert (found.leading.whole, found.leading.sizes) == (False, (44, 46))
    assert found.leading != found
    assert all(width % compact.MULTIPLE == 0 for width in found.widths)
    for k, (size, again, p) in enumerate(zip(found.size, found.again, found.n_leading, strict=True)):
        assert len(size) == 55 * 56 // 2 - p * (p + 1) // 2
        assert len(np.unique(again)) == len(again)
        assert found.rest_widths[k] % 64 == 0
    for reduce, query, mean in zip(found.reduce, found.query, found.mean, strict=True):
        np.testing.assert_allclose(query @ reduce, np.eye(55), atol=1e-12)
        np.testing.assert_allclose(reduce.T @ mean @ reduce, np.eye(55), atol=1e-12)
    again = compact.subspace_of(compact.as_arrays(found), DR3)
    assert (again, hash(again)) == (found, hash(found))
    assert dataclasses.replace(found, mean=tuple(2 * m for m in found.mean)) != found


def test_shipped_subspace_is_what_the_tool_makes(tmp_path) -> None:
    from tools import build_covariance

    build_covariance.build(DR3, tmp_path / "covariance_dr3.h5")
    made = compact._loaded(tmp_path / "covariance_dr3.h5")
    shipped = load_subspace(DR3)
    r = np.random.default_rng(1).normal(size=(DR3.n_basis_total, 20))
    # Singular vectors may differ by a rotation between machines; what they span may not.
    np.testing.assert_allclose(made.leading.residual(r), shipped.leading.residual(r), rtol=1e-6)
    for k in range(2):
        np.testing.assert_allclose(np.sort(made.size[k]), np.sort(shipped.size[k]), rtol=1e-6)


def test_residuals_of_what_is_published_are_small() -> None:
    found = load_subspace(DR3)
    for what in ("bands", "samples", "any"):
        assert found.leading.residual(vectors(what)).max() < 2e-4
        assert found.check(vectors(what), str) == found.leading
    others = np.random.default_rng(1).normal(size=(110, 50))
    assert found.leading.residual(others).min() > 0.1
    assert found.residual(others).max() < 1e-6
    assert found.check(others, str) is found
    assert found.check(np.zeros((110, 0)), str) == found.leading


# --- accuracy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["bands", "samples", "any"])
def test_errors_of_real_sources(real: SourceTable, what: str) -> None:
    r, table = vectors(what), leading(real)
    exact = exact_errors(real, r)
    most, largest = worst(compact_errors(table, r), exact)
    assert most < MOST[0]
    assert largest < MOST[1]
    assert worst(compact_errors(table, r, wrong=1.005), exact)[1] > 2 * MOST[1]


@pytest.mark.parametrize("what", ["corrected bands", "corrected samples", "any corrected", "other instrument"])
def test_errors_of_real_sources_with_the_rest(real: SourceTable, what: str) -> None:
    """Of both XP together: a corrected band draws on both, on one of them often by little."""
    r, table = vectors(what), compacted(real)
    exact, found = (np.sqrt((one**2).sum(axis=1)) for one in (exact_errors(real, r), compact_errors(table, r)))
    most, largest = worst(found, exact)
    assert most < MOST[0]
    assert largest < MOST[1]
    without = np.sqrt((compact_errors(leading(real), r) ** 2).sum(axis=1))
    assert worst(without, exact)[1] > 5 * MOST[1]


def test_whole_ones_give_the_same_bits_where_the_leading_block_serves() -> None:
    for call in (lambda t: xpjax.photometry(t, "JPLUS"), lambda t: xpjax.spectra(t)):
        both = [call(t).flux_error for t in (leading(simulated()), compacted(simulated()))]
        np.testing.assert_array_equal(*both)


def test_errors_equal_gaiaxpys(real: SourceTable) -> None:
    """Live: the twelve J-PLUS bands of real sources, by the public call in float32."""
    expected = oracles.generate(real, ["JPLUS"])
    found = xpjax.photometry(compacted(real), "JPLUS")
    for k, band in enumerate(found.system.columns):
        name = band.replace("Jplus_", "Jplus_flux_error_")
        np.testing.assert_allclose(found.flux_error[:, k], expected[name], rtol=MOST[1])


@pytest.mark.parametrize("float64", [False, True])
@pytest.mark.parametrize("correction", [None, "standard"])
def test_public_calls(correction: str | None, float64: bool) -> None:
    """Bands and samples of simulated sources: values and status to the last bit, errors to 6e-4."""
    table, names = simulated(), list(xpjax.available_systems()) if correction is None else ["JPLUS", "JPAS"]
    for call in (
        lambda t: xpjax.photometry(t, names, correction=correction, float64=float64),
        lambda t: xpjax.spectra(t, correction=correction, float64=float64),
    ):
        full, found = call(table), call(compacted(table))
        # Stars beyond the limit of a correction, few at a time, are rounded otherwise.
        np.testing.assert_allclose(found.flux, full.flux, rtol=0 if correction is None else 2e-6)
        np.testing.assert_array_equal(found.status, full.status)
        off = np.abs(found.flux_error / full.flux_error - 1)
        assert np.nanquantile(off, 0.99) < MOST[0]
        assert np.nanmax(off) < MOST[1]
        np.testing.assert_array_equal(np.isnan(found.flux_error), np.isnan(full.flux_error))


def test_correlations_between_samples(real: SourceTable) -> None:
    full = xpjax.spectra(real, correlation=True, float64=True).correlation
    found = xpjax.spectra(compacted(real), correlation=True, float64=True).correlation
    off = np.abs(found - full)
    assert off.max() < MOST[1]
    assert np.quantile(off, 0.99) < MOST[0]
    assert np.abs(found - full[::-1]).max() > 100 * MOST[1]


def test_correlations_between_bands(real: SourceTable) -> None:
    """By the prior of joint solutions, which also holds magnitudes."""
    full, found = (xpjax.survey.joint.xp_prior(t, "JPLUS") for t in (real, compacted(real)))
    np.testing.assert_array_equal(found.magnitude, full.magnitude)

    def correlation(matrix: np.ndarray) -> np.ndarray:
        sigma = np.sqrt(np.diagonal(matrix, axis1=1, axis2=2))
        return matrix / sigma[:, :, None] / sigma[:, None, :]

    good = np.isfinite(full.magnitude).all(axis=1)
    assert np.abs(correlation(found.covariance[good]) - correlation(full.covariance[good])).max() < MOST[1]


def test_passband_fits_take_the_same_errors() -> None:
    stars, g = simulated(), xpjax.load_passbands("minisitian")["g"]
    observed = xpjax.photometry(stars, g, errors=False)["g"] + 0.05
    full, found = (xpjax.fit_passband(t, observed, 0.01, g, ("zero_point",)) for t in (stars, compacted(stars)))
    without = xpjax.fit_passband(stars, observed, 0.01, g, ("zero_point",), xp_errors=False)
    np.testing.assert_allclose(found.error, full.error, rtol=MOST[1])
    assert abs(without.error[0] / full.error[0] - 1) > 0.01


@pytest.mark.slow
def test_label_fits_of_corrected_spectra_take_them() -> None:
    stars = simulated()
    g, color = (stars.columns[name] for name in ("phot_g_mean_mag", "bp_rp"))
    # Not M stars, of which the grid has no models: a difference of 1e-3 of chi2 leads into another valley.
    stars = stars[np.flatnonzero((g > 13) & (g < 17) & (color < 1.5))[:16]]
    fitter = xpjax.stellar.LabelFitter(ebv=0, truncate=False, covariance=True, error_floor=0.01)
    assert fitter.linear is not None
    full, found = (fitter(t).fit for t in (stars, compacted(stars)))
    np.testing.assert_array_equal(found.status, full.status)
    np.testing.assert_allclose(found.chi2, full.chi2, rtol=2e-3)
    assert np.nanmax(np.abs(found.labels - full.labels) / full.error) < 0.03


@pytest.mark.parametrize("correction", slow_after(1, ["standard", None]))
def test_corrected_ones_and_those_of_other_instruments(real: SourceTable, correction: str | None) -> None:
    model = xpjax.load_instrument("v211w/v142r" if correction is None else None)
    options = {"correction": correction, "instrument": model, "float64": True}
    full, found = (xpjax.spectra(t, **options).flux_error for t in (real, compacted(real)))
    assert np.nanmax(np.abs(found / full - 1)) < MOST[1]
    if correction:
        full, found = (
            xpjax.photometry(t, "JPLUS", correction=correction).magnitude_error for t in (real, compacted(real))
        )
        assert np.nanmax(np.abs(found / full - 1)) < MOST[1]
        full, found = (xpjax.spectra(t, correlation=True, **options).correlation for t in (real, compacted(real)))
        assert np.nanquantile(np.abs(found - full), 0.99) < MOST[1]


# --- what is missing, and what is refused -----------------------------------------------------------------------------


def spoilt() -> SourceTable:
    """Sources without BP, without errors of RP, with a NaN correlation, an infinite error, and with errors of zero."""
    table = simulated(8)
    c = table.coefficients
    value, error, correlation = c.value.copy(), c.error.copy(), c.correlation.copy()
    bp, rp = DR3.slices
    value[1, bp] = error[1, bp] = np.nan
    correlation[1, DR3.pair_slices[0]] = np.nan
    error[2, rp] = np.nan
    correlation[3, 7] = np.nan
    error[4, 60] = np.inf
    error[5] = 0
    error[6] *= 1e-25
    return dataclasses.replace(table, coefficients=XPCoefficients(value, error, correlation, c.n_relevant))


@pytest.mark.parametrize("float64", [False, True])
def test_missing_parts_are_told_as_of_correlations(float64: bool) -> None:
    table, systems = spoilt()[:6], ["JPLUS", "SDSS"]
    full, found = (xpjax.photometry(t, systems, float64=float64) for t in (table, compacted(table)))
    np.testing.assert_array_equal(found.status, full.status)
    assert found.status[1] & Status.BP_MISSING
    assert found.status[2] & Status.RP_NO_ERROR
    assert found.status[3] & Status.BP_NO_ERROR
    assert found.status[4] & Status.RP_NO_ERROR
    np.testing.assert_array_equal(found.flux, full.flux)
    np.testing.assert_allclose(found.flux_error, full.flux_error, rtol=MOST[1])
    assert np.isfinite(found.flux_error[1:5]).any(axis=1).all()
    full, found = (xpjax.spectra(t, float64=float64) for t in (table, compacted(table)))
    np.testing.assert_array_equal(found.status, full.status)
    np.testing.assert_allclose(found.flux_error, full.flux_error, rtol=MOST[1])


def test_errors_too_small_for_float32_are_none() -> None:
    table = compacted(spoilt()[6:7])
    assert np.isnan(table.coefficients.covariance.scale).all()
    assert np.isnan(table.coefficients.covariance.rest_scale).all()
    assert xpjax.photometry(table, "SDSS").status[0] & Status.BP_NO_ERROR


def test_covariance_of_one_source_is_that_of_its_projections() -> None:
    table = simulated(3)

    def variance(t: SourceTable, r: np.ndarray) -> np.ndarray:
        both = engine.run(
            lambda _, source: [coefficients.covariance(source, k) for k in range(2)], (), t.coefficients, float64=True
        )
        parts = zip(both, DR3.slices, strict=True)
        return sum(np.einsum("ib,sij,jb->sb", r[rows], k, r[rows], optimize=True) for k, rows in parts)

    for what, made in (
        ("bands", leading(table)), ("bands", compacted(table)), ("corrected samples", compacted(table))
    ):  # fmt: skip
        r = vectors(what)
        np.testing.assert_allclose(variance(made, r), variance(table, r), rtol=2 * MOST[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: xpjax.photometry(t, "JPLUS", truncate=True), "do not hold the errors of truncated spectra"),
        (lambda t: xpjax.spectra(t, truncate=True), "do not hold the errors of truncated spectra"),
        (lambda t: xpjax.covariance_matrix(t, "bp"), "hold no whole matrix; ingest the files with correlations= int16"),
    ],
)
def test_what_they_do_not_hold_is_refused(call: Callable[[SourceTable], object], message: str) -> None:
    with pytest.raises(xpjax.XpjaxError, match=message) as caught:
        call(compacted(simulated(5)))
    assert "int16 or float32" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: xpjax.photometry(t, "JPLUS", correction="standard"), r"the error of the band Jplus_\w+ with the"),
        (lambda t: xpjax.spectra(t, correction="standard"), r"the sample at \d+ nm with a linear correction"),
        (lambda t: xpjax.spectra(t, internal=True), r"the sample at [\d.]+ of internal spectra"),
        (
            lambda t: xpjax.spectra(t, instrument=xpjax.load_instrument("v211w/v142r"), correlation=True),
            r"the sample at \d+ nm: [\d.]+% of it lies outside their 44 \+ 46 dimensions",
        ),
        (lambda t: xpjax.survey.joint.xp_prior(t, "JPLUS", correction="standard"), "the error of the band"),
    ],
)
def test_the_leading_block_alone_is_refused(call: Callable[[SourceTable], object], message: str) -> None:
    with pytest.raises(xpjax.XpjaxError, match=message) as caught:
        call(leading(simulated(5)))
    assert f"read the sources without correlations={LEADING!r}" in str(caught.value)
    call(compacted(simulated(5)))


def test_values_alone_are_never_refused() -> None:
    table = leading(simulated(5))
    for options in ({"correction": "standard"}, {"truncate": True}):
        assert np.isfinite(xpjax.photometry(table, "SDSS", errors=False, **options).flux).all()
        assert np.isfinite(xpjax.spectra(table, errors=False, **options).flux).all()


def test_a_release_without_a_subspace_is_refused() -> None:
    table = xpjax.simulate_sources(3, seed=1, release=DR4)
    with pytest.raises(xpjax.XpjaxError, match=r"Gaia DR4 \(51, 55\).*subspaces of compact.*build_covariance"):
        table.coefficients.compact()


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_of_one_source_of_rows_and_of_wrong_shapes() -> None:
    c = simulated(5).coefficients
    made = c.compact()
    assert (made.has_covariance, made.correlation, made.error is c.error) == (True, None, True)
    assert made.compact() is made
    assert XPCoefficients(c.value).compact().covariance is None
    assert made[2:4].covariance.scale.shape == (2, 2)
    one = xpjax.photometry(made[3], "SDSS")
    np.testing.assert_array_equal(one.flux_error[0], xpjax.photometry(made, "SDSS").flux_error[3])
    with pytest.raises(xpjax.XpjaxError, match=r"compact covariances of shapes .*\(2, 992\).*expected .*\(5, 992\)"):
        dataclasses.replace(made, covariance=made[2:4].covariance)


def test_tables_are_joined(tmp_path) -> None:
    full, bare = simulated(5), xpjax.simulate_sources(3, seed=2, correlations=False)
    joined = xpjax.read([compacted(full[:2]), full[2:], bare])
    covariance = joined.coefficients.covariance
    np.testing.assert_array_equal(covariance.packed[0][:5], compacted(full).coefficients.covariance.packed[0])
    assert np.isnan(covariance.scale[5:]).all()
    assert (xpjax.photometry(joined, "SDSS").status[5:] & Status.BP_NO_ERROR).all()
    assert concatenate([compacted(full), bare], "both", fill=False).coefficients.covariance is None
    other: Subspace = dataclasses.replace(covariance.subspace, mean=tuple(2 * m for m in covariance.subspace.mean))
    changed = dataclasses.replace(
        full,
        coefficients=dataclasses.replace(
            full.coefficients.compact(),
            covariance=dataclasses.replace(full.coefficients.compact().covariance, subspace=other),
        ),
    )
    with pytest.raises(xpjax.XpjaxError, match="cannot be joined"):
        xpjax.read([compacted(full), changed])


def test_read_makes_them_and_no_table_file_holds_them(tmp_path) -> None:
    full = simulated(5)
    xpjax.write(tmp_path / "xp.parquet", full)
    found = xpjax.read(tmp_path / "xp.parquet", correlations="compact")
    np.testing.assert_array_equal(
        found.coefficients.covariance.packed[1], compacted(full).coefficients.covariance.packed[1]
    )
    with pytest.raises(xpjax.XpjaxError, match="correlations must be 'compact'"):
        xpjax.read(tmp_path / "xp.parquet", correlations="int16")
    xpjax.write(tmp_path / "compact.parquet", found)
    with pytest.raises(xpjax.XpjaxError, match="holds compact covariances, which are read from store files alone"):
        xpjax.read(tmp_path / "compact.parquet")


def test_other_sizes_need_another_subspace() -> None:
    made = simulated(2).coefficients.compact()
    with pytest.raises(xpjax.XpjaxError, match="compact covariances of shapes"):
        XPCoefficients(made.value[:, :106], release=Release("other", (51, 55)), covariance=made.covariance)


@pytest.mark.parametrize("n", [1, 64, 128, 100], ids=["one", "a part", "two parts", "parts of none"])
def test_variances_of_many_are_those_of_numpy(n: int) -> None:
    """However many sources are made numbers at a time."""
    covariance = compacted(simulated(128))[:n].coefficients.covariance
    assert covariance is not None
    vectors = np.asarray(xpjax.load_system("SDSS").projection)
    for k in range(2):
        weights = covariance.subspace.weights(vectors, k)
        parts = zip(covariance.parts[0][k::2], covariance.parts[1], weights, strict=True)
        exact = np.sum([count.astype(float) @ w * s[:, k, None].astype(float) for count, s, w in parts], axis=0)
        w32 = [w.astype(np.float32) for w in weights]
        found = jax.jit(jax.vmap(lambda c, k=k, w=w32: compact.packed_variance(c, k, w)))(covariance)
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5 * exact.max())
