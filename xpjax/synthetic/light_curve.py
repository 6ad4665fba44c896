"""Light curves: the transits of one source by time, in any bands; folded, binned, searched for periods, drawn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from xpjax.core.constants import POGSON
from xpjax.core.errors import XpjaxError, say
from xpjax.core.periods import PeriodSearch, find_period
from xpjax.core.records import Catalogue, Record, Rows
from xpjax.core.status import Status
from xpjax.core.types import RowIndex
from xpjax.core.units import in_unit
from xpjax.io.results import TableResult
from xpjax.io.words import integer
from xpjax.synthetic.figures import plot_light_curve
from xpjax.xp import TRANSIT_MEANINGS, TRANSIT_UNITS, repeated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SINES = 4
"""The most sines of one period that make up a light curve, one for each ten transits."""
PASSES = 8
"""Passes of fitting what bands have in common and how much of it each has: they converge in three or four."""
AMPLITUDES = (0.1, 10.0)
"""Limits of a band's amplitude relative to the others'."""


@dataclasses.dataclass(frozen=True, repr=False)
class LightCurve(TableResult, Record, Rows):
    """Hold the light curve of one source: fluxes and magnitudes of its transits by time, in any bands.

    `xpjax.lightcurve` and `Photometry.lightcurve` make one, `xpjax.write` writes it, `curve["g"]` has the magnitudes
    (n,) of a band, and `curve[rows]` some of the transits.

    Parameters
    ----------
    source_id : int
        Gaia's identifier.
    labels, names : tuple of str
        Label of the system, and name, of each band.
    time : (n,) array [d]
        Barycentric Julian dates (TCB) since 2010.0 (2455197.5), ascending; in bins their means.
    transit_id : (n,) array of int64, or None
        Gaia's identifiers of the transits; None in bins.
    flux, flux_error : (n, n_band) array
        Fluxes in the units of the bands, NaN where a transit lacks the photometer; errors are None without any.
    magnitude, magnitude_error : (n, n_band) array [mag]
        Magnitudes; NaN for a flux that is not positive.
    status : (n,) array of uint32
        `Status` bits.
    flux_unit : tuple of str
        Unit of the fluxes of each band.
    number : (n, n_band) array, or None
        How many transits are in a bin; None where rows are transits.
    period, epoch : float [d]
        What phases are of, epoch on the scale of time; NaN for a curve that is not folded.
    search : PeriodSearch, optional
        How the period was found, where it was: its error, false-alarm probability and aliases.
    left_out : int
        Transits without time, or repeated ones, which are in no light curve.
    meta : mapping
        How the magnitudes were made.

    Examples
    --------
    >>> stars = xpjax.photometry(xpjax.simulate_sources(2, seed=1, transits=30), "SDSS:g,r")
    >>> curve = stars.lightcurve(stars.source_id[0])
    >>> len(curve), curve["g"].shape, curve.fold(0.61).phase.shape
    (30, (30,), (30,))
    >>> len(curve.fold(0.61).bin(5))
    5
    """

    row_fields = (
        *("time", "transit_id", "flux", "flux_error", "magnitude", "magnitude_error", "status"),
        "number",
    )
    bits = Status

    source_id: int
    labels: tuple[str, ...]
    names: tuple[str, ...]
    time: np.ndarray
    transit_id: np.ndarray | None
    flux: np.ndarray
    flux_error: np.ndarray | None
    magnitude: np.ndarray
    magnitude_error: np.ndarray | None
    status: np.ndarray
    flux_unit: tuple[str, ...]
    number: np.ndarray | None = None
    period: float = math.nan
    epoch: float = math.nan
    search: PeriodSearch | None = None
    left_out: int = 0
    meta: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @overload
    def __getitem__(self, key: str) -> np.ndarray: ...
    @overload
    def __getitem__(self, key: RowIndex) -> Self: ...
    def __getitem__(self, key: str | RowIndex) -> np.ndarray | Self:
        """Magnitudes (n,) of one band by its name, or the light curve of some rows."""
        return self.magnitude[:, _places(self, key)[0]] if isinstance(key, str) else super().__getitem__(key)

    @property
    def bands(self) -> tuple[str, ...]:
        """`{label}_{name}` of every band."""
        return tuple(f"{label}_{name}" for label, name in zip(self.labels, self.names, strict=True))

    @property
    def phase(self) -> np.ndarray | None:
        """Phases (n,) from 0 to 1 of a folded light curve; None without a period."""
        return ((self.time - self.epoch) / self.period) % 1.0 if math.isfinite(self.period) else None

    def fold(self, period: float | None = None, epoch: float | None = None) -> LightCurve:
        """Fold the light curve with a period.

        Parameters
        ----------
        period : float, optional [d]
            The period; by default the one that `periods` finds.
        epoch : float, optional [d]
            Where phase is zero, on the scale of `time`; by default the first transit.

        Returns
        -------
        LightCurve
            The same transits, with `phase`.

        Raises
        ------
        XpjaxError
            If the period is not positive, the epoch is not finite, or no period stands out.
        """
        if self.number is not None:
            raise XpjaxError("a light curve in bins cannot be folded: fold first, then bin")
        search = None
        if period is None:
            search = self.periods()
            if not math.isfinite(search.period):
                raise XpjaxError(f"source {self.source_id}: {search}; give {say('period=', '--period DAYS')}")
            period = search.period
        first = float(self.time[0]) if len(self) else 0.0
        epoch = first if epoch is None else days(epoch, "an epoch")
        return dataclasses.replace(self, period=days(period, "a period", above=0), epoch=epoch, search=search)

    def bin(self, number: int | None = None, *, width: float | None = None) -> LightCurve:
        """Average transits in bins of phase, or of time where the light curve is not folded.

        Fluxes are averaged, with weights 1 / flux_error^2, and magnitudes follow from their means.

        Parameters
        ----------
        number : int, optional
            Number of bins of equal width; those without transits are left out.
        width : float, optional
            Their width instead: in phase, or in days.

        Returns
        -------
        LightCurve
            A row for each bin; `number` tells how many transits each has in each band. Without flux errors weights are
            equal, and errors are those of the mean by the scatter, NaN of a single transit.

        Raises
        ------
        XpjaxError
            If neither or both are given, or they make no bins.
        """
        if (number is None) == (width is None):
            raise XpjaxError(f"give either {say('number=', '--bins')} or width=, to say how wide bins are")
        if self.number is not None:
            raise XpjaxError("the light curve is in bins already")
        phase = self.phase
        x = self.time if phase is None else phase
        low, high = (float(x.min()), float(x.max())) if phase is None and len(x) else (0.0, 1.0)
        whole = None if isinstance(number, str) else integer(number)
        if number is not None and whole is None:
            raise XpjaxError(f"{number!r} bins: give a whole number")
        count = whole or 0
        if width is not None:
            width = days(width, "give a width: it", above=0, of="days, or of phase")
            count = max(math.ceil(min((high - low) / width, 1e9)), 1)
        if not 0 < count <= 10**6:
            raise XpjaxError(f"{count} bins: give from 1 to 1,000,000 of them, or their width")
        step = width or (high - low) / count or 1.0
        place = np.minimum(((x - low) / step).astype(np.int64), count - 1)
        return _binned(self, place, count)

    def periods(self, bands: str | Sequence[str] | None = None, *, sines: int = SINES) -> PeriodSearch:
        """Find the period, and the other ones that fit as well; see `xpjax.survey.report.find_period`.

        Parameters
        ----------
        bands : str or sequence of str, optional
            Bands to use; by default all. Several are one series beforehand: a band's magnitudes are taken as its mean
            plus its own amplitude times what all bands have in common. So each transit counts once, as it should: the
            noise of its bands is that of one spectrum.
        sines : int
            The most sines of one period that make up the light curve, at most one for each ten transits.

        Returns
        -------
        PeriodSearch
            `period` and `error` [d], NaN where none is significant, or more than three others fit as well;
            `false_alarm`, the probability that noise does as well; `aliases`, the others that fit as well. `str()`
            gives the result in words.

        Raises
        ------
        XpjaxError
            If fewer than ten transits have magnitudes.
        """
        rows = list(range(len(self.names))) if bands is None else _places(self, bands)
        errors = None if self.magnitude_error is None else self.magnitude_error[:, rows]
        series, error = _common(self.magnitude[:, rows], errors)
        return find_period(self.time, series, error, sines=sines)

    def chi2(self) -> np.ndarray:
        """Reduced chi^2 (n_band,) of each band's fluxes about their weighted mean: about 1 for a constant star.

        NaN for a band of fewer than two transits. Raises XpjaxError without errors.
        """
        if self.flux_error is None:
            raise XpjaxError("the fluxes have no errors: chi^2 needs them")
        flux, error = np.asarray(self.flux, float), np.asarray(self.flux_error, float)
        good = np.isfinite(flux) & (error > 0)
        weight = np.where(good, 1 / np.where(good, error, 1) ** 2, 0)
        n = good.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.sum(weight * np.where(good, flux, 0), axis=0) / weight.sum(axis=0)
            total = np.sum(weight * np.where(good, flux - mean, 0) ** 2, axis=0)
            return np.where(n > 1, total / (n - 1), np.nan)

    def plot(self) -> Figure:
        """Draw magnitudes with errors against time, or against phase where the light curve is folded.

        Returns
        -------
        matplotlib.figure.Figure
            The figure; `savefig` writes it.
        """
        return plot_light_curve(self)

    def catalogue(self) -> Catalogue:
        """The light curve with photometry's names of columns; `phase` if folded, `{label}_number_{band}` in bins."""
        columns: dict[str, np.ndarray] = {"source_id": np.full(len(self), self.source_id, np.int64)}
        units, told = dict(TRANSIT_UNITS), {"source_id": "Gaia source identifier", "xp_status": Status.legend()}
        if self.transit_id is not None:
            columns["transit_id"] = self.transit_id
        columns["time"] = self.time
        told |= {name: text for name, text in TRANSIT_MEANINGS.items() if name in columns}
        if self.phase is not None:
            columns["phase"], told["phase"] = self.phase, "Phase: whole periods since the epoch left out"
        kinds = {
            "mag": (self.magnitude, "Synthetic magnitude in {}"),
            "flux": (self.flux, "Mean flux through {}"),
            "flux_error": (self.flux_error, "Standard error of the mean flux through {}"),
            "mag_error": (self.magnitude_error, "Standard error of the synthetic magnitude in {}"),
            "number": (self.number, "Transits in the bin with a flux through {}"),
        }
        for kind, (array, meaning) in kinds.items():
            if array is None:
                continue
            for k, (label, band) in enumerate(zip(self.labels, self.names, strict=True)):
                name = f"{label}_{kind}_{band}"
                columns[name], told[name] = array[:, k], meaning.format(band)
                if kind != "number":
                    units[name] = "mag" if kind.startswith("mag") else self.flux_unit[k]
        columns["xp_status"] = self.status
        meta = {**self.meta, "source_id": int(self.source_id), "left_out": self.left_out}
        if math.isfinite(self.period):
            meta |= {"period": self.period, "epoch": self.epoch}
        if self.search is not None:
            meta |= {"period_error": self.search.error, "period_false_alarm": self.search.false_alarm}
            meta["period_aliases"] = [period for period, _ in self.search.aliases]
        return Catalogue(columns, units, told, meta=meta)


