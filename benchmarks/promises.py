"""What was promised of speed and accuracy, beside what was found: a table of data, and the few lines that print it.

A promise names a stage, a pattern of cases (as of file names), and a figure of its rows: one of `Row.ratios`, a field
or a property of `Row`. Where several rows fit, those of the largest n count, and among these the worst. A quick run
measures smaller sizes than those that a promise is for: stored results of a full run are then what is judged.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

import numpy as np

from benchmarks.harness import Row


@dataclasses.dataclass(frozen=True)
class Promise:
    """A figure and its bounds; where: what was said, and how it is measured if not by a stage of this run."""

    stage: str
    case: str
    key: str
    low: float = -np.inf
    high: float = np.inf
    where: str = ""

    @property
    def text(self) -> str:
        """The bounds."""
        if np.isfinite(self.low) and np.isfinite(self.high):
            return f"{self.low:g}..{self.high:g}"
        return f">= {self.low:g}" if np.isfinite(self.low) else f"<= {self.high:g}"

    def found(self, rows: Sequence[Row]) -> tuple[int, float] | None:
        """The row's n and the figure, None where it was not measured."""
        figures = [(row.n, _figure(row, self.key)) for row in rows if self._fits(row)]
        known = [(n, value) for n, value in figures if value is not None and value == value]
        if not known:
            return None
        most = max(n for n, _ in known)
        return most, max((value for n, value in known if n == most), key=self._excess)

    def met(self, value: float) -> bool:
        """Whether a figure is within the bounds."""
        return self.low <= value <= self.high

    def _fits(self, row: Row) -> bool:
        return row.stage == self.stage and fnmatchcase(row.case, self.case)

    def _excess(self, value: float) -> float:
        return max(self.low - value, value - self.high)


def _figure(row: Row, key: str) -> float | None:
    if key in row.ratios:
        return float(row.ratios[key])
    return float(getattr(row, key)) if key in ("rate", "error", "seconds", "peak_bytes", "compile_seconds") else None


def _labels(case: str, limits: tuple[float, ...], where: str) -> tuple[Promise, ...]:
    names = ("teff", "logg", "mh")
    return tuple(
        Promise("stellar", case, f"1.48 MAD {name}", high=x, where=where) for name, x in zip(names, limits, strict=True)
    )


MIDDLE = "[Jgri]*: bias of magnitudes"
"""J-PLUS without its first and last band, which reach beyond the correction."""

