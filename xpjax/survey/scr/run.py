"""Stellar color regression of a whole table of stars: all bands, zero-points of tiles, predicted magnitudes, files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.core.types import AnyTable
from xpjax.io.atomic import check_products
from xpjax.io.catalogue import read_catalogue, write
from xpjax.survey import SurveyTable, make_observations, provenance
from xpjax.survey.exposures import ExposureFits
from xpjax.survey.scr.config import ScrBand, ScrConfig, read_scr_config
from xpjax.survey.scr.flats import calibrate_scr
from xpjax.survey.scr.homogenize import BandZeroPoints, tile_zero_points
from xpjax.survey.scr.law import ColorRegression, coefficient_table, predict_scr, regressions_from
from xpjax.survey.scr.population import Population, find_population
from xpjax.survey.scr.regression import ColorFit, fit_scr
from xpjax.survey.scr.stars import Stars, read_stars
from xpjax.survey.scr.zero_points import TABLE, HomogenizedZeroPoints, homogenized, read_homogenized

COEFFICIENTS, PREDICTED = "coefficients.ecsv", "predicted.parquet"
FILES = (COEFFICIENTS, TABLE, PREDICTED)
PREDICTIONS = {
    "scr": "magnitude by stellar color regression",
    "scr_error": "error of the star: Gaia photometry, labels, scatter about the relation",
    "scr_systematic": "error from the coefficients of the relation, in part common to all stars",
    "outside": "1 where a label is beyond those of the fit",
    "used": "1 where the star took part in the fit",
    "residual": "residual of the fit: color - relation - zero-point of the tile",
}
"""Columns of predictions, behind the name of the band."""
OF_STARS = {
    "star": ("identifier of the star", ""),
    "tile": ("tile of the star", ""),
    "teff": ("effective temperature, as given", "K"),
    "feh": ("metallicity [Fe/H], as given", "dex"),
    "reddening": ("reddening, as given or by star pairs", "mag"),
    "bp_rp": ("BP - RP, corrected as the settings say", "mag"),
}
"""Columns of stars before these: description and unit."""


@dataclasses.dataclass(frozen=True, repr=False)
class ScrSolution(Record):
    """Hold the color relations of all bands, the zero-points of tiles, and the predicted magnitudes of stars.

    Parameters
    ----------
    regressions : dict of str to ColorRegression
        The relation of each band that could be fitted.
    zero_points : HomogenizedZeroPoints
        Zero-points of tiles by SCR, and by XP synthetic photometry on the same scale where there is no spectroscopy.
    predicted : SurveyTable
        A row for each star on each tile, with `star`, `tile`, labels and color, and for each band `{band}_scr`,
        `{band}_scr_error` and `{band}_scr_systematic` [mag], `{band}_outside`, `{band}_used` and `{band}_residual`.
    failed : dict of str to str
        Bands that could not be fitted, and why.
    notes : tuple of str
        What happened on the way from the table to the stars of the fits.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> rng, means = np.random.default_rng(0), {"teff": 5900, "feh": -0.3, "reddening": 0.1, "bp": 14, "rp": 14}
    >>> stars = {name: rng.normal(mean, 0.05 * (1 + mean), 400) for name, mean in means.items()}
    >>> columns = {name: name for name in means} | {"magnitude": "i", "magnitude_error": 0.01}
    >>> stars["i"] = stars["rp"] - 0.3 * stars["reddening"] + rng.normal(0, 0.01, 400)
    >>> config = {"columns": columns, "regression": {"order": 1}, "band": [{"name": "i", "gaia": "RP"}]}
    >>> solution = scr.run_scr(stars, config)
    >>> solution.zero_points.method.tolist()
    ['SCR']
    """

    regressions: Mapping[str, ColorRegression]
    zero_points: HomogenizedZeroPoints
    predicted: SurveyTable
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def write(self, folder: str | Path, *, record: Mapping[str, object] | None = None, overwrite: bool = False) -> None:
        """Write coefficients.ecsv, zeropoints.ecsv and predicted.parquet to a directory, which is made.

        Parameters
        ----------
        folder : str or Path
            The directory; `read_scr` reads it back.
        record : dict, optional
            Metadata for every table.
        overwrite : bool
            Whether files that exist are replaced.
        """
        folder, meta = Path(folder), {**provenance(), **(record or {}), "account": list(self.notes)}
        check_products(folder, *FILES, overwrite=overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        zero_points = self.zero_points.catalogue()
        tables = {
            PREDICTED: dataclasses.replace(self.predicted, meta=meta),
            COEFFICIENTS: coefficient_table([*self.regressions.values()], meta),
            TABLE: dataclasses.replace(zero_points, meta={**meta, **zero_points.meta}),
        }
        for name, table in tables.items():
            write(folder / name, table, overwrite=overwrite)

    def summary(self) -> list[str]:
        """What the fits found, in lines."""
        lines = [*self.notes, *(f"not fitted: {why}" for why in self.failed.values())]
        for band, one in self.regressions.items():
            k = one.names.index("reddening")
            r, error = one.value[k] / one.scale[2], one.error[k] / one.scale[2]
            said = f"{band}: G_{one.gaia} - {band} from {one.n_used:,} stars, scatter {1e3 * one.scatter:.1f} mmag, "
            said += f"R = {r:.3f} +- {error:.3f}"
            lines.append(said + ("" if one.converged else ", sigma clipping did not converge"))
        return [*lines, *self.zero_points.summary()]


def run_scr(
    stars: AnyTable,
    config: str | Path | Mapping[str, object],
    output: str | Path | None = None,
    *,
    record: Mapping[str, object] | None = None,
    overwrite: bool = False,
) -> ScrSolution:
    """Fit the color relations of all bands to a table of stars, and the zero-points of its tiles.

    Parameters
    ----------
    stars : str, Path or table
        A row for each star on each tile: a file, or columns in memory (astropy, pandas, Arrow, a mapping).
    config : str, Path or dict
        Configuration that names columns, terms and bands: a TOML file, or its sections as nested dicts.
    output : str or Path, optional
        Directory for the products, as `ScrSolution.write` makes it; by default nothing is written.
    record : dict, optional
        Metadata for every table.
    overwrite : bool
        Whether files that exist are replaced.

    Returns
    -------
    ScrSolution
        Relations, zero-points and predicted magnitudes.

    Raises
    ------
    XpjaxError, FileExistsError
        If the configuration or the table is wrong, no band could be fitted, or a file exists.

    Notes
    -----
    Tiles without spectroscopy have zero-points from XP synthetic photometry, on the scale of the regression, where the
    configuration names `model` (Xiao et al. 2023, ApJS 269, 58). Relations: see `fit_scr`.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> rng, means = np.random.default_rng(0), {"teff": 5900, "feh": -0.3, "reddening": 0.1, "bp": 14, "rp": 14}
    >>> stars = {name: rng.normal(mean, 0.05 * (1 + mean), 400) for name, mean in means.items()}
    >>> columns = {name: name for name in means} | {"magnitude": "i", "magnitude_error": 0.01}
    >>> stars["i"] = stars["rp"] - 0.3 * stars["reddening"] + rng.normal(0, 0.01, 400)
    >>> config = {"columns": columns, "regression": {"order": 1}, "band": [{"name": "i", "gaia": "RP"}]}
    >>> solution = scr.run_scr(stars, config, "scr")
    >>> print(f"{solution.regressions['i'].reddening_coefficient(np.array([[5900, 0, 0.1]]))[0]:.1f}")
    0.3
    """
    chosen = read_scr_config(config)
    if output is not None:
        check_products(output, *FILES, overwrite=overwrite)
    sample = read_stars(stars, chosen)
    population = None
    if sample.covariance is not None:  # from all rows, before any cut
        population = find_population(sample.labels, sample.covariance, sample.tiles.number)
    regressions, parts, failed, notes = {}, {}, {}, list(sample.notes)
    columns = _of_stars(sample)
    descriptions = {name: said for name, (said, _) in OF_STARS.items()}
    for band in chosen.bands:
        try:
            regression, first, predicted, not_run = _regress(sample, band, chosen, population)
        except ValueError as why:
            failed[band.name] = str(why)
            continue
        notes += [line for line in not_run if line not in notes]
        regressions[band.name], parts[band.name] = regression, (first, _synthetic(sample, band))
        columns |= {f"{band.name}_{key}": value for key, value in zip(PREDICTIONS, predicted, strict=True)}
        descriptions |= {f"{band.name}_{key}": said for key, said in PREDICTIONS.items()}
    if not regressions:
        raise XpjaxError("no band could be fitted: " + "; ".join(failed.values()))
    tiles = sample.tiles.names
    zero_points = homogenized(tiles, np.full(len(tiles), ""), parts)
    units = {name: OF_STARS.get(name, ("", "mag"))[1] for name, column in columns.items() if column.dtype.kind == "f"}
    predictions = SurveyTable(columns, units, descriptions)
    solution = ScrSolution(regressions, zero_points, predictions, failed, tuple(notes))
    if output is not None:
        solution.write(output, record=record, overwrite=overwrite)
    return solution


def _of_stars(stars: Stars) -> dict[str, np.ndarray]:
    """The columns `OF_STARS` (n,)."""
    bp, rp = (stars.gaia.get(name, np.full(len(stars.star), np.nan)) for name in ("BP", "RP"))
    return dict(zip(OF_STARS, (stars.star, stars.tiles.name, *stars.labels.T, bp - rp), strict=True))


def _regress(
    stars: Stars, band: ScrBand, config: ScrConfig, population: Population | None
) -> tuple[ColorRegression, BandZeroPoints, tuple[np.ndarray, ...], list[str]]:
    """The relation of a band, zero-points of tiles by it, `PREDICTIONS`, and cuts that did not run."""
    magnitude, error = stars.magnitudes(band)
    kept, not_run = stars.keep(band, config, error)
    tile = stars.tiles.number
    gaia, gaia_error = stars.gaia[band.gaia], stars.gaia_error[band.gaia]
    common: dict[str, Any] = {
        "label_covariance": stars.covariance, "population": population, "band": band.name, "gaia": band.gaia
    }  # fmt: skip
    found: ExposureFits | ColorFit
    if order := config.settings.position_order:
        x, y = (stars.columns.numbers(band.columns, key, np.nan) for key in ("x", "y"))
        exposure = stars.tiles.names[tile]
        o = make_observations(stars.star, x, y, magnitude, error, None, exposure=exposure, cut=~kept)
        fit, found, _ = calibrate_scr(o, gaia, gaia_error, stars.labels, band.model, position_order=order, **common)
        # Frames come in the order of their first rows, tiles sorted.
        place = np.zeros(len(stars.tiles.names), int)
        place[tile] = o.frame
        own = np.hypot(found.zero_point_error, found.zero_point_common)[place]
    else:
        color = np.where(kept, gaia - magnitude, np.nan)
        fit = found = fit_scr(color, np.hypot(gaia_error, error), stars.labels, band.model, tile=tile, **common)
        place, own = np.arange(len(stars.tiles.names)), fit.zero_point_error
    law, labels = fit.regression, stars.labels
    predicted = predict_scr(law, gaia, gaia_error, labels, label_covariance=stars.covariance, tile=tile)
    error = np.hypot(own, fit.zero_point_systematic[place])
    zero_points = BandZeroPoints(found.zero_point[place], error, found.n_used[place])
    columns = predicted.magnitude, predicted.error, predicted.systematic, predicted.outside, found.used, found.residual
    return law, zero_points, columns, not_run


def _synthetic(stars: Stars, band: ScrBand) -> BandZeroPoints:
    """The tiles' zero-points by synthetic magnitudes from XP, all missing where there are none."""
    magnitude, error = stars.magnitudes(band)
    model, model_error = (stars.columns.numbers(band.columns, *of) for of in (("model", np.nan), ("model_error", 0.0)))
    total = np.hypot(error, model_error)
    return tile_zero_points(model - magnitude, total, stars.tiles.number, len(stars.tiles.names))