def days(value: Any, what: str, *, above: float = -math.inf, of: str = "days") -> float:
    """A finite number above a limit, of any type of numbers, or a Quantity in days. Raises XpjaxError."""
    number = in_unit(value, "d", what)
    number = number[()] if isinstance(number, np.ndarray) and number.ndim == 0 else number
    is_number = isinstance(number, int | float | np.integer | np.floating) and not isinstance(number, bool)
    if not (is_number and math.isfinite(number) and number > above):
        expected = "finite" if above < 0 else "positive"
        raise XpjaxError(f"{what} is a {expected} number of {of}, not {value!r}")
    return float(number)


def gaia_id(source_id: Any) -> int:
    """A source_id as an integer. Raises XpjaxError for what is none, floats that have lost digits among them."""
    number = integer(source_id)
    if number is None:
        raise XpjaxError(f"source_id is an integer of up to 19 digits, not {source_id!r}")
    return number


def light_curve(photometry: Any, source_id: int | None = None, bands: str | Sequence[str] | None = None) -> LightCurve:
    """The light curve of a source of photometry of epoch spectra; see `Photometry.lightcurve`. Raises XpjaxError."""
    if not photometry.transits:
        raise XpjaxError(
            "these are magnitudes of mean spectra: a light curve needs those of epoch spectra, with transit_id and time"
        )
    known = np.unique(photometry.source_id)
    if source_id is None:
        if len(known) != 1:
            raise XpjaxError(f"{len(known):,} sources: say which by {say('source_id=', '--source')}")
        source_id = int(known[0])
    source_id = gaia_id(source_id)
    time, transit_id = (np.asarray(photometry.transits[name]) for name in ("time", "transit_id"))
    mine = np.asarray(photometry.source_id) == source_id
    if not mine.any():
        raise XpjaxError(f"no source {source_id} among {len(known):,}")
    used = mine & np.isfinite(time) & ((photometry.status & np.uint32(Status.DUPLICATE)) == 0)
    rows = np.flatnonzero(used)
    # Status tells what is repeated within a file: stores and joined tables have rows of several.
    rows = rows[~repeated(np.asarray(photometry.source_id)[rows], transit_id[rows])]
    rows = rows[np.argsort(time[rows], kind="stable")]
    system, own = photometry.system, photometry[rows]
    whole = LightCurve(
        source_id,
        tuple(system.labels),
        tuple(system.names),
        time[rows].astype(float),
        transit_id[rows].astype(np.int64),
        *(own.flux, own.flux_error, own.magnitude, own.magnitude_error, own.status),
        tuple(system.flux_unit),
        left_out=int(mine.sum() - len(rows)),
        meta=dict(photometry.meta),
    )
    return whole if bands is None else _of_bands(whole, _places(whole, bands))


