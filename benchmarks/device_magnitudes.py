"""Magnitudes, errors and spectra on one device and from host memory, parts of the accelerator run."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

import xpjax
from benchmarks import harness
from benchmarks.correction import kernel_arguments, magnitude_flops, random_photometer
from benchmarks.device import Plan, a_batch, compiled, measured, on_device
from benchmarks.harness import Row
from xpjax.core import engine
from xpjax.synthetic import as_system
from xpjax.synthetic.kernel import photometry_kernel
from xpjax.synthetic.magnitude import Photometer
from xpjax.wiggles.features import Features, make_features
from xpjax.wiggles.magnitude import CorrectedPhotometer, corrected_kernel
from xpjax.xp import Sampler, simulate
from xpjax.xp.sources import SourceTable, XPCoefficients
from xpjax.xp.spectrum import spectrum_kernel

SYSTEM = "JPLUS"
SOURCES = 220_000_000
BANDS = 12
BASE = 2**20
"""Mock sources made on the host, most; those with correlations are an eighth of them."""


def base_sources(plan: Plan, correlations: bool) -> SourceTable:
    most = BASE // 8 if correlations else BASE
    return simulate.simulate_sources(min(plan.size(SOURCES, 256), most), seed=1, correlations=correlations)


def plain(table: SourceTable) -> SourceTable:
    """The sources with values alone."""
    return dataclasses.replace(table, coefficients=XPCoefficients(table.coefficients.value, release=table.release))


def magnitudes(plan: Plan) -> list[Row]:
    """12 magnitudes of 220 million sources."""
    table, system, n_all = base_sources(plan, False), xpjax.load_system(SYSTEM), plan.size(SOURCES, 256)
    photometer, n, release = Photometer(system, errors=False), len(table), table.release
    kernel = photometry_kernel(guard=False)
    moved = 4 * (release.n_basis_total + 2 * system.n_band + 1)
    work = {"bytes_per_source": moved, "flops_per_source": 2 * release.n_basis_total * system.n_band}
    bands, batch = on_device(photometer.bands(plain(table).coefficients)), a_batch(plain(table).coefficients)
    error = a_batch(table.coefficients.error)
    function, key = compiled(kernel), jax.random.key(0)

    @jax.jit
    def other(key: Any, value: Any, error: Any) -> XPCoefficients:
        return XPCoefficients(value + error * jax.random.normal(key, value.shape, value.dtype), release=release)

    rows = [
        measured("12 magnitudes, on the device", n, n_all, lambda _: function(bands, batch), plan.left(), **work),
        measured(
            "12 magnitudes, made on the device", n, n_all,
            lambda k: function(bands, other(jax.random.fold_in(key, k), batch.value, error)), plan.left(), **work,
        ),
    ]  # fmt: skip
    tile = tiled(table.coefficients.value, min(n_all, 8 * BASE))
    sources = XPCoefficients(tile, release=release)
    case = "12 magnitudes, from and to host memory"
    call = functools.partial(xpjax.photometry, sources, system, errors=False)
    return [*rows, measured(case, len(tile), n_all, lambda _: call().status, plan.left(), **work)]


def tiled(value: np.ndarray, n: int) -> np.ndarray:
    out = engine.aligned((n, value.shape[1]))
    for start in range(0, n, len(value)):
        out[start : start + len(value)] = value[: n - start]
    return out


def errors(plan: Plan) -> list[Row]:
    """The same with errors: from all correlations, 12 kB a source, and from compact covariances; and 294 bands."""
    table, system = base_sources(plan, True), xpjax.load_system(SYSTEM)
    compact, every = harness.compacted(table), as_system(list(xpjax.available_systems()))
    few = compact[: max(len(table) // 8, 1)]
    return [
        *photometry(plan, "12 magnitudes and errors", table, Photometer(system)),
        *photometry(plan, "12 magnitudes and errors of compact covariances", compact, Photometer(system)),
        *photometry(plan, f"{every.n_band} magnitudes and errors of compact covariances", few, Photometer(every)),
    ]


def instrument(plan: Plan) -> list[Row]:
    """The same through the corrected instrument, without errors and with those of compact covariances."""
    table, system = base_sources(plan, True), xpjax.passband_system(curves(), correction="standard")
    case = "12 magnitudes of the corrected instrument"
    compact = harness.compacted(table)
    values = plain(base_sources(plan, False))
    return [
        *photometry(plan, case, values, Photometer(system, errors=False)),
        *photometry(plan, f"{case} and errors of compact covariances", compact, Photometer(system)),
    ]


def photometry(plan: Plan, case: str, table: SourceTable, photometer: Photometer) -> list[Row]:
    """Photometry of one batch of the engine's own size on the device, and of the table from and to host memory."""
    n_all, n_band = plan.size(SOURCES, 256), photometer.system.n_band
    coefficients, errors = photometer.prepared(table)
    made, bands = photometer.bands(coefficients), on_device(photometer.bands(coefficients))
    moved = row_bytes(coefficients) + 4 * (2 * n_band * (1 + errors) + 1)
    rows = min(engine.rows_of_batch(len(table), moved + photometer.work_bytes(coefficients)), len(table))
    kernel = photometry_kernel(errors=errors, guard=False, apart=True)
    function, batch = compiled(kernel), a_batch(jax.tree.map(lambda x: x[:rows], coefficients))
    half = plan.left(0.5)
    found = [
        measured(f"{case}, on the device", rows, n_all, lambda _: function(bands, batch), half),
        measured(f"{case}, from and to host memory", len(table), n_all, lambda _: photometer(table).status, half),
    ]
    one = jax.tree.map(lambda x: x[0], coefficients)
    work = {"bytes_per_source": moved, "flops_per_source": harness.product_flops(kernel, made, one)}
    return [dataclasses.replace(row, **work) for row in found]


