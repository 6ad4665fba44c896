"""Everything on one accelerator in ten minutes, without a network: python -m benchmarks.accelerator [--scale 1].

Run it in the root of a clone. It needs JAX, NumPy, SciPy, h5py, equinox, jaxtyping and optax alone, and for the joint
solution pydantic (`pip install --target FOLDER pydantic`, and PYTHONPATH=FOLDER); xpjax need not be installed. It
prints a short table last and leaves JSON, rewritten after each part, in results/PLATFORM_accelerator.json or --output.
A part that fails is named in both, and the exit status is 1 then. --scale 1e-5 runs on a CPU in seconds. It has been
run on CPUs only: on a GPU not yet.

What is timed: "on the device" is the compiled kernel of the engine, again and again on one batch of mock sources that
lies in the device's memory, results left there; "made on the device" draws other noise for each source of each batch,
and the random numbers count; "from and to host memory" is the public function, from and to NumPy arrays, transfers and
all, the same arrays again. Loops end when their time is up: n is what was done, and "s for all" is scaled to the size
that is named. Bytes and operations are those of inputs, outputs and matrix products, set against a copy (read and
written) and a product of large matrices on the same device in the same run.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import xpjax
from benchmarks import harness, promises
from benchmarks.device import Plan, a_batch, compiled, device_limits, measured, on_device, peak_memory, stage
from benchmarks.device_magnitudes import (
    SYSTEM,
    a_correction,
    corrected,
    curves,
    errors,
    instrument,
    magnitudes,
    spectra,
)  # fmt: skip
from benchmarks.harness import Limits, Row
from benchmarks.stellar import work as fit_work
from tests.stellar.helpers import spectrum
from xpjax.core import engine, linalg
from xpjax.core.status import FitStatus
from xpjax.stellar.fit import MORE_ROUNDS, fit_labels, prepare, work_bytes
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.interpolation import Interpolator, interpolate_grid, model_spectra
from xpjax.stellar.kernel import Model, Options, Star, fit_kernel
from xpjax.wiggles.epochs import WIDTHS, Data, State, TrainingSettings, compiled_epoch, first_network
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable
from xpjax.xp.wavelengths import constant_grid

FITS = 10_000_000
STARS, EPOCHS, BATCH = 157_478, 234, 512
EXPOSURES, STARS_SEEN, SEEN = 3100, 15_000, 0.45
STARTS, STUCK = 2, np.uint32(FitStatus.NO_CONVERGENCE)
WIDTH = 100
"""Of the names of cases in the table."""
N_COMMON = 4
"""Templates of errors common to stars."""
MOST_TOGETHER = 32
"""Batches of fits whose stars that have not converged go on together, at most."""


def precision(plan: Plan) -> list[Row]:
    """TF32 shown to be off: errors of products relative to sum |a_i b_i|, which TF32's 11 bits cannot bring to 1e-6."""
    rng, n = np.random.default_rng(1), plan.size(2**18, 512)
    k = xpjax.load_instrument().release.n_basis_total
    a, b = rng.normal(size=(n, k)).astype("f4"), rng.normal(size=(k, 64)).astype("f4")
    exact, sums = a.astype(float) @ b, np.abs(a).astype(float) @ np.abs(b)

    def error(found: Any) -> float:
        return float(np.max(np.abs(np.asarray(found, float) - exact) / sums))

    started = time.perf_counter()
    row = Row(stage(), "products: TF32 is off", n, 1.0)
    row.error, row.error_of = error(jax.jit(linalg.dot)(a, b)), "linalg.dot, relative to sum |a_i b_i|"
    row.ratios["a bare @ within the engine"] = error(engine.run(_bare, b, a))
    row.ratios["a bare @ outside, the device's default"] = error(jax.jit(jnp.matmul)(a, b))
    row.seconds = time.perf_counter() - started
    return [row]


def _bare(b: Any, a: Any) -> Any:
    return a @ b


# --- training ---------------------------------------------------------------------------------------------------------


