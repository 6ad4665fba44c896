"""The files of a simulated survey: a table for each exposure and detector, XP coefficients, telescope, and truth."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue
from xpjax.core.shipped import shipped_passbands
from xpjax.io.atomic import check_products, whole_files, write_bytes
from xpjax.io.catalogue import write
from xpjax.survey.columns import OutputColumn, provenance, tabulate
from xpjax.survey.simulation.labels import labels_of
from xpjax.survey.simulation.passbands import is_chain
from xpjax.survey.simulation.setup import SurveySetup
from xpjax.survey.simulation.survey import Detections, SimulatedSurvey
from xpjax.survey.simulation.truth import TRUTH

DETECTIONS, SPECTRA, LABELS, TELESCOPE = "detections", "xp.parquet", "labels.parquet", "telescope.toml"
FORMATS = ("fits", "parquet", "csv", "ecsv", "vot", "h5")
"""Formats of tables of detections; those without headers have columns in their place."""

MEASURED = (
    OutputColumn("NUMBER", lambda d: np.arange(1, len(d.star) + 1, dtype=np.int32), "", "Running number"),
    OutputColumn("X", lambda d: d.x, "pixel", "Position along the x axis of the detector"),
    OutputColumn("Y", lambda d: d.y, "pixel", "Position along the y axis of the detector"),
    OutputColumn("RA", lambda d: d.ra, "deg", "Right ascension"),
    OutputColumn("DEC", lambda d: d.dec, "deg", "Declination"),
    OutputColumn("MAG", lambda d: d.magnitude, "mag", "Instrumental magnitude"),
    OutputColumn("MAGERR", lambda d: d.error, "mag", "Error of the instrumental magnitude"),
    OutputColumn("FLAGS", lambda d: d.flags, "", "Flags: 2 for blends"),
)
"""Columns of tables of detections."""


def simulate_survey(
    setup: SurveySetup | None = None,
    output: str | Path | None = None,
    *,
    format: str = "fits",
    overwrite: bool = False,
    record: Mapping[str, object] | None = None,
) -> SimulatedSurvey:
    """Simulate a survey with known truth, and write its files where an output is given.

    Parameters
    ----------
    setup : SurveySetup, optional
        What is simulated.
    output : str or Path, optional
        Directory for `detections/`, a table for each exposure and detector; `xp.parquet`, coefficients with errors,
        positions and magnitudes; `labels.parquet`, mock spectroscopy; `telescope.toml`, the chain as it is described;
        and `truth/`, with a table of each thing that was given: exposures, bands, flats, stars, detections, XP's errors
        on the sky and of its instrument.
    format : {"fits", "parquet", "csv", "ecsv", "vot", "h5"}
        Format of the tables of detections. Those in FITS name exposure, band, time and airmass in their headers, others
        in columns.
    overwrite : bool
        Whether to replace files that exist.
    record : mapping, optional
        Metadata of the truth.

    Returns
    -------
    SimulatedSurvey
        The survey.

    Raises
    ------
    XpjaxError
        If the setup or the format is wrong.
    FileExistsError
        If a file exists, unless overwrite.

    Examples
    --------
    >>> setup = xpjax.survey.SurveySetup(n_exposure=2, n_star=30, n_night=1, seed=1)
    >>> survey = xpjax.survey.simulate_survey(setup, "mock")
    >>> len(xpjax.read_table("mock/truth/exposures.ecsv"))
    2
    """
    if format not in FORMATS:
        raise XpjaxError(f"{say('format', '--format')} {format!r} is none of {', '.join(FORMATS)}")
    if output is None:
        return SimulatedSurvey(setup)
    folder = Path(output)
    check_products(folder, DETECTIONS, SPECTRA, LABELS, TELESCOPE, *TRUTH, overwrite=overwrite)
    made = SimulatedSurvey(setup)
    for part in (DETECTIONS, "truth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for old in (folder / DETECTIONS).glob("e[0-9]*_ccd[0-9]*.*"):  # of an earlier survey, which had more exposures
        old.unlink()
    about = {**(record or {}), **provenance(), "correction": Path(made.setup.correction).name}
    rows = [(f, made.expose(f)) for f in range(len(made))]
    for f, detections in rows:
        _write_detections(folder / DETECTIONS, made, f, detections, format)
    write(folder / SPECTRA, made.stars.table[made.stars.has_xp], overwrite=True)
    write(folder / LABELS, labels_of(made.stars, np.random.default_rng([made.setup.seed, 7])), overwrite=True)
    _write_telescope(folder, made.setup)
    for name, truth in TRUTH.items():
        write(folder / name, truth(made, rows, about), overwrite=True)
    return made


# --- detections -------------------------------------------------------------------------------------------------------


def _header(made: SimulatedSurvey, f: int) -> dict[str, tuple[Any, str]]:
    """Keywords of a table of detections, with comments."""
    from astropy.time import Time

    s, plan, names, e = made.setup, made.plan, made.names(f), f // made.n_detector
    mjd = float(plan.time[e])
    return {
        "FILTER": (names["band"], "band"),
        "OBJECT": (names["field"], "name of the field"),
        "EXPOSURE": (names["exposure"], "name of the exposure"),
        "DETECTOR": (names["detector"], "name of the detector"),
        "DATE-OBS": (Time(mjd, format="mjd", scale="utc").isot, "[UTC] middle of the exposure"),
        "MJD-OBS": (mjd, "[d] the same"),
        "EXPTIME": (s.camera.exposure_time, "[s] exposure time"),
        "AIRMASS": (round(float(plan.airmass[e]), 6), "airmass"),
        "SEEING": (round(float(plan.seeing[e]), 3), "[arcsec] width of stars"),
        "IMAGEW": (int(s.size[0]), "[pixel] width of the detector"),
        "IMAGEH": (int(s.size[1]), "[pixel] height of the detector"),
    }


def _write_detections(folder: Path, made: SimulatedSurvey, f: int, rows: Detections, format: str) -> None:
    """One table of detections; header keywords are columns where the format has no header."""
    names, header = made.names(f), _header(made, f)
    file = folder / f"{names['exposure']}_{names['detector']}.{format}"
    table = tabulate(MEASURED, rows, {})
    if format != "fits":
        said = {name: np.full(len(rows.star), value) for name, (value, _) in header.items()}
        columns = {**table.columns, **said}
        write(file, Catalogue(columns, {**table.units, "MJD-OBS": "d"}, table.descriptions), overwrite=True)
        return
    from astropy.io import fits

    made_of = [
        fits.Column(name, {"f": "D", "i": "J"}[values.dtype.kind], table.units.get(name), array=values)
        for name, values in table.columns.items()
    ]
    hdu = fits.BinTableHDU.from_columns(made_of, name="DETECTIONS")
    hdu.header.extend([(key, *value) for key, value in header.items()], update=True)
    with whole_files() as temporary, temporary(file).open("wb") as handle:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(handle)


# --- telescope --------------------------------------------------------------------------------------------------------


def _write_telescope(folder: Path, s: SurveySetup) -> None:
    """The chain's TOML with its curves beside it, or one made of shipped passbands."""
    shipped = shipped_passbands().get(s.chain)
    if is_chain(s.chain):
        path = Path(s.chain) if shipped is None else shipped
        path = path / "system.toml" if path.is_dir() else path
        text = path.read_text(encoding="utf-8")
        files = {name: path.parent / name for name in _files(tomllib.loads(text))}
    else:
        assert shipped is not None
        files = {file.name: file for file in sorted(shipped.glob("*.ecsv"))}
        text = f'name = "{s.chain}"\n' + "".join(f'[filter.{name[:-5]}]\ncurve = "{name}"\n' for name in files)
    for name, file in files.items():
        text = re.sub(rf'(["\']){re.escape(name)}\1', f'"curves/{file.name}"', text)
        (folder / "curves").mkdir(exist_ok=True)
        write_bytes(folder / "curves" / file.name, file.read_bytes())
    write_bytes(folder / TELESCOPE, text.encode())


def _files(table: Any) -> Iterator[str]:
    """The names of files in a chain's TOML: values of `curve` and `site` that are not those of components."""
    if isinstance(table, Mapping):
        for key, value in table.items():
            if key in ("curve", "site") and isinstance(value, str):
                if Path(value).suffix or "/" in value:
                    yield value
            else:
                yield from _files(value)
    elif isinstance(table, list):
        for item in table:
            yield from _files(item)
