"""From a thousand sources to ten million: rates, bytes and operations against the machine's limits, beside NumPy.

Every case goes from host arrays to host arrays. NumPy does the same products, float32 by its BLAS, at the largest size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import xpjax
from benchmarks.correction import magnitude_flops, random_photometer
from benchmarks.harness import Row, measure
from xpjax.core import engine
from xpjax.core.linalg import pair_index
from xpjax.synthetic.magnitude import Photometer
from xpjax.wiggles.features import make_features
from xpjax.wiggles.magnitude import CorrectedPhotometer
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable, XPCoefficients

SYSTEM = "JPLUS"
SMALLEST, STEP = 1000, 10
BASE = 10_000


@dataclasses.dataclass(frozen=True)
class Case:
    """What is scaled: a call for n sources, bytes and operations of each, its error, and the most that memory holds."""

    name: str
    make: Callable[[int], Callable[[], Any]]
    bytes_per_source: int
    flops_per_source: float
    error: float
    error_of: str
    most: int


def run(quick: bool) -> list[Row]:
    base = simulate.simulate_sources(BASE, seed=4)
    rows = []
    for case in (magnitudes(base), errors(base), spectra(base), corrected(base)):
        n, most = SMALLEST, min(case.most, BASE if quick else case.most)
        while n <= most:
            row = measure("scaling", case.name, n, case.make(n), 1 if quick else 3)
            row.bytes_per_source, row.flops_per_source = case.bytes_per_source, case.flops_per_source
            row.error, row.error_of = case.error, case.error_of
            rows.append(row)
            n *= STEP
        if (peer := _numpy(case, base, rows[-1])) is not None:
            rows.append(peer)
    return rows


def tiled(table: SourceTable, n: int, errors: bool = False) -> SourceTable:
    """n sources that repeat a table's, where a reader would put them."""

    def repeat(array: np.ndarray) -> np.ndarray:
        out = engine.aligned((n, *array.shape[1:]), array.dtype)
        for start in range(0, n, len(array)):
            out[start : start + len(array)] = array[: n - start]
        return out

    c = table.coefficients
    more = (repeat(c.error), repeat(c.correlation)) if errors else (None, None)
    return SourceTable(np.arange(1, n + 1), XPCoefficients(repeat(c.value), *more, None, c.release), np.zeros(n, "u4"))


def magnitudes(base: SourceTable) -> Case:
    system, release = xpjax.load_system(SYSTEM), base.release

    def make(n: int) -> Callable[[], Any]:
        sources = tiled(base, n)
        return lambda: xpjax.photometry(sources, system, errors=False)

    one, exact = (xpjax.photometry(base, system, errors=False, float64=x).magnitude for x in (False, True))
    moved, work = 4 * (release.n_basis_total + 2 * system.n_band + 1), 2 * release.n_basis_total * system.n_band
    error = float(np.nanquantile(np.abs(one - exact), 0.999))
    name = f"{system.n_band} magnitudes"
    return Case(name, make, moved, work, error, "99.9 % of magnitudes [mag]", 10_000_000)


def errors(base: SourceTable) -> Case:
    system, release = xpjax.load_system(SYSTEM), base.release

    def make(n: int) -> Callable[[], Any]:
        sources = tiled(base, n, errors=True)
        return lambda: xpjax.photometry(sources, system)

    one, exact = (xpjax.photometry(base, system, float64=x).flux_error for x in (False, True))
    assert one is not None
    assert exact is not None
    moved = 4 * (2 * release.n_basis_total + release.n_pair_total + 4 * system.n_band + 1)
    work = 2 * (2 * release.n_basis_total + release.n_pair_total) * system.n_band
    error = float(np.nanmax(np.abs(one / exact - 1)))
    return Case(f"{system.n_band} magnitudes with errors", make, moved, work, error, "flux error, relative", 100_000)


def spectra(base: SourceTable) -> Case:
    n_basis, n_sample = base.release.n_basis_total, len(xpjax.load_instrument().wavelength)

    def make(n: int) -> Callable[[], Any]:
        sources = tiled(base, n)
        return lambda: xpjax.spectra(sources, errors=False)

    one, exact = (xpjax.spectra(base, errors=False, float64=x).flux for x in (False, True))
    sums = np.abs(base.coefficients.value.astype(float)) @ np.abs(xpjax.load_instrument().design().value) * 1e-18
    error = float(np.max(np.abs(one - exact) / sums))
    return Case(
        f"{n_sample} fluxes", make, 4 * (n_basis + n_sample + 1), 2 * n_basis * n_sample, error,
        "flux, relative to sum |c_i d_i|", 1_000_000,
    )  # fmt: skip


def corrected(base: SourceTable) -> Case:
    """With the default network, of random weights: they do not matter here."""
    plain = SourceTable(base.source_id, XPCoefficients(base.coefficients.value, release=base.release), base.status)
    stars = make_features(plain, "paper", ebv=np.random.default_rng(0).uniform(0, 0.5, len(base)))
    system, curves = xpjax.load_system(SYSTEM), tuple(xpjax.load_passbands(SYSTEM))

    def photometer(float64: bool = False) -> CorrectedPhotometer:
        return random_photometer("small", stars, Photometer(system, False, float64=float64), curves)

    ours = photometer()

    def make(n: int) -> Callable[[], Any]:
        sources, rows = tiled(base, n), stars[np.resize(np.arange(len(base)), n)]
        return lambda: ours.measure(sources, rows)

    one, exact = (p.measure(plain, stars).magnitude for p in (ours, photometer(True)))
    work = magnitude_flops(ours, plain, stars)
    moved = 4 * (base.release.n_basis_total + len(stars.names) + 2 * system.n_band + 2)
    error = float(np.nanquantile(np.abs(one - exact), 0.999))
    name = f"{system.n_band} corrected magnitudes"
    return Case(name, make, moved, work, error, "99.9 % of magnitudes [mag]", 1_000_000)


def _numpy(case: Case, base: SourceTable, ours: Row) -> Row | None:
    """The same products by NumPy in float32, as one would write them."""
    n = ours.n
    system = xpjax.load_system(SYSTEM)
    projection = np.asarray(system.projection, np.float32)
    zero = np.asarray(system.scaled_zero_point, np.float32)
    if case.name.startswith(f"{system.n_band} magnitudes"):
        with_errors = case.name.endswith("errors")
        c = tiled(base, n, with_errors).coefficients
        weight = np.asarray(system.with_pair_weights().pair_weight, np.float32)
        square = projection**2
        i, j = (
            np.concatenate([p + s.start for p, s in zip(part, base.release.slices, strict=True)])
            for part in zip(*[pair_index(m) for m in base.release.n_basis], strict=True)
        )

        def call() -> Any:
            flux = c.value @ projection
            out = [flux, zero - 2.5 * np.log10(flux)]
            if with_errors:
                pairs = c.error[:, i] * c.error[:, j] * c.correlation
                out.append(np.sqrt(c.error**2 @ square + pairs @ weight))
            return out

    elif case.name.endswith(" fluxes"):
        c, design = tiled(base, n).coefficients, np.asarray(xpjax.load_instrument().design().value, np.float32)

        def call() -> Any:
            return c.value @ design

    else:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        peer = measure("scaling", f"NumPy, {case.name}", n, call, 2)
    peer.bytes_per_source, peer.flops_per_source = case.bytes_per_source, case.flops_per_source
    ours.ratios["NumPy"] = ours.rate / peer.rate
    return peer
