"""What a quick run does of each stage: the parts that are told first, at sizes that take three minutes in all.

Stages that are not here run as they are with `run(quick=True)`; `faults`, which measures no speed, is left out. What is
left out is found in the results of a full run, and the table of promises says so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness import Row, measure
from xpjax.correction.training import WIDTHS, first_network


def ingest() -> list[Row]:
    """One process with the parser that is installed, with all correlations and with none."""
    from benchmarks import bulkfile
    from benchmarks import ingest as stage
    from xpjax import simulate
    from xpjax.io import bulk

    with tempfile.TemporaryDirectory(prefix="xpjax-ingest-") as name:
        folder = Path(name)
        text = bulkfile.text(simulate.sources(stage.N_TEXT, seed=5))
        zipped = bulkfile.write(folder / "0.csv.gz", bulkfile.copies(text, 2))
        n, size = 2 * stage.N_TEXT, len(text) // stage.N_TEXT
        unzip = measure("ingest", "igzip alone", n, lambda: stage._unzip(zipped), 2, bytes_per_source=size)
        peer = stage._gaiaxpy(folder, text, 100)
        rows = [unzip, *([] if peer is None else [peer])]
        parser = "arrow" if bulk._number_parser() is bulk._parse_with_arrow else "simdjson"
        for kind in ("float32", "none"):

            def one(kind: str = kind) -> None:
                report = bulk.ingest([zipped], folder / "store", correlations=kind, overwrite=True)
                assert not report.failures, report.failures

            case = f"csv.gz, correlations {kind}, {parser}"
            row = measure("ingest", case, n, one, 2, bytes_per_source=size)
            row.ratios["igzip's time"] = row.seconds / unzip.seconds
            if peer is not None:
                row.ratios["gaiaxpy's reader"] = row.rate / peer.rate
            rows.append(row)
        return rows


def passbands() -> list[Row]:
    """Without recovering curves."""
    from benchmarks import passbands as stage

    return [stage.projecting(10_000, 2), stage.building(), stage.fitting(10)]


def catalogue() -> list[Row]:
    """One store without errors and one with."""
    from benchmarks import catalogue as stage
    from xpjax import simulate
    from xpjax.io.store import write_store_file

    n, n_error = 1_000_000, 20_000
    with tempfile.TemporaryDirectory(prefix="xpjax-catalogue-") as name:
        folder = Path(name)
        table = stage.without_errors(simulate.sources(2 * stage.UNIT, seed=1, correlations=False))
        store = stage.fill(folder / "plain", table, (n,))[n]
        rows = [stage.case(f"{n // 1000:,}k sources, 12 magnitudes, no errors", store, n, errors=False)]
        store = folder / "float32"
        store.mkdir()
        write_store_file(store / "XP_0.h5", simulate.sources(n_error, seed=2), correlations="float32")
        case = "errors from float32 correlations, from the disk"
        return [*rows, stage.case(case, store, n_error, errors=True, cold=True)]


def correction() -> list[Row]:
    """What corrected magnitudes and a short epoch cost, without learning anything, and without PyTorch."""
    from benchmarks import correction as stage

    rng, n, batch = np.random.default_rng(0), 2048, 512
    sizes = (14, *WIDTHS["paper"], 330)
    x, y = (rng.normal(size=(n, k)).astype(np.float32) for k in (sizes[0], sizes[-1]))
    return [*stage.speed(True), stage._epoch_here(x, y, first_network(sizes, (0, 0)), batch)]


def stellar() -> list[Row]:
    """One interpolator and its own mocks."""
    from benchmarks import stellar as stage
    from xpjax.stellar.fit import fit_stars
    from xpjax.stellar.interpolation import interpolator, model_spectra

    grid, note = stage.block()
    model, n = interpolator(grid), 10_000
    labels = stage.labels_in(grid, n, 5)
    flux, error = stage.noisy(model_spectra(model, labels))
    case = "fit, diagonal errors, two starts"
    speed = measure("stellar", case, n, lambda: fit_stars(flux, error, model, starts=2), 1, note=note)
    started = time.perf_counter()
    fit = fit_stars(flux, error, model, starts=2)
    row = Row("stellar", "own mocks, S/N 100, local", n, time.perf_counter() - started, note=note)
    row.error, row.error_of = stage.missed(model, labels, flux, error, fit), "fraction of missed minima"
    return [speed, stage.describe(row, fit, labels)]


def survey() -> list[Row]:
    """The fit of 60 exposures, other packages on six, and stars of the real field kept back from one model."""
    from benchmarks import survey as stage
    from xpjax.survey.zeropoint import Model, fit_exposures, scaling

    model = Model(magnitude_order=0, color_zero=1.0)
    rows, made = stage.sixty()
    size = (0.0, made.setup.size[0], 0.0, made.setup.size[1])
    scale = scaling(rows, model, size)
    n = len(rows.frames)
    case = f"{n} exposures x 2200 stars, robust"
    ours = measure("survey", case, n, lambda: fit_exposures(rows, model, scale=scale), 9)
    ours.ratios["seconds"] = ours.seconds
    off = fit_exposures(rows, model, scale=scale).zero_point - made.true_zero_points()
    ours.error, ours.error_of = float(np.std(off - np.median(off))), "scatter of zero-points about the truth [mag]"
    few, made = stage.sixty(6)
    peers = stage.peers(few, made, scaling(few, model, size), ours)
    for peer in peers:
        if peer.n:
            peer.ratios = {"time over xpjax": ours.rate / peer.rate}  # an exposure
    if not stage.FIELD.exists():
        return [ours, *peers]
    started = time.perf_counter()
    field = stage.real_field(tuple(stage.PUBLISHED))
    found = stage.cross_validate(field, stage.Settings(Model(magnitude_order=0)), folds=10)
    seconds, held = time.perf_counter() - started, []
    for k, band in enumerate(field.frames.band):
        row = Row("survey", f"held out, {band}: quadratics in X, Y, color", int(found.number[k]), seconds)
        row.error, row.error_of = float(found.scatter[k]), "1.48 MAD of stars kept back [mag]"
        held.append(row)
    return [ours, *peers, *held]


def joint() -> list[Row]:
    """The smallest solution, and pulls."""
    from benchmarks import joint as stage

    return [stage.speed("443,000 observations, 800 columns", 200, 4900, 2), stage.pulls(200)]


STAGES: dict[str, Callable[[], list[Row]]] = {
    stage.__name__: stage for stage in (ingest, passbands, catalogue, correction, stellar, survey, joint)
}
LEFT_OUT = ("faults",)