def _places(curve: LightCurve, bands: str | Sequence[str]) -> list[int]:
    """Where bands are, by `{label}_{name}` or, where that is unique, by name. Raises XpjaxError."""
    places = []
    for key in [bands] if isinstance(bands, str) else bands:
        found = [k for k, name in enumerate(curve.names) if key in (name, curve.bands[k])]
        if len(found) != 1:
            raise XpjaxError(f"{key!r} is {'ambiguous' if found else 'not'} among the bands {list(curve.bands)}")
        places += found
    if len({*places}) != len(places) or not places:
        raise XpjaxError(f"name at least one band, and each once: {bands!r}")
    return places


def _of_bands(curve: LightCurve, places: list[int]) -> LightCurve:
    chosen: dict[str, Any] = {
        name: tuple(getattr(curve, name)[k] for k in places) for name in ("labels", "names", "flux_unit")
    }
    for name in ("flux", "flux_error", "magnitude", "magnitude_error"):
        array = getattr(curve, name)
        chosen[name] = None if array is None else array[:, places]
    return dataclasses.replace(curve, **chosen)


def _binned(curve: LightCurve, place: np.ndarray, count: int) -> LightCurve:
    """Weighted means of fluxes in bins, whose numbers (n,) are given; bins without any flux are left out."""
    n_band, kind = len(curve.names), curve.magnitude.dtype
    flux, error, number, zero = (np.zeros((count, n_band)) for _ in range(4))
    with np.errstate(invalid="ignore", divide="ignore"):
        zero_point = curve.magnitude + 2.5 * np.log10(np.where(curve.flux > 0, curve.flux, np.nan).astype(float))
        for k in range(n_band):
            sigma = None if curve.flux_error is None else np.asarray(curve.flux_error[:, k], float)
            value = np.asarray(curve.flux[:, k], float)
            good = np.isfinite(value) if sigma is None else np.isfinite(value) & (sigma > 0)
            weight = np.ones(len(value)) if sigma is None else sigma**-2
            here, w = place[good], weight[good]
            total, number[:, k] = np.bincount(here, w, count), np.bincount(here, minlength=count)
            flux[:, k] = np.bincount(here, w * value[good], count) / total
            if sigma is None:
                scatter = np.bincount(here, (value[good] - flux[here, k]) ** 2, count)
                error[:, k] = np.sqrt(scatter / (number[:, k] - 1) / number[:, k])
            else:
                error[:, k] = total**-0.5
            zero[:, k] = _mean_zero_point(zero_point[:, k], place, count)
        magnitude = np.where(flux > 0, -2.5 * np.log10(np.where(flux > 0, flux, np.nan)) + zero, np.nan)
        magnitude_error = np.where(flux > 0, POGSON * error / flux, np.nan)
    error[~np.isfinite(error)], flux[number == 0], magnitude_error[number == 0] = np.nan, np.nan, np.nan
    status = np.zeros(count, np.uint32)
    np.bitwise_or.at(status, place, curve.status)
    there = number.any(axis=1)
    phase, of_bin = curve.phase, np.maximum(np.bincount(place, minlength=count), 1)
    time = np.bincount(place, curve.time, count) / of_bin
    if phase is not None:
        # A time that has the mean phase of the bin.
        time = curve.epoch + curve.period * np.bincount(place, phase, count) / of_bin
    arrays: dict[str, Any] = {
        "flux": flux.astype(curve.flux.dtype),
        "flux_error": error.astype(curve.flux.dtype),
        "magnitude": magnitude.astype(kind),
        "magnitude_error": magnitude_error.astype(kind),
    }
    whole = dataclasses.replace(
        curve, time=time, transit_id=None, status=status, number=number.astype(np.int64), **arrays
    )
    return whole[np.flatnonzero(there)]