def row_bytes(tree: Any) -> int:
    """Bytes of a source of arrays (n, ...)."""
    return sum(int(x[0].nbytes) for x in jax.tree.leaves(tree))


def spectra(plan: Plan) -> list[Row]:
    """343 fluxes without errors, and with those of compact covariances."""
    n_all, rows = plan.size(SOURCES // 10, 256), []
    for errors, said in ((False, "fluxes"), (True, "fluxes and errors of compact covariances")):
        table = base_sources(plan, errors)
        table = harness.compacted(table) if errors else plain(table[: max(len(table) // 8, 1)])
        options = {"truncate": False, "correlation": False, "float64": False, "devices": None}
        sampler = Sampler.of(table.release, errors=errors, **options)
        c, design = table.coefficients, sampler.how.design
        if c.covariance is not None:
            axes = sampler.how.serving(c.covariance.subspace)
            c, design = c.among(axes), sampler.how.weighted(axes)
        c = c.of_errors(errors, False)
        n_sample = len(sampler.how.grid)
        moved = row_bytes(c) + 4 * (n_sample * (1 + errors) + 1)
        n = min(engine.rows_of_batch(len(table), 2 * moved), len(table))
        kernel = spectrum_kernel(False, errors, False, True, False)
        function, constants = compiled(kernel), on_device(design)
        batch = a_batch(jax.tree.map(lambda x, n=n: x[:n], c))
        new = [
            measured(f"{n_sample} {said}, on the device", n, n_all,
                     lambda _, f=function, d=constants, b=batch: f(d, b), plan.left(0.5)),
            measured(f"{n_sample} {said}, from and to host memory", len(table), n_all,
                     lambda _, s=sampler, t=table: s(t).status, plan.left(0.5)),
        ]  # fmt: skip
        one = jax.tree.map(lambda x: x[0], c)
        work = {"bytes_per_source": moved, "flops_per_source": harness.product_flops(kernel, design, one)}
        rows += [dataclasses.replace(row, **work) for row in new]
    return rows


def a_correction(table: SourceTable, network: str) -> tuple[CorrectedPhotometer, Features]:
    """A photometer with a network of random weights, and the features of the sources."""
    stars = make_features(plain(table), "paper", ebv=np.random.default_rng(0).uniform(0, 0.5, len(table)))
    photometer = Photometer(xpjax.passband_system(curves()), errors=False)
    return random_photometer(network, stars, photometer, curves().passbands), stars


@functools.cache
def curves() -> xpjax.PassbandSet:
    """Gaussian bands: reading files of curves needs astropy."""
    x = np.arange(330.0, 1050.5, 0.5)
    middle = np.linspace(400, 900, BANDS)
    return xpjax.PassbandSet(
        "Gaussian", tuple(xpjax.Passband(f"g{m:.0f}", x, np.exp(-0.5 * ((x - m) / 20) ** 2)) for m in middle)
    )


def corrected(plan: Plan) -> list[Row]:
    """The same magnitudes corrected by the default network and by the paper's."""
    n_all, rows = plan.size(SOURCES, 256), []
    table = plain(base_sources(plan, False))
    for network in dict.fromkeys(("small", plan.network)):
        table = table[: min(len(table), BASE if network == "small" else BASE // 8)]
        photometer, stars = a_correction(table, network)
        release, n_band, kernel = table.release, photometer.plain.system.n_band, corrected_kernel(guard=False)
        constants, sources = kernel_arguments(photometer, table, stars)
        constants, batch, function = on_device(constants), a_batch(sources), compiled(kernel)
        moved = 4 * (release.n_basis_total + len(stars.names) + 2 * n_band + 2)
        case, n = f"12 corrected magnitudes, {network} network", len(table)
        new = [
            measured(f"{case}, on the device", n, n_all, lambda _, f=function, c=constants, b=batch: f(c, b),
                     plan.left(), bytes_per_source=moved),
            measured(f"{case}, from and to host memory", n, n_all,
                     lambda _, p=photometer, t=table, s=stars: p.measure(t, s).status, plan.left(0.5),
                     bytes_per_source=moved),
        ]  # fmt: skip
        flops = magnitude_flops(photometer, table, stars)  # after: tracing is part of compiling
        rows += [dataclasses.replace(row, flops_per_source=flops) for row in new]
    return rows