FOUNDATION = (
    Promise("photometry", "* magnitudes, no errors", "gaiaxpy generate", 5000, where="12 magnitudes over generate"),
    Promise("photometry", "* magnitudes, no errors", "copy limit", 0.30, where="share of a threaded copy"),
    Promise("photometry", "*full-correlation errors", "gaiaxpy generate", 200, where="with errors"),
    Promise("photometry", "* magnitudes, no errors", "error", high=1e-6, where="float32 flux over sum |c r|"),
    Promise("photometry", "*full-correlation errors", "error", high=1e-5, where="float32 flux error, relative"),
    Promise("spectra", "* fluxes, no errors", "gaiaxpy calibrate", 500, where="343 fluxes over calibrate"),
    Promise("spectra", "* fluxes, full-correlation errors", "gaiaxpy calibrate", 15, where="with errors"),
    Promise("spectra", "* fluxes, no errors", "error", high=1e-6, where="float32 flux over sum |c d|"),
    *(Promise("exactness", f"*, float64, {what}", "error", high=1e-10, where="all systems, against GaiaXPy, relative")
      for what in ("fluxes", "flux errors")),
    Promise("exactness", "*, float32, fluxes", "over sum |c r|", high=1e-6, where="all systems, real sources"),
    Promise("exactness", "*, float32, fluxes", "magnitudes within 1e-5", 0.999, where="all systems, real sources"),
    Promise("exactness", "* with correlations, float32, flux errors", "error", high=1e-5, where="relative"),
)  # fmt: skip
PASSBANDS = (
    Promise("passbands", "recovered bands shipped", "below 1e-05", 275, where="of 295 bands, relative residual"),
    *(Promise("curves", f"{system} {band}", "error", high=high, where="worst of 1,200 real stars [mag]")
      for system, high in (("panstarrs", 1.086e-5), ("decamDR1", 1e-4), ("sdss2010", 2e-4)) for band in "griz"),
    Promise("passbands", "* fluxes and magnitudes", "fluxes alone, time of one product", high=1.5,
            where="projecting all bands"),
    Promise("passbands", "* fluxes and magnitudes", "time of one product", high=1.5,
            where="the same with magnitudes, status"),
    Promise("passbands", "*wiggles of 40 nm*", "error", high=0.5, where="recovered curves [mmag]"),
    Promise("passbands", "*wiggles of 80 nm*", "error", high=0.25, where="recovered curves [mmag]"),
    Promise("passbands", "fit of*", "error", high=0.1, where="effective wavelength [nm]"),
    Promise("passbands", "fit of*", "seconds", high=10, where="one fit [s]"),
    *(Promise("passbands", "fit of*", f"pull of {name}", 0.85, 1.15, "over 100 seeds")
      for name in ("zero_point", "shift", "width", "tilt")),
)  # fmt: skip
SCALE = (
    *(Promise("ingest", f"csv.gz, correlations {kind}, {parser}", "gaiaxpy's reader", low, where="a process")
      for parser in ("simdjson", "arrow") for kind, low in (("float32", 5.0), ("none", 8.0))),
    *(Promise("ingest", f"csv.gz, correlations none, {parser}", "igzip's time", high=1.5, where="of decompression")
      for parser in ("simdjson", "arrow")),
    Promise("ingest", "two processes*", "one process", 1.4, where="two shared cores"),
    Promise("catalogue", "* sources, 12 magnitudes, no errors", "rate", 1e6, where="store to Parquet, 10 million"),
    Promise("catalogue", "* sources, 12 magnitudes, no errors", "peak_bytes", high=3e9, where="resident memory"),
    Promise("catalogue", "errors from float32*from the disk", "of plain reading", 0.6, where="errors, float32"),
    Promise("faults", "kill -9*, parquet", "kills", 50, where="and every catalogue equal, bit for bit"),
)  # fmt: skip
CORRECTION = (
    Promise("correction", "recovery*", "error", high=0.006, where="pattern, RMS on test stars"),
    Promise("correction", "recovery*", "remaining over noise RMS, median star", high=1.1, where="corrected spectra"),
    Promise("correction", MIDDLE, "bias before over after", 5, where="worst of ten bands, 360..990 nm"),
    Promise("correction", MIDDLE, "slope with color [mmag/mag]", -1, 1, "worst of ten bands"),
    Promise("correction", MIDDLE, "slope with G [mmag/mag]", -1, 1, "worst of ten bands"),
    Promise("correction", "12 corrected magnitudes, small", "time over network alone", high=1.2, where="small network"),
    Promise("correction", "12 corrected magnitudes, paper", "time over network alone", high=1.2, where="full network"),
    Promise("correction", "epoch of the paper's network", "PyTorch's time over ours", 1, where="no slower"),
    Promise("correction", "width 64-64", "test loss over that of the largest", high=1.02, where="default network"),
    Promise(
        "accelerator",
        "paper network, 234 epochs of 157,478 stars",
        "s for all",
        high=30,
        where="157,478 stars, GPU [s]",
    ),
)
STELLAR = (
    *_labels("own mocks, S/N 100, local", (4.1, 0.018, 0.012), "own interpolator, S/N 100"),
    *(Promise("stellar", "own mocks, S/N 100, local", f"pull {name}", 0.95, 1.05, "own interpolator")
      for name in ("teff", "logg", "mh")),
    Promise("stellar", "own mocks, S/N 100, local", "error", high=1e-3, where="missed minima"),
    *_labels("mocks by scipy's *, local", (6.6, 0.033, 0.025), "another interpolator"),
    Promise("stellar", "fit, diagonal errors, two starts", "rate", 25_000, where="spectra a second"),
    Promise("stellar", "fit, diagonal errors, two starts", "compile_seconds", high=3, where="one compile [s]"),
    *(Promise("labels", "loop of fit*", f"{what} after over before, {name}", high=1, where="wiggles learned, corrected")
      for what in ("bias", "RMS") for name in ("teff", "logg", "mh")),
    Promise("accelerator", "fits of three labels, from*", "rate", 1e6, where="spectra a second, GPU"),
)  # fmt: skip
SURVEY = (
    *(Promise("survey", f"held out, {band}: {model}", "error", high=1e-3 * x, where="1.48 MAD [mag]")
      for model in ("quadratics in X, Y, color", "and the numerical flat")
      for band, x in (("R", 11.9), ("I", 11.1), ("G", 16.0), ("Z", 11.7))),
    Promise("survey", "simulated mini-SiTian*", "zero-point scatter over formal", high=1.2, where="3,100 exposures"),
    Promise("survey", "simulated mini-SiTian*", "pull", 0.9, 1.1, "zero-points"),
    Promise("survey", "simulated mini-SiTian*", "structure after [mmag]", high=0.3, where="held-out exposures"),
    Promise("survey", "simulated mini-SiTian*", "numerical flat at corners, rms [mmag]", high=2.6,
            where="single exposures"),
    Promise("survey", "simulated mini-SiTian*", "repeatability beyond theory [mmag]", high=1, where="stacked"),
    Promise("survey", "60 exposures x 2200 stars, robust", "seconds", high=0.1, where="after compile [s]"),
    Promise("survey", "statsmodels RLM*", "time over xpjax", 15, where="robust fit, of equal accuracy; or stdpipe's:"),
    Promise("survey", "stdpipe, weighted*", "time over xpjax", 15, where="an exposure"),
    Promise("survey", "statsmodels WLS with clipping*", "time over xpjax", 15, where="weighted fit"),
    *(Promise("scr", f"J-PLUS, 20 seeds, {fit}", "pull", 0.85, 1.15, "coefficients")
      for fit in ("noise-free labels", "errors in variables")),
    Promise("scr", "LAMOST, held out, *", "trend [mmag]", high=3, where="beyond twice the bin's error"),
)  # fmt: skip
JOINT = (
    Promise("joint", "xpjax, * observations, with clipping", "error", high=1e-7, where="beside a sparse direct solver"),
    *(Promise("joint", f"{case} observations*", key, high=x, where=where)
      for case, figures in (("443,000", (0.4, 0.142, 0.241)), ("2.2 million", (2.0, 0.070, 0.089)))
      for key, x, where in zip(("seconds", "zero_point rms [mmag]", "flat rms [mmag]"), figures,
                               ("two cores [s]", "about the truth", "about the truth"), strict=True)),
    *(Promise("joint", "transmission*", f"{group}: ratio", 3, where="bias of color terms over ours")
      for group in ("reddened", "M dwarfs")),
    *(Promise("joint", "pulls, * dithered fields*", f"{name} pull", 0.95, 1.05, "1000 simulations")
      for name in ("zero_point", "flat")),
    *(Promise("joint", "pulls, * drifting transmissions*", f"{name} pull", 0.95, 1.05, "1000 simulations")
      for name in ("zero_point", "water", "filter_shift", "detector_slope")),
    *(Promise("joint", "pulls, * transmissions with noisy spectra", f"{name} pull", 0.8, 1.2, "50 fields")
      for name in ("filter_shift", "detector_slope")),
    Promise("joint", "46.5 million observations, 6,600*", "seconds", high=60, where="3,100 x 15,000, two cores [s]"),
    Promise("joint", "46.5 million observations, 6,600*", "peak_bytes", high=8e9, where="the same, memory"),
    Promise("accelerator", "joint solution, 3,100 exp*", "s for all", high=5, where="3,100 x 15,000, GPU [s]"),
)  # fmt: skip
GAIAXPY = (
    Promise("gaiaxpy", "generate JPLUS, CSV", "gaiaxpy", 5, where="second call, from a file"),
    Promise("gaiaxpy", "generate JPLUS, DataFrame", "gaiaxpy", 20, where="second call"),
    Promise("gaiaxpy", "calibrate, DataFrame", "gaiaxpy", 10, where="second call"),
)  # fmt: skip
LINEAR = (
    Promise("linear", "pairs, left out", "error", high=0.6, where="66 stars, each left out, 400..990 nm [%]"),
    Promise("linear", "pairs, left out", "336..400 nm", high=4.0, where="66 stars, each left out [%]"),
    Promise("linear", "pairs, left out", "JPLUS mmag", high=4.8, where="nine bands, J0410 to z"),
    Promise("linear", "pairs, left out", "PanSTARRS1 mmag", high=3.2, where="griz"),
    Promise("linear", "pairs, left out", "SDSS mmag", high=4.0, where="griz"),
    Promise("linear", "pairs, left out", "Sky_Mapper mmag", high=10.3, where="v, g, r, i"),
    Promise("linear", "pairs, left out", "DECam mmag", high=4.7, where="griz"),
    Promise("linear", "pairs, left out", "lsst2023 mmag", high=10.8, where="ugriz"),
    Promise("linear", "SNfactory*", "xp", high=0.9, where="13 stars never trained on, 400..900 nm [%]"),
    Promise("linear", "chi2*", "4500..6500 K before over after", 2.5, where="random stars, G < 15"),
    Promise("linear", "cost*", "with errors", high=1.02, where="12 magnitudes, time with over without"),
)
SOURCES = (
    *(Promise("observe", f"type {kind}", f"J-PLUS {band} [mmag]", high=high, where="models observed")
      for kind in "AFGK"
      for bands, high in ((("gJPLUS", "rJPLUS", "iJPLUS", "zJPLUS"), 2), (("J0410", "J0430", "J0515", "J0660"), 10))
      for band in bands),
    Promise("observe", "type F", "error", high=3e-3, where="spectra at XP's resolution, 400..900 nm"),
    Promise("observe", "type A", "error", high=6e-3, where="the same: Balmer lines are narrower than XP"),
    *(Promise("observe", "CALSPEC F, G, K, correction standard", f"{xp} RMS of the peak [%]", high=0.6,
              where="internal spectra of real stars") for xp in ("BP", "RP")),
    Promise("lsdb", "* sources, 12 magnitudes, no errors, two workers", "peak of a worker, of that for fewer", high=1.2,
            where="four times as many sources"),
    Promise("lsdb", "xpjax catalogue run of the same*", "error", high=1e-6, where="the same rows"),
)  # fmt: skip
COMPACT = (
    Promise("photometry", "12 *compact covariances", "gaiaxpy generate", 250, where="errors of compact covariances"),
    Promise("photometry", "12 *compact covariances", "processor time of correlations", 2.4, where="over correlations"),
    Promise("photometry", "12 *compact covariances", "matrix products alone", 0.6, where="share of the products alone"),
    Promise("photometry", "294 *compact covariances", "processor time of correlations", 1.6, where="over correlations"),
    Promise("photometry", "corrected: *compact*", "processor time of correlations", 1.25, where="with the correction"),
    Promise("photometry", "*compact covariances", "error", high=6e-4, where="flux error, relative to correlations"),
    Promise("spectra", "*compact covariances", "processor time of correlations", 1.75, where="343 fluxes with errors"),
    Promise("spectra", "*compact covariances", "error", high=6e-4, where="flux error, relative to correlations"),
    Promise("catalogue", "*compact covariances*", "processor time of float32", 2.5, where="store to Parquet, errors"),
    Promise("ingest", "csv.gz, correlations compact, simdjson", "igzip's time", high=3.2, where="of decompression"),
    Promise("ingest", "csv.gz, correlations compact, *", "time of float32", high=1.12, where="with all correlations"),
    Promise("catalogue", "errors from compact*, cached", "rate", 0.7e6, where="store to Parquet, 12 bands, page cache"),
    Promise("catalogue", "errors from compact*, from the disk", "of plain reading", 0.45, where="of the same bytes"),
    Promise("catalogue", "errors from compact*, cached", "peak_bytes", high=0.85e9, where="resident memory"),
    Promise("catalogue", "errors from compact*, from the disk", "all sky [min]", high=25, where="220 million sources"),
    Promise("catalogue", "10,000k sources, 12 *, no errors", "rate", 2e6, where="store to Parquet, 10 million"),
    Promise("catalogue", "* sources, 12 magnitudes, no errors", "peak_bytes", high=0.6e9, where="resident memory"),
    *(Promise("catalogue", f"second run of xpjax {name}, *", "seconds", high=high, where="byte code and programs kept")
      for name, high in (("photometry", 1.1), ("labels fit", 3.5), ("survey calibrate", 2.7))),
)  # fmt: skip
BLOCK_MOCKS = "all of NextGen, mocks of the block by scipy's PCHIP"
REAL = "real stars, xp_random_1200"
LABELS = (
    *_labels(BLOCK_MOCKS, (7, 0.032, 0.026), "a grid with holes, another interpolator"),
    Promise("stellar", BLOCK_MOCKS, "HOLE", high=0.01, where="inside the models' hull"),
    Promise("stellar", BLOCK_MOCKS, "beyond 8 sigma", high=0.005, where="far off"),
    *(
        Promise(
            "labels",
            "CALSPEC*",
            f"left out, all, median absolute difference: {name}",
            high=high,
            where="dwarfs of which the grid knew nothing",
        )
        for name, high in (("logg", 0.25), ("mh", 0.2))
    ),
    *(
        Promise("labels", "CALSPEC*", f"left out, all, pull, 1.48 MAD: {name}", 0.7, 1.3, "of the same")
        for name in ("teff", "logg", "mh")
    ),
    Promise("labels", REAL, "at an edge, fraction", high=0.2, where="default priors"),
    *(
        Promise("labels", REAL, f"chi2/dof, BP-RP {bin_}", 0.7, 1.5, "by color")
        for bin_ in (
            "-0.5..0.4, 8 stars",
            "0.4..0.7, 19 stars",
            "0.7..0.85, 132 stars",
            "0.85..1.0, 281 stars",
            "1.0..1.2, 220 stars",
            "1.2..1.5, 191 stars",
            "1.5..2.0, 193 stars",
            "2.0..2.6, 133 stars",
            "2.6..4.0, 23 stars",
        )
    ),
    Promise("stellar", "fit, diagonal errors and common ones, two starts", "rate", 15_000, where="spectra a second"),
    Promise("stellar", "fit, full covariance, compact", "rate", 5_000, where="spectra a second"),
    Promise("stellar", "fit, full covariance, compact", "error", high=1e-3, where="labels, in errors"),
)
DEVICES = (
    Promise("accelerator", "12 magnitudes, from and to host memory", "rate", 80e6, where="sources a second, GPU"),
    Promise("accelerator", "12 magnitudes and errors of compact*, from*", "rate", 9e6, where="sources a second, GPU"),
    Promise("accelerator", "12 magnitudes of the corrected*, on*", "rate", 5e8, where="sources a second, GPU"),
    Promise("accelerator", "fits of three labels, from*", "rate", 3e6, where="spectra a second, GPU"),
)
EVIDENCE = (
    Promise("all", "this quick run", "seconds", high=180, where="two idle cores [s]"),
    Promise("accelerator", "this whole run", "seconds", high=600, where="one GPU [s]"),
)