def training(plan: Plan) -> list[Row]:
    """Epochs of a network that learn from all stars; and with the paper's split, 60 % to learn and 20 % to validate."""
    rng, n_all = np.random.default_rng(0), plan.size(STARS, 1024)
    grid = constant_grid()
    x, y = (rng.normal(size=(n_all, k)).astype(np.float32) for k in (14, len(grid)))
    one = np.ones((n_all, 1), np.float32)
    rows = []
    for said, n, n_judge in (("", n_all, BATCH), (", split 60/20/20", int(0.6 * n_all), int(0.2 * n_all))):
        data, judge = (Data(*(on_device(a[s]) for a in (x, y, one))) for s in (slice(n), slice(n_all - n_judge, None)))
        rows.append(_epochs(f"{plan.network} network, {EPOCHS} epochs of {n_all:,} stars{said}", data, judge, plan))
        rows[-1].note = f"{n:,} stars learned from and {n_judge:,} validated in an epoch, batches of at most {BATCH}"
    return rows


def _epochs(case: str, data: Data, judge: Data, plan: Plan) -> Row:
    import optax

    n, widths = len(data.x), WIDTHS[plan.network]
    start = first_network((data.x.shape[1], *widths, data.target.shape[1]), (0, 0))
    network = on_device(start)
    with engine.precision(False):
        moments, copy = optax.scale_by_adam().init(network), jax.tree.map(jnp.copy, network)
        # Bound to the device as what an epoch gives back: else the second epoch would compile too.
        state = jax.device_put(State(network, moments, copy, jnp.float32(jnp.inf)), jax.devices()[0])
    run, rate, key = (
        compiled_epoch(TrainingSettings(widths=widths, batch=BATCH, epochs=1), False),
        jnp.float32(1e-3),
        jax.random.key(0),
    )

    def step(k: int) -> Any:
        nonlocal state
        with engine.precision(False):
            state, *losses = run(state, data, judge, jax.random.fold_in(key, k), rate)
        return losses

    # Forward, and twice that backward, two operations a weight; a third of it for stars that validate.
    weights = sum(w.size for w in start.weight)
    flops = weights * (6 + 2 * len(judge.x) / n)
    row = measured(case, n, n * EPOCHS, step, plan.left(2), flops_per_source=flops)
    row.error, row.error_of = float(step(0)[0]), "loss at the end, of noise of variance one: it must be near one"
    row.ratios["ms an epoch"] = 1e3 * n / row.rate
    return row


# --- stellar labels ---------------------------------------------------------------------------------------------------


def labels(plan: Plan) -> list[Row]:
    """Ten million fits of three labels at S/N 100 from two starts, and with errors that are common to stars."""
    wavelength = constant_grid()
    nodes = np.arange(4000.0, 7001, 200), np.arange(3.5, 5.1, 0.5), np.arange(-1.5, 0.1, 0.5)
    flux = spectrum(np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1), wavelength)
    grid = StellarGrid(nodes, flux, wavelength, ("teff", "logg", "mh"))
    x = 2 * np.pi * (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0])
    common = 0.01 * np.stack([np.cos(k * x) for k in range(1, N_COMMON + 1)])
    rows = fits("fits of three labels", interpolate_grid(grid), plan)
    return rows + fits(
        "fits of three labels with common errors", interpolate_grid(dataclasses.replace(grid, systematic=common)), plan
    )