def _mean_zero_point(zero_point: np.ndarray, place: np.ndarray, count: int) -> np.ndarray:
    """Zero points (count,) of bins: of one system they are one, of magnitudes with color equations nearly."""
    known = np.isfinite(zero_point)
    if not known.any():
        return np.full(count, np.nan)
    number = np.bincount(place[known], minlength=count)
    mean = np.bincount(place[known], zero_point[known], count) / np.maximum(number, 1)
    return np.where(number > 0, mean, np.median(zero_point[known]))


def _common(magnitude: np.ndarray, error: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """What several bands (n, n_band) have in common (n,), and its error: magnitude = mean of the band + amplitude x it.

    A weighted principal component with gaps. Transits without any band are NaN.
    """
    n_band = magnitude.shape[1]
    if n_band == 1:
        return magnitude[:, 0], None if error is None else error[:, 0]
    m = np.asarray(magnitude, float)
    sigma = np.ones_like(m) if error is None else np.asarray(error, float)
    good = np.isfinite(m) & (sigma > 0)
    good &= good.sum(axis=0) > 2  # fewer tell nothing of a band's mean
    weight = np.where(good, 1 / np.where(good, sigma, 1) ** 2, 0)
    m = np.where(good, m, 0)
    mean = (weight * m).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-300)
    amplitude = np.ones(n_band)
    for _ in range(PASSES):
        total = (weight * amplitude**2).sum(axis=1)
        series = (weight * amplitude * (m - mean)).sum(axis=1) / np.maximum(total, 1e-300)
        for k in range(n_band):
            w = weight[:, k]
            if not w.any():
                continue
            center = w @ series / w.sum()
            spread = w @ (series - center) ** 2
            slope = w @ ((series - center) * m[:, k]) / spread if spread > 0 else 1.0
            amplitude[k] = np.clip(slope, *AMPLITUDES)
            mean[k] = w @ (m[:, k] - amplitude[k] * series) / w.sum()
        amplitude /= np.median(amplitude)
    total = (weight * amplitude**2).sum(axis=1)
    there = total > 0
    series = (weight * amplitude * (m - mean)).sum(axis=1) / np.maximum(total, 1e-300)
    return np.where(there, series, np.nan), np.where(there, 1 / np.sqrt(np.maximum(total, 1e-300)), np.nan)