def read_scr(folder: str | Path) -> ScrSolution:
    """Read the solution that `xpjax survey scr` or `ScrSolution.write` wrote.

    Parameters
    ----------
    folder : str or Path
        The directory.

    Returns
    -------
    ScrSolution
        What was written, but for bands that could not be fitted.

    Raises
    ------
    XpjaxError
        If a table is another one.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> rng, means = np.random.default_rng(0), {"teff": 5900, "feh": -0.3, "reddening": 0.1, "bp": 14, "rp": 14}
    >>> stars = {name: rng.normal(mean, 0.05 * (1 + mean), 400) for name, mean in means.items()}
    >>> columns = {name: name for name in means} | {"magnitude": "i", "magnitude_error": 0.01}
    >>> stars["i"] = stars["rp"] - 0.3 * stars["reddening"] + rng.normal(0, 0.01, 400)
    >>> config = {"columns": columns, "regression": {"order": 1}, "band": [{"name": "i", "gaia": "RP"}]}
    >>> solution = scr.run_scr(stars, config)
    >>> solution.write("scr")
    >>> len(scr.read_scr("scr").predicted)
    400
    """
    folder = Path(folder)
    for name in FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no {name} in {folder}: give a directory that `xpjax survey scr` wrote")
    stars = read_catalogue(folder / PREDICTED)
    return ScrSolution(
        regressions_from(read_catalogue(folder / COEFFICIENTS)), read_homogenized(folder / TABLE),
        SurveyTable(stars.columns, stars.units, stars.descriptions, stars.meta), notes=tuple(stars.meta["account"]),
    )  # fmt: skip