def fits(case: str, model: Interpolator, plan: Plan) -> list[Row]:
    """Fits of mocks made with the model, from host memory and on the device."""
    n_all = plan.size(FITS, 128)
    nodes = [np.asarray(x) for x in model.nodes]
    rng, n = np.random.default_rng(2), min(n_all, 2**17)
    truth = rng.uniform([x[0] for x in nodes], [x[-1] for x in nodes], (n, 3))
    clean = model_spectra(model, truth)
    error = (clean / 100).astype(np.float32)
    seen = (clean + error * rng.normal(size=clean.shape)).astype(np.float32)
    # From host memory first: that call compiles the program that both run.
    whole = measured(f"{case}, from and to host memory", n, n_all,
                     lambda _: fit_labels(seen, error, model, starts=STARTS).status, plan.left())  # fmt: skip
    found = fit_labels(seen, error, model, starts=STARTS)
    good, off = found.status == 0, found.labels - truth
    whole.error, whole.error_of = float(1.4826 * np.nanmedian(np.abs(off[:, 0]))), "1.48 MAD of Teff [K]"
    whole.ratios["pull of Teff"] = float(1.4826 * np.nanmedian(np.abs(off / found.error)[good, 0]))
    whole.ratios["converged inside"] = float(good.mean())
    whole.ratios["converged"] = float(np.mean(found.status & STUCK == 0))
    shared = prepare(model, 1, np.zeros(clean.shape[1]), 0.0)
    part = min(engine.rows_of_batch(n, work_bytes(shared, STARTS, False), jax.devices()[:1]), n)
    batch, most = a_batch(Star(seen[:part], error[:part], *[None] * 5)), min(MOST_TOGETHER, -(-n_all // part))
    step, each, stuck = rounds(shared, batch, most)
    kept = measured(f"{case}, on the device", each * part, n_all, step, plan.left())
    kept.ratios["converged in the first round"] = 1 - stuck / part
    kept.note = f"further rounds for the others of {each} batches together, in one batch"
    work = fit_work(model, STARTS)
    return [dataclasses.replace(row, **work) for row in (whole, kept)]


def rounds(shared: Model, batch: Star, most: int) -> tuple[Callable[[int], Any], int, int]:
    """A step of fits that stay on the device, how many batches it does, and how many stars of each get further rounds.

    As `fit_labels` does: the same program goes on with the stars that have not converged, batches of them.
    """
    constants, more = (on_device(dataclasses.replace(shared, rounds=np.asarray(k, np.int32))) for k in (1, MORE_ROUNDS))
    function, part = compiled(fit_kernel(Options(0, STARTS, False, False))), len(batch.flux)
    stuck = int(np.sum(np.asarray(function(constants, batch)["status"]) & STUCK > 0))
    each = max(min(part // max(stuck, 1), most), 1)

    @jax.jit
    def rest(batch: Star, statuses: list[Any]) -> Star:
        rows = jnp.concatenate([jnp.flatnonzero(status & STUCK, size=stuck, fill_value=0) for status in statuses])
        return jax.tree.map(lambda x: x[jnp.resize(rows, part)], batch)

    def step(_: int) -> Any:
        statuses = [function(constants, batch)["status"] for _ in range(each)]
        return function(more, rest(batch, statuses))["status"] if stuck else statuses

    return step, each, stuck


# --- one solution -----------------------------------------------------------------------------------------------------


def joint(plan: Plan) -> list[Row]:
    """3,100 exposures of 15,000 stars: zero-points, color terms and a flat, with stars' magnitudes eliminated."""
    from benchmarks.joint import compare, dithered, plain_model
    from xpjax.survey.joint.solve import solve_joint

    side = plan.scale**0.5
    n_exposure, n_star = max(int(side * EXPOSURES), 12), max(int(side * STARS_SEEN / SEEN), 300)
    rows, truth = dithered(n_exposure, n_star, seen=SEEN)
    model = plain_model()
    device = jax.devices()[0].platform
    start = time.perf_counter()
    found = solve_joint(rows, model, devices=device)
    first = seconds = time.perf_counter() - start
    if 1.2 * first < plan.left(10):
        start = time.perf_counter()
        found = solve_joint(rows, model, devices=device)
        seconds = time.perf_counter() - start
    case = f"joint solution, {n_exposure:,} exposures, {len(found.value):,} columns"
    row = Row(stage(), case, len(rows), seconds, first if seconds < first else np.nan, peak_memory())
    row.ratios = {"s for all": seconds, "passes": float(found.passes), "steps": float(found.steps)}
    figures = compare(found, truth)
    row.ratios |= {name: figures[name] for name in ("zero_point rms [mmag]", "flat rms [mmag]")}
    row.error, row.error_of = 1e-3 * figures["zero_point rms [mmag]"], "zero-points about the truth [mag]"
    row.note = "from rows in host memory; sorting, weights and the factor of the normal equations are the host's"
    return [row]


# --- here and on the CPU ----------------------------------------------------------------------------------------------


def agreement(plan: Plan) -> list[Row]:
    """Magnitudes of the same sources here and on the CPU backend of this process."""
    try:
        cpu = jax.devices("cpu")[:1]
    except RuntimeError as error:
        raise RuntimeError("JAX has no CPU backend in this process: unset JAX_PLATFORMS") from error
    table = simulate.simulate_sources(plan.size(2_000_000, 256) if plan.scale < 0.01 else 20_000, seed=3)
    compact, bands = harness.compacted(table), xpjax.passband_system(curves(), correction="standard")
    photometer, stars = a_correction(table, "small")

    def magnitude(devices: Any, float64: bool = False) -> np.ndarray:
        return xpjax.photometry(table, SYSTEM, errors=False, devices=devices, float64=float64).magnitude

    def error(devices: Any, sources: SourceTable = table, system: Any = SYSTEM) -> np.ndarray:
        found = xpjax.photometry(sources, system, devices=devices).magnitude_error
        assert found is not None
        return found

    def of_instrument(devices: Any) -> np.ndarray:
        return xpjax.photometry(table, bands, errors=False, devices=devices).magnitude

    def flux(devices: Any) -> np.ndarray:
        found = xpjax.spectra(compact, devices=devices).flux
        return -2.5 * np.log10(np.where(found > 0, found, np.nan))

    def corrected_magnitude(devices: Any) -> np.ndarray:
        return photometer.measure(table, stars, devices=devices).magnitude

    started = time.perf_counter()
    row = Row(stage(), "here against the CPU, same sources", len(table), 1.0)
    pairs = {
        "magnitudes": (magnitude(None), magnitude(cpu)),
        "magnitude errors": (error(None), error(cpu)),
        "errors of compact covariances": (error(None, compact), error(cpu, compact)),
        "magnitudes of the corrected instrument": (of_instrument(None), of_instrument(cpu)),
        "their errors": (error(None, compact, bands), error(cpu, compact, bands)),
        "fluxes of spectra": (flux(None), flux(cpu)),
        "corrected magnitudes": (corrected_magnitude(None), corrected_magnitude(cpu)),
        "magnitudes here and float64 on the CPU": (magnitude(None), magnitude(cpu, True)),
    }
    for kind, (here, there) in pairs.items():
        both = np.isfinite(here) & np.isfinite(there)
        off = 1e3 * np.abs(here.astype(float) - there)[both]
        row.ratios[f"{kind}, median [mmag]"] = float(np.median(off))
        row.ratios[f"{kind}, 99.9 % [mmag]"] = float(np.quantile(off, 0.999))
        row.ratios[f"{kind}, worst [mmag]"] = float(off.max())
        row.ratios[f"{kind}, NaN in one only"] = float(np.sum(np.isfinite(here) != np.isfinite(there)))
    row.error, row.error_of = 1e-3 * row.ratios["magnitudes, 99.9 % [mmag]"], "99.9 % of magnitudes [mag]"
    row.seconds = time.perf_counter() - started
    return [row]


# --- all of it --------------------------------------------------------------------------------------------------------

PARTS: tuple[Callable[[Plan], list[Row]], ...] = (
    precision, agreement, magnitudes, errors, instrument, spectra, corrected, training, labels, joint,
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes; 1e-5 for a try on a CPU")
    parser.add_argument("--network", choices=tuple(WIDTHS), default="paper", help="the large one")
    parser.add_argument("--seconds", type=float, default=20.0, help="longest of each loop")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no part is begun")
    parser.add_argument("--parts", nargs="+", choices=[part.__name__ for part in PARTS], help="by default all")
    parser.add_argument("--output", type=Path, help="JSON; by default results/PLATFORM_accelerator.json")
    options = parser.parse_args(arguments)
    if not options.scale > 0:
        parser.error("--scale must be above zero")
    started = time.perf_counter()
    plan = Plan(options.scale, options.network, options.seconds, started + 60 * options.minutes)
    limit, more = device_limits(options.scale)
    device = jax.devices()[0]
    path = options.output or harness.RESULTS / f"{device.platform}_accelerator.json"
    rows: list[Row] = []
    gaps: dict[str, str] = {}

    def keep() -> None:
        finite = {key: value for key, value in vars(options).items() if key != "output"}
        harness.save(rows, path, options=finite, limits=limit, measured=more, gaps=gaps)

    for part in PARTS:
        name = part.__name__
        if options.parts and name not in options.parts:
            continue
        if time.perf_counter() > plan.end:
            gaps[name] = "not begun: no time was left"
        else:
            print(f"{time.perf_counter() - started:5.0f} s  {name} ...", file=sys.stderr, flush=True)
            try:
                new = part(plan)
                rows += new
                print("\n".join(line for row in new for line in lines_of(row, limit)), file=sys.stderr, flush=True)
            except Exception as error:  # the others are worth having, and this one is told
                traceback.print_exc()
                gaps[name] = f"failed: {type(error).__name__}: {error}".partition("\n")[0]
        keep()
    if not gaps and not options.parts:
        rows.append(Row(stage(), "this whole run", 1, time.perf_counter() - started))
        keep()
    print(report(rows, limit, more, gaps))
    print(f"\n{time.perf_counter() - started:.0f} s in all; {path}")
    return 1 if gaps else 0


def report(rows: list[Row], limit: Limits, more: dict[str, float], gaps: dict[str, str]) -> str:
    """A short table: the device, a line a row, what is missing, and what was promised."""
    found = harness.machine()
    return "\n".join(
        [
            "",
            f"{found['device']} ({found['platform']}), jax {found['jax']}: copy {limit.bytes_per_second / 1e9:,.0f} "
            f"GB/s, float32 product {limit.flops / 1e12:.2f} TFLOP/s",
            ", ".join(f"{name} {value:.3g}" for name, value in more.items()),
            f"{'':{WIDTH}s} {'a second':>9s} {'s for all':>9s} {'done':>5s} {'copy':>5s} {'product':>7s} "
            f"{'compile s':>9s}",
            *[line for row in rows for line in lines_of(row, limit)],
            *[f"{name}: {why}" for name, why in gaps.items()],
            "",
            promises.table(rows, {"accelerator"}),
        ]
    )


def lines_of(row: Row, limit: Limits) -> list[str]:
    """A row of the table, and lines of what else it found."""
    ratios = dict(row.ratios)
    whole, part = ratios.pop("s for all", np.nan), ratios.pop("part done", np.nan)
    figures = (
        f"{row.rate:9.3g}", f"{whole:9.3g}", f"{part:5.0%}",
        f"{row.bandwidth / limit.bytes_per_second if row.bytes_per_source else np.nan:5.2f}",
        f"{row.flops / limit.flops if row.flops_per_source else np.nan:7.2f}", f"{row.compile_seconds:9.1f}",
    )  # fmt: skip
    out = [f"{row.case:{WIDTH}s} " + " ".join(" " * len(f) if "nan" in f else f for f in figures)]
    if row.error == row.error:
        out.append(f"    {row.error:.2e}  {row.error_of}")
    others = ", ".join(f"{name} {value:.3g}" for name, value in ratios.items())
    out += textwrap.wrap(
        "; ".join(filter(None, (others, row.note))), 112, initial_indent="    ", subsequent_indent="    "
    )
    return [line.rstrip() for line in out]


if __name__ == "__main__":
    sys.exit(main())