ISSUES = {
    1: FOUNDATION,
    2: PASSBANDS,
    3: SCALE,
    4: CORRECTION,
    5: STELLAR,
    6: SURVEY,
    7: JOINT,
    8: GAIAXPY,
    9: EVIDENCE,
    10: LINEAR,
    13: SOURCES,
    15: COMPACT + DEVICES,
    16: LABELS,
}
"""Promises by the number of the issue that made them."""


def table(rows: Sequence[Row], stages: Collection[str] = (), stored: Sequence[Row] = ()) -> str:
    """Every promise, or those of some stages, with what was found.

    Where stored results of full runs are of larger sizes than these rows, they are judged, and what was found in this
    run stands beside them.
    """
    chosen = [(k, p) for k, promises in ISSUES.items() for p in promises if not stages or p.stage in stages]
    head = f"{'':2s} {'stage':11s} {'case':45s} {'figure':39s} {'promised':>10s} {'found':>9s} {'n':>10s}"
    lines = [f"{head}  {'':17s} {'this run':>9s}  said of"]
    counts: Counter[str] = Counter()
    for issue, promise in chosen:
        here, before = promise.found(rows), promise.found(stored)
        earlier = before is not None and (here is None or before[0] > here[0])
        found = before if earlier else here
        n, value = ("", "") if found is None else (f"{found[0]:,}", f"{found[1]:.4g}")
        verdict = "not measured" if found is None else "met" if promise.met(found[1]) else "NOT MET"
        verdict += ", stored" * earlier
        small = f"{here[1]:.4g}" if earlier and here else ""
        counts[verdict] += 1
        lines.append(
            f"{issue:2d} {promise.stage:11s} {promise.case:45s} {promise.key:39s} {promise.text:>10s} {value:>9s} "
            f"{n:>10s}  {verdict:17s} {small:>9s}  {promise.where}".rstrip()
        )
    return "\n".join([*lines, ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))])
